"""The `stack` fixture itself: every server answers a real client and holds what a service needs."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import redis
from confluent_kafka.admin import AdminClient

from deploy.local.testing import Servers
from schemas.catalogue import load_topics
from schemas.registry import RegistryClient


def test_kafka_holds_the_topics_of_the_catalogue_with_their_partitions(stack: Servers) -> None:
    there = AdminClient({"bootstrap.servers": stack.kafka}).list_topics(timeout=10).topics
    wanted = {topic.name: topic.partitions for topic in load_topics().values()}
    assert {name: len(there[name].partitions) for name in wanted} == wanted


def test_registry_holds_one_version_of_every_schema(stack: Servers) -> None:
    client = RegistryClient(stack.registry)
    assert all(client.ids(topic.subject) for topic in load_topics().values())


def test_postgres_is_migrated_and_counts_in_utc(stack: Servers) -> None:
    async def ask() -> tuple[str, str | None]:
        connection = await asyncpg.connect(stack.postgres)
        try:
            zone = await connection.fetchval("SHOW timezone")
            table = await connection.fetchval("SELECT to_regclass('warehouse.fact_sales')::text")
        finally:
            await connection.close()
        return zone, table

    assert asyncio.run(ask()) == ("UTC", "warehouse.fact_sales")


def test_redis_refuses_a_client_without_the_password(stack: Servers) -> None:
    assert redis.Redis.from_url(stack.redis).ping()
    port = int(stack.redis.rsplit(":", 1)[1].split("/")[0])
    anonymous = redis.Redis(host="127.0.0.1", port=port)
    with pytest.raises(redis.AuthenticationError):
        anonymous.ping()
