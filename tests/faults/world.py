"""The platform under load and under attack: what breaks it, and what must be true when it is left alone.

`World.fault` is the frame of every test: a steady load runs, the block breaks something and ends it, and then
nobody helps any more. The load goes on until every process is ready and events are in both stores within
their objective again; then it stops, every lag must come to zero, and all that was acknowledged must be where
it belongs, once.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import polars as pl

from deploy.local.layout import Layout
from deploy.local.ports import Ports
from deploy.local.supervision import Supervisor, log_file
from deploy.local.testing import Platform, tools_folder
from gold_writer.aggregates.check import check
from gold_writer.aggregates.recount import WarehouseBehind
from gold_writer.aggregates.settings import AggregatesSettings
from quality_service.ledger.stores import LakeFacts
from schemas.identity import key64
from streamkit.kafka import KafkaAdmin
from tests.faults.laws import differences
from tests.faults.load import RAW, AvroDoor, HttpDoor, Load, Sent
from tests.faults.stores import held

SERVICES = ("ingest", "quality", "enrich", "warehouse", "aggregates", "lake", "ledger", "query")
WITH_LAG = ("quality", "enrich", "warehouse", "aggregates", "lake", "ledger")
# From acceptance: the objective of the design for the warehouse, and what users are promised of the lake.
WAREHOUSE_S, LAKE_S = 1.0, 5.0
_BUSY = 2.0
_RECOVERED_S, _DRAINED_S = 120.0, 90.0


def wait_for(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)
    return found


class World:
    """Handles to one running platform."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.layout = Layout(platform.home, tools_folder())
        self.supervisor = Supervisor(self.layout)
        self.ports = Ports(int(platform.env["TILLSTREAM_PORT_BASE"]))
        self.kafka, self.registry = platform.urls["kafka"], platform.urls["registry"]
        self._http = httpx.Client(timeout=30.0)
        self._facts = LakeFacts(platform.lake)
        self.raw_schema_id = int(
            self.get(f"{self.registry}/subjects/sales.raw.v1-value/versions/latest")["id"]
        )

    def close(self) -> None:
        self._http.close()

    # The frame of a test ----------------------------------------------------------------------------

    @contextmanager
    def fault(self, name: str, recovered_s: float = _RECOVERED_S) -> Iterator[Load]:
        """See the module. Raises AssertionError with every breach in words."""
        load = self.load(name)
        try:
            wait_for(lambda: load.latest() and len(load.sent) > 100, 60, "the load to be acknowledged")
            objective = self._objective(load)
            yield load
            ended = time.monotonic()
            waited = self._await_objective(load, objective, recovered_s)
            recovered = time.monotonic() - ended
        finally:
            load.stop()
        stopped = time.monotonic()
        self.await_no_lag()
        drained = time.monotonic() - stopped
        self.check(load.sent)
        sent = load.sent
        print(
            f"{name}: {len(sent.gold)} gold, {len(sent.refused)} refused and {len(sent.broken)} unreadable "
            f"compared; within its objective {recovered:.1f} s after the fault (warehouse {waited[0]:.2f} s, "
            f"lake {waited[1]:.2f} s), lag zero {drained:.1f} s after the load"
        )

    def load(self, name: str) -> Load:
        """A new load, started."""
        run = f"{name}-{uuid.uuid4().hex[:6]}"
        steady, more = (AvroDoor(self.kafka, f"{run}-avro", self.raw_schema_id) for _ in range(2))
        load = Load([HttpDoor(str(self.platform.urls["ingest"]), f"{run}-http"), steady], more)
        load.start()
        return load

    def check(self, sent: Sent) -> None:
        """The laws, on ids: see `laws.differences`; the ledger; the aggregates against a recount."""
        # Bronze and silver follow by their slower trigger.
        deadline = time.monotonic() + 30
        while (found := differences(sent, held(self.platform, sent))) and time.monotonic() < deadline:
            time.sleep(1)
        assert not found, "\n".join(found)
        ledger = self.ledger()
        assert (ledger["balanced"], ledger["in_flight"], ledger["missing"]) == (True, 0, []), ledger
        report = self.aggregates()
        assert report["equal"], report

    def await_no_lag(self, within_s: float = _DRAINED_S) -> None:
        wait_for(lambda: not any(self.lags().values()), within_s, "every lag to be zero")
        wait_for(lambda: self.ledger()["in_flight"] == 0, within_s, "nothing in flight")

    def _objective(self, load: Load) -> tuple[float, float]:
        """Seconds to the warehouse and to the lake. Where the machine is too busy for the objectives, a small
        multiple of what an event takes before anything is broken."""
        before = self._time_of_an_event(load, time.monotonic() + 60)
        assert before is not None, "no event reached both stores before anything was broken"
        return max(WAREHOUSE_S, _BUSY * before[0]), max(LAKE_S, _BUSY * before[1])

    def _await_objective(
        self, load: Load, objective: tuple[float, float], within_s: float
    ) -> tuple[float, float]:
        """Until all is ready and an event was in time in both stores; how long that one took."""
        deadline = time.monotonic() + within_s
        took: tuple[float, float] | None = None
        while True:
            unready = [name for name in SERVICES if not self.is_ready(name)]
            if not unready:
                took = self._time_of_an_event(load, deadline) or took
                if took is not None and took[0] <= objective[0] and took[1] <= objective[1]:
                    return took
            assert time.monotonic() < deadline, (
                f"not recovered: {unready} not ready, last event took {took} s"
            )
            time.sleep(0.2)

    def _time_of_an_event(self, load: Load, deadline: float) -> tuple[float, float] | None:
        """Seconds from acknowledgement to the warehouse's commit and to the lake's, of the newest event."""
        event_id, _ = load.latest() or ("", 0.0)
        key = key64("sale", event_id)
        while time.monotonic() < deadline:
            row = self._facts.read().filter(pl.col("id") == key)
            warehouse = self.sql(_WAITED, event_id)
            if row.height and warehouse:
                return float(warehouse[0]["waited"]), (row["at"][0] - row["ingest_ts"][0]) / 1000
            time.sleep(0.2)
        return None

    # Questions --------------------------------------------------------------------------------------

    def get(self, url: str) -> Any:
        return self._http.get(url).json()

    def post(self, url: str, body: Mapping[str, Any]) -> Any:
        return self._http.post(url, json=body).raise_for_status().json()

    def stats(self, service: str) -> dict[str, Any]:
        """`/stats`; empty where the process does not answer."""
        try:
            found: dict[str, Any] = self.get(f"{self.ports.url(service)}/stats")
        except (httpx.TransportError, ValueError):
            return {}
        return found

    def is_ready(self, service: str) -> bool:
        try:
            return self._http.get(f"{self.ports.url(service)}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def reason(self, service: str) -> str:
        """Why a process is not ready, in its own words."""
        try:
            return str(self.get(f"{self.ports.url(service)}/ready").get("reason") or "")
        except (httpx.TransportError, ValueError):
            return ""

    def lags(self) -> dict[str, int]:
        """In records; 1 where it is not known, which is not zero."""
        found = {name: self.stats(name).get("lag") for name in WITH_LAG}
        return {name: 1 if lag is None else int(lag) for name, lag in found.items()}

    def ledger(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.get(f"{self.ports.url('ledger')}/ledger")
        except (httpx.TransportError, ValueError):
            return {"in_flight": None}
        return found if "in_flight" in found else {"in_flight": None}

    def aggregates(self) -> dict[str, Any]:
        settings = AggregatesSettings(
            kafka=self.kafka, registry=self.registry, postgres=self.platform.urls["postgres"]
        )
        for _ in range(20):
            try:
                return asyncio.run(check(settings))
            except WarehouseBehind:
                time.sleep(0.5)
        return asyncio.run(check(settings))

    def sql(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """Rows; none while Postgres is away."""
        return fetch(self.platform.urls["postgres"], statement, *arguments)

    def held_by_warehouse(self, event_ids: Collection[str]) -> set[str]:
        found = self.sql(
            "select event_id from warehouse.fact_sales where event_id = any($1)", list(event_ids)
        )
        return {row["event_id"] for row in found}

    def log(self, service: str) -> Log:
        return Log(log_file(self.layout, service))

    def committed(self, group: str, topic: str = RAW) -> dict[int, int]:
        """Partition to the offset that a group has committed."""
        admin = KafkaAdmin(self.kafka)
        try:
            return {tp.partition: at for tp, at in admin.committed_offsets(group, topic).items()}
        finally:
            admin.close()

    def ends(self, topic: str) -> dict[int, int]:
        """Partition to its end."""
        admin = KafkaAdmin(self.kafka)
        try:
            return {tp.partition: at for tp, at in admin.end_offsets(topic).items()}
        finally:
            admin.close()

    # Attacks ----------------------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        found = self.supervisor.process(name).pid
        assert found is not None, f"{name} does not run"
        return found

    def kill(self, name: str) -> int:
        """-9; returns when supervisord has seen it. The pid that it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.supervisor.process(name).pid != pid, 30, f"{name} gone")
        return pid

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """A program that supervisord keeps down within the block."""
        self.supervisor.stop_program(name)
        wait_for(lambda: self.supervisor.process(name).pid is None, 60, f"{name} stopped")
        try:
            yield
        finally:
            self.supervisor.start_program(name)

    def second(self, service: str, slot: str) -> Instance:
        """Another instance of a service: own slot, port and state, started by hand."""
        spec = json.loads((self.layout.programs / f"{service}.json").read_text())
        state = self.layout.state / f"{service}-{slot}"
        state.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        env = {
            **spec["env"],
            "TILLSTREAM_INSTANCE": slot,
            "TILLSTREAM_STATE": str(state),
            "TILLSTREAM_HTTP_PORT": str(port),
        }
        return Instance(spec["command"], env, self.member_log(service, slot), port)

    def member_log(self, service: str, slot: str) -> Path:
        return self.layout.logs / f"{service}-{slot}.log"


class Log:
    """What a process writes from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size

    def says(self, pattern: str) -> str | None:
        """The first line with a match, or None."""
        with self._path.open("rb") as file:
            # A log that was rotated meanwhile is read from its beginning.
            file.seek(self._start if self._start <= self._path.stat().st_size else 0)
            lines = file.read().decode(errors="replace").splitlines()
        return next((line for line in lines if re.search(pattern, line)), None)


_WAITED = """
    select extract(epoch from loaded_at - ingest_ts) as waited
    from warehouse.fact_sales where event_id = $1
"""


def fetch(dsn: str, statement: str, *arguments: object) -> list[dict[str, Any]]:
    """Rows; none while Postgres is away."""
    return asyncio.run(_fetch(dsn, statement, arguments))


async def _fetch(dsn: str, statement: str, arguments: tuple[object, ...]) -> list[dict[str, Any]]:
    try:
        db = await asyncpg.connect(dsn, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return []
    try:
        return [dict(row) for row in await db.fetch(statement, *arguments)]
    finally:
        await db.close()


class Instance:
    """A process of ours that no supervisor keeps. It ends with the block."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path, port: int) -> None:
        self.log_file = log
        self._url = f"http://127.0.0.1:{port}"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def records_in(self) -> int:
        """How many records it has taken on; 0 while it does not answer."""
        try:
            return int(httpx.get(f"{self._url}/stats", timeout=5).json()["records_in"])
        except (httpx.TransportError, ValueError):
            return 0

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
