"""The dimensions as the enricher knows them: read from their topics at the start, and followed on a thread.

A sale is enriched with what is known at that moment. A version that comes later finds its sales by the
correction (`enrich_service.corrections`), so nothing here waits for anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

import polars as pl
import stamina

from enrich_service.asof import AsOf, nothing_known
from enrich_service.versions import applied
from schemas.codec import Codec
from schemas.dimensions import Dimension
from schemas.registry import RegistryUnavailable
from streamkit.ports import BrokerError, Follower, RecordBatch

_CHUNK = 20_000
# Bounds how late a stop is noticed; what comes is there at once.
_POLL_S = 1.0
_AGAIN_S = 1.0

_log = logging.getLogger(__name__)


class KnownDimensions:
    """`current` may be asked by any thread; what it gives never changes."""

    def __init__(
        self,
        codecs: Mapping[Dimension, Codec],
        follower: Callable[[], Follower],
        on_failure: Callable[[], None],
    ) -> None:
        """`codecs` decode the topic of each dimension. `follower` makes a reader of all these topics.
        `on_failure` is called where a topic holds something that is no version: `check` tells what."""
        self._codecs = dict(codecs)
        self._by_topic = {dimension.topic: dimension for dimension in codecs}
        self._follower = follower
        self._on_failure = on_failure
        self._versions: dict[Dimension, pl.DataFrame] = {}
        self._current = nothing_known()
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._read = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns once the topics were read to their end as it was; raises what prevents it."""
        self._thread = threading.Thread(target=self._run, name="dimensions", daemon=True)
        self._thread.start()
        while not self._read.wait(0.1):
            if self._stop.is_set():
                return
        self.check()

    def stop(self) -> None:
        self._stop.set()

    def current(self) -> Mapping[Dimension, AsOf]:
        self.check()
        return self._current

    def check(self) -> None:
        """Raise what ended the following."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._follow()
        except BaseException as error:
            self._failure = error
            self._read.set()
            self._on_failure()

    def _follow(self) -> None:
        """Until stopped, or until the broker fails for longer than its client bears."""
        follower = self._follower()
        try:
            follower.open()
            # From the beginning: what was known stays in use until all has been read again.
            self._versions = {d: pl.DataFrame(schema=codec.columns) for d, codec in self._codecs.items()}
            pending: list[RecordBatch] = []
            while not self._stop.is_set():
                pending += follower.poll(_CHUNK, _POLL_S if follower.at_end() else 0.05)
                if pending and (follower.at_end() or sum(map(len, pending)) > _CHUNK):
                    self._take(pending, complete=follower.at_end())
                    pending = []
                if follower.at_end():
                    self._read.set()
        except BrokerError as error:
            if not error.retriable:
                raise
            _log.warning("dimensions are not followed", extra={"error": str(error)})
            self._stop.wait(_AGAIN_S)
        finally:
            follower.close()

    @stamina.retry(on=RegistryUnavailable, attempts=None, timeout=None, wait_max=5.0)
    def _take(self, batches: list[RecordBatch], *, complete: bool) -> None:
        by_dimension: dict[Dimension, list[RecordBatch]] = {}
        for batch in batches:
            by_dimension.setdefault(self._by_topic[batch.topic], []).append(batch)
        for dimension, own in by_dimension.items():
            known = self._versions[dimension]
            self._versions[dimension] = applied(known, own, self._codecs[dimension], dimension)
        if complete:
            changed = {dimension: AsOf.of(dimension, self._versions[dimension]) for dimension in by_dimension}
            self._current = {**self._current, **changed}
