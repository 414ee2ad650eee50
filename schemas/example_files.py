"""The examples that each topic's schema ships: ``examples/<topic>.json``, a list of records.

Times are ISO 8601 in UTC, bytes are base64; the rest is as JSON has it. A field that an example leaves
out takes its default.
"""

import base64
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from schemas import avro
from schemas.catalogue import HERE, Topic

FOLDER: Final = HERE / "examples"


def examples(topic: Topic, folder: Path = FOLDER) -> pl.DataFrame:
    """The topic's examples as a frame to encode. Raises ``ValueError`` where the file does not fit."""
    path = folder / f"{topic.name}.json"
    schema = avro.parse(topic.schema_text)
    try:
        records = orjson.loads(path.read_bytes())
        fields = {field.name: field for field in schema.fields}
        if unknown := {name for record in records for name in record} - fields.keys():
            raise ValueError(f"the schema has no {', '.join(sorted(unknown))}")
        return pl.DataFrame(
            pl.Series(name, [_value(record, field) for record in records], dtype=field.dtype)
            for name, field in fields.items()
        )
    except (OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"examples of {topic.name}: {error}") from error


def _value(record: Mapping[str, Any], field: avro.Field) -> Any:
    if field.name not in record:
        return None if field.default is avro.REQUIRED else field.default
    given = record[field.name]
    if given is None:
        return None
    if isinstance(field.dtype, pl.Datetime):
        return dt.datetime.fromisoformat(given).astimezone(dt.UTC).replace(tzinfo=None)
    return base64.b64decode(given, validate=True) if isinstance(field.dtype, pl.Binary) else given
