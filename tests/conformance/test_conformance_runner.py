"""The runner over both brokers, and what only real processes and outside clients can show."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
import pytest

from streamkit import crashpoints
from streamkit.clock import SystemClock
from streamkit.limits import Limits
from streamkit.ports import OutputBatch, RecordBatch
from streamkit.runner import Runner
from streamkit.stats import StageStats
from tests.conformance.backends import (
    Backend,
    KafkaBackend,
    Reader,
    new_topic,
    numbered,
    send,
    unique,
    wait_until,
)

ROOT = Path(__file__).parents[2]


class PassThrough:
    def __init__(self, target: str) -> None:
        self._target = target

    def process(self, batch: RecordBatch) -> Sequence[OutputBatch]:
        return [OutputBatch(self._target, batch.value, batch.key, batch.headers)]


class StepError(Exception):
    """A failure that no step of the protocol knows."""


def test_exceptions_at_every_step_leave_each_id_once(backend: Backend) -> None:
    source, target, slot = new_topic(backend, 2), new_topic(backend, 2), unique("slot")
    ids = [b"id-%04d" % i for i in range(400)]
    send(backend, OutputBatch(source, ids, ids, [[("ingest-ts", b"1")]] * len(ids)))
    points = iter(["process", "begin", "produce", "before-commit", "send-offsets", "commit"])
    point = next(points)

    def crash(name: str) -> None:
        nonlocal point
        if name == f"after-{point}":
            point = next(points, "never")
            raise StepError(name)

    def restarted() -> Runner:
        runner = Runner(
            backend.consumer(slot),
            backend.transactional(slot),
            PassThrough(target),
            topics=[source],
            stats=StageStats("stage"),
            clock=SystemClock(),
            limits=Limits(max_records=40, poll_timeout_s=0.05),
        )
        runner.start()
        return runner

    reader = Reader(backend.consumer(unique("group")), target)
    runner = restarted()
    crashpoints.arm(crash)
    try:
        deadline = time.monotonic() + 60
        while len(reader.records) < len(ids) and time.monotonic() < deadline:
            try:
                runner.step()
            except StepError:
                runner.close()
                runner = restarted()
            reader.poll()
    finally:
        crashpoints.disarm()
        runner.close()
    assert point == "never"
    assert sorted(r.value or b"" for r in reader.records) == ids
    assert {tuple(r.headers) for r in reader.records} == {(("ingest-ts", b"1"),)}


@pytest.mark.integration
def test_a_killed_process_is_back_within_seconds_and_each_id_is_there_once(kafka: KafkaBackend) -> None:
    source, target, group = new_topic(kafka, 2), new_topic(kafka, 2), unique("slot")
    ids = numbered(10_000, 10_500)
    send(kafka, OutputBatch(source, ids, ids))
    reader = Reader(kafka.consumer(unique("group")), target)

    def start(point: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.conformance.pass_through_process"]
        names = [kafka.bootstrap, source, target, group, kafka.engine, point, "2"]
        return subprocess.Popen([*command, *names], cwd=ROOT)

    for point in ("after-produce", "after-send-offsets", "after-commit"):
        process = start(point)
        wait_until(lambda p=process: p.poll() is not None, meanwhile=reader.poll, what=point)  # type: ignore[misc]
        assert process.returncode == -signal.SIGKILL
    process = start("none")
    try:
        wait_until(lambda: len(reader.records) >= len(ids), meanwhile=reader.poll, what="all ids")
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    reader.poll()
    assert sorted(r.value or b"" for r in reader.records) == ids


@pytest.mark.integration
def test_a_header_name_that_is_not_utf8_harms_no_neighbour_and_passes_natively(kafka: KafkaBackend) -> None:
    """confluent-kafka cannot read any header of such a record; the native client passes them on as bytes."""
    topic = new_topic(kafka)
    send(kafka, OutputBatch(topic, [b"before"], [b"k"], [[("h", b"1")]]))
    _produce_with_hostile_header(kafka.bootstrap, topic, b"hostile")
    send(kafka, OutputBatch(topic, [b"after"], [b"k"], [[("h", b"2")]]))
    read = Reader(kafka.consumer(unique("group")), topic).read(3)
    hostile = [(b"\xff\xfe".decode(errors="surrogateescape"), b"v")] if kafka.engine == "native" else []
    expected = [(b"before", [("h", b"1")]), (b"hostile", hostile), (b"after", [("h", b"2")])]
    assert [(r.value, list(r.headers)) for r in read] == expected
    if kafka.engine == "native":
        again = new_topic(kafka)
        send(kafka, OutputBatch(again, [b"passed on"], [None], [read[1].headers]))
        (passed_on,) = Reader(kafka.consumer(unique("group")), again).read(1)
        assert list(passed_on.headers) == hostile


def _produce_with_hostile_header(bootstrap: str, topic: str, value: bytes) -> None:
    """Through librdkafka's C interface, as the Python client refuses to send such a name."""
    (library,) = Path(str(confluent_kafka.__file__)).parent.parent.glob("confluent_kafka.libs/librdkafka-*")
    c = ctypes.CDLL(str(library))
    for function in (c.rd_kafka_conf_new, c.rd_kafka_new, c.rd_kafka_headers_new):
        function.restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(c.rd_kafka_conf_new())
    c.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, 512)
    producer = ctypes.c_void_p(c.rd_kafka_new(0, conf, error, 512))
    headers = ctypes.c_void_p(c.rd_kafka_headers_new(1))
    c.rd_kafka_header_add(headers, b"\xff\xfe", ctypes.c_ssize_t(2), b"v", ctypes.c_ssize_t(1))
    end, with_topic, with_value, with_flags, with_headers, copy = 0, 1, 4, 7, 10, 2
    arguments: list[ctypes.c_int | ctypes.c_char_p | ctypes.c_size_t | ctypes.c_void_p] = [
        ctypes.c_int(with_topic),
        ctypes.c_char_p(topic.encode()),
        ctypes.c_int(with_value),
        ctypes.c_char_p(value),
        ctypes.c_size_t(len(value)),
        ctypes.c_int(with_flags),
        ctypes.c_int(copy),
        ctypes.c_int(with_headers),
        headers,
        ctypes.c_int(end),
    ]
    assert c.rd_kafka_producev(producer, *arguments) == 0
    assert c.rd_kafka_flush(producer, 10_000) == 0
    c.rd_kafka_destroy(producer)
