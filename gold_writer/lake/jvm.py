"""The JVM that Spark runs in: started here, and never left behind.

pyspark would start it through a shell script and a second JVM that only assembles a command line. Started
directly it is up a second sooner, its process id is ours, and its class-data archive (AppCDS) can be named.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import signal
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

_GATEWAY_CLASS: Final = "org.apache.spark.api.python.PythonGatewayServer"
_PR_SET_PDEATHSIG: Final = 1
_START_SECONDS: Final = 60.0

# org.apache.spark.launcher.JavaModuleOptions of Spark 4.1, less what concerns the vector API and TLS.
_MODULE_OPTIONS: Final = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in (
            *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio"),
            *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref"),
            *("sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
        )
    ),
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
)


class JvmFailed(Exception):  # noqa: N818
    """The JVM did not start, or ended."""


@dataclass(frozen=True, slots=True)
class JvmOptions:
    """`archive`: class-data archive to use if it exists. `record_archive`: write it when the JVM ends."""

    java: str
    jars: Path
    heap: str
    scratch: Path
    archive: Path
    record_archive: bool = False
    more: tuple[str, ...] = ()


def class_path(jars: Path) -> list[str]:
    """Our jars, then pyspark's, in a fixed order: a class-data archive is valid for one class path only."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JvmFailed("pyspark is not installed")
    ours = sorted(jars.glob("*.jar"))
    if not any(jar.name.startswith("delta-spark") for jar in ours):
        raise JvmFailed(f"no Delta jar in {jars}: set TILLSTREAM_SPARK_JARS to the folder of the Spark jars")
    if not any(jar.name == "tillstream-fs.jar" for jar in ours):
        raise JvmFailed(f"tillstream-fs.jar is missing in {jars}: see deploy/local/jars/README.md")
    return [str(jar) for jar in (*ours, *sorted((Path(spec.origin).parent / "jars").glob("*.jar")))]


def command(options: JvmOptions) -> list[str]:
    """The command line. The class path goes through the environment: it is some 30,000 characters."""
    log4j = Path(__file__).with_name("log4j2.properties")
    archive = []
    if options.record_archive:
        archive = [f"-XX:ArchiveClassesAtExit={options.archive}"]
    elif options.archive.exists():
        # `auto`: a stale archive is ignored, it never stops the start.
        archive = ["-Xshare:auto", f"-XX:SharedArchiveFile={options.archive}"]
    return [
        options.java,
        f"-Xmx{options.heap}",
        # Two cores and a small heap: parallel collectors gain nothing here and cost memory and threads.
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        # Planning takes other paths each time: C2 costs a third of the CPU until ready and for minutes after,
        # and saves little. C1 alone would get 48 MB for 30,000 methods, and a full cache ends compiling.
        "-XX:TieredStopAtLevel=1",
        "-XX:ReservedCodeCacheSize=240m",
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
        *archive,
        *_MODULE_OPTIONS,
        "-Dfile.encoding=UTF-8",
        "-Duser.timezone=UTC",
        f"-Djava.io.tmpdir={options.scratch}",
        f"-Dlog4j2.configurationFile={log4j}",
        *options.more,
        _GATEWAY_CLASS,
    ]


class Jvm:
    """A running JVM with a py4j gateway. Start it in the main thread: its life is bound to that thread."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, secret: str) -> None:
        self._process = process
        self.port = port
        self.secret = secret

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def stop(self, seconds: float) -> None:
        """Close its standard input, on which the gateway ends itself; then kill it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            _log.warning("the JVM does not end; killing it", extra={"pid": self.pid})
            self._process.kill()
            self._process.wait()


class StartingJvm:
    """A JVM on its way up, so that other work can go on meanwhile. `ready()` waits for it."""

    def __init__(self, options: JvmOptions) -> None:
        options.scratch.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-", dir=options.scratch))
        self._info = self._folder / secrets.token_hex(8)
        environment = {
            **os.environ,
            "CLASSPATH": os.pathsep.join(class_path(options.jars)),
            "SPARK_CONNECT_MODE": "0",
            "SPARK_LOCAL_IP": "127.0.0.1",
            "_PYSPARK_DRIVER_CONN_INFO_PATH": str(self._info),
        }
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            command(options),
            env=environment,
            stdin=subprocess.PIPE,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no other thread holds a lock this early
        )

    def ready(self) -> Jvm:
        """Raises JvmFailed."""
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not self._info.exists():
                code = self._process.poll()
                if code is not None:
                    raise JvmFailed(f"the JVM ended with code {code} while starting")
                if time.monotonic() > deadline:
                    raise JvmFailed(f"the JVM opened no gateway within {_START_SECONDS:.0f} s")
                time.sleep(0.02)
            return Jvm(self._process, *_connection(self._info.read_bytes()))
        except BaseException:
            self.kill()
            raise
        finally:
            self._info.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _connection(info: bytes) -> tuple[int, str]:
    """Port and secret as PythonGatewayServer writes them: int32, then a length-prefixed string."""
    port, length = struct.unpack(">ii", info[:8])
    return port, info[8 : 8 + length].decode()


def _die_with_parent() -> None:
    """In the child: end when the parent is killed, and leave signals of the terminal to the parent.

    The gateway also ends itself when its standard input closes, but only once its start has come that far.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
