"""The reference at `/docs`, made from the GraphQL schema and the OpenAPI description. It works offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    Undefined,
    get_named_type,
    is_introspection_type,
    is_specified_scalar_type,
)

EXAMPLE = """{
  kpis { revenue orders averageOrderValue }
  topProducts(first: 5) { stockCode description revenue }
}"""


def page(schema: GraphQLSchema, openapi: Mapping[str, Any]) -> str:
    """The whole HTML page."""
    body = "\n".join([*_graphql(schema), *_rest(openapi)])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tillstream reference</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/static/style.css"></head>
<body><header><h1>Tillstream reference</h1>
<nav><a href="/">Console</a> <a href="#rest">REST</a> <a href="/schema.graphql">schema.graphql</a>
<a href="/openapi.json">openapi.json</a></nav></header>
<main class="reference">
<section class="card"><h2>Try it</h2>
<textarea id="query" rows="6" spellcheck="false" aria-label="GraphQL query">{escape(EXAMPLE)}</textarea>
<p><button id="run" type="button">Ask</button> <span id="took" class="muted"></span></p>
<pre id="answer" hidden></pre></section>
{body}
</main><script src="/static/docs.js"></script></body></html>
"""


def _graphql(schema: GraphQLSchema) -> Iterator[str]:
    query = schema.query_type
    assert query is not None, "the schema has queries"
    yield '<section class="card"><h2>Questions: POST /graphql</h2>'
    for name, field in query.fields.items():
        yield _field(name, field)
    yield "</section>"
    own = [t for t in schema.type_map.values() if t is not query and not _built_in(t)]
    yield '<section class="card"><h2>Types</h2>'
    for named in sorted(own, key=lambda t: t.name):
        yield from _type(named)
    yield "</section>"


def _built_in(named: GraphQLNamedType) -> bool:
    return is_introspection_type(named) or is_specified_scalar_type(named)


def _type(named: GraphQLNamedType) -> Iterator[str]:
    yield f'<h3 id="{escape(named.name)}">{_kind(named)} {escape(named.name)}</h3>{_text(named.description)}'
    if isinstance(named, GraphQLObjectType):
        for name, field in named.fields.items():
            yield _field(name, field)
    elif isinstance(named, GraphQLInputObjectType):
        for name, one in named.fields.items():
            yield f"<p><code>{escape(name)}: {_link(one.type)}</code></p>"
    elif isinstance(named, GraphQLEnumType):
        yield f"<p><code>{escape(' '.join(named.values))}</code></p>"


def _kind(named: GraphQLNamedType) -> str:
    if isinstance(named, GraphQLScalarType):
        return "scalar"
    if isinstance(named, GraphQLEnumType):
        return "enum"
    return "input" if isinstance(named, GraphQLInputObjectType) else "type"


def _field(name: str, field: GraphQLField) -> str:
    arguments = ", ".join(
        f"{escape(key)}: {_link(arg.type)}"
        + ("" if arg.default_value is Undefined else f" = {escape(_default(arg.default_value))}")
        for key, arg in field.args.items()
    )
    call = f"({arguments})" if arguments else ""
    return f"<p><code><b>{escape(name)}</b>{call}: {_link(field.type)}</code>{_text(field.description)}</p>"


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "name", value))


def _link(of: Any) -> str:
    named = get_named_type(of)
    text = escape(str(of))
    if _built_in(named):
        return text
    return text.replace(named.name, f'<a href="#{escape(named.name)}">{escape(named.name)}</a>')


def _rest(openapi: Mapping[str, Any]) -> Iterator[str]:
    yield '<section class="card" id="rest"><h2>REST</h2>'
    for path, methods in openapi.get("paths", {}).items():
        for method, operation in methods.items():
            yield f"<h3>{escape(method.upper())} <code>{escape(path)}</code></h3>"
            yield _text(operation.get("description"))
            for one in operation.get("parameters", []):
                yield f"<p><code>{escape(one['name'])}</code>{_text(one.get('description'))}</p>"
    yield "</section>"


def _text(text: str | None) -> str:
    return f' <span class="muted">{escape(text)}</span>' if text else ""
