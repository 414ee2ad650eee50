"""Secrets of one stack: random, made at first run, readable by their owner only."""

from __future__ import annotations

import secrets

from deploy.local.layout import Layout, write_private


def secret(layout: Layout, name: str) -> str:
    """The secret of that name, made now if there is none. Letters and digits, so it needs no quoting."""
    path = layout.secrets / name
    if not path.exists():
        layout.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(24))
    return path.read_text().strip()
