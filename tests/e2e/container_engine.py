"""Images built by buildah and run by podman, as compose.yaml describes them, without a Docker engine.

Everything is kept in one folder (images, layers, volumes), so that removing it leaves nothing behind. The
containers share the machine's network: the servers beside them are those of `stack`.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local import machine
from deploy.local.layout import CHECKOUT
from deploy.local.testing import tools_folder

PACKAGES = ("buildah", "podman", "crun", "catatonit", "netavark", "aardvark-dns", "mmdebstrap")
_CONTAINERS_CONF = """\
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{0}/store"
runroot = "{0}/run"
"""
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
# Python, as /usr/local/bin/python like the official image has it, and this machine's own authorities.
_BASE = """\
FROM localhost/debian:1
COPY authorities/ /usr/local/share/ca-certificates/
RUN ln -s /usr/bin/python3 /usr/local/bin/python \\
    && rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED && update-ca-certificates
"""
BASE_IMAGE = "localhost/python:3.11"
_AUTHORITIES = Path("/usr/local/share/ca-certificates")
# In a mount namespace of its own: crun refuses a hybrid cgroup tree, and no mount is left behind.
_ISOLATED = 'if mountpoint -q /sys/fs/cgroup/unified; then umount -l /sys/fs/cgroup/unified; fi; exec "$@"'


def unavailable() -> str | None:
    """Why images cannot be built here, or None; installs what Debian has."""
    if not machine.is_root():
        return "building images without a Docker engine needs root"
    if all(shutil.which(program) for program in ("buildah", "podman", "crun", "mmdebstrap")):
        return None
    if not machine.can_install():
        return f"not installed: {' '.join(PACKAGES)}"
    machine.apt_install(PACKAGES, tools_folder() / "install.log")
    return None


@dataclass(frozen=True)
class Engine:
    """`folder`: where all of it is kept."""

    folder: Path

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """At the lowest priority: a build must not disturb what else the machine does."""
        env = {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }
        done = subprocess.run(
            ["nice", "-n", "15", "unshare", "--mount", "sh", "-c", _ISOLATED, "sh", *command],
            env=env,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
        return done

    def make_base(self) -> None:
        """`BASE_IMAGE`: Debian 12 and its Python; the archive is kept with the other tools."""
        archive = tools_folder() / "container-base-bookworm.tar"
        if not archive.exists():
            archive.parent.mkdir(parents=True, exist_ok=True)
            partial = archive.with_name(f"partial-{os.getpid()}-{archive.name}")
            include = "--include=python3,python3-pip,python3-venv,ca-certificates"
            self.run("mmdebstrap", "--quiet", "--variant=minbase", include, "bookworm", str(partial))
            partial.rename(archive)
        self.run("podman", "import", "--quiet", str(archive), "localhost/debian:1")
        context = self.folder / "base"
        (context / "authorities").mkdir(parents=True, exist_ok=True)
        for certificate in _AUTHORITIES.glob("*.crt"):
            shutil.copy(certificate, context / "authorities")
        (context / "Dockerfile").write_text(_BASE)
        self.run("buildah", "bud", "--isolation", "chroot", "-t", BASE_IMAGE, str(context))

    def build(self, build: Mapping[str, Any], image: str) -> None:
        """What `docker compose build` does, with the local base image."""
        target = ["--target", build["target"]] if "target" in build else []
        policy = ["--signature-policy", str(self.folder / "policy.json")]
        base = ["--build-arg", f"PYTHON_IMAGE={BASE_IMAGE}", "--pull-never"]
        options = ["--layers", "--format", "docker", "--isolation", "chroot", *policy, *base, *target]
        self.run("buildah", "bud", *options, "-t", image, "-f", build["dockerfile"], build["context"])

    def remove(self, *, keep_images: bool) -> None:
        self.run("podman", "rm", "--all", "--force", "--time", "5", check=False)
        self.run("podman", "volume", "prune", "--force", check=False)
        if not keep_images:
            shutil.rmtree(self.folder)


def _limits() -> tuple[str, str]:
    """Within those of this process: what podman sets by itself is more than many a machine allows."""
    files = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return f"nofile={files}:{files}", "nproc=4096:4096"


@contextmanager
def engine() -> Iterator[Engine]:
    """`TILLSTREAM_TEST_IMAGES` names a folder in which images and layers are kept for the next run."""
    kept = os.environ.get("TILLSTREAM_TEST_IMAGES")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="tillstream-images-"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "containers.conf").write_text(_CONTAINERS_CONF)
    (folder / "storage.conf").write_text(_STORAGE_CONF.format(folder))
    (folder / "policy.json").write_text(_POLICY)
    found = Engine(folder)
    try:
        yield found
    finally:
        found.remove(keep_images=kept is not None)


def containers() -> dict[str, dict[str, Any]]:
    """`services` of compose.yaml."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"]
    return found


class Composed:
    """Containers of compose.yaml, run one by one with the limits that it gives them.

    `servers`: environment that names the servers; `ports`: a free port of this machine for each process.
    """

    def __init__(self, engine: Engine, servers: Mapping[str, str], ports: Mapping[str, int]) -> None:
        self._engine = engine
        self._servers = dict(servers)
        self._ports = ports
        self._containers = containers()
        self._built: set[str] = set()

    def image(self, name: str) -> str:
        """The image's name here, after building it unless that was done."""
        build = self._containers[name]["build"]
        image = (
            f"localhost/{re.sub('[^a-z]+', '-', build['dockerfile'].lower())}-{build.get('target', 'all')}:1"
        )
        if image not in self._built:
            self._engine.build(build, image)
            self._built.add(image)
        return image

    def once(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code is not checked."""
        return self._engine.run("podman", "run", "--rm", *self._arguments(name), check=False, timeout_s=120)

    def start(self, name: str) -> None:
        self._engine.run("podman", "run", "--detach", "--replace", "--name", name, *self._arguments(name))

    def inside(self, name: str, *command: str) -> str:
        return self._engine.run("podman", "exec", name, *command).stdout

    def is_healthy(self, name: str) -> bool:
        return self._engine.run("podman", "healthcheck", "run", name, check=False).returncode == 0

    def logs(self, name: str) -> str:
        return self._engine.run("podman", "logs", "--tail", "40", name).stderr

    def stop(self, name: str) -> int:
        """Exit code after the stop signal and the time that compose.yaml grants."""
        grace = self._containers[name]["stop_grace_period"].removesuffix("s")
        self._engine.run("podman", "stop", "--time", grace, name)
        return int(self._engine.run("podman", "inspect", "--format", "{{.State.ExitCode}}", name).stdout)

    def size(self, name: str) -> int:
        """Bytes of the image."""
        return int(self._engine.run("podman", "inspect", "--format", "{{.Size}}", self.image(name)).stdout)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def _arguments(self, name: str) -> list[str]:
        container = self._containers[name]
        options = ["--pull=never", "--network=host", "--cgroups=disabled"]
        options += [f"--ulimit={limit}" for limit in _limits()]
        options += ["--read-only"] * container["read_only"] + ["--init"] * container["init"]
        options += [f"--cap-drop={capability}" for capability in container["cap_drop"]]
        options += [f"--security-opt={option}" for option in container["security_opt"]]
        options += [f"--tmpfs={folder}" for folder in container["tmpfs"]]
        options += [f"--volume={volume}" for volume in container.get("volumes", [])]
        options += [f"--env={key}={value}" for key, value in self._environment(name).items()]
        return [*options, self.image(name), *container.get("command", [])]

    def _environment(self, name: str) -> dict[str, str]:
        """That of compose.yaml, with the names on its network turned into addresses of this machine."""
        found = {}
        for key, value in self._containers[name]["environment"].items():
            found[key] = self._servers.get(key) or re.sub(
                r"http://(\w+):8080", lambda match: self.url(match[1]), value
            )
        if name in self._ports:
            found |= {"TILLSTREAM_HTTP_HOST": "127.0.0.1", "TILLSTREAM_HTTP_PORT": str(self._ports[name])}
        return found
