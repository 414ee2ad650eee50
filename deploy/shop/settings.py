"""What seeding is told through its environment (`TILLSTREAM_*`)."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class SeedSettings(PlatformSettings):
    master_keys: str = Field(repr=False)
    """64 hexadecimal digits each, comma-separated; the first wraps new keys (schemas/personal.py)."""
    index_key: str = Field(repr=False)
    """Of the blind index of e-mail addresses; 64 hexadecimal digits. It stays the same for ever."""
