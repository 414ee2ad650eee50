"""Installs Java parts of the embedded stack in an image's builder stage.

The same fetching, checking against `jars.sha256` and finishing as `./tillstream` does on a machine.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deploy.local import jars
from deploy.local import java as javas
from deploy.local.errors import CommandError
from deploy.local.layout import Layout


def install(targets: dict[str, Path]) -> None:
    """`targets`: name of a component to the folder that gets it.

    Raises CommandError, with the end of Maven's log.
    """
    with tempfile.TemporaryDirectory() as home:
        layout = Layout(Path(home), Path(home, "tools"))
        log = Path(home, "maven.log")
        if (java := javas.find()) is None:
            raise CommandError("no JDK found")
        for component in jars.components():
            if (target := targets.get(component.name)) is None:
                continue
            try:
                jars.install(component, layout, java, log)
            except CommandError as error:
                tail = log.read_text(errors="replace")[-4000:] if log.exists() else ""
                raise CommandError(f"{error}\n{tail}") from error
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(component.target(layout), target)
