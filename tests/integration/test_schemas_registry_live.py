"""The real registry: it answers as the client expects, and its gate agrees with ours."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from deploy.local.testing import Servers
from schemas.catalogue import Topic, load_topics, register_all
from schemas.codec import Codec
from schemas.compatibility import incompatibilities
from schemas.example_files import examples
from schemas.registry import RegistryClient, RegistryUnavailable, SchemaRejected, UnknownSchema

TOPICS = load_topics()
RAW = TOPICS["sales.raw.v1"]
Fields = list[dict[str, Any]]
EDITS: dict[str, Callable[[Fields], object]] = {
    "nothing": lambda fields: None,
    "a nullable field": lambda fields: fields.append(
        {"name": "t", "type": ["null", "string"], "default": None}
    ),
    "a field without default": lambda fields: fields.append({"name": "t", "type": "string"}),
    "a field less": lambda fields: fields.pop(),
    "int to long": lambda fields: fields[6].update(type="long"),
    "string to long": lambda fields: fields[4].update(type="long"),
    "no longer nullable": lambda fields: fields.__setitem__(9, {"name": "customer_id", "type": "string"}),
    "nullable": lambda fields: fields[8].update(type=["null", "string"]),
}


@pytest.fixture
def client(stack: Servers) -> RegistryClient:
    return RegistryClient(stack.registry)


@pytest.fixture
def own() -> dict[str, Topic]:
    """The catalogue under names that no other test has."""
    prefix = f"t{uuid.uuid4().hex}."
    return {name: replace(topic, name=prefix + name) for name, topic in TOPICS.items()}


def edited(edit: Callable[[Fields], object]) -> str:
    schema = orjson.loads(RAW.schema_text)
    edit(schema["fields"])
    return orjson.dumps(schema).decode()


def test_registered_schemas_are_found_by_id_and_registering_again_changes_nothing(
    client: RegistryClient, own: dict[str, Topic], stack: Servers
) -> None:
    ids = register_all(client, own)
    fresh = RegistryClient(stack.registry)
    for topic in own.values():
        assert orjson.loads(fresh.by_id(ids[topic.name])) == orjson.loads(topic.schema_text)
        assert list(fresh.ids(topic.subject)) == [ids[topic.name]]
    assert register_all(fresh, own) == ids


@pytest.mark.parametrize("edit", EDITS)
def test_registry_judges_a_change_as_the_gate_without_it_does(
    edit: str, client: RegistryClient, own: dict[str, Topic]
) -> None:
    subject = own[RAW.name].subject
    client.set_compatibility(subject, "BACKWARD")
    client.register(subject, RAW.schema_text)
    newer = edited(EDITS[edit])
    fine = incompatibilities(newer, RAW.schema_text) == []
    assert client.check_compatible(subject, newer) is fine
    if fine:
        client.register(subject, newer)
    else:
        with pytest.raises(SchemaRejected):
            client.register(subject, newer)


def test_unknown_id_is_told_from_a_wrong_address(client: RegistryClient, stack: Servers) -> None:
    with pytest.raises(UnknownSchema):
        client.by_id(2_000_000_000)
    with pytest.raises(RegistryUnavailable):
        RegistryClient(stack.registry + "/elsewhere").by_id(2_000_000_000)


def test_two_registered_versions_decode_in_one_batch(client: RegistryClient, own: dict[str, Topic]) -> None:
    subject = own[RAW.name].subject
    newer = edited(EDITS["a nullable field"])
    ids = [client.register(subject, RAW.schema_text), client.register(subject, newer)]
    frame = examples(RAW)
    values = Codec(RAW.schema_text, client).encode(frame, ids[0]) + Codec(newer, client).encode(frame, ids[1])
    result = Codec(RAW.schema_text, client).decode(values[::-1])
    assert result.bad == []
    assert result.frame["event_id"].to_list() == (frame["event_id"].to_list() * 2)[::-1]
    assert set(result.schema_ids.tolist()) == set(ids)
