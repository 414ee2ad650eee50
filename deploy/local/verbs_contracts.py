"""`contracts lint`: check data contracts before they are deployed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.local.layout import CHECKOUT

_FOLDER = CHECKOUT / "schemas" / "contracts"


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    contracts = verbs.add_parser(
        "contracts", help="check the data contracts", description="The rules that quality runs, as files."
    )
    actions = contracts.add_subparsers(dest="action", required=True, metavar="lint")
    lint = actions.add_parser(
        "lint",
        help="are they sound?",
        description="Check contracts as the services do at their start. "
        "Exit code 1: a mistake, told with its file, line and reason.",
    )
    lint.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: those of the checkout")
    lint.set_defaults(run=run_lint)


def run_lint(args: argparse.Namespace) -> int:
    from schemas.contract import ContractError, load_contract

    files = args.files or sorted(_FOLDER.glob("*.yaml"))
    failed = 0
    for path in files:
        try:
            contract = load_contract(path)
        except (ContractError, OSError, UnicodeDecodeError) as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr)
        else:
            rules = len(contract.reject) + len(contract.warn)
            print(f"{path.name}: version {contract.version}, {rules} rules, sound")
    return 1 if failed else 0
