"""Become one program of the stack: `python -I -S launch.py SPEC.json`.

supervisord starts every program through this file. It gives up root where asked, ties the program's
life to supervisord's, sets exactly the environment that the spec names, and replaces itself (`exec`), so that
the pid stays the one that supervisord watches. Standard library only; it runs without site-packages.
"""

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(spec_path: str) -> None:
    parent = os.getppid()
    with open(spec_path) as file:
        spec = json.load(file)
    os.chdir(spec["cwd"])
    os.umask(spec["umask"])
    if spec["uid"] is not None:
        os.setgroups([])
        os.setresgid(spec["uid"], spec["uid"], spec["uid"])
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    # After the change of user, which clears it: prctl(2), PR_SET_PDEATHSIG.
    if ctypes.CDLL(None, use_errno=True).prctl(
        _PR_SET_PDEATHSIG, signal.Signals[spec["death_signal"]], 0, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit("supervisord is gone")
    os.execve(spec["command"][0], spec["command"], spec["env"])


if __name__ == "__main__":
    main(sys.argv[1])
