"""The Java parts: fetched by Maven, every file checked against `jars/jars.sha256`.

`python -m deploy.local.jars lock` fetches all of them and writes that list anew; `check` checks what is
installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import FAILED, WRONG_USAGE, CommandError
from deploy.local.java import Java, find
from deploy.local.layout import Layout
from deploy.local.versions import VERSIONS

FOLDER = Path(__file__).with_name("jars")
SUMS = FOLDER / "jars.sha256"
_STAMP = ".complete"


@dataclass(frozen=True)
class Component:
    """Files that come together: the dependencies of a pom, or one artifact that is unpacked.

    `finish`: what to do in the folder once its files are checked.
    """

    name: str
    title: str
    target: Callable[[Layout], Path]
    properties: Mapping[str, str] = field(default_factory=dict)
    artifact: str | None = None
    finish: Callable[[Path, Java], None] | None = None

    @property
    def pom(self) -> Path:
        return FOLDER / f"{self.name}-pom.xml"

    def fingerprint(self) -> str:
        """Changes when anything that decides the folder's content changes."""
        digest = hashlib.sha256(repr((sorted(self.properties.items()), self.artifact)).encode())
        sources = [self.pom] if self.artifact is None else []
        if self.name == "spark":
            sources += sorted((FOLDER / "java").glob("*.java"))
        for source in sources:
            digest.update(source.read_bytes())
        for name, value in sorted(expected_sums(self.name).items()):
            digest.update(f"{name} {value}\n".encode())
        return digest.hexdigest()


def components() -> tuple[Component, ...]:
    return (
        Component(
            "kafka",
            "Kafka",
            lambda layout: layout.kafka_jars,
            {"kafka.version": VERSIONS.kafka, "log4j.version": VERSIONS.kafka_log4j},
        ),
        Component(
            "registry",
            "Schema registry",
            lambda layout: layout.registry_app,
            artifact=f"io.apicurio:apicurio-registry-app:{VERSIONS.registry}:tar.gz:all",
            finish=_unpack,
        ),
        Component(
            "debezium",
            "Debezium's Postgres connector",
            lambda layout: layout.connect_plugins / "debezium",
            artifact=f"io.debezium:debezium-connector-postgres:{VERSIONS.debezium}:tar.gz:plugin",
            finish=_unpack,
        ),
        Component(
            "avro-converter",
            "Connect's Avro converter",
            lambda layout: layout.connect_plugins / "avro-converter",
            {"registry.version": VERSIONS.registry},
            finish=_declare_converter,
        ),
        Component(
            "spark",
            "Spark's jars",
            lambda layout: layout.spark_jars,
            {"spark.version": VERSIONS.spark, "delta.version": VERSIONS.delta},
            finish=_compile,
        ),
    )


def is_installed(component: Component, layout: Layout) -> bool:
    try:
        return (component.target(layout) / _STAMP).read_text() == component.fingerprint()
    except OSError:
        return False


def install(component: Component, layout: Layout, java: Java, log: Path) -> None:
    """Fetch, check, finish, then mark as complete. What was there before is replaced."""
    target = component.target(layout)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fetch(component, partial, java, log)
    verify(component.name, partial)
    if component.finish is not None:
        component.finish(partial, java)
    (partial / _STAMP).write_text(component.fingerprint())
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def fetch(component: Component, target: Path, java: Java, log: Path) -> None:
    """Maven with the person's own settings: mirrors, proxies and the local repository are theirs."""
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{VERSIONS.maven_dependency_plugin}"
    command = ["mvn", "--batch-mode", "--no-transfer-progress", f"-DoutputDirectory={target}"]
    if component.artifact is None:
        command += ["-f", str(component.pom), f"{plugin}:copy-dependencies", "-DincludeScope=runtime"]
        command += [f"-D{key}={value}" for key, value in component.properties.items()]
    else:
        command += [f"{plugin}:copy", f"-Dartifact={component.artifact}"]
    env = {**os.environ, "JAVA_HOME": str(java.home)}
    with log.open("a") as out:
        # From the target folder, so that no pom.xml of the current one is read.
        code = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=target,
            check=False,
        ).returncode
    if code != 0:
        raise CommandError(f"Maven could not fetch {component.title}: {_first_error(log)} (see {log})")


def verify(component: str, folder: Path) -> None:
    """Raise at the first file that is not what the list says, and remove it."""
    expected = expected_sums(component)
    found = {path.name: path for path in folder.iterdir() if path.is_file() and path.name != _STAMP}
    if missing := sorted(expected.keys() - found.keys()):
        raise CommandError(f"{component}: {missing[0]} was not delivered")
    for name, path in sorted(found.items()):
        if expected.get(name) != sha256(path):
            path.unlink()
            reason = "is not in the list of checked files" if name not in expected else "has a wrong SHA-256"
            raise CommandError(
                f"{component}: {name} {reason} and was removed; "
                f"remove it from your Maven repository too and run this again"
            )


def expected_sums(component: str) -> dict[str, str]:
    """File name to SHA-256 in hex."""
    sums: dict[str, str] = {}
    for line in SUMS.read_text().splitlines():
        value, _, path = line.partition("  ")
        folder, _, name = path.partition("/")
        if folder == component:
            sums[name] = value
    return sums


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(folder: Path, _java: Java) -> None:
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            # Python before 3.11.4 has no filters; the archive's SHA-256 is checked already.
            if hasattr(tarfile, "data_filter"):
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(folder)  # noqa: S202
        archive.unlink()


def _declare_converter(folder: Path, _java: Java) -> None:
    """The service manifest that the converter's own jar lacks (KIP-898).

    With one for each plugin, Connect need not read every class of every jar when it starts.
    """
    with zipfile.ZipFile(folder / "tillstream-manifest.jar", "w") as jar:
        jar.writestr(
            "META-INF/services/org.apache.kafka.connect.storage.Converter",
            "io.apicurio.registry.utils.converter.AvroConverter\n",
        )


def _compile(folder: Path, java: Java) -> None:
    """`jars/java` into tillstream-fs.jar: see jars/README.md."""
    sources = sorted((FOLDER / "java").glob("*.java"))
    if not sources:
        return
    classes = folder / "classes"
    # The sources extend classes of Hadoop, Spark and Delta; javac reads `*` as every jar of a folder.
    classpath = os.pathsep.join((f"{_pyspark_jars()}/*", f"{folder}/*"))
    release = str(VERSIONS.java_release)
    _run([java.javac, "--release", release, "-nowarn", "-d", classes, "-cp", classpath, *sources], "javac")
    _run([java.jar, "--create", "--file", folder / "tillstream-fs.jar", "-C", classes, "."], "jar")
    shutil.rmtree(classes)


def _run(command: list[str | Path], what: str) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{what} failed: {lines[0] if lines else 'no output'}")


def _pyspark_jars() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise CommandError("the Python package pyspark is not installed; run ./tillstream doctor")
    return Path(spec.origin).parent / "jars"


def _first_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("[ERROR]")]
    return lines[0].removeprefix("[ERROR]").strip()[:300] if lines else "no reason given"


def _lock(layout: Layout, java: Java) -> None:
    lines = []
    for component in components():
        folder = layout.tools / f"{component.name}.lock"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fetch(component, folder, java, layout.tools / "install.log")
        lines += [f"{sha256(path)}  {component.name}/{path.name}\n" for path in sorted(folder.iterdir())]
        shutil.rmtree(folder)
    SUMS.write_text("".join(lines))


def main(arguments: list[str]) -> int:
    if arguments not in (["lock"], ["check"]):
        print("usage: python -m deploy.local.jars lock|check", file=sys.stderr)
        return WRONG_USAGE
    layout = Layout.from_environment()
    java = find()
    try:
        if java is None:
            raise CommandError(f"no JDK {VERSIONS.java_release} found")
        if arguments == ["lock"]:
            _lock(layout, java)
        for component in components() if arguments == ["check"] else ():
            if not is_installed(component, layout):
                raise CommandError(f"{component.title} is not installed as pinned")
    except CommandError as error:
        print(f"jars: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
