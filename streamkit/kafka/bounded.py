"""Calls that may never return, bounded in time."""

from __future__ import annotations

import threading
from collections.abc import Callable


class NoAnswer(Exception):  # noqa: N818 - reads as what happened
    """The call did not return in time. It may still be under way."""


def run_bounded(call: Callable[[], None], within_s: float, too_late: Callable[[], None]) -> None:
    """Raises what `call` raises, or `NoAnswer` after `within_s`; where it returns yet, `too_late` follows.

    On a thread of its own (some 50 microseconds), which a process that ends does not wait for.
    """
    lock = threading.Lock()
    done = threading.Event()
    outcome: list[BaseException] = []
    abandoned = False

    def run() -> None:
        try:
            call()
        except BaseException as error:
            outcome.append(error)
        with lock:
            done.set()
            late = abandoned
        if late:
            too_late()

    threading.Thread(target=run, name="bounded-call", daemon=True).start()
    done.wait(within_s)
    with lock:
        abandoned = not done.is_set()
    if abandoned:
        raise NoAnswer(f"no answer in {within_s:g} s")
    if outcome:
        raise outcome[0]
