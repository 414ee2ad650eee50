"""`python -m deploy.docker.spark_jars FOLDER`: the lake writer's jars, for an image's builder stage.

The same fetching, checking against `jars.sha256` and compiling as `./tillstream` does on a machine.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from deploy.local import jars
from deploy.local import java as javas
from deploy.local.errors import FAILED, WRONG_USAGE, CommandError
from deploy.local.layout import Layout


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m deploy.docker.spark_jars FOLDER", file=sys.stderr)
        return WRONG_USAGE
    component = next(c for c in jars.components() if c.name == "spark")
    with tempfile.TemporaryDirectory() as home:
        layout = Layout(Path(home), Path(home, "tools"))
        log = Path(home, "maven.log")
        try:
            if (java := javas.find()) is None:
                raise CommandError("no JDK found")
            jars.install(component, layout, java, log)
        except CommandError as error:
            print(f"spark_jars: {error}", file=sys.stderr)
            if log.exists():
                print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
            return FAILED
        shutil.move(component.target(layout), arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
