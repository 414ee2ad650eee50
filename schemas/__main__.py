"""``python -m schemas``: register the schemas, and gate changes to them."""

import argparse
import os
import sys
from collections.abc import Sequence

from schemas.catalogue import CatalogueError, load_topics, register_all
from schemas.registry import RegistryClient, RegistryError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 ok, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m schemas", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, summary in (("register", "register every schema"), ("check", "BACKWARD gate, changes nothing")):
        command = verbs.add_parser(verb, help=summary)
        command.add_argument("--registry", default=os.environ.get("TILLSTREAM_REGISTRY"), help="URL")
    options = parser.parse_args(arguments)
    try:
        client = RegistryClient(options.registry)
        ids = register_all(client)
    except (CatalogueError, RegistryError) as error:
        print(error, file=sys.stderr)
        return 1
    for topic in load_topics():
        print(topic, ids[topic])
    return 0


if __name__ == "__main__":
    sys.exit(main())
