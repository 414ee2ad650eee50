"""Avro schema resolution as a question about schemas: can every value of a writer be read?

By the Avro 1.12 specification, "Schema Resolution". BACKWARD compatibility of a new schema with an old one
is that the new one, as reader, resolves the old one, as writer.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

_PROMOTIONS: Final[dict[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})

Names = dict[str, Mapping[str, Any]]


def incompatibilities(reader: str, writer: str) -> list[str]:
    """Why a reader cannot read all that a writer may write, one line for each place; empty if it can.

    Both are schema texts of valid Avro. Beyond the specification, a logical type must stay as it is.
    """
    wanted, given = orjson.loads(reader), orjson.loads(writer)
    names = (_names(wanted, {}), _names(given, {}))
    return list(_differences(wanted, given, "", names))


def _names(node: Any, found: Names) -> Names:
    if isinstance(node, list):
        for each in node:
            _names(each, found)
    elif isinstance(node, dict):
        if isinstance(node.get("type"), str) and node["type"] in _NAMED:
            found[node["name"].rsplit(".", 1)[-1]] = node
        for key in ("type", "items", "values", "fields"):
            _names(node.get(key), found)
    return found


def _differences(reader: Any, writer: Any, path: str, names: tuple[Names, Names]) -> Iterator[str]:
    reader, writer = _definition(reader, names[0]), _definition(writer, names[1])
    if isinstance(writer, list):
        for branch in writer:
            yield from _differences(reader, branch, path, names)
    elif isinstance(reader, list):
        tried = [list(_differences(branch, writer, path, names)) for branch in reader]
        if all(tried):
            yield f"{path or 'the schema'}: {_kind(writer)} is no branch of the reader's union"
    elif _logical(reader) != _logical(writer):
        yield f"{path or 'the schema'}: logical type {_logical(writer)} became {_logical(reader)}"
    else:
        yield from _same_shape(reader, writer, path, names)


def _same_shape(reader: Any, writer: Any, path: str, names: tuple[Names, Names]) -> Iterator[str]:
    kinds = (_kind(reader), _kind(writer))
    here = path or "the schema"
    if kinds[0] != kinds[1]:
        if kinds[0] not in _PROMOTIONS.get(kinds[1], frozenset()):
            yield f"{here}: {kinds[1]} cannot be read as {kinds[0]}"
    elif kinds[0] == "record":
        yield from _fields(reader, writer, path, names)
    elif kinds[0] == "array":
        yield from _differences(reader["items"], writer["items"], f"{path}[]", names)
    elif kinds[0] == "map":
        yield from _differences(reader["values"], writer["values"], f"{path}{{}}", names)
    elif kinds[0] == "enum" and "default" not in reader:
        if lost := set(writer["symbols"]) - set(reader["symbols"]):
            yield f"{here}: the enum lost {', '.join(sorted(lost))}"
    elif kinds[0] == "fixed" and reader["size"] != writer["size"]:
        yield f"{here}: the size of a fixed changed"


def _fields(
    reader: Mapping[str, Any], writer: Mapping[str, Any], path: str, names: tuple[Names, Names]
) -> Iterator[str]:
    given = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        here = f"{path}.{field['name']}" if path else field["name"]
        known = [name for name in (field["name"], *field.get("aliases", ())) if name in given]
        if known:
            yield from _differences(field["type"], given[known[0]]["type"], here, names)
        elif "default" not in field:
            yield f"{here}: the writer lacks it and it has no default"


def _definition(node: Any, names: Names) -> Any:
    """A name replaced by what it names, and {"type": {...}} by its inside."""
    if isinstance(node, str):
        return names.get(node.rsplit(".", 1)[-1], node)
    if isinstance(node, dict) and isinstance(node["type"], dict | list):
        return _definition(node["type"], names)
    return node


def _kind(node: Any) -> str:
    return str(node["type"]) if isinstance(node, dict) else str(node)


def _logical(node: Any) -> str | None:
    return node.get("logicalType") if isinstance(node, dict) else None
