"""The guard against a bad deployment: a contract that refuses what it should not must not flood quarantine.

Within `window_s` of a change of the contract or of the service (a first start is none), a partition of which
over half of the last 1,000 records would be quarantined for one reason is paused, and nothing of the batch
happens: no quarantine item, no decision. It stays paused, over restarts too, until another version is
deployed or a person lets the records through. More than 500 bad records are needed, so a few of them on a
quiet partition pause nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Gauge

from streamkit.clock import Clock
from streamkit.ports import Paused, TopicPartition

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Over `share` of `records` for one reason, within `window_s` of a deployment, pauses a partition."""

    window_s: float = 600.0
    records: int = 1_000
    share: float = 0.5

    @property
    def most(self) -> int:
        """So many bad records of one window are borne."""
        return int(self.records * self.share)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs, and since when. `since_ms` is None where nothing else ran here before.

    `paused`: partition -> reason. `allowed`: reasons that a person lets through, `*` for all.
    """

    version: str
    since_ms: int | None = None
    paused: Mapping[str, str] = field(default_factory=dict)
    allowed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, remembered: Mapping[str, Any] | None, version: str, now_ms: int) -> Deployment:
        """Goes on with what is remembered of this version; another one is a change."""
        if remembered is None:
            return cls(version)
        if remembered["version"] != version:
            return cls(version, since_ms=now_ms)
        return cls(**remembered)


class Memory(Protocol):
    """Where a deployment is remembered over restarts."""

    def load(self) -> Mapping[str, Any] | None:
        """None where there was none."""

    def save(self, deployment: Mapping[str, Any]) -> None:
        """Durable when it returns."""


class Guard:
    """A `streamkit.ports.Participant`, so that only committed records count. `allow` and `told` may be called
    from other threads."""

    def __init__(
        self,
        version: str,
        memory: Memory,
        clock: Clock,
        registry: CollectorRegistry,
        limits: Limits | None = None,
    ) -> None:
        """`version` names contract and service. Raises OSError where the memory cannot be read or written."""
        self._memory = memory
        self._clock = clock
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._seen: dict[int, NDArray[Any]] = {}
        self._held: dict[int, NDArray[Any]] = {}
        # 1 for each partition that is paused.
        self._gauge = Gauge(
            "tillstream_quality_guard_paused",
            "Partitions paused because a new version would quarantine most of their records.",
            ["partition", "reason"],
            registry=registry,
        )
        self._deployment = Deployment.of(memory.load(), version, clock.now_ms())
        self._save(self._deployment)

    def check(self, topic: str, rows: pl.DataFrame) -> None:
        """`rows`: a decided batch with `partition` and `reason` (null unless quarantined), in offset order.

        Raises `Paused` for the partitions that the batch would flood.
        """
        self._held = {}
        flooded: dict[int, str] = {}
        for partition in rows["partition"].unique().to_list():
            if not self._is_watched(partition):
                continue
            fresh = rows.filter(pl.col("partition") == partition)["reason"].fill_null("").to_numpy()
            seen = np.concatenate([self._seen.get(partition, fresh[:0]), fresh])
            reason = self._flood(seen)
            if reason is not None:
                flooded[partition] = reason
            self._held[partition] = seen[-self._limits.records :]
        if flooded:
            self._pause(flooded)
            places = [TopicPartition(topic, partition) for partition in flooded]
            raise Paused(places, self._alert(topic, flooded), retry_after_s=_RETRY_S)

    def allow(self, reason: str | None, who: str) -> dict[str, Any]:
        """Let records with this reason through (None: with any) as long as this version runs."""
        with self._lock:
            at = _time(self._clock.now_ms())
            allowed = {**self._deployment.allowed, reason or "*": f"{who}, {at}"}
            self._save(replace(self._deployment, allowed=allowed))
        log.warning("the guard was overridden", extra={"reason": reason or "*", "by": who})
        return self.told()

    def told(self) -> dict[str, Any]:
        """The deployment, and whether it is watched now."""
        deployment = self._deployment
        return {**asdict(deployment), "watching": self._is_fresh(deployment) or bool(deployment.paused)}

    def assigned(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        return None

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        for tp in partitions:
            self._seen.pop(tp.partition, None)

    def before_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        return None

    def after_commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._seen.update(self._held)
        self._held = {}
        if self._deployment.paused:
            self._resumed({str(tp.partition) for tp in next_offsets})

    def after_abort(self) -> None:
        self._held = {}

    def _is_fresh(self, deployment: Deployment) -> bool:
        since = deployment.since_ms
        return since is not None and self._clock.now_ms() - since < self._limits.window_s * 1000

    def _is_watched(self, partition: int) -> bool:
        deployment = self._deployment
        if "*" in deployment.allowed:
            return False
        return self._is_fresh(deployment) or str(partition) in deployment.paused

    def _flood(self, reasons: NDArray[Any]) -> str | None:
        """The reason that holds for over half of some 1,000 records in a row; an empty text is none."""
        for reason in np.unique(reasons).tolist():
            if reason == "" or reason in self._deployment.allowed:
                continue
            count = np.concatenate([[0], np.cumsum(reasons == reason)])
            begin = np.maximum(np.arange(len(count)) - self._limits.records, 0)
            if int((count - count[begin]).max()) > self._limits.most:
                return str(reason)
        return None

    def _pause(self, flooded: Mapping[int, str]) -> None:
        with self._lock:
            paused = {**self._deployment.paused, **{str(p): reason for p, reason in flooded.items()}}
            if paused != self._deployment.paused:
                self._save(replace(self._deployment, paused=paused))
                log.critical("the guard pauses partitions", extra={"partitions": paused})

    def _resumed(self, partitions: set[str]) -> None:
        with self._lock:
            left = {p: reason for p, reason in self._deployment.paused.items() if p not in partitions}
            if left != self._deployment.paused:
                self._save(replace(self._deployment, paused=left))

    def _save(self, deployment: Deployment) -> None:
        self._memory.save(asdict(deployment))
        self._deployment = deployment
        self._gauge.clear()
        for partition, reason in deployment.paused.items():
            self._gauge.labels(partition, reason).set(1)

    def _alert(self, topic: str, flooded: Mapping[int, str]) -> str:
        where = ", ".join(f"{topic}[{p}] as {reason}" for p, reason in sorted(flooded.items()))
        since = _time(self._deployment.since_ms or 0)
        reason = next(iter(flooded.values()))
        return (
            f"over half of the last {self._limits.records} records would be quarantined: {where}. "
            f"Since {since} version {self._deployment.version} runs. Deploy what is right, or let them "
            f"through with `tillstream quarantine allow --reason {reason}`"
        )


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
