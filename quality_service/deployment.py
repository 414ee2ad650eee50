"""Which version runs, and the file in which the guard remembers it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_SOURCE: Final = Path(__file__).parent
_SHOWN: Final = 12


def version(contract_version: str, contract_text: str, source: Path = _SOURCE) -> str:
    """Names what judges: the contract's own version, and a digest of the contract and of this service's code.

    The digest and not the number alone decides what is a change: a number is easily forgotten.
    """
    digest = hashlib.sha256(contract_text.encode())
    for path in sorted(source.rglob("*.py")):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{contract_version}+{digest.hexdigest()[:_SHOWN]}"


class DeploymentFile:
    """A `guard.Memory`: one JSON file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Mapping[str, Any] | None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise OSError(f"{self._path} is damaged: remove it to start as if for the first time") from error
        return dict(found)

    def save(self, deployment: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(deployment, file, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
