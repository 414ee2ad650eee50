"""Identity over columns equals its scalar twin, and is the same for ever."""

import hashlib
import uuid
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import identity

TEXT = st.text(max_size=50)
SALES = st.lists(
    st.fixed_dictionaries(
        {
            "event_id": TEXT,
            "source_system": TEXT,
            "invoice_no": TEXT,
            "line_no": st.integers(-(2**31), 2**31 - 1),
            "stock_code": TEXT,
            "description": st.none() | TEXT,
            "quantity": st.integers(-(2**31), 2**31 - 1),
            "unit_price_micros": st.integers(-(2**63), 2**63 - 1),
            "currency": TEXT,
            "customer_id": st.none() | TEXT | st.from_regex(r"\s*[0-9 ]*(\s*\.0)*\s*", fullmatch=True),
            "country": st.none() | TEXT,
            "invoice_ts": st.integers(-(2**63), 2**63 - 1),
        }
    ),
    min_size=1,
    max_size=5,
)
HASHED = (
    "invoice_no",
    "stock_code",
    "description",
    "quantity",
    "unit_price_micros",
    "currency",
    "customer_id",
    "country",
)
SALE: dict[str, Any] = {
    "source_system": "online-retail",
    "invoice_no": "536365",
    "line_no": 1,
    "stock_code": "85123A",
    "description": "WHITE HANGING HEART T-LIGHT HOLDER",
    "quantity": 6,
    "unit_price_micros": 2_550_000,
    "currency": "GBP",
    "customer_id": "17850",
    "country": "United Kingdom",
    "invoice_ts": 1_291_191_960_000,
}


def frame_of(sales: list[dict[str, Any]]) -> pl.DataFrame:
    types = {"description": pl.String, "customer_id": pl.String, "country": pl.String}
    return pl.DataFrame(sales, schema_overrides=types).with_columns(
        pl.col("invoice_ts").cast(pl.Datetime("ms"))
    )


@settings(max_examples=30, deadline=None)
@given(SALES)
def test_ids_and_hashes_over_columns_equal_their_scalar_twins(sales: list[dict[str, Any]]) -> None:
    found = frame_of(sales).select(
        event_id=identity.event_id_expr(),
        content_hash=identity.content_hash_expr(),
        sale_key=identity.sale_key_expr(),
        product_key=identity.product_key_expr(),
        invoice_key=identity.invoice_key_expr(),
        customer_key=identity.customer_key_expr(),
        item_id=identity.receipt_item_id_expr(pl.lit("topic"), pl.lit(2), "line_no"),
    )
    expected = [
        {
            "event_id": identity.event_id(sale["source_system"], sale["invoice_no"], sale["line_no"]),
            "content_hash": identity.content_hash(
                **{name: sale[name] for name in HASHED}, invoice_ts_ms=sale["invoice_ts"]
            ),
            "sale_key": identity.key64("sale", sale["event_id"]),
            "product_key": identity.key64("product", sale["stock_code"], "1900-01-01"),
            "invoice_key": identity.key64("invoice", sale["source_system"], sale["invoice_no"]),
            "customer_key": -1
            if sale["customer_id"] is None
            else identity.key64("customer", sale["customer_id"], "1900-01-01"),
            "item_id": identity.receipt_item_id("topic", 2, sale["line_no"]),
        }
        for sale in sales
    ]
    assert found.to_dicts() == expected


@settings(max_examples=30, deadline=None)
@given(SALES)
def test_normalising_twice_changes_nothing_more(sales: list[dict[str, Any]]) -> None:
    once = identity.normalise(frame_of(sales))
    assert identity.normalise(once).equals(once)


def test_normalise_trims_empties_and_strips_but_keeps_case() -> None:
    raw = pl.DataFrame(
        {
            "invoice_no": ["  c536379\t", "a"],
            "stock_code": [" 85123a ", "b"],
            "description": ["  ", " Red Mug "],
            "customer_id": [" 17850.0 ", ""],
            "country": ["", " EIRE"],
            "currency": [" gbp", "EUR"],
            "quantity": [1, 2],
        }
    )
    assert identity.normalise(raw).to_dicts() == [
        {
            "invoice_no": "c536379",
            "stock_code": "85123a",
            "description": None,
            "customer_id": "17850",
            "country": None,
            "currency": "GBP",
            "quantity": 1,
        },
        {
            "invoice_no": "a",
            "stock_code": "b",
            "description": "Red Mug",
            "customer_id": None,
            "country": "EIRE",
            "currency": "EUR",
            "quantity": 2,
        },
    ]


def test_only_a_trailing_point_zero_of_a_customer_goes() -> None:
    given_ids = ["17850.0", "17850", "1.05", "10", ".0", "A.0B", "1.0.0", "0"]
    frame = identity.normalise(pl.DataFrame({"customer_id": given_ids}))
    assert frame["customer_id"].to_list() == ["17850", "17850", "1.05", "10", None, "A.0B", "1", "0"]


def test_same_sale_through_every_door_has_one_hash() -> None:
    csv = SALE | {"customer_id": "17850.0", "description": " WHITE HANGING HEART T-LIGHT HOLDER "}
    http = SALE | {"currency": "gbp", "country": "United Kingdom "}
    hashes = identity.normalise(frame_of([SALE, csv, http])).select(h=identity.content_hash_expr())["h"]
    assert hashes.n_unique() == 1


def test_every_part_of_the_content_changes_the_hash() -> None:
    changes: list[dict[str, Any]] = [
        {"invoice_no": "536366"},
        {"stock_code": "85123a"},
        {"description": None},
        {"description": "x"},
        {"quantity": 7},
        {"unit_price_micros": 2_550_001},
        {"currency": "EUR"},
        {"customer_id": None},
        {"country": "France"},
        {"invoice_ts": SALE["invoice_ts"] + 1},
    ]
    frame = frame_of([SALE, *({**SALE, **change} for change in changes)])
    assert frame.select(h=identity.content_hash_expr())["h"].n_unique() == len(changes) + 1


def test_content_hash_counts_milliseconds_whatever_the_unit_of_the_column() -> None:
    frame = frame_of([SALE])
    micros = frame.with_columns(pl.col("invoice_ts").cast(pl.Datetime("us")))
    assert (
        frame.select(identity.content_hash_expr()).item()
        == micros.select(identity.content_hash_expr()).item()
    )


def test_identity_is_what_it_was_when_the_first_event_was_stored() -> None:
    """These values are in the stores of every installation: if this fails, the code is wrong."""
    assert identity.event_id("online-retail", "536365", 1) == "8cf4491d-a032-545f-8f20-4ebbe87e8e8b"
    hashed = identity.content_hash(**{name: SALE[name] for name in HASHED}, invoice_ts_ms=SALE["invoice_ts"])
    assert hashed == "3d94bb52a6f2324daca19d6afbf7966b"
    assert identity.key64("customer", "17850", "1900-01-01") == 8584588308508458619
    assert identity.item_id("online-retail", 17, b"line") == "34fca61f-eca0-5399-9032-f1f641548d17"
    assert identity.undecodable_event_id(b"\x01\xff") == "397dd468-c500-5c9b-803b-bf89c32c3678"


def test_ids_are_uuids_of_version_5_in_the_namespace() -> None:
    name = "\x1f".join(("s", "i", "7"))
    assert identity.event_id("s", "i", 7) == str(uuid.uuid5(uuid.UUID(identity.NAMESPACE), name))
    assert uuid.UUID(identity.item_id("s", None, b"")).version == 5


def test_quarantined_item_is_known_by_source_place_and_bytes() -> None:
    ids = {
        identity.item_id("s", 1, b"x"),
        identity.item_id("s", 2, b"x"),
        identity.item_id("s", None, b"x"),
        identity.item_id("t", 1, b"x"),
        identity.item_id("s", 1, b"y"),
    }
    assert len(ids) == 5
    assert identity.item_id("s", 1, b"x") in ids


def test_undecodable_record_has_a_hash_of_its_bytes_in_the_size_of_a_content_hash() -> None:
    assert identity.bytes_hash(b"junk") == hashlib.sha256(b"junk").hexdigest()[:32]


def test_null_part_gives_a_null_key() -> None:
    frame = pl.DataFrame({"a": ["x", None]}, schema={"a": pl.String})
    assert frame.select(k=identity.key64_expr(pl.lit("p"), "a"))["k"].is_null().to_list() == [False, True]
