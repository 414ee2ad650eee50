"""Reading Avro record schemas: which columns they give, and how a writer's fill a reader's.

``wire`` and ``plain`` are the same schema for the two decoders. Both lack logical types, so that a
timestamp stays the integer it is on the wire whatever its range; in ``wire`` an int is a long, which is
encoded alike: pyruhvro cuts a longer varint to 32 bits without a word, a long shows the overflow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import polars as pl

MAX_DEPTH: Final = 32
MAX_SCHEMA_BYTES: Final = 1 << 20
REQUIRED: Final = object()
"""Default of a field that has none."""

TEXT_MAP: Final = pl.Map(pl.String(), pl.String())
_DTYPES: Final[dict[str, pl.DataType]] = {
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    "timestamp-millis": pl.Datetime("ms"),
    "timestamp-micros": pl.Datetime("us"),
    "map<string>": TEXT_MAP,
    "array<string>": pl.List(pl.String()),
}
_PROMOTIONS: Final[dict[str, frozenset[str]]] = {
    "int": frozenset({"int", "long", "float", "double"}),
    "long": frozenset({"long", "float", "double", "timestamp-millis", "timestamp-micros"}),
    "float": frozenset({"float", "double"}),
    "timestamp-millis": frozenset({"timestamp-millis", "long"}),
    "timestamp-micros": frozenset({"timestamp-micros", "long"}),
}
_PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "string", "bytes"})
_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})


class SchemaNotSupported(ValueError):  # noqa: N818
    """A schema that is broken, could exhaust the decoder, or does not fill the reader's columns."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record. ``kind`` is None where the type has no column of ours."""

    name: str
    kind: str | None
    nullable: bool
    default: object
    aliases: tuple[str, ...]

    @property
    def dtype(self) -> pl.DataType:
        """Column type. Raises :class:`SchemaNotSupported` where there is none."""
        if self.kind is None:
            raise SchemaNotSupported(f"field {self.name!r} has a type without a column")
        return _DTYPES[self.kind]

    @property
    def wire_dtype(self) -> pl.DataType:
        """Column type before the logical type and the range of an int are applied."""
        wide = self.kind in {"int", "timestamp-millis", "timestamp-micros"}
        return pl.Int64() if wide else self.dtype


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """A parsed record schema. ``fast`` is true where pyruhvro knows every type in it."""

    name: str
    fields: tuple[Field, ...]
    plain: Mapping[str, Any]
    wire: str
    text: str

    @property
    def fast(self) -> bool:
        return all(field.kind not in {None, "bytes"} for field in self.fields)

    @property
    def polars(self) -> pl.Schema:
        """Columns of the record."""
        return pl.Schema({field.name: field.dtype for field in self.fields})

    def field(self, name: str, aliases: tuple[str, ...] = ()) -> Field | None:
        """The field of that name, or of the first alias that exists."""
        by_name = {field.name: field for field in self.fields}
        return next((by_name[each] for each in (name, *aliases) if each in by_name), None)


def parse(text: str) -> RecordSchema:
    """Parse a schema; raises :class:`SchemaNotSupported`.

    Refused besides what is invalid: records that contain themselves and arrays or maps of items that
    take no bytes, for a few bytes of such a record can ask for unbounded stack or memory.
    """
    if len(text) > MAX_SCHEMA_BYTES:
        raise SchemaNotSupported(f"a schema of {len(text)} characters is over the limit")
    try:
        document = orjson.loads(text)
    except ValueError as error:
        raise SchemaNotSupported(f"the schema is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("type") != "record":
        raise SchemaNotSupported("the schema is no record")
    try:
        _refuse_unbounded(document, {}, 0)
        fields = tuple(_field(entry) for entry in document["fields"])
        plain = _without_logical_types(document)
        name = str(document["name"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SchemaNotSupported(f"the schema is not valid Avro: {error!r}") from error
    wire = orjson.dumps(_ints_as_longs(plain)).decode()
    return RecordSchema(name=name, fields=fields, plain=plain, wire=wire, text=text)


def projection(writer: RecordSchema, reader: RecordSchema) -> list[tuple[Field, Field | None]]:
    """Each field of the reader with the writer's that fills it, or None where its default does.

    Raises :class:`SchemaNotSupported` where Avro's schema resolution has no answer, and also where one
    timestamp is in milliseconds and the other in microseconds: the resolution of the Avro specification
    ignores logical types and would move every event by a factor of 1000.
    """
    pairs: list[tuple[Field, Field | None]] = []
    for wanted in reader.fields:
        given = writer.field(wanted.name, wanted.aliases)
        if given is None and wanted.default is REQUIRED:
            raise SchemaNotSupported(f"the writer's schema lacks {wanted.name!r}, which has no default")
        if given is not None and given.kind is not None and wanted.kind not in _promotions(given.kind):
            raise SchemaNotSupported(f"{wanted.name!r} is {given.kind}, not {wanted.kind}")
        pairs.append((wanted, given))
    return pairs


def _promotions(kind: str) -> frozenset[str]:
    return _PROMOTIONS.get(kind, frozenset({kind}))


def _field(entry: Mapping[str, Any]) -> Field:
    options = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    others = [option for option in options if option != "null"]
    return Field(
        name=str(entry["name"]),
        kind=_kind(others[0]) if len(others) == 1 else None,
        nullable=len(others) < len(options),
        default=entry.get("default", REQUIRED),
        aliases=tuple(entry.get("aliases", ())),
    )


def _kind(avro_type: Any) -> str | None:
    """Our name of a type that has a column, else None."""
    if isinstance(avro_type, list):
        return None
    if isinstance(avro_type, str):
        return avro_type if avro_type in _PRIMITIVES and avro_type != "null" else None
    outer = avro_type["type"]
    if not isinstance(outer, str):
        return _kind(outer)
    if outer in {"map", "array"}:
        items = avro_type["values" if outer == "map" else "items"]
        return f"{outer}<string>" if _kind(items) == "string" else None
    logical = avro_type.get("logicalType")
    if outer == "long" and logical in {"timestamp-millis", "timestamp-micros"}:
        return str(logical)
    return _kind(outer) if logical is None else None


def _refuse_unbounded(avro_type: Any, open_names: dict[str, bool], depth: int) -> bool:
    """Check a type; whether a value of it may take no bytes. ``open_names``: name -> is it complete."""
    if depth > MAX_DEPTH:
        raise SchemaNotSupported(f"the schema is nested deeper than {MAX_DEPTH}")
    if isinstance(avro_type, list):
        for option in avro_type:
            _refuse_unbounded(option, open_names, depth + 1)
        return False
    if isinstance(avro_type, str):
        return _named(avro_type, open_names)
    kind = avro_type["type"]
    if not isinstance(kind, str):
        return _refuse_unbounded(kind, open_names, depth + 1)
    if kind in {"array", "map"}:
        items = avro_type["items" if kind == "array" else "values"]
        empty = _refuse_unbounded(items, open_names, depth + 1)
        if kind == "array" and empty:
            raise SchemaNotSupported("the schema has an array of items that take no bytes")
        return False
    if kind not in _NAMED:
        return _refuse_unbounded(kind, open_names, depth + 1)
    full = _full_name(avro_type)
    open_names[full] = open_names[avro_type["name"]] = False
    empty = _named_size(avro_type, open_names, depth)
    open_names[full] = open_names[avro_type["name"]] = True
    return empty


def _named_size(avro_type: Mapping[str, Any], open_names: dict[str, bool], depth: int) -> bool:
    if avro_type["type"] == "fixed":
        return int(avro_type["size"]) <= 0
    if avro_type["type"] == "enum":
        return False
    sizes = [_refuse_unbounded(field["type"], open_names, depth + 1) for field in avro_type["fields"]]
    return all(sizes)


def _named(name: str, open_names: Mapping[str, bool]) -> bool:
    if name in _PRIMITIVES:
        return name == "null"
    if name not in open_names:
        raise SchemaNotSupported(f"the schema names an unknown type {name!r}")
    if not open_names[name]:
        raise SchemaNotSupported(f"{name!r} contains itself")
    return False


def _full_name(avro_type: Mapping[str, Any]) -> str:
    namespace = avro_type.get("namespace")
    return f"{namespace}.{avro_type['name']}" if namespace else str(avro_type["name"])


def _without_logical_types(node: Any) -> Any:
    """A copy without logical types, and with ``{"type": "string", ...}`` as ``"string"``.

    fastavro and pyruhvro would act on the logical types; Java writes properties of its own into types.
    """
    if isinstance(node, list):
        return [_without_logical_types(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "name" not in node and node.get("type") in tuple(_PRIMITIVES):
        return node["type"]
    kept = {key: value for key, value in node.items() if key not in {"logicalType", "doc"}}
    return {key: value if key == "default" else _without_logical_types(value) for key, value in kept.items()}


def _ints_as_longs(node: Any) -> Any:
    if node == "int":
        return "long"
    if isinstance(node, list):
        return [_ints_as_longs(each) for each in node]
    if not isinstance(node, dict):
        return node
    return dict(_widened(node))


def _widened(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        is_type = key in {"type", "items", "values", "fields"}
        yield key, _ints_as_longs(value) if is_type else value
