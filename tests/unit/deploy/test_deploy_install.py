"""The environment, the JDK and the jars: what is asked for, what is checked, what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deploy.local import bootstrap, jars, java, machine
from deploy.local.bootstrap import Environment, entry
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT
from deploy.local.pip_config import uv_environment
from deploy.local.versions import VERSIONS

LOCK = """\
# a comment
httpx==1.0 \\
    --hash=sha256:aa
uv==0.1.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
uvloop==2.0 \\
    --hash=sha256:dd
"""


def test_entry_is_one_package_with_all_its_hashes() -> None:
    assert entry(LOCK, "uv") == "uv==0.1.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"


def test_every_package_of_the_lock_is_pinned_by_hash_and_no_index_is_named() -> None:
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    packages = [i for i, line in enumerate(lines) if line[:1].isalnum()]
    assert all("==" in lines[i] and "--hash=sha256:" in lines[i + 1] for i in packages)
    assert not [line for line in lines if "://" in line or line.startswith("--")]


def test_changed_lock_gets_an_environment_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("a==1")
    first = Environment.of(tmp_path / "tools", tmp_path)
    (tmp_path / "requirements.lock").write_text("a==2")
    assert Environment.of(tmp_path / "tools", tmp_path).folder != first.folder


def test_half_finished_environment_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.lock").write_text(LOCK)
    environment = Environment.of(tmp_path / "tools", tmp_path)
    (environment.folder / "bin").mkdir(parents=True)
    environment.python.touch()
    leftover = environment.folder / "leftover"
    leftover.touch()
    made = []

    def make(wanted: Environment, _log: Path) -> None:
        made.append(wanted)
        (wanted.folder / "bin").mkdir(parents=True)
        wanted.python.touch()

    monkeypatch.setattr(bootstrap, "_make_venv", make)
    monkeypatch.setattr(bootstrap, "_install_with_uv", lambda *_: True)
    assert not environment.is_complete()
    bootstrap.install(environment, tmp_path / "tools")
    bootstrap.install(environment, tmp_path / "tools")
    assert environment.is_complete()
    assert not leftover.exists()
    assert made == [environment]


def test_uv_gets_what_pip_is_configured_to_do(tmp_path: Path) -> None:
    listing = (
        "global.index-url='https://mirror.test/simple'\n"
        "global.cert='/certs.pem'\n"
        "install.extra-index-url='https://a.test https://b.test'\n"
        f"global.find-links='{tmp_path} /not/there'\n"
        ":env:.index-url='https://env.test/simple'\n"
        "download.no-index='true'\n"
    )
    found = uv_environment(listing, {"UV_HTTP_TIMEOUT": "9"})
    assert found["UV_DEFAULT_INDEX"] == "https://env.test/simple"
    assert found["UV_INDEX"] == "https://a.test https://b.test"
    assert found["SSL_CERT_FILE"] == "/certs.pem"
    assert found["UV_FIND_LINKS"] == str(tmp_path)
    assert found["UV_HTTP_TIMEOUT"] == "9"
    assert "UV_NO_INDEX" not in found


def jdk(folder: Path, version: str, *, full: bool = True) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    (folder / "bin" / "java").touch()
    if full:
        (folder / "bin" / "javac").touch()
    return folder


def test_other_java_releases_and_bare_runtimes_are_refused(tmp_path: Path) -> None:
    jdk(tmp_path / "java-25", "25.0.1")
    jdk(tmp_path / "java-1.8.0", "1.8.0_392")
    jdk(tmp_path / "java-17-jre", "17.0.15", full=False)
    assert java.find({"PATH": ""}, tmp_path) is None
    wanted = jdk(tmp_path / "java-17-openjdk", "17.0.15")
    assert java.find({"PATH": ""}, tmp_path) == java.Java(wanted)


def test_java_home_comes_first_but_only_with_the_right_release(tmp_path: Path) -> None:
    system = jdk(tmp_path / "system" / "java-17", "17.0.1").parent
    mine = jdk(tmp_path / "mine", "17.0.2")
    wrong = jdk(tmp_path / "wrong", "21.0.2")
    assert java.find({"PATH": "", "JAVA_HOME": str(mine)}, system) == java.Java(mine)
    assert java.find({"PATH": "", "JAVA_HOME": str(wrong)}, system) == java.Java(system / "java-17")


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of one good file, `a.jar`, and the folder that holds it."""
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / "a.jar").write_bytes(b"good")
    listing = tmp_path / "jars.sha256"
    listing.write_text(f"{hashlib.sha256(b'good').hexdigest()}  thing/a.jar\n")
    monkeypatch.setattr(jars, "SUMS", listing)
    return folder


def test_jars_as_listed_pass(sums: Path) -> None:
    jars.verify("thing", sums)


def test_jar_with_a_wrong_hash_is_removed_and_named_in_one_line(sums: Path) -> None:
    (sums / "a.jar").write_bytes(b"bad")
    with pytest.raises(CommandError, match=r"a\.jar has a wrong SHA-256 and was removed") as failure:
        jars.verify("thing", sums)
    assert "\n" not in str(failure.value)
    assert not (sums / "a.jar").exists()


def test_jar_that_is_not_listed_is_refused(sums: Path) -> None:
    (sums / "b.jar").touch()
    with pytest.raises(CommandError, match=r"b\.jar is not in the list"):
        jars.verify("thing", sums)


def test_jar_that_is_missing_is_named(sums: Path) -> None:
    (sums / "a.jar").unlink()
    with pytest.raises(CommandError, match=r"a\.jar was not delivered"):
        jars.verify("thing", sums)


def test_every_component_has_hashes_and_a_pin() -> None:
    for component in jars.components():
        assert jars.expected_sums(component.name), component.name
    assert f"kafka_2.13-{VERSIONS.kafka}.jar" in jars.expected_sums("kafka")
    assert f"delta-spark_4.1_2.13-{VERSIONS.delta}.jar" in jars.expected_sums("spark")


def test_spark_jars_and_pyspark_are_of_one_version() -> None:
    assert f"pyspark=={VERSIONS.spark} " in (CHECKOUT / "requirements.lock").read_text()


def test_full_disk_gives_one_line_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"not enough disk for jars: \d+ MB free under .* needed"
    ) as failure:
        machine.require_free_disk(tmp_path / "not" / "yet", 10**9, "jars")
    assert "\n" not in str(failure.value)


def test_closed_parent_folder_is_not_reachable_by_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    inner = closed / "inner"
    inner.mkdir()
    closed.chmod(0o700)
    assert not machine.reachable_by_others(inner)
