"""The catalogue of topics: ``topics.yaml`` and the Avro schemas that it names, checked on loading."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from schemas.registry import RegistryClient

HERE: Final = Path(__file__).parent
COMPATIBILITIES: Final = frozenset({"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FULL"})
CLEANUP_POLICIES: Final = frozenset({"delete", "compact", "compact,delete"})
_REQUIRED: Final = frozenset({"owner", "producers", "consumers", "key", "partitions", "retention_ms"})
_OPTIONAL: Final = frozenset({"replication_factor", "compatibility", "cleanup_policy", "config", "note"})


class CatalogueError(ValueError):
    """A mistake in ``topics.yaml`` or in a schema that it names."""


@dataclass(frozen=True, slots=True)
class BareTopic:
    """One topic. ``config`` is its whole configuration as Kafka takes it, retention included.

    Those of change data capture are no more than that: their schema follows the captured table, and the
    connector registers it.
    """

    name: str
    owner: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    key: str
    partitions: int
    replication_factor: int
    retention_ms: int
    cleanup_policy: str
    compatibility: str
    config: Mapping[str, str]

    @property
    def subject(self) -> str:
        """Subject of its values in the registry (Confluent's TopicNameStrategy)."""
        return f"{self.name}-value"


@dataclass(frozen=True, slots=True)
class Topic(BareTopic):
    """A topic whose schema is ours."""

    schema_path: Path
    schema_text: str


def load_topics(path: Path = HERE / "topics.yaml") -> dict[str, Topic]:
    """Every topic with a schema of ours by name, in the order of the file.

    Raises :class:`CatalogueError`.
    """
    document = _document(path)
    defaults, topics = document.get("defaults", {}), _section(document, "topics", path)
    return {name: _topic(name, entry, defaults, path.parent) for name, entry in topics.items()}


def load_captured(path: Path = HERE / "topics.yaml") -> dict[str, BareTopic]:
    """The topics that change data capture writes, by name. Raises :class:`CatalogueError`."""
    document = _document(path)
    if "captured" not in document:
        return {}
    defaults, topics = document.get("defaults", {}), _section(document, "captured", path)
    return {name: BareTopic(**_settings(name, entry, defaults, _REQUIRED)) for name, entry in topics.items()}


def register_all(
    client: RegistryClient,
    topics: Mapping[str, Topic] | None = None,
    captured: Mapping[str, BareTopic] | None = None,
) -> dict[str, int]:
    """Register every schema under its subject, compatibility level first; topic -> schema id.

    Captured topics get their level only, so that the registry refuses a table's incompatible change.
    Repeating it changes nothing. Raises ``SchemaRejected`` or ``RegistryUnavailable``.
    """
    ids = {}
    for topic in (load_topics() if topics is None else topics).values():
        client.set_compatibility(topic.subject, topic.compatibility)
        ids[topic.name] = client.register(topic.subject, topic.schema_text)
    for bare in (load_captured() if captured is None else captured).values():
        client.set_compatibility(bare.subject, bare.compatibility)
    return ids


def _document(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise CatalogueError(f"{path.name} is no mapping")
    return document


def _section(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = document.get(name)
    if not isinstance(section, dict):
        raise CatalogueError(f"{path.name} has no mapping {name!r}")
    return section


def _topic(name: str, entry: Any, defaults: Mapping[str, Any], folder: Path) -> Topic:
    settings = _settings(name, entry, defaults, _REQUIRED | {"schema"})
    schema_path = folder / str(entry["schema"])
    return Topic(**settings, schema_path=schema_path, schema_text=_schema_text(name, schema_path))


def _settings(name: str, entry: Any, defaults: Mapping[str, Any], required: frozenset[str]) -> dict[str, Any]:
    """The arguments of :class:`BareTopic`."""
    if not isinstance(entry, dict):
        raise CatalogueError(f"{name}: is no mapping")
    if missing := required - entry.keys():
        raise CatalogueError(f"{name}: lacks {', '.join(sorted(missing))}")
    if unknown := entry.keys() - required - _OPTIONAL:
        raise CatalogueError(f"{name}: unknown {', '.join(sorted(unknown))}")
    merged = {
        "replication_factor": 1,
        "compatibility": "BACKWARD",
        "cleanup_policy": "delete",
        **defaults,
        **entry,
    }
    own = {**defaults.get("config", {}), **entry.get("config", {})}
    retention, policy = _integer(name, merged, "retention_ms", -1), str(merged["cleanup_policy"])
    _one_of(name, "cleanup_policy", policy, CLEANUP_POLICIES)
    _one_of(name, "compatibility", merged["compatibility"], COMPATIBILITIES)
    config = {**own, "retention.ms": retention, "cleanup.policy": policy}
    return {
        "name": name,
        "owner": str(entry["owner"]),
        "producers": tuple(entry["producers"]),
        "consumers": tuple(entry["consumers"]),
        "key": str(entry["key"]),
        "partitions": _integer(name, merged, "partitions", 1),
        "replication_factor": _integer(name, merged, "replication_factor", 1),
        "retention_ms": retention,
        "cleanup_policy": policy,
        "compatibility": merged["compatibility"],
        "config": {option: str(value) for option, value in config.items()},
    }


def _integer(name: str, entry: Mapping[str, Any], field: str, least: int) -> int:
    value = entry[field]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CatalogueError(f"{name}: {field} must be a whole number from {least}, not {value!r}")
    return value


def _one_of(name: str, field: str, value: object, allowed: frozenset[str]) -> None:
    if value not in allowed:
        raise CatalogueError(f"{name}: {field} must be one of {', '.join(sorted(allowed))}, not {value!r}")


def _schema_text(name: str, path: Path) -> str:
    """The schema without white space, so that the file's layout makes no new version."""
    try:
        return orjson.dumps(orjson.loads(path.read_bytes())).decode()
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{name}: cannot read its schema {path.name}: {error}") from error
