"""`rebuild`: make a store whole again from what the topics keep."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from deploy.local import lifecycle
from deploy.local.errors import CommandError
from deploy.local.stack import Stack
from deploy.local.supervision import Supervisor
from deploy.local.verbs import run_postgres

_STOP_S = 60.0
# One transaction: rows and the offsets up to which they were written go together. The special members stay.
_EMPTY_WAREHOUSE = """
    begin;
    delete from ops.stream_offsets;
    truncate warehouse.fact_sales, warehouse.dim_invoice, ops.quarantine, ops.quarantine_attempts;
    delete from warehouse.dim_customers where customer_id is not null;
    delete from warehouse.dim_products where stock_code is not null;
    commit
"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "rebuild",
        help="make a store whole again",
        description="lake: after a lost checkpoint, go on after the last offsets that its tables hold. "
        "warehouse: empty it and write it anew from the topics. The other services run on meanwhile.",
    )
    parser.add_argument("store", choices=("lake", "warehouse"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    stack = Stack.require()
    with _Stopped(stack, args.store):
        if args.store == "lake":
            _rebuild_lake(stack)
        else:
            run_postgres(_EMPTY_WAREHOUSE)
    print(f"{args.store} is rebuilt and runs again", file=sys.stderr)
    return 0


def _rebuild_lake(stack: Stack) -> None:
    program = stack.program("lake")
    done = subprocess.run(
        [*program.command, "rebuild"],
        env={**os.environ, **program.env},
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise CommandError("the lake could not be rebuilt: its log above says why")


class _Stopped:
    """One service is stopped within the block, and ready again after it."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack = stack
        self._name = name
        self._supervisor = Supervisor(stack.layout)

    def __enter__(self) -> None:
        self._supervisor.stop_program(self._name)
        deadline = time.monotonic() + _STOP_S
        while self._supervisor.process(self._name).pid is not None:
            if time.monotonic() > deadline:
                raise CommandError(f"{self._name} does not stop: see ./tillstream logs {self._name}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._supervisor.start_program(self._name)
        lifecycle.await_ready(self._supervisor, self._stack.layout, self._stack.program(self._name))
