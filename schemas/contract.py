"""The data contract of sales: the quality rules of ``contracts/sales.odcs.yaml``, checked and as data.

An ``implementation`` is a Polars SQL expression over the columns of :data:`CONTEXT` that is true where a
row violates the rule; null counts as false. ``{currencies}`` and ``{countries}`` in it stand for the lists
of ``schemas.reference``. A rule of type ``text`` is applied by the engine itself and has no expression.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pydantic
import yaml
from open_data_contract_standard.model import DataQuality, OpenDataContractStandard

from schemas import reference
from schemas.avro import TEXT_MAP

HERE: Final = Path(__file__).parent
ENGINE: Final = "polars-sql"
REJECT, WARN = "error", "warning"
DIMENSIONS: Final = frozenset(
    {"accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"}
)
CONTEXT: Final[dict[str, pl.DataType]] = {
    "event_id": pl.String(),
    "source_system": pl.String(),
    "invoice_no": pl.String(),
    "line_no": pl.Int32(),
    "stock_code": pl.String(),
    "description": pl.String(),
    "quantity": pl.Int32(),
    "unit_price_micros": pl.Int64(),
    "currency": pl.String(),
    "customer_id": pl.String(),
    "country": pl.String(),
    "invoice_ts": pl.Datetime("ms"),
    "attributes": TEXT_MAP,
    "now_ms": pl.Int64(),
    "total_amount_micros": pl.Int128(),
}
"""What an expression may use: the normalised raw sale, the clock, and quantity * unit price unrounded."""

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_ID: Final = re.compile(r"[A-Z][A-Z0-9_]*")


class ContractError(ValueError):
    """A mistake in a contract file; the message names the file, the line and the rule."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``expression`` is empty where the engine applies it; ``weight`` is what a warning costs."""

    id: str
    severity: str
    dimension: str
    description: str
    expression: str
    weight: float


@dataclass(frozen=True, slots=True)
class Contract:
    """The rules in the order of the file: of those that reject, the first that applies is the reason."""

    version: str
    reject: list[Rule]
    warn: list[Rule]


SALES: Final = HERE / "contracts" / "sales.odcs.yaml"


def contract_text(path: Path = SALES) -> str:
    """The file as it is."""
    return path.read_text(encoding="utf-8")


def load_contract(path: Path = SALES) -> Contract:
    """Read and check a contract file; raises :class:`ContractError`."""
    text = path.read_text(encoding="utf-8")
    return parse_contract(text, path.name)


def parse_contract(text: str, name: str = "contract") -> Contract:
    """Check the text of a contract; ``name`` is for messages. Raises :class:`ContractError`."""
    try:
        lines = _rule_lines(yaml.compose(text, Loader=yaml.SafeLoader))
        document = OpenDataContractStandard.from_string(text)
    except (yaml.YAMLError, pydantic.ValidationError, TypeError) as error:
        raise ContractError(f"{name}: {error}") from error
    if document.kind != "DataContract" or not (document.apiVersion or "").startswith("v3."):
        raise ContractError(f"{name}: is no DataContract of apiVersion v3")
    if not document.schema_ or len(document.schema_) != 1:
        raise ContractError(f"{name}: must have exactly one schema")
    rules: dict[str, Rule] = {}
    for entry, line in zip(document.schema_[0].quality or [], lines, strict=True):
        where = f"{name}, line {line}, rule {entry.name!r}"
        rule = _rule(entry, where)
        if rule.id in rules:
            raise ContractError(f"{where}: the name is taken by an earlier rule")
        rules[rule.id] = rule
    if not rules:
        raise ContractError(f"{name}: has no rules under schema, quality")
    return Contract(
        version=document.version or "",
        reject=[rule for rule in rules.values() if rule.severity == REJECT],
        warn=[rule for rule in rules.values() if rule.severity == WARN],
    )


def _rule(entry: DataQuality, where: str) -> Rule:
    if not entry.name or not _ID.fullmatch(entry.name):
        raise ContractError(f"{where}: a rule's name is in upper case, such as ZERO_QUANTITY")
    if entry.severity not in {REJECT, WARN}:
        raise ContractError(f"{where}: severity is {REJECT} or {WARN}, not {entry.severity!r}")
    if entry.dimension not in DIMENSIONS:
        raise ContractError(f"{where}: dimension is one of {', '.join(sorted(DIMENSIONS))}")
    if not entry.description:
        raise ContractError(f"{where}: lacks the description that people read in quarantine")
    return Rule(
        id=entry.name,
        severity=entry.severity,
        dimension=entry.dimension,
        description=entry.description,
        expression=_expression(entry, where),
        weight=_weight(entry, where),
    )


def _expression(entry: DataQuality, where: str) -> str:
    if entry.type == "text":
        if entry.severity != REJECT or entry.implementation:
            raise ContractError(f"{where}: a rule of type text rejects and has no implementation")
        return ""
    if entry.type != "custom" or entry.engine != ENGINE:
        raise ContractError(f"{where}: must be of type custom with engine {ENGINE}, or of type text")
    if not isinstance(entry.implementation, str):
        raise ContractError(f"{where}: implementation must be one SQL expression")
    expression = _PLACEHOLDER.sub(lambda match: _list_of(match[1], where), entry.implementation.strip())
    _check(expression, where)
    return expression


def _check(expression: str, where: str) -> None:
    """Evaluate the expression over no rows: it must parse, know its columns and give booleans."""
    try:
        parsed = pl.sql_expr(expression)
        if unknown := set(parsed.meta.root_names()) - CONTEXT.keys():
            raise ContractError(f"{where}: knows no column {', '.join(sorted(unknown))}")
        found = pl.DataFrame(schema=CONTEXT).select(violates=parsed).schema["violates"]
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"{where}: {error}") from error
    if found != pl.Boolean:
        raise ContractError(f"{where}: gives {found}, not true or false")


def _list_of(name: str, where: str) -> str:
    if name not in _LISTS:
        raise ContractError(f"{where}: knows no list {{{name}}}, only {', '.join(sorted(_LISTS))}")
    return ", ".join("'" + value.replace("'", "''") + "'" for value in _LISTS[name]())


def _resolved_countries() -> Sequence[str]:
    table = reference.countries().filter(pl.col("country_code").is_not_null())
    return sorted(table["name_key"].to_list())


_LISTS: Final[Mapping[str, Callable[[], Sequence[str]]]] = {
    "currencies": lambda: sorted(reference.currencies()),
    "countries": _resolved_countries,
}


def _weight(entry: DataQuality, where: str) -> float:
    """Custom property ``weight``: what a warning takes off the score of 1; 0 where the rule rejects."""
    given: dict[str | None, Any] = {each.property: each.value for each in entry.customProperties or []}
    if entry.severity == REJECT:
        if "weight" in given:
            raise ContractError(f"{where}: a rule that rejects has no weight")
        return 0.0
    weight = given.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise ContractError(f"{where}: a warning has a weight above 0 and up to 1, not {weight!r}")
    return float(weight)


def _rule_lines(document: yaml.Node | None) -> list[int]:
    """Line of each rule of the first schema, from 1."""
    schema = _child(document, "schema")
    first = schema.value[0] if isinstance(schema, yaml.SequenceNode) and schema.value else None
    quality = _child(first, "quality")
    return (
        [rule.start_mark.line + 1 for rule in quality.value] if isinstance(quality, yaml.SequenceNode) else []
    )


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)
