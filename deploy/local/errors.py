"""The one way in which a verb fails on purpose."""

from __future__ import annotations

FAILED = 1
WRONG_USAGE = 2
NOT_RUNNING = 3


class CommandError(Exception):
    """One clear line for the person at the terminal: what is wrong and what to do about it."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
