from __future__ import annotations

import configparser
from pathlib import Path

from deploy.local.layout import Layout
from deploy.local.program import Health, Program
from deploy.local.supervision import FAILED_STARTS, Exit, config, exits, restarts

LOG = """\
2026-01-02 03:04:05,678 INFO spawned: 'quality' with pid 11
2026-01-02 03:04:06,001 INFO spawned: 'enrich' with pid 12
2026-01-02 03:04:16,001 INFO success: quality entered RUNNING state, process has stayed up
2026-01-02 03:05:00,123 WARN exited: quality (terminated by SIGKILL; not expected)
2026-01-02 03:05:00,999 INFO spawned: 'quality' with pid 13
2026-01-02 03:06:00,000 INFO stopped: enrich (exit status 0)
"""


def program(name: str, **options: object) -> Program:
    return Program(
        name=name,
        title=name,
        command=("/bin/true",),
        probe=lambda: Health("ready"),
        **options,  # type: ignore[arg-type]
    )


def parsed(layout: Layout, *programs: Program) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(config(layout, programs))
    return parser


def test_program_gives_up_after_five_failed_starts_in_a_row(tmp_path: Path) -> None:
    section = parsed(Layout(tmp_path, tmp_path), program("a", min_uptime_s=7))["program:a"]
    # supervisord goes to FATAL when failed starts exceed startretries.
    assert int(section["startretries"]) + 1 == FAILED_STARTS == 5
    assert section["startsecs"] == "7"
    assert section["autorestart"] == "true"
    assert section["autostart"] == "false"


def test_percent_signs_and_spaces_in_paths_survive(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "100% home", tmp_path)
    parser = parsed(layout, program("a"))
    assert parser["supervisord"]["logfile"].replace("%%", "%") == str(layout.supervisor_log)
    assert "'" in parser["program:a"]["command"]


def test_long_home_gets_a_short_private_socket(tmp_path: Path) -> None:
    layout = Layout(tmp_path / ("x" * 120), tmp_path)
    assert len(str(layout.socket)) < 100
    assert layout.socket.parent.stat().st_mode & 0o077 == 0
    layout.socket.parent.rmdir()


def test_exits_are_those_that_nobody_asked_for(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path)
    layout.logs.mkdir()
    layout.supervisor_log.write_text(LOG)
    assert exits(layout) == [Exit("2026-01-02 03:05:00", "quality", "terminated by SIGKILL; not expected")]
    assert restarts(layout) == {"quality": 1, "enrich": 0}


def test_no_log_means_no_exits(tmp_path: Path) -> None:
    assert exits(Layout(tmp_path, tmp_path)) == []


def test_spec_holds_the_stack_mark_and_nothing_of_the_callers_secrets(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home", tmp_path).create()
    spec = program("a", env={"OWN": "1"}).spec(layout)
    env = spec["env"]
    assert isinstance(env, dict)
    assert env["OWN"] == "1"
    assert env["TILLSTREAM_STACK"] == env["TILLSTREAM_HOME"] == str(layout.home)
    assert set(env) <= {
        *("OWN", "TILLSTREAM_STACK", "TILLSTREAM_HOME", "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    }


def test_spec_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home", tmp_path).create()
    assert program("a").write_spec(layout).stat().st_mode & 0o077 == 0
