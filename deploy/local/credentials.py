"""Secrets of one stack: random, made at first run, readable by their owner only."""

from __future__ import annotations

import secrets

from deploy.local.layout import Layout, write_private


def secret(layout: Layout, name: str, size: int = 24) -> str:
    """The secret of that name, made now if there is none. Letters and digits, so it needs no quoting.

    `size`: random bytes; the text has two hexadecimal digits for each.
    """
    path = layout.secrets / name
    if not path.exists():
        layout.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(size))
    return path.read_text().strip()


def personal_keys(layout: Layout) -> dict[str, str]:
    """The secrets of personal data (schemas/personal.py). Without them, nobody can read it any more."""
    return {
        "TILLSTREAM_MASTER_KEYS": secret(layout, "master-keys", size=32),
        "TILLSTREAM_INDEX_KEY": secret(layout, "index-key", size=32),
    }
