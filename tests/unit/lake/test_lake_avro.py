"""The expression that chooses among schema ids, and the records that warm it up."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import fastavro
import pytest

from gold_writer.lake.avro import NoSchema, decode_expression, frame_prefix
from gold_writer.lake.warmup import empty_value
from schemas.catalogue import load_topics


def record(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "R", "doc": "it's a record", "fields": list(fields)})


V1 = record({"name": "a", "type": "string"})
V2 = record({"name": "a", "type": "string"}, {"name": "b", "type": ["null", "int"], "default": None})


def test_every_schema_id_has_its_own_branch_with_its_writer_schema() -> None:
    sql = decode_expression("t-value", {9: V2, 7: V1}, V2)
    assert re.findall(r"WHEN X'([0-9a-f]+)'", sql) == ["0000000007", "0000000009"]
    old, new = sql.split("WHEN X'0000000009'")
    assert "'avroSchema'" in old
    assert "'avroSchema'" not in new
    assert "FAILFAST" in old
    assert "FAILFAST" in new


def test_any_other_frame_raises_with_its_coordinates() -> None:
    failure = decode_expression("t-value", {7: V1}, V1).split(" ELSE ")[1]
    assert failure.startswith("raise_error(")
    assert "', partition, '" in failure
    assert "', offset, '" in failure


def test_a_difference_in_documentation_only_needs_no_resolution() -> None:
    other = record({"name": "a", "type": "string", "doc": "another text"})
    assert "'avroSchema'" not in decode_expression("t-value", {7: other}, V1)


def test_a_field_named_doc_is_kept() -> None:
    schema = record({"name": "doc", "type": "string"})
    assert '"name":"doc"' in decode_expression("t-value", {7: schema}, schema)


def test_quotes_and_backslashes_stay_inside_the_literal() -> None:
    schema = record({"name": "a", "type": "string", "default": "it's \\ "})
    sql = decode_expression("t-value", {7: schema}, schema)
    assert r"it\'s \\\\ " in sql


def test_a_subject_without_schema_is_an_error() -> None:
    with pytest.raises(NoSchema, match="t-value"):
        decode_expression("t-value", {}, V1)


def test_the_frame_prefix_is_confluents() -> None:
    assert frame_prefix(258) == b"\x00\x00\x00\x01\x02"


@pytest.mark.parametrize("topic", ["sales.enriched.v1", "sales.quarantine.v1"])
def test_the_empty_record_of_each_schema_is_valid(topic: str) -> None:
    schema = json.loads(load_topics()[topic].schema_text)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), empty_value(schema))
    assert len(body.getvalue()) > 0
