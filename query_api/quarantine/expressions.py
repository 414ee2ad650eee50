"""The expressions that people write to choose and to mend items: one Polars SQL expression, no statement.

What is accepted is decided here, before Polars sees it: literals, columns of the frame, operators, and the
functions of :data:`FUNCTIONS`. None of them reads files, aggregates, or grows a text without bound; regular
expressions are those of Rust's `regex`, which takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import polars as pl

from query_api.errors import BadInputError

MAX_LENGTH: Final = 2_000
FUNCTIONS: Final = frozenset(
    {
        "abs",
        "btrim",
        "cast",
        "ceil",
        "ceiling",
        "char_length",
        "coalesce",
        "concat",
        "concat_ws",
        "date",
        "date_part",
        "ends_with",
        "extract",
        "floor",
        "greatest",
        "if",
        "ifnull",
        "initcap",
        "least",
        "left",
        "length",
        "lower",
        "ltrim",
        "mod",
        "nullif",
        "octet_length",
        "regexp_like",
        "replace",
        "right",
        "round",
        "rtrim",
        "sign",
        "starts_with",
        "strftime",
        "strpos",
        "substr",
        "substring",
        "trim",
        "try_cast",
        "upper",
    }
)
# REPLACE may lengthen a text; nested it would multiply.
_MAX_REPLACE: Final = 3
_WORDS: Final = frozenset(
    {
        "and",
        "or",
        "not",
        "in",
        "between",
        "like",
        "ilike",
        "rlike",
        "regexp",
        "is",
        "null",
        "true",
        "false",
        "case",
        "when",
        "then",
        "else",
        "end",
        "as",
        "from",
        "for",
        "int",
        "integer",
        "bigint",
        "smallint",
        "double",
        "float",
        "real",
        "decimal",
        "numeric",
        "text",
        "varchar",
        "string",
        "boolean",
        "timestamp",
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "second",
        "dow",
        "date",
        "interval",
    }
)
_BEFORE_PARENTHESIS: Final = frozenset(
    {
        "and",
        "or",
        "not",
        "in",
        "when",
        "then",
        "else",
        "case",
        "between",
        "like",
        "is",
        "as",
    }
)
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)|(?P<text>'(?:[^']|'')*')|(?P<quoted>"[A-Za-z_][A-Za-z0-9_]*")
    |(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<operator>\|\||<>|!=|<=|>=|::|!~|[=<>+\-*/%(),~])""",
    re.VERBOSE,
)


def condition(text: str, columns: Mapping[str, pl.DataType]) -> pl.Expr:
    """An expression that is true, false or null for each row. Raises `BadInputError`."""
    parsed, found = _parsed("where", text, columns)
    if found != pl.Boolean:
        raise BadInputError(f"where: {text!r} gives {found}, not true or false")
    return parsed


def value(field: str, text: str, columns: Mapping[str, pl.DataType]) -> pl.Expr:
    """An expression whose value becomes a field. Raises `BadInputError`."""
    parsed, found = _parsed(f"set {field}", text, columns)
    if not (
        found.is_integer() or found in (pl.String, pl.Null) or isinstance(found, pl.Datetime | pl.Decimal)
    ):
        hint = "; write a decimal as text, such as '2.55'" if found.is_float() else ""
        raise BadInputError(f"set {field}: {text!r} gives {found}, which is no value of a field{hint}")
    return parsed


def _parsed(where: str, text: str, columns: Mapping[str, pl.DataType]) -> tuple[pl.Expr, pl.DataType]:
    _check(where, text, columns)
    try:
        parsed = pl.sql_expr(text)
        # Over one row of nulls: it must know its columns and give one value a row.
        frame = pl.DataFrame(schema=dict(columns)).clear(1).select(value=parsed)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise BadInputError(f"{where}: {text!r} cannot be read: {str(error).splitlines()[0]}") from None
    except BaseException as error:
        # Polars panics on a few malformed expressions; its panic is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise BadInputError(f"{where}: {text!r} cannot be read") from None
    return parsed, frame.schema["value"]


def _check(where: str, text: str, columns: Mapping[str, pl.DataType]) -> None:
    if len(text) > MAX_LENGTH:
        raise BadInputError(f"{where}: at most {MAX_LENGTH} characters, not {len(text)}")
    words, place = [], 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise BadInputError(f"{where}: {text[place]!r} at character {place + 1} has no meaning here")
        place = token.end()
        if token.lastgroup == "word":
            called = text[place:].lstrip().startswith("(")
            words.append((token[0].lower(), called))
            _check_word(where, token[0], called, columns)
        elif token.lastgroup == "quoted":
            _check_word(where, token[0].strip('"'), False, columns)
    if not words and not text.strip():
        raise BadInputError(f"{where}: the expression is empty")
    if sum(called and word == "replace" for word, called in words) > _MAX_REPLACE:
        raise BadInputError(f"{where}: at most {_MAX_REPLACE} calls of REPLACE")


def _check_word(where: str, word: str, called: bool, columns: Mapping[str, pl.DataType]) -> None:
    plain = word.lower()
    if called and plain not in FUNCTIONS and plain not in _BEFORE_PARENTHESIS:
        allowed = ", ".join(sorted(FUNCTIONS))
        raise BadInputError(f"{where}: {word} is no function that may be called; there are {allowed}")
    if not called and word not in columns and plain not in _WORDS:
        raise BadInputError(f"{where}: there is no column {word}; there are {', '.join(columns)}")
