"""What the servers must hold before a service starts: topics, schemas, tables. All of it idempotent."""

from __future__ import annotations

import subprocess
import sys

from deploy.local import server_postgres, server_registry
from deploy.local.errors import CommandError
from deploy.local.layout import CHECKOUT
from deploy.local.ports import HOST
from deploy.local.stack import Stack


def topics(stack: Stack) -> None:
    """Create the topics of the catalogue; one that is there must have the partitions it says."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    from schemas.catalogue import load_topics

    client = AdminClient({"bootstrap.servers": f"{HOST}:{stack.ports['kafka']}", "log_level": 0})
    wanted = load_topics()
    there = client.list_topics(timeout=20).topics
    for topic in wanted.values():
        found = len(there[topic.name].partitions) if topic.name in there else topic.partitions
        if found != topic.partitions:
            raise CommandError(
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
    for name, future in (client.create_topics(new, operation_timeout=20) if new else {}).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise CommandError(f"topic {name} could not be created: {error.args[0].str()}") from error


def schemas(stack: Stack) -> None:
    """Register every topic's schema; the registry refuses one that is not BACKWARD compatible."""
    from schemas.catalogue import register_all
    from schemas.registry import RegistryClient, RegistryUnavailable, SchemaRejected

    try:
        register_all(RegistryClient(server_registry.url(stack.ports)))
    except (RegistryUnavailable, SchemaRejected) as error:
        raise CommandError(f"schemas could not be registered: {error}") from error


def migrate(stack: Stack) -> None:
    """Bring the warehouse's tables up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.postgres", "migrate"],
        env={
            "PYTHONPATH": str(CHECKOUT),
            "TILLSTREAM_POSTGRES": server_postgres.dsn(stack.layout, stack.ports),
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(
            f"the warehouse could not be migrated: {lines[-1] if lines else 'no reason given'}"
        )
