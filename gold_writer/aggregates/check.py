"""`python -m gold_writer.aggregates.check`: do the aggregates equal a recount of the warehouse's facts?

Prints JSON: equal, windows, differing (how many), examples of them, and the input offset of each shard up to
which was compared. The exit code is 0 where they are equal, 1 where not. It changes nothing and may run at
any time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import asyncpg

from gold_writer.aggregates.bootstrap import AGGREGATES
from gold_writer.aggregates.kafka_changelog import KafkaChangelog
from gold_writer.aggregates.recount import counted, differences, recounted
from gold_writer.aggregates.settings import AggregatesSettings
from schemas.catalogue import load_topics
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streamkit.kafka import KafkaAdmin

_EXAMPLES = 5


async def check(settings: AggregatesSettings) -> dict[str, Any]:
    """Raises what an adapter raises, and `WarehouseBehind`."""
    codec = Codec(load_topics()[AGGREGATES].schema_text, RegistryClient(settings.registry))
    changelog = KafkaChangelog(settings.kafka, settings.aggregates_topic, codec)
    admin = KafkaAdmin(settings.kafka)
    partitions = [tp.partition for tp in admin.partitions(settings.aggregates_topic)]
    admin.close()
    totals = counted(chunk for partition in partitions for chunk in changelog.read(partition, 0))
    db = await asyncpg.connect(settings.postgres)
    try:
        facts = await recounted(
            db, totals.cut, consumer=settings.warehouse_consumer, topic=settings.enriched_topic
        )
    finally:
        await db.close()
    wrong = differences(totals.windows, facts)
    return {
        "equal": wrong.is_empty(),
        "windows": totals.windows.height,
        "differing": wrong.height,
        "examples": wrong.head(_EXAMPLES).to_dicts(),
        "input_offsets": {str(shard): offset for shard, offset in sorted(totals.cut.items())},
    }


def main() -> int:
    report = asyncio.run(check(AggregatesSettings()))
    json.dump(report, sys.stdout)
    sys.stdout.write("\n")
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
