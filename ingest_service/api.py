"""The HTTP routes: what a request says, and how each outcome is answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

import orjson
import polars as pl
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from ingest_service import bodies, problems
from ingest_service.admission import Admission, Busy, Reservation
from ingest_service.careful import NotJson
from ingest_service.job_runner import JobRunner
from ingest_service.jobs import Job, JobStore
from ingest_service.json_body import TooManyItems
from ingest_service.metrics import Metrics
from ingest_service.model import Defaults
from ingest_service.pipeline import Identified, ItemTooLarge, NotReady, Pipeline, outcomes
from ingest_service.problems import Problem, retry_later
from ingest_service.rate_limit import RateLimiter
from ingest_service.readiness import Gate
from ingest_service.records import Origin
from ingest_service.replays import BadReplay
from ingest_service.settings import IngestSettings
from ingest_service.tracing import traceparent
from schemas import heartbeat
from streamkit.clock import Clock
from streamkit.ports import BrokerError, Producer
from streamkit.stats import StageStats

NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})

LoadId = Annotated[
    str | None, Query(pattern=r"^[\x21-\x7e]{1,200}$", description="a new one per request unless given")
]
ReplayId = Annotated[str, Query(pattern=r"^replay-[\x21-\x7e]{1,100}$", description="of the replay")]
Source = Annotated[
    str | None, Query(pattern=r"^[^\x00-\x1f]{0,99}[^\x00-\x20]$", description="of items that do not say")
]
Currency = Annotated[str | None, Query(pattern=r"^[A-Za-z]{3}$", description="of items that do not say")]
WebhookSource = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
FileName = Annotated[str, Query(max_length=300, description="for people")]


@dataclass(frozen=True)
class Service:
    """What the routes work with; `bootstrap.py` makes it."""

    settings: IngestSettings
    pipeline: Pipeline
    producer: Producer
    gate: Gate
    store: JobStore
    jobs: JobRunner
    limiter: RateLimiter
    admission: Admission
    threads: CapacityLimiter
    stats: StageStats
    metrics: Metrics
    clock: Clock

    def close(self) -> None:
        """Blocks until the file under way has stopped after its block."""
        self.jobs.close()
        self.producer.close()
        self.gate.close()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Ingest = Annotated[Service, Depends(_service)]


async def rate_limit(request: Request, response: Response, service: Ingest) -> None:
    """Counted by address: tokens are not verified here, so a client could count as many."""
    verdict = await service.limiter.hit(request.client.host if request.client else "unknown")
    if verdict is None:
        return
    if not verdict.allowed:
        detail = f"more than {verdict.limit} requests a second; send more items per request"
        raise Problem(429, detail, headers={**verdict.headers(), "Retry-After": str(verdict.reset_s)})
    response.headers.update(verdict.headers())


router = APIRouter(prefix="/v1", dependencies=[Depends(rate_limit)])
status_router = APIRouter(prefix="/v1")


@router.post("/events/sales", status_code=202)
async def post_sales(
    *,
    request: Request,
    service: Ingest,
    response: Response,
    load_id: LoadId = None,
    source: Source = None,
    currency: Currency = None,
    items: bool = True,
) -> Response:
    """A sale, an array of sales, or NDJSON. Answers once the broker has acknowledged all of them."""
    defaults = Defaults(source and source.strip(), currency)
    return await _events(request, service, response, defaults, load_id=load_id, items=items)


@router.post("/webhooks/{source}", status_code=202)
async def post_webhook(
    *,
    request: Request,
    service: Ingest,
    response: Response,
    source: WebhookSource,
    load_id: LoadId = None,
    currency: Currency = None,
    items: bool = True,
) -> Response:
    """As `/v1/events/sales`, with the source in the path."""
    defaults = Defaults(source, currency, fixed_source=True)
    return await _events(request, service, response, defaults, load_id=load_id, items=items)


@router.post("/replays/sales", status_code=202)
async def post_replays(
    *, request: Request, service: Ingest, response: Response, load_id: ReplayId
) -> Response:
    """Mended items of quarantine as NDJSON, each a line `{"item_id", "attempt", "sale"}`."""
    origin = Origin(load_id, traceparent(), "json", ordinals_identify=False)

    def answer(body: bytes) -> bytes:
        identified, mended = service.pipeline.accept_replays(body, origin)
        told = outcomes(identified)
        told = told.with_columns(mended.of(told["index"] + 1)["item_id"])
        return _content(identified, load_id, told.filter(pl.col("outcome") != "accepted"))

    return await _accept(request, service, response, answer)


@router.post("/files", status_code=202)
async def post_file(
    *,
    request: Request,
    service: Ingest,
    response: Response,
    load_id: LoadId = None,
    source: Source = None,
    currency: Currency = None,
    name: FileName = "",
) -> Response:
    """A CSV file as the body. Answers once it is stored; its lines follow as a job."""
    settings = service.settings
    with _admitted(service):
        upload = await to_thread.run_sync(service.store.begin)
        try:
            await bodies.spool(request, settings.ingest_max_file, upload)
            if upload.bytes == 0:
                raise Problem(400, "the file is empty; its first line must name the columns")
            job = Job(
                job_id=upload.job_id,
                load_id=load_id or str(uuid.uuid4()),
                name=name,
                source=(source or settings.ingest_file_source).strip(),
                currency=currency or settings.ingest_currency,
                traceparent=traceparent(),
                created_ms=service.clock.now_ms(),
                bytes=upload.bytes,
            )
            await to_thread.run_sync(service.store.save, job)
        except BaseException:
            upload.discard()
            raise
    service.jobs.submit(job)
    return _json({"job_id": job.job_id, "load_id": job.load_id}, 202, response)


@status_router.get("/jobs/{job_id}")
async def get_job(service: Ingest, job_id: str) -> Response:
    """How far a file got."""
    job = await to_thread.run_sync(service.store.get, job_id)
    if job is None:
        raise Problem(404, "no such job")
    told = ("job_id", "load_id", "name", "state", "accepted", "quarantined", "bytes", "error")
    return _json({field: getattr(job, field) for field in told}, 200)


@router.post("/heartbeat", status_code=202)
async def post_heartbeat(service: Ingest, response: Response) -> Response:
    """An event that goes the way of a sale and counts nowhere: each stage notes how old it is on arrival.
    Answers once the broker has acknowledged it."""
    origin = Origin(heartbeat.SOURCE, traceparent(), "json", ordinals_identify=False)
    with _admitted(service):
        work = partial(_heartbeat, service, origin)
        content = await to_thread.run_sync(work, limiter=service.threads)
    return Response(content, 202, dict(response.headers), "application/json")


def _heartbeat(service: Service, origin: Origin) -> bytes:
    with _refusals():
        identified = service.pipeline.accept_heartbeat(origin)
    return orjson.dumps({"event_id": identified.sales["event_id"][0]})


async def _events(
    request: Request,
    service: Service,
    response: Response,
    defaults: Defaults,
    *,
    load_id: str | None,
    items: bool,
) -> Response:
    origin = Origin(load_id or str(uuid.uuid4()), traceparent(), "json", ordinals_identify=False)
    lines = request.headers.get("content-type", "").partition(";")[0].strip().lower() in NDJSON

    def answer(body: bytes) -> bytes:
        identified = service.pipeline.accept_json(body, defaults, origin, lines=lines)
        return _content(identified, origin.load_id, outcomes(identified) if items else None)

    return await _accept(request, service, response, answer)


async def _accept(
    request: Request, service: Service, response: Response, answer: Callable[[bytes], bytes]
) -> Response:
    """Read the body within the bounds, and answer it in a thread."""
    with _admitted(service) as reservation:
        body = await bodies.read(request, service.settings.ingest_max_body, reservation)
        if not body or body.isspace():
            raise Problem(400, "the body is empty; send a JSON object, an array, or NDJSON")
        work = partial(_answered, service, body, answer)
        content = await to_thread.run_sync(work, limiter=service.threads)
    return Response(content, 202, dict(response.headers), "application/json")


def _answered(service: Service, body: bytes, answer: Callable[[bytes], bytes]) -> bytes:
    """Runs in a thread: the event loop goes on while this one parses and waits for the broker."""
    settings = service.settings
    try:
        with _refusals():
            return answer(body)
    except NotJson as error:
        raise problems.not_json(body, str(error), error.position) from error
    except BadReplay as error:
        raise Problem(400, str(error), index=error.index) from error
    except TooManyItems as error:
        detail = f"the body holds more than {settings.ingest_max_items} items; send it in parts"
        raise Problem(413, detail) from error
    except ItemTooLarge as error:
        detail = f"{error}; at most {settings.ingest_max_item} are accepted; nothing was"
        raise Problem(413, detail, index=error.index) from error


@contextmanager
def _refusals() -> Iterator[None]:
    """What the platform, not the sender, must mend."""
    try:
        yield
    except NotReady as error:
        raise retry_later(f"not ready: {error}", 1) from error
    except BrokerError as error:
        detail = f"Kafka did not acknowledge: {error}; send the same request again, repeats are recognised"
        raise retry_later(detail, 2) from error


def _content(identified: Identified, load_id: str, items: pl.DataFrame | None) -> bytes:
    summary = orjson.dumps(
        {
            "load_id": load_id,
            "accepted": identified.sales.height,
            "quarantined": identified.refused.height,
        }
    )
    if items is None:
        return summary
    # Columns to JSON without an object per item.
    return b"".join([summary[:-1], b',"items":', items.write_json().encode(), b"}"])


@contextmanager
def _admitted(service: Service) -> Iterator[Reservation]:
    try:
        with service.admission.request() as reservation:
            yield reservation
    except Busy as error:
        raise retry_later(f"busy: {error}", 1) from error


def _json(content: Mapping[str, Any], status: int, response: Response | None = None) -> Response:
    headers = dict(response.headers) if response is not None else None
    return Response(orjson.dumps(content), status, headers, "application/json")
