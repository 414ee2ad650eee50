"""`python -m deploy.shop seed [FOLDER]`: fill the shop's tables from a folder of sales, once a database."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import asyncpg
from pydantic import ValidationError

from deploy.shop.seed import seed
from deploy.shop.settings import SeedSettings
from schemas.personal import Keyring

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "online-retail"


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: seeded, now or before. 1: failed, with the reason on standard error. 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m deploy.shop", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("seed", help="customers, products, stock and prices of a folder of sales")
    verb.add_argument("folder", nargs="?", type=Path, default=SAMPLE, help="CSV files (default: the sample)")
    folder: Path = parser.parse_args(argv).folder
    if not any(folder.glob("*.csv")):
        parser.error(f"{folder} holds no CSV files")
    try:
        settings = SeedSettings()
        keyring = Keyring.from_hex(settings.master_keys, settings.index_key)
        done = asyncio.run(seed(settings.postgres, keyring, folder, folder.resolve().name))
    except (OSError, ValueError, ValidationError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"seed: {error}", file=sys.stderr)
        return 1
    print(f"{done.customers} customers, {done.products} products" if done.products else "done before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
