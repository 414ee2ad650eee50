"""What the ledger is told through its environment."""

from __future__ import annotations

from streamkit.settings import PlatformSettings


class LedgerSettings(PlatformSettings):
    service: str = "ledger"
    group: str = "tillstream.ledger"
    enrich_group: str = "tillstream.enrich"
