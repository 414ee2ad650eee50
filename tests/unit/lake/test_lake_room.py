"""A full disk under the lake: told, waited for, over when there is room."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gold_writer.lake import room
from streamkit.stats import StageStats


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes every disk has."""
    bytes_free = 0
    monkeypatch.setattr(room, "_ASK_SECONDS", 0.01)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, bytes_free))

    def put(count: int) -> None:
        nonlocal bytes_free
        bytes_free = count

    return put


def test_with_room_nothing_waits(tmp_path: Path, free: Callable[[int], None]) -> None:
    free(room.ROOM_BYTES)
    room.await_room([tmp_path / "lake"], StageStats("lake"), threading.Event())


def test_a_full_disk_is_the_reason_until_there_is_room(tmp_path: Path, free: Callable[[int], None]) -> None:
    stats = StageStats("lake")
    waiting = threading.Thread(target=room.await_room, args=([tmp_path], stats, threading.Event()))
    waiting.start()
    while stats.readiness()[1] == "starting":
        waiting.join(0.01)
    wanted = f"no space left on the disk of {tmp_path}: 0 MiB are free, 64 are needed"
    assert stats.readiness() == (False, wanted)
    free(room.ROOM_BYTES)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_stop_ends_the_wait(tmp_path: Path, free: Callable[[int], None]) -> None:
    stopping = threading.Event()
    stopping.set()
    room.await_room([tmp_path], StageStats("lake"), stopping)
