"""What stands between a client's text and its execution: caches, limits, and the masking of errors."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from graphql import DocumentNode, GraphQLError, OperationDefinitionNode, parse
from opentelemetry import trace
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document
from strawberry.types import ExecutionResult, StreamExecutionResult

from query_api.cost import CostRule, TooCostlyError
from query_api.errors import ApiError
from query_api.metrics import Metrics

log = logging.getLogger(__name__)

_CACHED_CHARS = 100_000
"""Of all cached texts together. A parsed document takes up to 300 bytes a character: 30 MB in all."""


@dataclass(slots=True)
class Prepared:
    """A parsed document; `errors` are those of validation, None until it was validated. `cost` is known
    once it was measured, if no variable can change it."""

    document: DocumentNode
    errors: list[GraphQLError] | None = None
    cost: int | None = None


class Guard:
    """The state that operations share. One for the life of the process.

    The cache is keyed by the text: hashing a parsed document takes longer than executing most of them.
    """

    def __init__(self, rule: CostRule, metrics: Metrics) -> None:
        self.rule = rule
        self.metrics = metrics
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()
        self._chars = 0

    def prepare(self, query: str) -> Prepared:
        """Raises GraphQLError. Texts that do not parse are not kept."""
        known = self._prepared.get(query)
        if known is not None:
            self._prepared.move_to_end(query)
            return known
        prepared = Prepared(self._parse(query))
        self._prepared[query] = prepared
        self._chars += len(query)
        while self._chars > _CACHED_CHARS:
            self._chars -= len(self._prepared.popitem(last=False)[0])
        return prepared

    def _parse(self, query: str) -> DocumentNode:
        # max_tokens counts comments too; the nesting is limited by the parser itself.
        return parse(query, max_tokens=self.rule.limits.tokens)

    def refusal(self, prepared: Prepared, variables: dict[str, object] | None) -> GraphQLError | None:
        """What the cost rule has against it, if anything."""
        cost = prepared.cost
        try:
            if cost is None:
                cost = self.rule.check(prepared.document, variables)
                prepared.cost = None if _takes_variables(prepared.document) else cost
            self.metrics.query_cost.observe(cost)
        except TooCostlyError as error:
            return GraphQLError(f"Query refused: {error}.", extensions={"code": "TOO_COSTLY"})
        return None


class GuardExtension(SchemaExtension):
    """Runs in this order: parse (cached, tokens limited), cost rule, validation (cached), execution.
    Hooks must not raise: over a WebSocket that would break the operation's protocol."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._prepared: Prepared | None = None

    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options["max_tokens"] = self.guard.rule.limits.tokens
        yield

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        """Over a WebSocket. The answer to `POST /graphql` is told by pipeline.py."""
        if isinstance(result, ExecutionResult) and result.errors:
            result.errors = [told(error, self.guard.metrics) for error in result.errors]
        yield

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        if context.query:
            # A text that does not parse is parsed once more after this hook, and its error told from there.
            with contextlib.suppress(GraphQLError):
                self._prepared = self.guard.prepare(context.query)
                context.graphql_document = self._prepared.document
        yield

    def on_validate(self) -> Iterator[None]:
        context, prepared = self.execution_context, self._prepared
        assert prepared is not None, "what did not parse is not validated"
        refusal = self.guard.refusal(prepared, context.variables)
        if refusal is None and prepared.errors is None:
            prepared.errors = validate_document(
                context.schema._schema, prepared.document, context.validation_rules
            )
        context.pre_execution_errors = prepared.errors if refusal is None else [refusal]
        yield


def _takes_variables(document: DocumentNode) -> bool:
    return any(
        isinstance(definition, OperationDefinitionNode) and definition.variable_definitions
        for definition in document.definitions
    )


def told(error: GraphQLError, metrics: Metrics) -> GraphQLError:
    """What the client sees of an error. Its own mistakes stay as they are, `ApiError`s keep their message
    and code, all else is logged and masked. Telling it twice changes nothing."""
    extensions = dict(error.extensions or {})
    if "code" in extensions:
        return error
    cause = error.original_error
    message = error.message
    if isinstance(cause, ApiError):
        extensions |= {"code": cause.code, "traceId": trace_id()}
    elif cause is None or isinstance(cause, GraphQLError):
        extensions["code"] = "INVALID"
    else:
        extensions |= {"code": "INTERNAL", "traceId": trace_id()}
        message = "Internal error: quote the trace id when you report it"
        log.error("a resolver failed", exc_info=cause, extra={"trace_id": extensions["traceId"]})
    metrics.errors.labels(str(extensions["code"])).inc()
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        original_error=cause,
        extensions=extensions,
    )


def trace_id() -> str:
    """Of the request's span; a random one where there is none."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else secrets.token_hex(16)
