"""Settings, headers, bounds, waits, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streamkit.clock import FakeClock
from streamkit.headers import header_column, ingest_ts_ms
from streamkit.kafka.batches import split_at_bounds
from streamkit.limits import Limits
from streamkit.ports import Headers, RecordBatch, TopicPartition
from streamkit.settings import PlatformSettings


def test_settings_come_from_the_environment_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLSTREAM_KAFKA", "broker:1")
    monkeypatch.setenv("TILLSTREAM_LAKE", "/data/lake")
    monkeypatch.setenv("TILLSTREAM_SERVICE", "quality")
    monkeypatch.setenv("TILLSTREAM_INSTANCE", "2")
    settings = PlatformSettings()
    assert (settings.kafka, settings.lake, settings.slot) == (
        "broker:1",
        Path("/data/lake"),
        "tillstream.quality.2",
    )
    with pytest.raises(ValidationError):
        setattr(settings, "kafka", "other")  # noqa: B010 - the type checker forbids the assignment already


def test_settings_keep_passwords_out_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLSTREAM_POSTGRES", "postgresql://u:secret@h/d")
    monkeypatch.setenv("TILLSTREAM_REDIS", "redis://:secret@h")
    assert "secret" not in repr(PlatformSettings())


def batch(headers: list[Headers]) -> RecordBatch:
    n = len(headers)
    return RecordBatch(
        "t",
        partition=np.array([i % 2 for i in range(n)], dtype=np.int32),
        offset=np.arange(100, 100 + n, dtype=np.int64),
        timestamp_ms=np.full(n, 7, dtype=np.int64),
        key=[None] * n,
        value=[b""] * n,
        headers=headers,
    )


def test_a_header_is_found_wherever_it_stands() -> None:
    headers: list[Headers] = [
        [("a", b"1"), ("b", b"2")],
        [("a", b"3"), ("b", b"4")],
        [("b", b"5")],
        [],
        [("a", b"6")],
        [("x", b"7"), ("y", b"8"), ("b", None)],
        [("a", b"9"), ("b", b"10")],
    ]
    assert header_column(headers, "b") == [b"2", b"4", b"5", None, None, None, b"10"]
    assert header_column(headers, "a") == [b"1", b"3", None, None, b"6", None, b"9"]


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        (b"1700000000000", 1_700_000_000_000),
        (b"0", 0),
        (None, 7),
        (b"", 7),
        (b"-5", 7),
        (b" 5", 7),
        (b"1_000", 7),
        (b"1e3", 7),
        (b"9" * 15, 7),
        (b"9" * 5000, 7),
        ("٣".encode(), 7),
    ],
)
def test_ingest_ts_falls_back_to_the_brokers_timestamp(written: bytes | None, taken: int) -> None:
    assert list(ingest_ts_ms(batch([[("ingest-ts", written)], []]))) == [taken, 7]


def test_offsets_of_a_batch_per_partition() -> None:
    five = batch([[]] * 5)
    even, odd = TopicPartition("t", 0), TopicPartition("t", 1)
    assert five.first_offsets() == {even: 100, odd: 101}
    assert five.next_offsets() == {even: 105, odd: 104}


@pytest.mark.parametrize(
    ("sizes", "records", "size", "taken"),
    [
        ([], 10, 10, 0),
        ([5, 5, 5], 10, 100, 3),
        ([5, 5, 5], 2, 100, 2),
        ([5, 5, 5], 10, 10, 2),
        ([5, 5, 5], 10, 9, 1),
        ([50, 1], 10, 9, 1),
        ([0, 0, 0], 10, 1, 3),
    ],
)
def test_a_batch_is_cut_at_its_first_bound(sizes: list[int], records: int, size: int, taken: int) -> None:
    messages = [bytes(n) for n in sizes]
    head, rest = split_at_bounds(messages, records, size)
    assert (len(head), head + rest) == (taken, messages)


def test_waits_double_up_to_the_longest() -> None:
    limits = Limits(retry_first_s=0.1, retry_max_s=1.0)
    assert [round(limits.backoff_s(n), 3) for n in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert limits.backoff_s(10_000) == 1.0
    assert limits.backoff_s(1, 30.0) == 30.0


def test_the_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(1000)
    clock.sleep(0.5)
    clock.advance(-1)
    assert (clock.now_ms(), clock.monotonic_s()) == (1500, 0.5)


STAGE = """
import threading
from streamkit.process import run_until_signalled

class Stage:
    def __init__(self): self.stopped = threading.Event()
    def stop(self): self.stopped.set()
    def run(self):
        print("running", flush=True)
        while not self.stopped.wait(0.05): pass
        {ending}

raise SystemExit(run_until_signalled(Stage()))
"""


@pytest.mark.parametrize(("ending", "code"), [("print('finished')", 0), ("raise ValueError('broken')", 1)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_stage_and_the_exit_code_tells(
    ending: str, code: int, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE.format(ending=ending)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    assert process.wait(10) == code
    process.stdout.close()
