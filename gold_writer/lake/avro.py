"""Decoding of Confluent-framed Avro in Spark: one SQL expression for all schema ids of a subject.

A frame is a zero byte, the schema id as 4 bytes big-endian, and the Avro body. Spark's `from_avro` takes one
writer schema, so the expression chooses among the ids that the registry knew when the query was built,
and resolves each to the reader's schema. Any other frame fails the query: the process is started again and
then finds the new id in the registry, or fails again and is reported; nothing is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

MAGIC = b"\x00"


class NoSchema(Exception):  # noqa: N818
    """The registry holds no schema of a subject that the lake reads."""


def frame_prefix(schema_id: int) -> bytes:
    """The first 5 bytes of every value written with the schema."""
    return MAGIC + schema_id.to_bytes(4, "big")


def decode_expression(subject: str, writers: Mapping[int, str], reader: str) -> str:
    """SQL over the columns `value`, `partition` and `offset` of a Kafka source: the decoded struct.

    `writers`: schema id -> schema text. `reader`: the schema whose fields the struct has.
    Raises NoSchema where there is no id to choose from.
    """
    if not writers:
        raise NoSchema(f"the registry has no schema for the subject {subject}")
    wanted = _canonical(reader)
    branches = " ".join(
        f"WHEN X'{frame_prefix(schema_id).hex()}' THEN {_from_avro(_canonical(text), wanted)}"
        for schema_id, text in sorted(writers.items())
    )
    failure = (
        "raise_error(concat('the record at partition ', partition, ', offset ', offset, ' of "
        f"{_quoted(subject)} begins with ', coalesce(hex(substring(value, 1, 5)), 'nothing'), "
        "', which is no schema id that the registry knew when this query started'))"
    )
    return f"CASE substring(value, 1, 5) {branches} ELSE {failure} END"


def _from_avro(writer: str, reader: str) -> str:
    options = "'mode', 'FAILFAST'"
    if writer != reader:
        options += f", 'avroSchema', '{_quoted(reader)}'"
    return f"from_avro(substring(value, 6), '{_quoted(writer)}', map({options}))"


def _canonical(schema: str) -> str:
    """Without layout and documentation, so that equal schemas are equal texts."""
    return json.dumps(_without_docs(json.loads(schema)), separators=(",", ":"))


def _without_docs(node: object) -> object:
    if isinstance(node, dict):
        return {k: _without_docs(v) for k, v in node.items() if not (k == "doc" and isinstance(v, str))}
    if isinstance(node, list):
        return [_without_docs(item) for item in node]
    return node


def _quoted(text: str) -> str:
    """The inside of a Spark SQL string literal."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
