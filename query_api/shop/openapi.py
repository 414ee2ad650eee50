"""What the OpenAPI description says of each route of REST v1, taken from the resource itself."""

from __future__ import annotations

from typing import Any

from query_api.errors import PROBLEM_JSON
from query_api.shop.resources import Resource

_PROBLEMS = {
    400: "The request cannot be read as it is.",
    404: "There is none.",
    409: "It exists already, overlaps with another, or a request with this Idempotency-Key is under way.",
    412: "It is not in the state that If-Match or If-None-Match demands.",
    422: "A field is not valid, or the Idempotency-Key was used for another request.",
    428: "The request must say which version it changes.",
    503: "The store is not available; Retry-After says when to try again.",
}
_STAMPS = {"version": 1, "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z"}
_IF_MATCH = "The ETag of the version that is changed, or *."
_ONCE = "The same request with the same key is carried out once and gets the same answer, for 24 hours."


def page(resource: Resource) -> dict[str, Any]:
    parameters = [
        _parameter("query", name, found.description, kind=found.kind)
        for name, found in resource.filters.items()
    ]
    parameters.append(
        _parameter("query", "first", "Items of the page, 1 to 1000 (default 50).", kind="integer")
    )
    parameters.append(_parameter("query", "after", "`next` of the page before."))
    content = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": _shape(resource)},
            "next": {"type": ["string", "null"]},
        },
    }
    example = {"items": [example_of(resource)], "next": None}
    return _route(
        resource,
        f"{resource.name}, a page of them by key.",
        {200: ("A page.", content, example)},
        (400, 503),
        parameters,
    )


def get(resource: Resource) -> dict[str, Any]:
    parameters = [*_key(resource), _parameter("header", "If-None-Match", "An ETag; 304 if it is still that.")]
    return _route(resource, f"One {resource.singular}.", {200: _item(resource)}, (400, 404, 503), parameters)


def create(resource: Resource) -> dict[str, Any]:
    return _route(
        resource,
        f"Make a {resource.singular}.",
        {201: _item(resource)},
        (400, 409, 422, 503),
        [_parameter("header", "Idempotency-Key", _ONCE)],
        body=(resource.new, "application/json", {**_key_example(resource), **_fields_example(resource)}),
    )


def put(resource: Resource) -> dict[str, Any]:
    parameters = [
        *_key(resource),
        _parameter("header", "If-Match", _IF_MATCH),
        _parameter("header", "If-None-Match", "* makes it, if it is not there."),
        _parameter("header", "Idempotency-Key", _ONCE),
    ]
    return _route(
        resource,
        f"Replace a {resource.singular}, or make it under this key.",
        {200: _item(resource), 201: _item(resource)},
        (400, 404, 409, 412, 422, 428, 503),
        parameters,
        body=(resource.fields, "application/json", _fields_example(resource)),
    )


def patch(resource: Resource) -> dict[str, Any]:
    name, value = next(iter(_fields_example(resource).items()))
    return _route(
        resource,
        f"Change some fields of a {resource.singular} (JSON merge patch: null empties a field).",
        {200: _item(resource)},
        (400, 404, 409, 412, 422, 428, 503),
        [*_key(resource), *_changing()],
        body=(resource.fields, "application/merge-patch+json", {name: value}),
    )


def delete(resource: Resource) -> dict[str, Any]:
    return _route(
        resource,
        f"Delete a {resource.singular}.",
        {204: ("It is gone.", None, None)},
        (400, 404, 412, 428, 503),
        [*_key(resource), *_changing()],
    )


def erase(resource: Resource) -> dict[str, Any]:
    return _route(
        resource,
        "Erase a customer's personal data for ever: with their key, every copy becomes unreadable.",
        {204: ("It is erased.", None, None)},
        (400, 404, 503),
        _key(resource),
    )


def example_of(resource: Resource) -> dict[str, Any]:
    """An item as an answer holds it."""
    fields = {**_key_example(resource), **_fields_example(resource)}
    stamps = {name: value for name, value in _STAMPS.items() if name in resource.returned}
    return {name: fields.get(name) for name in resource.columns} | stamps


def _key_example(resource: Resource) -> dict[str, Any]:
    return {name: resource.new.model_fields[name].examples[0] for name in resource.key}  # type: ignore[index]


def _fields_example(resource: Resource) -> dict[str, Any]:
    return {name: field.examples[0] for name, field in resource.fields.model_fields.items() if field.examples}


def _shape(resource: Resource) -> dict[str, Any]:
    schema = resource.new.model_json_schema(mode="serialization")
    stamps = {
        "version": {"type": "integer"},
        "created_at": {"type": "string", "format": "date-time"},
        "updated_at": {"type": "string", "format": "date-time"},
    }
    properties = {name: schema["properties"][name] for name in resource.columns}
    return {
        "type": "object",
        "properties": properties | {name: stamps[name] for name in stamps if name in resource.returned},
    }


def _item(resource: Resource) -> tuple[str, Any, Any]:
    return f"The {resource.singular}, with its ETag.", _shape(resource), example_of(resource)


def _key(resource: Resource) -> list[dict[str, Any]]:
    return [_parameter("path", name, "", required=True) for name in resource.key]


def _changing() -> list[dict[str, Any]]:
    return [
        _parameter("header", "If-Match", _IF_MATCH, required=True),
        _parameter("header", "Idempotency-Key", _ONCE),
    ]


def _parameter(
    place: str, name: str, text: str, *, kind: str = "string", required: bool = False
) -> dict[str, Any]:
    return {"in": place, "name": name, "description": text, "required": required, "schema": {"type": kind}}


def _route(
    resource: Resource,
    summary: str,
    answers: dict[int, tuple[str, Any, Any]],
    problems: tuple[int, ...],
    parameters: list[dict[str, Any]],
    *,
    body: tuple[Any, str, Any] | None = None,
) -> dict[str, Any]:
    """Keyword arguments of a FastAPI route. The handlers read the request themselves, so all stands here."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, (text, schema, example) in answers.items():
        content = {"application/json": {"schema": schema, "example": example}} if schema else {}
        responses[status] = {"description": text, "content": content}
    for status in problems:
        responses[status] = {"description": _PROBLEMS[status], "content": {PROBLEM_JSON: {}}}
    extra: dict[str, Any] = {"parameters": parameters}
    if body is not None:
        model, kind, example = body
        content = {kind: {"schema": model.model_json_schema(), "example": example}}
        extra["requestBody"] = {"required": True, "content": content}
    return {
        "tags": [resource.name],
        "summary": summary,
        "description": summary,
        "responses": responses,
        "openapi_extra": extra,
        "status_code": min(answers),
        "response_model": None,
    }
