"""What the ledger is told through its environment."""

from __future__ import annotations

from pydantic import Field

from streamkit.settings import PlatformSettings


class LedgerSettings(PlatformSettings):
    service: str = "ledger"
    group: str = "tillstream.ledger"
    enrich_group: str = "tillstream.enrich"
    # Seconds between two measurements of the warehouse's quality.
    quality_check_every_s: float = Field(120.0, gt=0)
    # Seconds between two balances that the ledger draws by itself; a large platform takes longer.
    ledger_check_every_s: float = Field(15.0, gt=0)
