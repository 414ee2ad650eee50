"""Identity of events and items: ids, content hashes, surrogate keys and Kafka partitions.

Each function over columns (``*_expr``) has a scalar twin written with the standard library, which is
the oracle in the tests. These definitions are for ever: a change gives every event a new identity.

Parts are joined with U+001F (unit separator), a null part of a content hash is U+0000. A part that
itself holds a separator can be made to collide with another event of the same producer; that event is
then quarantined as ``ID_CONFLICT`` or dropped as a duplicate, as with an ``event_id`` used twice.
"""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Final

import polars as pl
import polars_hash as plh

from schemas.hashing import murmur2_partition, murmur2_partition_series, xxhash64

NAMESPACE: Final = "5b0f6f3e-3f0a-5d0c-9d38-0d1f0f6f7c11"
"""UUID namespace of every id that the platform derives."""

__all__ = [
    "FIRST_EFFECTIVE_DATE",
    "NAMESPACE",
    "SPECIAL_MEMBER",
    "bytes_hash",
    "content_hash",
    "content_hash_expr",
    "customer_key_expr",
    "event_id",
    "event_id_expr",
    "invoice_key_expr",
    "item_id",
    "key64",
    "key64_expr",
    "murmur2_partition",
    "murmur2_partition_series",
    "normalise",
    "product_key_expr",
    "receipt_item_id",
    "receipt_item_id_expr",
    "sale_key_expr",
    "undecodable_event_id",
]

SEPARATOR: Final = "\x1f"
NULL: Final = "\x00"
SPECIAL_MEMBER: Final = -1
"""Surrogate key of the member that stands for an unknown natural key."""

FIRST_EFFECTIVE_DATE: Final = "1900-01-01"
"""Effective date of the first version of every natural key, inferred members included."""

_NAMESPACE_UUID: Final = uuid.UUID(NAMESPACE)
_CODES: Final = ("event_id", "source_system", "invoice_no", "stock_code")
_TEXTS: Final = ("description", "country")
_DECIMAL_TAIL: Final = r"(\s*\.0)+$"


def normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """Trim the columns of a raw sale, as every door of the platform must before it hashes.

    Codes and texts are trimmed and keep their case; an empty description, customer or country becomes
    null; ``customer_id`` loses a trailing ``.0``; the currency is in upper case. Columns that the frame
    lacks are left out; the others pass unchanged. Applying it twice is the same as applying it once.
    """
    present = set(frame.columns)
    steps = [pl.col(name).str.strip_chars() for name in _CODES if name in present]
    steps += [_empty_to_null(pl.col(name).str.strip_chars()) for name in _TEXTS if name in present]
    if "customer_id" in present:
        customer = pl.col("customer_id").str.strip_chars().str.replace(_DECIMAL_TAIL, "")
        steps.append(_empty_to_null(customer))
    if "currency" in present:
        steps.append(pl.col("currency").str.strip_chars().str.to_uppercase())
    return frame.with_columns(steps)


def _empty_to_null(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


def event_id_expr(
    source: str | pl.Expr = "source_system",
    invoice: str | pl.Expr = "invoice_no",
    line: str | pl.Expr = "line_no",
) -> pl.Expr:
    """UUIDv5 of source, invoice and line as lower-case text; null where a part is null."""
    return plh.concat_str(_parts(source, invoice, line), separator=SEPARATOR).uuidhash.uuid5(NAMESPACE)


def event_id(source: str, invoice: str, line: int) -> str:
    """Scalar twin of :func:`event_id_expr`."""
    return str(uuid.uuid5(_NAMESPACE_UUID, SEPARATOR.join((source, invoice, str(line)))))


def content_hash_expr() -> pl.Expr:
    """128 bits of SHA-256 (32 hex digits) over what a sale says, on the columns of :func:`normalise`.

    ``invoice_ts`` counts as integer milliseconds since 1970, whatever unit the column has.
    """
    text = (pl.col(name).fill_null(NULL) for name in ("invoice_no", "stock_code", "description"))
    numbers = (
        pl.col(name).cast(pl.Int64).cast(pl.String).fill_null(NULL)
        for name in ("quantity", "unit_price_micros")
    )
    rest = (pl.col(name).fill_null(NULL) for name in ("currency", "customer_id", "country"))
    time = pl.col("invoice_ts").cast(pl.Datetime("ms")).cast(pl.Int64).cast(pl.String).fill_null(NULL)
    joined = plh.concat_str([*text, *numbers, *rest, time], separator=SEPARATOR)
    digest: pl.Expr = joined.chash.sha2_256().str.slice(0, 32)
    return digest


def content_hash(
    *,
    invoice_no: str,
    stock_code: str,
    description: str | None,
    quantity: int,
    unit_price_micros: int,
    currency: str,
    customer_id: str | None,
    country: str | None,
    invoice_ts_ms: int,
) -> str:
    """Scalar twin of :func:`content_hash_expr`; the arguments are normalised already."""
    parts = (
        invoice_no,
        stock_code,
        description,
        quantity,
        unit_price_micros,
        currency,
        customer_id,
        country,
        invoice_ts_ms,
    )
    text = SEPARATOR.join(NULL if part is None else str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def bytes_hash(payload: bytes) -> str:
    """Stands for the content hash of a record that could not be decoded: the same size, over its bytes."""
    return hashlib.sha256(payload).hexdigest()[:32]


def item_id(source: str, ordinal: int | None, payload: bytes) -> str:
    """Id of an item quarantined before it became a record: the same item again gets the same id."""
    place = "" if ordinal is None else str(ordinal)
    return _uuid5(source, place, hashlib.sha256(payload).hexdigest())


def undecodable_event_id(payload: bytes) -> str:
    """Event id that a record gets when its own cannot be read."""
    return _uuid5("undecodable", hashlib.sha256(payload).hexdigest())


def receipt_item_id_expr(topic_id: str | pl.Expr, partition: str | pl.Expr, offset: str | pl.Expr) -> pl.Expr:
    """Quarantine item id of a raw record, from its coordinates: each receipt has an item of its own."""
    parts = _parts(pl.lit("receipt"), topic_id, partition, offset)
    return plh.concat_str(parts, separator=SEPARATOR).uuidhash.uuid5(NAMESPACE)


def receipt_item_id(topic_id: str, partition: int, offset: int) -> str:
    """Scalar twin of :func:`receipt_item_id_expr`."""
    return _uuid5("receipt", topic_id, str(partition), str(offset))


def _uuid5(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE_UUID, SEPARATOR.join(parts)))


def key64_expr(*parts: str | pl.Expr) -> pl.Expr:
    """Surrogate key: xxHash64 (seed 0) of the parts as a signed 64-bit integer; null where a part is.

    A string names a column; use ``pl.lit("sale")`` for a constant.
    """
    joined = plh.concat_str(_parts(*parts), separator=SEPARATOR)
    key: pl.Expr = joined.nchash.xxhash64(seed=0).reinterpret(signed=True)
    return key


def key64(*parts: str | int) -> int:
    """Scalar twin of :func:`key64_expr`."""
    unsigned = xxhash64(SEPARATOR.join(map(str, parts)).encode())
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def sale_key_expr() -> pl.Expr:
    """Key of the fact row, from ``event_id``."""
    return key64_expr(pl.lit("sale"), "event_id")


def customer_key_expr() -> pl.Expr:
    """Key of the customer's first version, or :data:`SPECIAL_MEMBER` for a sale without customer."""
    key = key64_expr(pl.lit("customer"), "customer_id", pl.lit(FIRST_EFFECTIVE_DATE))
    return key.fill_null(SPECIAL_MEMBER)


def product_key_expr() -> pl.Expr:
    """Key of the product's first version, from ``stock_code``."""
    return key64_expr(pl.lit("product"), "stock_code", pl.lit(FIRST_EFFECTIVE_DATE))


def invoice_key_expr() -> pl.Expr:
    """Key of the invoice; invoice numbers are per source."""
    return key64_expr(pl.lit("invoice"), "source_system", "invoice_no")


def _parts(*parts: str | pl.Expr) -> Sequence[pl.Expr]:
    """Columns as text. The cast is explicit because an implicit one of a float would depend on Polars."""
    return [(pl.col(part) if isinstance(part, str) else part).cast(pl.String) for part in parts]
