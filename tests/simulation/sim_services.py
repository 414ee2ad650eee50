"""The processes of the simulation, built from the services' own parts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prometheus_client import CollectorRegistry

from enrich_service.countries import CountryTable
from enrich_service.pipeline import EnrichPipeline
from enrich_service.reference import load_rates
from gold_writer.aggregates.pipeline import AggregatesPipeline
from gold_writer.aggregates.state import AggregateState
from gold_writer.warehouse.metrics import WarehouseMetrics
from gold_writer.warehouse.pipeline import WarehousePipeline
from gold_writer.warehouse.sink import WarehouseSink
from quality_service.metrics import QualityMetrics
from quality_service.pipeline import QualityPipeline, Writer
from quality_service.rules import Rules
from quality_service.state import IdState
from schemas.codec import Codec
from schemas.contract import load_contract
from schemas.reference import countries
from streamkit.limits import Limits
from streamkit.memory import MemoryConsumer, MemoryTransactionalProducer
from streamkit.ports import Participant, Pipeline
from streamkit.runner import Runner
from streamkit.sink_runner import SinkRunner
from tests.simulation.sim_aggregates import LightAggregates, TotalsChangelog
from tests.simulation.sim_items import AGGREGATES, DECISIONS, ENRICHED, QUARANTINE, RAW, VALIDATED, schemas
from tests.simulation.sim_light import LightEnrich, LightQuality, LightWarehouse
from tests.simulation.sim_machine import Faults, Life, Port, ProducerPort, SimStats
from tests.simulation.sim_stores import LakeQuery, ProcessStores, SimWarehouse
from tests.simulation.sim_wire import Changelog

if TYPE_CHECKING:
    from tests.simulation.sim_world import World

QUALITY, ENRICH, WAREHOUSE, LAKE = "quality", "enrich", "warehouse", "lake"
TOTALS = "aggregates"
GROUPS = {service: f"tillstream.{service}" for service in (QUALITY, ENRICH, WAREHOUSE, TOTALS)}
READS = {QUALITY: RAW, ENRICH: VALIDATED, TOTALS: ENRICHED}
T = TypeVar("T")


class Steps(Protocol):
    """What the world drives."""

    def start(self) -> None: ...

    def step(self) -> bool: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Parts:
    """Classes of the product that a sabotage replaces; `patched` is entered around a whole schedule;
    `times_entered` is how often the ledger enters each decision into its books."""

    runner: type[Runner] = Runner
    totals: type[AggregateState] = AggregateState
    id_state: type[IdState] = IdState
    warehouse: type[SimWarehouse] = SimWarehouse
    lake: type[LakeQuery] = LakeQuery
    patched: Callable[[], AbstractContextManager[Any]] = nullcontext
    times_entered: int = 1


@dataclass
class Process:
    """One start of a service in a slot."""

    service: str
    slot: int
    life: Life
    faults: Faults
    steps: Steps
    stats: SimStats
    consumer: MemoryConsumer | None
    closing: list[Callable[[], None]] = field(default_factory=list)
    started: bool = False
    frozen: bool = False
    expelled: bool = False

    @property
    def name(self) -> str:
        return f"{self.service}.{self.slot}"

    def lose_session(self) -> None:
        """The group has not heard from it, and gives its partitions to others."""
        self.expelled = True
        if self.consumer:
            self.consumer.lose_session()

    def close(self) -> None:
        for close in (self.steps.close, *self.closing):
            close()


def build(world: World, service: str, slot: int) -> Process:
    life, faults, stats = Life(f"{service}.{slot}"), Faults(), SimStats()
    if service == LAKE:
        return Process(service, slot, life, faults, Lake(world), stats, None)
    consumer = MemoryConsumer(world.broker, GROUPS[service])
    port: Any = Port(consumer, life, faults)
    if service == WAREHOUSE:
        sink_runner = _warehouse(world, life, stats, port)
        return Process(service, slot, life, faults, sink_runner, stats, consumer)
    closing: list[Callable[[], None]] = []
    participants: list[Participant] = []
    if service == QUALITY:
        state = world.parts.id_state(
            RAW,
            world.raw.topic_id,
            ProcessStores(world.disk_of(slot), life),
            Changelog(world.broker),
            world.clock,
        )
        closing.append(state.close)
        participants.append(state)
        pipeline: Pipeline = quality_pipeline(world, state, participants)
    elif service == TOTALS:
        totals = world.parts.totals(TotalsChangelog(world.broker), world.clock)
        participants.append(totals)
        pipeline = totals_pipeline(world, totals)
    else:
        pipeline = enrich_pipeline(world)
    producer: Any = ProducerPort(
        MemoryTransactionalProducer(world.broker, f"tillstream.{service}.{slot}"),
        life,
        faults,
        lambda: world.quarantine_down,
    )
    runner = world.parts.runner(
        port,
        producer,
        pipeline,
        topics=[READS[service]],
        stats=stats,
        clock=world.clock,
        participants=participants,
        limits=world.limits,
    )
    return Process(service, slot, life, faults, runner, stats, consumer, closing)


def quality_pipeline(world: World, state: IdState, participants: list[Participant]) -> Pipeline:
    if not world.real:
        return LightQuality(world.raw, state, lambda: world.registry_up)
    metrics = QualityMetrics(CollectorRegistry(), state)
    participants.append(metrics)
    return QualityPipeline(
        raw=world.raw,
        reader=_codec(world, RAW),
        validated=_writer(VALIDATED),
        quarantine=_writer(QUARANTINE),
        decisions=_writer(DECISIONS),
        rules=_rules(),
        state=state,
        clock=world.clock,
        observe=metrics.observe,
    )


def enrich_pipeline(world: World) -> Pipeline:
    if not world.real:
        return LightEnrich(lambda: world.registry_up)
    rates, names = _reference()
    return EnrichPipeline(
        reader=_codec(world, VALIDATED),
        writer=schemas().codecs[ENRICHED],
        schema_id=schemas().ids[ENRICHED],
        countries=names,
        rates=rates,
        clock=world.clock,
    )


def totals_pipeline(world: World, state: AggregateState) -> Pipeline:
    if not world.real:
        return LightAggregates(state, lambda: world.registry_up)
    return AggregatesPipeline(
        reader=_codec(world, ENRICHED),
        writer=schemas().codecs[AGGREGATES],
        schema_id=schemas().ids[AGGREGATES],
        state=state,
        clock=world.clock,
        topic_out=AGGREGATES,
    )


def warehouse_pipeline(world: World) -> WarehousePipeline:
    if not world.real:
        return LightWarehouse()
    return WarehousePipeline(sales=_codec(world, ENRICHED), quarantine=_codec(world, QUARANTINE))


def _warehouse(world: World, life: Life, stats: SimStats, port: Any) -> SinkRunner:
    sink = StraightSink(
        world.parts.warehouse(world.database, life),
        warehouse_pipeline(world),
        lambda topics: {topic: world.broker.topic_id(topic) for topic in topics},
        metrics=_warehouse_metrics(),
        clock=world.clock,
    )
    return SinkRunner(
        port, sink, topics=[ENRICHED, QUARANTINE], stats=stats, clock=world.clock, limits=world.limits
    )


class StraightSink(WarehouseSink):
    """The sink without an event loop: the store in memory never waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loop = StraightLoop()  # type: ignore[assignment]


class StraightLoop:
    def run(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            call.send(None)
        except StopIteration as done:
            answer: T = done.value
            return answer
        raise AssertionError("the store in memory waited for something")

    def close(self) -> None:
        """Nothing is held."""


class Lake:
    """The lake's process: its queries, one batch of each in a step."""

    def __init__(self, world: World) -> None:
        self._queries = [
            world.parts.lake(name, topic, world.broker, world.tables[name], world.checkpoints[name])
            for name, topic in (("fact", ENRICHED), ("bronze", RAW), ("quarantine", QUARANTINE))
        ]

    def start(self) -> None:
        """A query reads its checkpoint whenever it plans."""

    def step(self) -> bool:
        wrote = [query.step() for query in self._queries]
        return any(wrote)

    def close(self) -> None:
        """Nothing is held."""


class FlakyRegistry:
    """The registry as a world's processes see it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def by_id(self, schema_id: int) -> str:
        registry = schemas().registry
        registry.available = self._world.registry_up
        try:
            return registry.by_id(schema_id)
        finally:
            registry.available = True


def _codec(world: World, topic: str) -> Codec:
    """With an empty cache of schemas, as a process begins."""
    return Codec(schemas().topics[topic].schema_text, FlakyRegistry(world))


def _writer(topic: str) -> Writer:
    return Writer(topic, schemas().codecs[topic], schemas().ids[topic])


@cache
def _rules() -> Rules:
    return Rules(load_contract())


@cache
def _reference() -> tuple[Any, CountryTable]:
    return load_rates(), CountryTable(countries())


@cache
def _warehouse_metrics() -> WarehouseMetrics:
    return WarehouseMetrics(CollectorRegistry())


def limits(max_records: int) -> Limits:
    return Limits(max_records=max_records, poll_timeout_s=0.0, linger_s=0.0)
