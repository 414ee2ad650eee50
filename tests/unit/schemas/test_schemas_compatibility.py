"""Schema resolution as a question about schemas agrees with fastavro's answers about values."""

import io
from typing import Any

import fastavro
import orjson
import pytest

from schemas.compatibility import incompatibilities


def record(*fields: dict[str, Any]) -> str:
    return orjson.dumps({"type": "record", "name": "R", "fields": list(fields)}).decode()


def field(avro_type: Any, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": avro_type, **more}


ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
POINT = {"type": "record", "name": "P", "fields": [{"name": "a", "type": "int"}]}
# writer's type, reader's type, a value that the writer may write, can the reader read it
CASES: list[tuple[Any, Any, Any, bool]] = [
    ("int", "long", 1, True),
    ("long", "int", 1, False),
    ("int", "double", 1, True),
    ("float", "double", 1.5, True),
    ("double", "float", 1.5, False),
    ("string", "bytes", "a", True),
    ("bytes", "string", b"a", True),
    ("string", "int", "a", False),
    ("string", ["null", "string"], "a", True),
    (["null", "string"], "string", None, False),
    (["null", "string"], ["string", "null"], None, True),
    (["null", "string"], ["null", "string", "int"], "a", True),
    (["null", "string", "int"], ["null", "string"], 5, False),
    ("int", ["null", "long"], 5, True),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}, [1], True),
    ({"type": "array", "items": "string"}, {"type": "array", "items": "int"}, ["a"], False),
    ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, {"a": 1}, True),
    ({"type": "map", "values": "string"}, {"type": "array", "items": "string"}, {"a": "b"}, False),
    (ENUM, {**ENUM, "symbols": ["A", "B", "C"]}, "B", True),
    (ENUM, {**ENUM, "symbols": ["A"]}, "B", False),
    (ENUM, {**ENUM, "symbols": ["A"], "default": "A"}, "B", True),
    (
        POINT,
        {**POINT, "fields": [*POINT["fields"], {"name": "b", "type": "int", "default": 0}]},
        {"a": 1},
        True,
    ),
    (POINT, {**POINT, "fields": [*POINT["fields"], {"name": "b", "type": "int"}]}, {"a": 1}, False),
    ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, b"ab", False),
]


@pytest.mark.parametrize(("writer", "reader", "value", "readable"), CASES)
def test_judgement_is_that_of_fastavro_on_a_value(
    writer: Any, reader: Any, value: Any, readable: bool
) -> None:
    schemas = (record(field(reader)), record(field(writer)))
    assert bool(incompatibilities(*schemas)) is not readable
    assert fastavro_reads(*schemas, {"x": value}) is readable


def fastavro_reads(reader: str, writer: str, value: Any) -> bool:
    written, wanted = (fastavro.parse_schema(orjson.loads(text)) for text in (writer, reader))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, written, value)
    buffer.seek(0)
    try:
        fastavro.schemaless_reader(buffer, written, wanted)
    except Exception:
        return False
    return True


def test_each_place_is_named() -> None:
    old = record(field("string"), field(POINT, "p"))
    new = record(field("int"), field({**POINT, "fields": [field("string", "a")]}, "p"), field("int", "added"))
    assert incompatibilities(new, old) == [
        "x: string cannot be read as int",
        "p.a: int cannot be read as string",
        "added: the writer lacks it and it has no default",
    ]


def test_renamed_field_with_an_alias_is_the_same_field() -> None:
    old = record(field("string", "till"))
    assert incompatibilities(record(field("string", "register", aliases=["till"])), old) == []
    assert incompatibilities(record(field("string", "register")), old) != []


def test_logical_type_may_not_change_under_old_records() -> None:
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    assert incompatibilities(record(field(micros)), record(field(millis))) == [
        "x: logical type timestamp-millis became timestamp-micros"
    ]


def test_named_types_are_followed_by_name() -> None:
    old = record(field(ENUM), field("E", "y"))
    lost = {**ENUM, "symbols": ["B"]}
    assert incompatibilities(record(field(lost), field("E", "y")), old) == [
        "x: the enum lost A",
        "y: the enum lost A",
    ]
