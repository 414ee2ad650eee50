"""The gate that a change of a schema must pass, with a registry and without one.

``avro/versions/<topic>/v<n>.avsc`` holds every schema that was ever released. Without a registry the
current schema is compared with those; the newest must be the current one, so that no change goes unseen.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import fastavro
import orjson

from schemas import avro
from schemas.catalogue import HERE, Topic
from schemas.compatibility import incompatibilities
from schemas.registry import RegistryClient, SchemaRejected

VERSIONS: Final = HERE / "avro" / "versions"


def released(topic: Topic, folder: Path = VERSIONS) -> list[tuple[int, str]]:
    """Released versions of a topic's schema, oldest first: (number, schema text)."""
    files = {int(path.stem[1:]): path for path in (folder / topic.name).glob("v*.avsc")}
    return [(number, files[number].read_text(encoding="utf-8")) for number in sorted(files)]


def offline_problems(topics: Mapping[str, Topic], folder: Path = VERSIONS) -> list[str]:
    """What keeps the current schemas from being released, one line each; empty if nothing does."""
    return [problem for topic in topics.values() for problem in _problems(topic, folder)]


def registry_problems(topics: Mapping[str, Topic], client: RegistryClient) -> list[str]:
    """Subjects that would refuse the current schema. Raises ``RegistryUnavailable``."""
    problems = []
    for topic in topics.values():
        try:
            fine = client.check_compatible(topic.subject, topic.schema_text)
        except SchemaRejected as error:
            problems.append(f"{topic.name}: {error}")
            continue
        if not fine:
            problems.append(
                f"{topic.name}: not {topic.compatibility} compatible with the registry's latest version"
            )
    return problems


def freeze(topics: Mapping[str, Topic], folder: Path = VERSIONS) -> list[Path]:
    """Add the current schema of each topic that changed as its next version; the files written.

    Raises ``ValueError`` where a schema is incompatible with an earlier version.
    """
    written = []
    for topic in topics.values():
        versions = released(topic, folder)
        if versions and _meaning(versions[-1][1]) == _meaning(topic.schema_text):
            continue
        if broken := list(_breaks(topic, versions)):
            raise ValueError("; ".join(broken))
        path = folder / topic.name / f"v{versions[-1][0] + 1 if versions else 1}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(topic.schema_path.read_bytes())
        written.append(path)
    return written


def _problems(topic: Topic, folder: Path) -> Iterator[str]:
    versions = released(topic, folder)
    if not versions:
        yield f"{topic.name}: has no released version; run `python -m schemas freeze`"
        return
    yield from _wrong_defaults(topic)
    yield from _breaks(topic, versions)
    if _meaning(versions[-1][1]) != _meaning(topic.schema_text):
        yield f"{topic.name}: differs from v{versions[-1][0]}; run `python -m schemas freeze` to release it"


def _wrong_defaults(topic: Topic) -> Iterator[str]:
    """Avro: a default is a value of the first branch of a union. The registry refuses others."""
    for field in avro.parse(topic.schema_text).plain["fields"]:
        if "default" in field:
            first = field["type"][0] if isinstance(field["type"], list) else field["type"]
            holder = {"type": "record", "name": "Holder", "fields": [{"name": "value", "type": first}]}
            if not fastavro.validate({"value": field["default"]}, holder, raise_errors=False, strict=True):
                yield f"{topic.name}: the default of {field['name']} is no {first}"


def _breaks(topic: Topic, versions: list[tuple[int, str]]) -> Iterator[str]:
    """Topics keep records for ever, so that every released version must stay readable."""
    if topic.compatibility == "NONE":
        return
    for number, text in versions:
        for difference in incompatibilities(topic.schema_text, text):
            yield f"{topic.name}: cannot read v{number}: {difference}"


def _meaning(text: str) -> Any:
    return _without_docs(orjson.loads(text))


def _without_docs(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_docs(each) for each in node]
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    return node
