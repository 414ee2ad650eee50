"""Change events as Debezium's PostgreSQL connector writes them through an Avro converter."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import fastavro

_TIME = {"type": "string", "connect.version": 1, "connect.name": "io.debezium.time.ZonedTimestamp"}
_SNAPSHOT = {
    "type": "string",
    "connect.version": 1,
    "connect.parameters": {"allowed": "true,first,first_in_data_collection,last,false,incremental"},
    "connect.default": "false",
    "connect.name": "io.debezium.data.Enum",
}
COLUMNS = {
    "customers": ("customer_id", "name", "email", "phone", "address", "country", "segment", "tier"),
    "products": ("stock_code", "description", "category", "list_price", "currency", "supplier"),
}


def nullable(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None}


def envelope(table: str, *more: dict[str, Any], without: str = "") -> str:
    """The schema of a table's events; `more` columns come last."""
    key, *others = COLUMNS[table]
    columns = [
        {"name": key, "type": "string"},
        *(nullable(each, "string") for each in others if each != without),
    ]
    columns += [nullable("valid_from", _TIME)] if without != "valid_from" else []
    columns += [{"name": "version", "type": {"type": "long", "connect.default": 1}, "default": 1}, *more]
    row = {"type": "record", "name": "Value", "fields": columns, "connect.name": f"cdc.shop.{table}.Value"}
    source = {
        "type": "record",
        "name": "Source",
        "namespace": "io.debezium.connector.postgresql",
        "fields": [
            {"name": "version", "type": "string"},
            {"name": "ts_ms", "type": "long"},
            {"name": "snapshot", "type": [_SNAPSHOT, "null"], "default": "false"},
            nullable("sequence", "string"),
            nullable("ts_us", "long"),
            nullable("lsn", "long"),
        ],
    }
    block = {
        "type": "record",
        "name": "block",
        "namespace": "event",
        "fields": [{"name": "id", "type": "string"}],
    }
    return json.dumps(
        {
            "type": "record",
            "name": "Envelope",
            "namespace": f"cdc.shop.{table}",
            "fields": [
                {"name": "before", "type": ["null", row], "default": None},
                {"name": "after", "type": ["null", "Value"], "default": None},
                {"name": "source", "type": source},
                nullable("transaction", block),
                {"name": "op", "type": "string"},
                nullable("ts_ms", "long"),
            ],
        }
    )


def event(
    op: str,
    lsn: int | None,
    at_us: int,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`at_us`: commit time, microseconds since 1970 UTC."""
    source = {"version": "3.6.3.Final", "ts_ms": at_us // 1000, "snapshot": "false", "sequence": None}
    source |= {"ts_us": at_us, "lsn": lsn}
    return {"before": before, "after": after, "source": source, "transaction": None, "op": op, "ts_ms": None}


def encoded(schema: str, schema_id: int, *events: dict[str, Any]) -> list[bytes | None]:
    parsed = fastavro.parse_schema(json.loads(schema))
    return [_framed(parsed, schema_id, each) for each in events]


def _framed(schema: Any, schema_id: int, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return struct.pack(">bI", 0, schema_id) + out.getvalue()
