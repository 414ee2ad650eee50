"""The codec against fastavro as oracle, over every topic's schema."""

from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, EncodeError
from schemas.fakes import InMemoryRegistry
from schemas.registry import RegistryUnavailable
from tests.unit.schemas.codec_oracle import TOPICS, Row, decoded, encoded, frame_of, rows, rows_of

pytestmark = pytest.mark.usefixtures("engine")

RAW = TOPICS["sales.raw.v1"].schema_text
VALIDATED = TOPICS["sales.validated.v1"].schema_text
QUARANTINE = TOPICS["sales.quarantine.v1"].schema_text


def codec_of(schema_text: str) -> tuple[Codec, int, InMemoryRegistry]:
    registry = InMemoryRegistry()
    schema_id = registry.register("subject", schema_text)
    return Codec(schema_text, registry), schema_id, registry


def edited(
    schema_text: str, *, add: list[dict[str, Any]] | None = None, drop: str = "", **changed: Any
) -> str:
    """A version of the schema with fields added, one dropped, and types of others changed."""
    schema = orjson.loads(schema_text)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != drop] + (add or [])
    for field in schema["fields"]:
        field["type"] = changed.get(field["name"], field["type"])
    return orjson.dumps(schema).decode()


@pytest.mark.parametrize("topic", TOPICS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_codec_and_fastavro_read_what_the_other_writes(topic: str, data: st.DataObject) -> None:
    text = TOPICS[topic].schema_text
    given_rows: list[Row] = data.draw(rows(topic))
    codec, schema_id, _ = codec_of(text)

    values = codec.encode(frame_of(given_rows, text), schema_id)
    assert [decoded(value, text) for value in values] == given_rows

    result = codec.decode([encoded(row, text, schema_id) for row in given_rows])
    assert rows_of(result.frame) == given_rows
    assert result.frame.schema == codec.columns
    assert result.index.tolist() == list(range(len(given_rows)))
    assert result.bad == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(
    given_rows=rows("sales.validated.v1", max_size=8),
    choice=st.lists(st.integers(0, 2), min_size=8, max_size=8),
)
def test_several_schema_ids_in_one_batch_keep_their_order(given_rows: list[Row], choice: list[int]) -> None:
    registry = InMemoryRegistry()
    older = edited(VALIDATED, drop="load_id")
    newer = edited(VALIDATED, add=[{"name": "till", "type": ["null", "string"], "default": None}])
    texts = [VALIDATED, older, newer]
    ids = [registry.register("subject", text) for text in texts]
    values = [
        encoded({**row, "till": "7"}, texts[which], ids[which])
        for row, which in zip(given_rows, choice, strict=False)
    ]
    expected = [
        {**row, "load_id": None} if which == 1 else row
        for row, which in zip(given_rows, choice, strict=False)
    ]
    result = Codec(VALIDATED, registry).decode(values)
    assert rows_of(result.frame) == expected
    assert result.schema_ids.tolist() == [ids[which] for which in choice[: len(values)]]
    assert result.index.tolist() == list(range(len(values)))


SALE: Row = {
    "event_id": "e",
    "source_system": "s",
    "invoice_no": "1",
    "line_no": 1,
    "stock_code": "85123A",
    "description": None,
    "quantity": -3,
    "unit_price_micros": 2_550_000,
    "currency": "GBP",
    "customer_id": "17850",
    "country": "EIRE",
    "invoice_ts": 1_291_191_960_000,
    "attributes": {"a": "b"},
}


def decode_as(reader: str, writer: str, row: Row) -> list[Row] | str:
    """Rows that the reader sees of a writer's row, or the reason why none."""
    registry = InMemoryRegistry()
    schema_id = registry.register("subject", writer)
    result = Codec(reader, registry).decode([encoded(row, writer, schema_id)])
    return result.bad[0].reason if result.bad else rows_of(result.frame)


def test_new_nullable_column_reads_old_records_and_old_readers_read_new_ones() -> None:
    newer = edited(RAW, add=[{"name": "till", "type": ["null", "string"], "default": None}])
    assert decode_as(newer, RAW, SALE) == [{**SALE, "till": None}]
    assert decode_as(RAW, newer, {**SALE, "till": "7"}) == [SALE]


def test_missing_fields_take_the_default_of_the_reader() -> None:
    assert decode_as(RAW, edited(RAW, drop="attributes"), SALE) == [{**SALE, "attributes": {}}]
    newer = edited(
        RAW, add=[{"name": "n", "type": "int", "default": 4}, {"name": "t", "type": "string", "default": "x"}]
    )
    assert decode_as(newer, RAW, SALE) == [{**SALE, "n": 4, "t": "x"}]


def test_missing_field_without_default_makes_every_record_of_that_schema_bad() -> None:
    reason = decode_as(RAW, edited(RAW, drop="currency"), SALE)
    assert isinstance(reason, str)
    assert "lacks 'currency'" in reason


def test_field_of_another_type_makes_the_record_bad() -> None:
    reason = decode_as(RAW, edited(RAW, currency="long"), {**SALE, "currency": 5})
    assert reason == "schema 1 does not fit RawSale: 'currency' is long, not string"


def test_microseconds_are_not_taken_for_milliseconds() -> None:
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    reason = decode_as(RAW, edited(RAW, invoice_ts=micros), SALE)
    assert isinstance(reason, str)
    assert "timestamp-micros" in reason


def test_int_is_promoted_to_long() -> None:
    assert decode_as(RAW, edited(RAW, unit_price_micros="int"), SALE) == [SALE]


def test_null_in_a_field_that_the_reader_requires_is_bad_and_a_value_is_not() -> None:
    optional = edited(RAW, currency=["null", "string"])
    assert decode_as(RAW, optional, SALE) == [SALE]
    assert decode_as(RAW, optional, {**SALE, "currency": None}) == "'currency' is null"


def test_schema_as_java_writes_it_reads_the_same() -> None:
    java = {"type": "string", "avro.java.string": "String"}
    text = edited(RAW, event_id=java, description=["null", java], attributes={"type": "map", "values": java})
    assert decode_as(RAW, text, SALE) == [SALE]


@pytest.mark.parametrize(
    ("extra", "value"),
    [
        ({"type": "bytes"}, b"\xff"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B"),
        ({"type": "fixed", "name": "F", "size": 2}, b"ab"),
        (["null", "string", "long"], 5),
        (
            {
                "type": "array",
                "items": {"type": "record", "name": "Q", "fields": [{"name": "y", "type": "int"}]},
            },
            [{"y": 1}],
        ),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\x01"),
        ({"type": "int", "logicalType": "date"}, 5),
    ],
)
def test_unknown_extra_field_of_any_type_is_left_out(extra: Any, value: Any) -> None:
    writer = edited(RAW, add=[{"name": "extra", "type": extra}])
    assert decode_as(RAW, writer, {**SALE, "extra": value}) == [SALE]


def test_registry_outage_raises_and_judges_no_record() -> None:
    codec, schema_id, registry = codec_of(RAW)
    registry.available = False
    with pytest.raises(RegistryUnavailable):
        codec.decode([b"junk", encoded(SALE, RAW, schema_id)])
    registry.available = True
    assert codec.decode([encoded(SALE, RAW, schema_id)]).index.tolist() == [0]
    registry.available = False  # a known schema needs no registry
    assert codec.decode([encoded(SALE, RAW, schema_id)]).index.tolist() == [0]


def test_unknown_id_is_bad_until_it_is_registered() -> None:
    codec, _, registry = codec_of(RAW)
    newer = edited(RAW, add=[{"name": "till", "type": ["null", "string"], "default": None}])
    value = encoded({**SALE, "till": None}, newer, 2)
    assert [(each.position, each.schema_id) for each in codec.decode([value]).bad] == [(0, 2)]
    assert registry.register("subject", newer) == 2
    assert rows_of(codec.decode([value]).frame) == [SALE]


def test_empty_batch_has_the_columns_of_the_reader() -> None:
    for text in (RAW, QUARANTINE):
        codec, schema_id, _ = codec_of(text)
        result = codec.decode([])
        assert (result.frame.schema, len(result.frame), result.bad) == (codec.columns, 0, [])
        assert codec.encode(result.frame, schema_id) == []


def test_encode_fills_defaults_and_drops_other_columns() -> None:
    codec, schema_id, _ = codec_of(RAW)
    frame = frame_of([SALE], RAW).drop("attributes", "country").with_columns(other=pl.lit(1))
    [value] = codec.encode(frame, schema_id)
    assert decoded(value, RAW) == {**SALE, "attributes": {}, "country": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit(None, dtype=pl.String).alias("currency"), "'currency' is null in row 0"),
        (pl.lit(2**31).alias("quantity"), "'quantity' does not fit int"),
        (pl.lit("soon").alias("invoice_ts"), "'invoice_ts' does not fit timestamp-millis"),
        (
            pl.lit(None, dtype=pl.Map(pl.String(), pl.String())).alias("attributes"),
            "'attributes' is null in row 0",
        ),
    ],
)
def test_encode_refuses_what_the_schema_cannot_hold(change: pl.Expr, message: str) -> None:
    codec, schema_id, _ = codec_of(RAW)
    with pytest.raises(EncodeError, match=message):
        codec.encode(frame_of([SALE], RAW).with_columns(change), schema_id)


def test_encode_refuses_a_frame_without_a_required_column() -> None:
    codec, schema_id, _ = codec_of(RAW)
    with pytest.raises(EncodeError, match="lacks 'currency'"):
        codec.encode(frame_of([SALE], RAW).drop("currency"), schema_id)


def test_times_with_a_zone_are_encoded_as_utc() -> None:
    codec, schema_id, _ = codec_of(RAW)
    zoned = pl.col("invoice_ts").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    [value] = codec.encode(frame_of([SALE], RAW).with_columns(zoned), schema_id)
    assert decoded(value, RAW) == SALE
