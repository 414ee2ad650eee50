"""`python -m deploy.topics`: create the catalogue's topics on a broker. Idempotent.

Both `./tillstream up` and compose.yaml go through `create_topics`.
"""

from __future__ import annotations

import argparse
import os
import sys

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.catalogue import BareTopic, CatalogueError, load_captured, load_topics

_TIMEOUT_S = 20


class TopicError(Exception):
    """A topic could not be created, or is there with another number of partitions."""


def create_topics(bootstrap: str) -> list[str]:
    """Create what is missing and return its names; one that is there must have the partitions it says.

    Raises `TopicError`; `KafkaException` if the broker is away.
    """
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    wanted: dict[str, BareTopic] = {**load_topics(), **load_captured()}
    there = client.list_topics(timeout=_TIMEOUT_S).topics
    for topic in wanted.values():
        found = len(there[topic.name].partitions) if topic.name in there else topic.partitions
        if found != topic.partitions:
            raise TopicError(
                f"topic {topic.name} has {found} partitions and schemas/topics.yaml says {topic.partitions}: "
                f"a topic's partitions are fixed for its life, for another count moves its keys"
            )
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            config=dict(topic.config),
        )
        for topic in wanted.values()
        if topic.name not in there
    ]
    for name, future in (client.create_topics(new, operation_timeout=_TIMEOUT_S) if new else {}).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"topic {name} could not be created: {error.args[0].str()}") from error
    return [topic.name for topic in wanted.values() if topic.name not in there]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: all there. 1: failed, with the reason on standard error. 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m deploy.topics", description=__doc__)
    parser.add_argument(
        "--kafka", default=os.environ.get("TILLSTREAM_KAFKA"), help="default: TILLSTREAM_KAFKA"
    )
    arguments = parser.parse_args(argv)
    if not arguments.kafka:
        parser.error("--kafka or TILLSTREAM_KAFKA is needed")
    try:
        created = create_topics(arguments.kafka)
    except (TopicError, CatalogueError, KafkaException) as error:
        print(f"topics: {error}", file=sys.stderr)
        return 1
    for name in created:
        print(f"created {name}")
    if not created:
        print("up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
