"""The JVM's command line and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gold_writer.lake.jvm import JvmFailed, JvmOptions, StartingJvm, _connection, class_path, command


def options(tmp_path: Path, java: str = "java") -> JvmOptions:
    jars = tmp_path / "jars"
    jars.mkdir(exist_ok=True)
    for name in ("delta-spark_4.1_2.13-4.3.1.jar", "tillstream-fs.jar"):
        (jars / name).touch()
    return JvmOptions(java, jars, "1g", tmp_path / "scratch", tmp_path / "classes.jsa")


def test_missing_jars_are_named(tmp_path: Path) -> None:
    with pytest.raises(JvmFailed, match="TILLSTREAM_SPARK_JARS"):
        class_path(tmp_path)
    (tmp_path / "delta-spark_4.1_2.13-4.3.1.jar").touch()
    with pytest.raises(JvmFailed, match=r"tillstream-fs\.jar is missing"):
        class_path(tmp_path)


def test_our_jars_come_first_and_the_order_is_fixed(tmp_path: Path) -> None:
    made = class_path(options(tmp_path).jars)
    assert [Path(jar).name for jar in made[:2]] == ["delta-spark_4.1_2.13-4.3.1.jar", "tillstream-fs.jar"]
    assert made[2:] == sorted(made[2:])
    assert any(Path(jar).name.startswith("spark-sql_") for jar in made)


def test_the_class_archive_is_used_only_where_it_is(tmp_path: Path) -> None:
    plain = options(tmp_path)
    assert not [option for option in command(plain) if "Archive" in option]
    plain.archive.touch()
    assert f"-XX:SharedArchiveFile={plain.archive}" in command(plain)


def test_the_gateways_answer_is_port_and_secret() -> None:
    assert _connection(b"\x00\x00\x90\x01\x00\x00\x00\x03abc") == (36865, "abc")


def test_a_jvm_that_ends_while_starting_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JvmFailed, match="ended with code 1"):
        StartingJvm(options(tmp_path, java="false")).ready()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_killed_parent_takes_its_jvm_along(tmp_path: Path) -> None:
    fake = tmp_path / "java"
    fake.write_text('#!/bin/sh\necho $$ > "${0%/*}/pid"\nexec sleep 60\n')
    fake.chmod(0o755)
    options(tmp_path)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from pathlib import Path; from gold_writer.lake.jvm import *\n"
            f"root = Path({str(tmp_path)!r})\n"
            "StartingJvm(JvmOptions(str(root / 'java'), root / 'jars', '1g', root / 's', root / 'a'))\n"
            "time.sleep(60)",
        ]
    )
    try:
        pid = wait_for_pid(tmp_path / "pid")
        parent.kill()
        parent.wait()
        assert ends(pid)
    finally:
        parent.kill()


def wait_for_pid(file: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text().strip()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError("the child never started")


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False
