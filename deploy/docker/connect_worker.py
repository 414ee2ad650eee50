"""`python -m deploy.docker.connect_worker FOLDER`: what Kafka's image lacks to be our Connect worker.

FOLDER gets `plugins/`, `worker.properties` and `log4j2.properties`, the same as on a machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.docker.java_parts import install
from deploy.local import server_connect
from deploy.local.errors import FAILED, WRONG_USAGE, CommandError

PLUGINS = ("debezium", "avro-converter")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m deploy.docker.connect_worker FOLDER", file=sys.stderr)
        return WRONG_USAGE
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        install({name: folder / "plugins" / name for name in PLUGINS})
    except CommandError as error:
        print(f"connect_worker: {error}", file=sys.stderr)
        return FAILED
    worker = server_connect.properties("kafka:9092", "http://:8083", str(folder / "plugins"))
    (folder / "worker.properties").write_text("".join(f"{key}={value}\n" for key, value in worker.items()))
    (folder / "log4j2.properties").write_text(server_connect.LOG4J)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
