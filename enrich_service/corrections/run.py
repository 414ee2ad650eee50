"""One correction: reads all enriched sales, and writes the next revision of those that are stale.

The protocol, with the same numbers in the code:

1. Replace the producer. That ends what a process before this one left open, and fences it: revisions of a
   sale have one author, so that no two are ever the same (docs/adr/0021-as-of-correction.md).
2. Read the topic from its beginning to the end that it has. Read-committed, so all revisions of earlier
   corrections are in it.
3. Of each sale that is stale in its highest revision, write the next one, some thousands a transaction.

Death or an error at any point leaves sales corrected or not, each once; the next run finds what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from enrich_service.asof import AsOf
from enrich_service.corrections.stale import candidates, headers, judged, latest_stale, revised
from enrich_service.pipeline import refuse_bad
from schemas.codec import Codec
from schemas.dimensions import Dimension
from streamkit.clock import Clock
from streamkit.crashpoints import crash_point
from streamkit.ports import Follower, Headers, OutputBatch, RecordBatch, TransactionalProducer

_CHUNK = 20_000
_POLL_S = 0.05
_IN_ONE_TRANSACTION = 5_000
_PLACE = "__place"

_log = logging.getLogger(__name__)


class Correction:
    def __init__(
        self,
        *,
        follower: Callable[[], Follower],
        producer: TransactionalProducer,
        codec: Codec,
        schema_id: int,
        versions: Callable[[], Mapping[Dimension, AsOf]],
        clock: Clock,
        topic: str,
    ) -> None:
        """`follower` makes a reader of `topic`; `codec` reads and writes its records, under `schema_id`.
        `versions` tells the histories as they are now."""
        self._follower = follower
        self._producer = producer
        self._codec = codec
        self._schema_id = schema_id
        self._versions = versions
        self._clock = clock
        self._topic = topic

    def run(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """How many sales were corrected. Raises `BrokerError`, `CorruptInput` or `RegistryUnavailable`."""
        # 1. One author.
        self._producer.replace()
        # 2. Read.
        stale, their_headers = self._find(stopped)
        # 3. Write.
        for begin in range(0, len(stale), _IN_ONE_TRANSACTION):
            if stopped():
                return begin
            end = begin + _IN_ONE_TRANSACTION
            self._write(stale[begin:end], their_headers[begin:end])
        if len(stale):
            _log.info("sales corrected to the versions that were true", extra={"sales": len(stale)})
        return len(stale)

    def _find(self, stopped: Callable[[], bool]) -> tuple[pl.DataFrame, list[Headers]]:
        versions, kept, all_headers = self._versions(), [], list[Headers]()
        follower = self._follower()
        try:
            follower.open()
            while not follower.at_end() and not stopped():
                for batch in follower.poll(_CHUNK, _POLL_S):
                    found = self._judge(batch, versions)
                    # Only of the few that are kept: the headers of all would fill the memory.
                    all_headers += [batch.headers[place] for place in found[_PLACE]]
                    kept.append(found.drop(_PLACE))
        finally:
            follower.close()
        if not kept:
            return pl.DataFrame(), []
        stale = latest_stale(pl.concat(kept).with_row_index(_PLACE))
        return stale.drop(_PLACE), [all_headers[place] for place in stale[_PLACE]]

    def _judge(self, batch: RecordBatch, versions: Mapping[Dimension, AsOf]) -> pl.DataFrame:
        decoded = self._codec.decode(batch.value)
        refuse_bad(decoded, batch)
        places = pl.Series(_PLACE, decoded.index)
        return candidates(judged(decoded.frame.with_columns(places), versions))

    def _write(self, stale: pl.DataFrame, before: Sequence[Headers]) -> None:
        rows = revised(stale, self._clock.now_ms())
        output = OutputBatch(
            topic=self._topic,
            value=self._codec.encode(rows, self._schema_id),
            key=[invoice.encode() for invoice in rows["invoice_no"]],
            headers=headers(stale, before),
        )
        self._producer.begin()
        self._producer.produce([output])
        crash_point("correction-after-produce")
        self._producer.commit()
        crash_point("correction-after-commit")
