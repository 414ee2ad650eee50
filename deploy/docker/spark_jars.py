"""`python -m deploy.docker.spark_jars FOLDER`: the lake writer's jars, for an image's builder stage."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.docker.java_parts import install
from deploy.local.errors import FAILED, WRONG_USAGE, CommandError


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m deploy.docker.spark_jars FOLDER", file=sys.stderr)
        return WRONG_USAGE
    try:
        install({"spark": Path(arguments[0])})
    except CommandError as error:
        print(f"spark_jars: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
