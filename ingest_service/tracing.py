"""The W3C trace context of a request, to be carried in the headers of its records."""

from __future__ import annotations

import secrets

from opentelemetry import trace


def traceparent() -> str:
    """Of the current span, which continues the caller's trace where the request had one; a new trace where
    there is no span."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
