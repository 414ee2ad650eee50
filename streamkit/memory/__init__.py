"""The ports of `streamkit.ports` in memory, with partitions, transactions, fencing and rebalances.

It keeps what a pipeline can get wrong: aborted records stay invisible, markers take an offset, an open
transaction holds its readers back, a zombie is fenced, partitions move inside `poll`. The conformance suite
holds it to Kafka's behaviour.
"""

from streamkit.memory.broker import MemoryBroker
from streamkit.memory.consumer import MemoryConsumer
from streamkit.memory.follower import MemoryFollower
from streamkit.memory.log import Record
from streamkit.memory.producers import MemoryAdmin, MemoryProducer, MemoryTransactionalProducer

__all__ = [
    "MemoryAdmin",
    "MemoryBroker",
    "MemoryConsumer",
    "MemoryFollower",
    "MemoryProducer",
    "MemoryTransactionalProducer",
    "Record",
]
