"""``python -m schemas``: Check, release and register the schemas."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from schemas.catalogue import CatalogueError, Topic, load_topics, register_all
from schemas.codec import Codec, EncodeError, SchemaNotSupported
from schemas.contract import ContractError, load_contract
from schemas.example_files import examples
from schemas.fakes import InMemoryRegistry
from schemas.gate import freeze, offline_problems, registry_problems
from schemas.registry import RegistryClient, RegistryError


class UsageError(Exception):
    """The command line lacks something."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 ok, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m schemas", description=(__doc__ or "").partition(": ")[2])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, run in _VERBS.items():
        summary = (run.__doc__ or "").splitlines()[0]
        command = verbs.add_parser(verb, help=summary, description=summary)
        default = os.environ.get("TILLSTREAM_REGISTRY") if verb == "register" else None
        command.add_argument(
            "--registry", metavar="URL", default=default, help="base URL of the registry's API"
        )
    options = parser.parse_args(arguments)
    try:
        problems = _VERBS[options.verb](load_topics(), options.registry)
    except UsageError as error:
        parser.error(str(error))
    except (CatalogueError, ContractError, RegistryError, SchemaNotSupported, ValueError) as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _register(topics: Mapping[str, Topic], registry: str | None) -> list[str]:
    """Register every schema and its compatibility level; prints topic and schema id."""
    if registry is None:
        raise UsageError("register needs --registry URL")
    for topic, schema_id in register_all(RegistryClient(registry), topics).items():
        print(topic, schema_id)
    return []


def _check(topics: Mapping[str, Topic], registry: str | None) -> list[str]:
    """Gate: every released version stays readable; with --registry, by the registry's judgement too."""
    problems = offline_problems(topics)
    if registry is not None:
        problems += registry_problems(topics, RegistryClient(registry))
    return problems


def _lint(topics: Mapping[str, Topic], _: str | None) -> list[str]:
    """Check the catalogue, the contract and the examples."""
    load_contract()
    problems = []
    for topic in topics.values():
        registry = InMemoryRegistry()
        schema_id = registry.register(topic.subject, topic.schema_text)
        codec = Codec(topic.schema_text, registry)
        try:
            decoded = codec.decode(list(codec.encode(examples(topic), schema_id)))
        except (EncodeError, ValueError) as error:
            problems.append(f"{topic.name}: {error}")
            continue
        problems += [f"{topic.name}: example {each.position + 1}: {each.reason}" for each in decoded.bad]
    return problems


def _freeze(topics: Mapping[str, Topic], _: str | None) -> list[str]:
    """Release the schemas that changed, as a new file each under avro/versions."""
    for path in freeze(topics):
        print(path)
    return []


_VERBS: Final[dict[str, Callable[[Mapping[str, Topic], str | None], list[str]]]] = {
    "register": _register,
    "check": _check,
    "lint": _lint,
    "freeze": _freeze,
}


if __name__ == "__main__":
    sys.exit(main())
