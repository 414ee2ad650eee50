"""Bad records stand alone: whatever the bytes, the neighbours decode as if they were not there."""

import resource
from typing import Any

import orjson
import pyruhvro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import native_avro
from schemas.codec import Codec
from schemas.fakes import InMemoryRegistry
from tests.unit.schemas.codec_oracle import TOPICS, Row, encoded, rows, rows_of, zigzag

pytestmark = pytest.mark.usefixtures("engine")

RAW = TOPICS["sales.raw.v1"].schema_text
QUARANTINE = TOPICS["sales.quarantine.v1"].schema_text
REGISTRY = InMemoryRegistry()
IDS = {text: REGISTRY.register("subject", text) for text in (RAW, QUARANTINE)}
SALE: Row = {
    "event_id": "e",
    "source_system": "s",
    "invoice_no": "1",
    "line_no": 1,
    "stock_code": "85123A",
    "description": "mug",
    "quantity": 1,
    "unit_price_micros": 5,
    "currency": "GBP",
    "customer_id": None,
    "country": "EIRE",
    "invoice_ts": 1_291_191_960_000,
    "attributes": {"k": "v"},
}


def sale(event_id: str) -> bytes:
    return encoded({**SALE, "event_id": event_id}, RAW, IDS[RAW])


def framed(payload: bytes) -> bytes:
    return b"\0" + IDS[RAW].to_bytes(4, "big") + payload


GOOD = sale("good")
MAP_START = GOOD.rindex(zigzag(1) + zigzag(1) + b"k")
HOSTILE: dict[str, bytes | None] = {
    "no value": None,
    "empty": b"",
    "short header": b"\0\0\0",
    "header alone": framed(b""),
    "wrong magic": b"\x01" + GOOD[1:],
    "unknown id": b"\0\0\0\x03\xe7" + GOOD[5:],
    "negative id": b"\0\xff\xff\xff\xff" + GOOD[5:],
    "truncated": GOOD[:-4],
    "varint without end": framed(b"\xff" * 40),
    "string of 2^31 bytes": framed(zigzag(2**31) + b"abc"),
    "string of 2^62 bytes": framed(zigzag(2**62) + b"abc"),
    "string of negative length": framed(zigzag(-1) + b"abc"),
    "string that is no UTF-8": framed(zigzag(2) + b"\xff\xfe" + GOOD[7:]),
    "map of 2^62 entries": GOOD[:MAP_START] + zigzag(2**62) + GOOD[MAP_START + 1 :],
    "map key that is no UTF-8": GOOD[: MAP_START + 2] + b"\xff" + GOOD[MAP_START + 3 :],
    "union branch 9": GOOD.replace(zigzag(1) + zigzag(3) + b"mug", zigzag(9) + zigzag(3) + b"mug"),
    "int above 32 bits": GOOD.replace(
        zigzag(1) + zigzag(6) + b"85123A", zigzag(2**40) + zigzag(6) + b"85123A"
    ),
    "JSON": b'{"event_id": "e"}',
}


def ids_of(result: Any) -> list[str]:
    return list(result.frame["event_id"])


@pytest.mark.parametrize("name", HOSTILE)
def test_one_bad_record_is_reported_and_its_neighbours_decode(name: str) -> None:
    result = Codec(RAW, REGISTRY).decode([sale("a"), sale("b"), HOSTILE[name], sale("c")])
    assert ids_of(result) == ["a", "b", "c"]
    assert result.index.tolist() == [0, 1, 3]
    assert [each.position for each in result.bad] == [2]
    assert result.bad[0].reason


def test_all_kinds_of_bad_records_among_good_ones_are_told_apart() -> None:
    values: list[bytes | None] = []
    for name, value in HOSTILE.items():
        values += [sale(f"before {name}"), value]
    result = Codec(RAW, REGISTRY).decode(values)
    assert ids_of(result) == [f"before {name}" for name in HOSTILE]
    assert [each.position for each in result.bad] == list(range(1, len(values), 2))


def test_bad_record_names_its_schema_id_where_it_has_one() -> None:
    result = Codec(RAW, REGISTRY).decode(
        [HOSTILE["wrong magic"], HOSTILE["unknown id"], HOSTILE["truncated"]]
    )
    assert [each.schema_id for each in result.bad] == [None, 999, IDS[RAW]]


def test_value_over_the_limit_is_bad_and_never_decoded() -> None:
    big = encoded({**SALE, "description": "x" * 2000}, RAW, IDS[RAW])
    result = Codec(RAW, REGISTRY, max_value_bytes=1000).decode([sale("a"), big])
    assert ids_of(result) == ["a"]
    assert result.bad[0].reason == f"the value has {len(big)} bytes, over the limit of 1000"


@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("text", [RAW, QUARANTINE], ids=["columns", "records"])
def test_mangled_records_never_change_what_others_decode_to(text: str, data: st.DataObject) -> None:
    topic = "sales.raw.v1" if text == RAW else "sales.quarantine.v1"
    fine = [encoded(row, text, IDS[text]) for row in data.draw(rows(topic, min_size=1, max_size=5))]
    mangled = [_mangled(data, value) for value in data.draw(st.lists(st.sampled_from(fine), max_size=5))]
    values = data.draw(st.permutations(fine + mangled))

    codec = Codec(text, REGISTRY)
    result = codec.decode(values)
    assert sorted(result.index.tolist() + [each.position for each in result.bad]) == list(range(len(values)))

    alone = [codec.decode([value]) for value in values]
    assert [place for place, one in enumerate(alone) if one.bad] == [each.position for each in result.bad]
    # By text: a mangled double may be NaN, which equals nothing.
    assert [str(row) for one in alone for row in rows_of(one.frame)] == [
        str(row) for row in rows_of(result.frame)
    ]
    assert set(fine) <= {values[place] for place in result.index.tolist()}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("text", [RAW, QUARANTINE], ids=["columns", "records"])
def test_what_is_read_natively_is_read_alike_without_it(text: str, data: st.DataObject, engine: str) -> None:
    """pyruhvro lets some broken blocks pass as empty ones, which the native library refuses."""
    if engine == "python":
        pytest.skip("one comparison is enough")
    topic = "sales.raw.v1" if text == RAW else "sales.quarantine.v1"
    fine = [encoded(row, text, IDS[text]) for row in data.draw(rows(topic, min_size=1, max_size=3))]
    broken = data.draw(st.lists(st.sampled_from(fine), max_size=4))
    values = [*fine, *(_mangled(data, value) for value in broken)]
    found: list[dict[int, str]] = []
    for available in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native_avro, "available", lambda known=available: known)
            result = Codec(text, REGISTRY).decode(values)
        found.append(dict(zip(result.index.tolist(), map(str, rows_of(result.frame)), strict=True)))
    native, python = found
    assert native.items() <= python.items()
    assert set(range(len(fine))) <= native.keys()


def _mangled(data: st.DataObject, value: bytes) -> bytes:
    place = data.draw(st.integers(5, len(value)))
    noise = data.draw(st.binary(max_size=12))
    removed = data.draw(st.integers(0, 12))
    return value[:place] + noise + value[place + removed :]


def test_hostile_lengths_take_no_memory() -> None:
    codec = Codec(RAW, REGISTRY)
    lengths = [value for name, value in HOSTILE.items() if "2^" in name]
    codec.decode(lengths)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = codec.decode(lengths * 50)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(result.bad) == len(lengths) * 50
    assert grown_kib < 32 * 1024


def test_panic_in_the_decoder_is_a_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pyruhvro.deserialize_array

    def panics_on_b(payloads: list[bytes], schema: str) -> Any:
        if any(payload.startswith(zigzag(1) + b"b") for payload in payloads):
            bytes_are_not_implemented = '{"type":"record","name":"R","fields":[{"name":"x","type":"bytes"}]}'
            return real([b"\x02a"], bytes_are_not_implemented)
        return real(payloads, schema)

    monkeypatch.setattr(native_avro, "available", lambda: False)
    monkeypatch.setattr("schemas.fast.pyruhvro.deserialize_array", panics_on_b)
    result = Codec(RAW, REGISTRY).decode([sale("a"), sale("b"), sale("c")])
    assert ids_of(result) == ["a", "c"]
    assert [each.position for each in result.bad] == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_no_record_caused_is_not_swallowed(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pyruhvro.deserialize_array

    def fails(payloads: list[bytes], schema: str) -> Any:
        if payloads:
            raise error
        return real(payloads, schema)

    monkeypatch.setattr(native_avro, "available", lambda: False)
    monkeypatch.setattr("schemas.fast.pyruhvro.deserialize_array", fails)
    with pytest.raises(error):
        Codec(RAW, REGISTRY).decode([sale("a")])


def test_batch_of_mostly_bad_records_is_joined_again_in_order() -> None:
    values = [sale(str(place)) if place % 2 else b"\0" + GOOD[1:20] for place in range(200)]
    result = Codec(RAW, REGISTRY).decode(values)
    assert ids_of(result) == [str(place) for place in range(1, 200, 2)]
    assert [each.position for each in result.bad] == list(range(0, 200, 2))


RECURSIVE = {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}
NOTHING = {"type": "record", "name": "Z", "fields": []}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (RECURSIVE, "contains itself"),
        ({"type": "array", "items": "null"}, "items that take no bytes"),
        ({"type": "array", "items": NOTHING}, "items that take no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "items that take no bytes"),
        ("Unheard", "unknown type"),
        ({"type": "stringx"}, "unknown type"),
    ],
)
def test_schema_that_could_exhaust_the_decoder_is_refused(extra: Any, reason: str) -> None:
    registry = InMemoryRegistry()
    registry.register("subject", RAW)
    schema = orjson.loads(RAW)
    schema["fields"].append({"name": "extra", "type": extra})
    schema_id = registry.register("subject", orjson.dumps(schema).decode())
    bomb = b"\0" + schema_id.to_bytes(4, "big") + GOOD[5:] + zigzag(2**40) * 3
    result = Codec(RAW, registry).decode([bomb, GOOD])
    assert result.index.tolist() == [1]
    assert reason in result.bad[0].reason


@pytest.mark.parametrize(
    "text", ["", "{", '"string"', "[]", '{"type": "record"}', '{"type":"record","name":"R","fields":[7]}']
)
def test_writer_schema_that_is_broken_is_a_reason_and_no_crash(text: str) -> None:
    registry = InMemoryRegistry()
    schema_id = registry.register("subject", text)
    result = Codec(RAW, registry).decode([b"\0" + schema_id.to_bytes(4, "big") + b"abc"])
    assert "does not fit RawSale" in result.bad[0].reason


def test_deeply_nested_schema_is_refused() -> None:
    text = '{"type":"record","name":"R","fields":[{"name":"x","type":' + '{"type":"array","items":' * 5000
    text += '"string"' + "}" * 5000 + "}]}"
    registry = InMemoryRegistry()
    schema_id = registry.register("subject", text)
    result = Codec(RAW, registry).decode([b"\0" + schema_id.to_bytes(4, "big") + b"abc"])
    assert "does not fit RawSale" in result.bad[0].reason
