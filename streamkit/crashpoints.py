"""Named places where a process may die. Doing nothing in production; a simulation arms them.

A name says where: in the order of the commit protocol of `streamkit.runner`, after-poll, after-process,
after-begin, after-produce, after-before-commit, after-send-offsets, after-commit, after-after-commit; on its
side ways after-fencing, after-abort, after-replace; in `streamkit.sink_runner` after-starts, after-poll,
after-write, after-show. Services have more of their own. `tests/simulation` finds them all in the source, and
fails for one at which it never killed a process.
"""

from __future__ import annotations

from collections.abc import Callable

Hook = Callable[[str], None]


def _nothing(_: str) -> None:
    return None


_hook: Hook = _nothing


def crash_point(name: str) -> None:
    _hook(name)


def arm(hook: Hook) -> None:
    """Call `hook` with the name of every crash point that is passed; it may raise or kill the process."""
    global _hook  # noqa: PLW0603 - one hook per process is the point
    _hook = hook


def disarm() -> None:
    arm(_nothing)
