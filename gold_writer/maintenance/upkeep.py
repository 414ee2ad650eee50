"""What is kept up on each table of the lake, as data: layout, Bloom filters, retention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gold_writer.maintenance.derived import DERIVED

Layer = Literal["bronze", "silver", "gold"]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """`bloom`: columns that are looked up by equality and whose values lie all over the table.

    `z_order`: columns whose neighbours are to share files; the whole table is rewritten, so it is for the
    table that people filter. `aged_by`: the column that says when a row came, with statistics in the log;
    None where rows are current state and do not age. `owned`: this process alone writes the table.
    """

    table: str
    bloom: tuple[str, ...] = ()
    z_order: tuple[str, ...] = ()
    aged_by: str | None = None
    owned: bool = False

    @property
    def layer(self) -> Layer:
        layer = self.table.split("/", 1)[0]
        assert layer in ("bronze", "silver", "gold")
        return layer  # type: ignore[return-value]

    def path(self, lake: Path) -> Path:
        return lake / self.table


UPKEEP: Final = (
    Upkeep(
        "gold/fact_sales",
        bloom=("event_id", "invoice_no", "customer_id"),
        z_order=("date_key", "stock_code", "customer_id"),
        aged_by="ingest_ts",
    ),
    Upkeep("silver/sales", bloom=("event_id",), aged_by="ingest_ts"),
    Upkeep("bronze/sales", bloom=("key",), aged_by="kafka_ts"),
    Upkeep("bronze/quarantine", bloom=("item_id", "event_id"), aged_by="ingest_ts"),
    Upkeep("gold/dim_customers", bloom=("customer_id",), owned=True),
    Upkeep("gold/dim_products", bloom=("stock_code",), owned=True),
    # Each version of these is one file that replaces the last.
    Upkeep("gold/dim_date", owned=True),
    *(Upkeep(table, owned=True) for table in DERIVED),
)


def all_tables(lake: Path) -> tuple[Upkeep, ...]:
    """UPKEEP, and bronze of the captured tables that are there."""
    found = sorted((lake / "bronze").glob("cdc_*"))
    return (*UPKEEP, *(Upkeep(f"bronze/{path.name}", aged_by="kafka_ts", owned=True) for path in found))
