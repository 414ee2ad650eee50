"""The ledger's routes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

from quality_service.ledger.follow import Follower
from quality_service.ledger.service import LedgerService
from streamkit.telemetry import METRICS_CONTENT_TYPE, StageStats, render_metrics

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(follower: Follower, stats: StageStats, lifespan: Lifespan) -> FastAPI:
    """`lifespan` puts the `LedgerService` into `app.state.ledger`."""
    app = FastAPI(title="Tillstream ledger", docs_url=None, redoc_url=None, lifespan=lifespan)
    _probes(app, follower, stats)

    @app.get("/ledger")
    async def ledger(request: Request, load_id: str | None = None) -> dict[str, Any]:
        return await _service(request).balance(load_id)

    @app.get("/latency")
    async def latency(request: Request, load_id: str | None = None) -> dict[str, Any]:
        return await _service(request).latency(load_id)

    @app.get("/events/{event_id}")
    def event(request: Request, event_id: str) -> dict[str, Any]:
        life = _service(request).life(event_id)
        if life is None:
            raise HTTPException(404, "no topic knows this event")
        return life

    return app


def _service(request: Request) -> LedgerService:
    service: LedgerService = request.app.state.ledger
    return service


def _probes(app: FastAPI, follower: Follower, stats: StageStats) -> None:
    @app.get("/health")
    def health(response: Response) -> dict[str, str]:
        if follower.failure is not None:
            response.status_code = 503
            return {"status": "failed", "reason": repr(follower.failure)}
        return {"status": "alive"}

    @app.get("/ready")
    def ready(response: Response) -> dict[str, str | None]:
        is_ready, reason = stats.readiness()
        response.status_code = 200 if is_ready else 503
        return {"state": stats.state, "reason": reason}

    @app.get("/stats")
    def stats_route() -> dict[str, Any]:
        return dict(stats.snapshot())

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(render_metrics(stats.registry), media_type=METRICS_CONTENT_TYPE)
