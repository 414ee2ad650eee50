"""Records of the topics as rows, whichever pipelines wrote them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from quality_service.changelog import DecidedBatch
from schemas.decisions import unpack
from streamkit.memory import MemoryBroker, Record
from streamkit.ports import TopicPartition
from tests.simulation.sim_items import DECISIONS, schemas
from tests.simulation.sim_machine import settle

Row = dict[str, Any]
_DECIDED = {"offset": pl.Int64, "event_id": pl.String, "content_hash": pl.String, "outcome": pl.UInt8}


def decode(topic: str, records: Sequence[Record]) -> list[Row]:
    """One row per record. Payloads of decisions become lists of rows, in `rows`."""
    values = [record.value for record in records]
    if all(value and value[:1] == b"L" for value in values):
        return [pickle.loads(value[1:]) for value in values if value]
    decoded = schemas().codecs[topic].decode(values)
    assert not decoded.bad, decoded.bad
    rows = decoded.frame.to_dicts()
    if topic == DECISIONS:
        for row in rows:
            row["rows"] = unpack(row["payload"]).to_dicts()
    return rows


class Changelog:
    """The decisions topic, read back as `KafkaChangelog` does: committed records, up to the last stable
    offset."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def read(self, topic_id: str, partition: int, after: int) -> Iterator[DecidedBatch]:
        settle(self._broker)
        log = self._broker.log(TopicPartition(DECISIONS, partition))
        for row in decode(DECISIONS, log.read(0, log.high_watermark)):
            if row["topic_id"] == topic_id and row["end_offset"] > after:
                frame = pl.DataFrame(row["rows"], schema=_DECIDED)
                yield DecidedBatch(row["begin_offset"], row["end_offset"], frame)
