"""The HTTP application: routes, the telling of errors, and what every answer carries."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from strawberry.fastapi import GraphQLRouter
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from query_api import reference, rest
from query_api.context import Context, Parts
from query_api.errors import PROBLEM_JSON, ApiError, StoreUnavailableError, problem_body
from query_api.graph import Schema
from query_api.guard import trace_id
from query_api.metrics import Metrics
from query_api.pipeline import Answerer, problem_response
from query_api.quarantine import routes
from query_api.shop import routes as shop_routes
from query_api.shop import sales as shop_sales
from query_api.shop.service import Shop
from streamkit.telemetry import METRICS_CONTENT_TYPE, render_metrics

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Ping = Callable[[], Awaitable[None]]

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # Everything the pages need comes from this service.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
    ),
}


def create_app(
    schema: Schema,
    parts: Parts,
    answerer: Answerer,
    *,
    shop: Shop,
    max_body_bytes: int,
    metrics: Metrics,
    ping: Ping,
    lifespan: Lifespan,
) -> FastAPI:
    """`ping` raises `StoreUnavailableError` while questions cannot be answered."""
    app = FastAPI(
        title="Tillstream query",
        description="v1: the shop's customers, products, stock and prices; sales and invoices to read. "
        "v2: analytics over sales. GraphQL at POST /graphql answers the same and more.",
        version="2",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _graphql(app, schema, parts, answerer)
    app.include_router(rest.router(parts.analytics))
    app.include_router(routes.router(parts.quarantine))
    app.include_router(shop_routes.router(shop, max_body_bytes))
    app.include_router(shop_sales.router(parts.sales))
    _operations(app, metrics, ping)
    _pages(app, schema)
    _errors(app)
    app.add_middleware(Edge, metrics=metrics)
    return app


def _graphql(app: FastAPI, schema: Schema, parts: Parts, answerer: Answerer) -> None:
    @app.post("/graphql", include_in_schema=False)
    async def graphql(request: Request) -> Response:
        return await answerer.answer(request)

    @app.get("/graphql", include_in_schema=False)
    async def graphql_by_get(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/docs")
        raise HTTPException(405, "GraphQL is asked by POST", headers={"Allow": "POST"})

    async def context() -> Context:
        return Context(parts)

    # Strawberry's router serves the WebSocket; its HTTP routes come after ours, so they are never reached.
    app.include_router(
        GraphQLRouter(
            schema,
            path="/graphql",
            graphql_ide=None,
            context_getter=context,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=timedelta(seconds=10),
            include_in_schema=False,
        )
    )


def _operations(app: FastAPI, metrics: Metrics, ping: Ping) -> None:
    @app.get("/health", include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", include_in_schema=False)
    async def ready() -> Response:
        try:
            await ping()
        except StoreUnavailableError as error:
            return _json({"state": "degraded", "reason": str(error)}, status=503)
        return _json({"state": "ready", "reason": None})

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(render_metrics(metrics.stats.registry), media_type=METRICS_CONTENT_TYPE)

    @app.get("/stats", include_in_schema=False)
    async def stats() -> Response:
        return _json({**metrics.snapshot(), "live_ms": metrics.live_snapshot()})


def _pages(app: FastAPI, schema: Schema) -> None:
    @app.get("/", include_in_schema=False)
    async def console() -> FileResponse:
        return FileResponse(STATIC / "console.html")

    @app.get("/quarantine", include_in_schema=False)
    async def quarantine() -> FileResponse:
        return FileResponse(STATIC / "quarantine.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference.page(schema._schema, app.openapi()))

    @app.get("/schema.graphql", include_in_schema=False)
    async def sdl() -> Response:
        return Response(schema.as_str() + "\n", media_type="text/plain")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _errors(app: FastAPI) -> None:
    """Every failure is told as problem+json (RFC 9457)."""

    @app.exception_handler(ApiError)
    async def told(_: Request, error: ApiError) -> Response:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        return _problem(422, "The request's arguments are not valid", faults)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, error.detail, error.detail, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        trace = trace_id()
        log.error("request failed", exc_info=error, extra={"trace_id": trace, "path": request.url.path})
        return _problem(500, "Internal error", "quote the trace id when you report it", trace=trace)


def _problem(
    status: int, title: str, detail: str, headers: dict[str, str] | None = None, trace: str | None = None
) -> Response:
    body = problem_body(status, title, detail, trace_id=trace or trace_id())
    return Response(orjson.dumps(body), status_code=status, media_type=PROBLEM_JSON, headers=headers)


def _json(body: dict[str, object], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


class Edge:
    """Outermost ASGI layer: times the questions and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            door = _door(scope["path"])
            if door is not None:
                self._metrics.answered(door, time.perf_counter() - begun, ok=status < 500)


def _door(path: str) -> str | None:
    if path == "/graphql":
        return "graphql"
    return "rest" if path.startswith("/api/") else None
