"""The application: routes, error answers, probes and tracing around a `Service`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import TracerProvider
from starlette.exceptions import HTTPException

from ingest_service import api
from ingest_service.api import Service
from ingest_service.problems import Handlers, Problem
from streamkit.telemetry import METRICS_CONTENT_TYPE, render_metrics

_PROBES: Final = "/health,/ready,/metrics,/stats"


def create_app(service: Service, tracers: TracerProvider) -> FastAPI:
    app = FastAPI(title="Tillstream ingest", version="1", lifespan=_lifespan)
    app.state.service = service
    handlers = Handlers(service.metrics)
    app.add_exception_handler(Problem, handlers.problem)
    app.add_exception_handler(RequestValidationError, handlers.invalid)
    app.add_exception_handler(HTTPException, handlers.http)
    app.include_router(api.router)
    app.include_router(api.status_router)
    _add_probes(app, service)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=tracers, excluded_urls=_PROBES)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.jobs.start()
    service.gate.start()
    yield
    # Requests have ended by now; what waits in threads is joined outside the event loop.
    await to_thread.run_sync(service.close)


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, str | None]:
        is_ready, reason = service.stats.readiness()
        response.status_code = 200 if is_ready else 503
        return {"state": service.stats.state, "reason": reason}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(render_metrics(service.stats.registry), media_type=METRICS_CONTENT_TYPE)

    @app.get("/stats")
    async def stats() -> dict[str, object]:
        return dict(service.stats.snapshot())
