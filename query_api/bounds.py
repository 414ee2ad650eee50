"""How much of a list may be asked for at once."""

from __future__ import annotations

from query_api.errors import BadInputError

MAX_FIRST = 1_000


def bounded(first: int | None, default: int) -> int:
    """An explicit null means the default. The cost rule looks at `first` too; this is what REST relies on."""
    if first is None:
        return default
    if not 0 <= first <= MAX_FIRST:
        raise BadInputError(f"first must be between 0 and {MAX_FIRST}, not {first}")
    return first
