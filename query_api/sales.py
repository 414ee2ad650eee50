"""Sales one by one: pages of them by keyset, and invoices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from query_api.coalesce import SnapshotCache
from query_api.cursors import BadCursorError, SaleCursor, decode, encode
from query_api.errors import BadInputError, TooMuchError
from query_api.filters import Where, filter_key
from query_api.postgres import Row, Store
from query_api.types import Invoice, PageInfo, Sale, SaleEdge, SaleFilter
from query_api.values import date_key

COLUMNS = """
    event_id, source_system AS source, invoice_no, line_no, stock_code, description, quantity, unit_price,
    currency, total_amount AS amount, amount_gbp, customer_id, country, country_code, region, invoice_ts,
    is_return, is_product, quality_score, customer_key, product_key, revision, recorded_at
"""

GUEST = -1
"""Surrogate key of the special member that sales without a customer point at."""

_ZERO = Decimal(0)

# Newest first, by an index on (invoice_ts, event_id) that each partition has.
_PAGE = (
    "SELECT <columns> FROM warehouse.fact_sales WHERE <where> ORDER BY invoice_ts DESC, event_id DESC LIMIT "
)
_COUNT = "SELECT count(*) FROM warehouse.fact_sales WHERE <where>"

# Numbers are per source: of two sources that share one, the invoice with the later line is the latest.
_INVOICE = """
WITH latest AS (
    SELECT source_system FROM warehouse.fact_sales WHERE invoice_no = $1
    ORDER BY invoice_ts DESC, recorded_at DESC, source_system LIMIT 1
)
SELECT <columns> FROM warehouse.fact_sales
WHERE invoice_no = $1 AND source_system = (SELECT source_system FROM latest)
ORDER BY line_no, event_id LIMIT $2
"""


def sale(row: Row | dict[str, Any]) -> Sale:
    """From a row of `COLUMNS`, and of nothing else."""
    return Sale(**dict(row.items()))


@dataclass(frozen=True, slots=True)
class Page:
    edges: list[SaleEdge]
    info: PageInfo


def edges_of(rows: Sequence[Row], first: int, after: str | None) -> Page:
    """The first `first` of the rows behind the cursor `after`; one more than these tells of a next page."""
    edges = [
        SaleEdge(cursor=encode(SaleCursor(row["invoice_ts"], row["event_id"])), node=sale(row))
        for row in rows[:first]
    ]
    info = PageInfo(
        has_next_page=len(rows) > first,
        has_previous_page=after is not None,
        start_cursor=edges[0].cursor if edges else None,
        end_cursor=edges[-1].cursor if edges else after,
    )
    return Page(edges, info)


class Sales:
    """Reads facts. `first` is bounded by the caller."""

    def __init__(self, store: Store, cache: SnapshotCache, *, max_invoice_lines: int) -> None:
        self._store = store
        self._cache = cache
        self._max_invoice_lines = max_invoice_lines

    async def page(self, first: int, after: str | None = None, wanted: SaleFilter | None = None) -> Page:
        """The `first` sales that follow the cursor `after`, newest first. Raises `BadInputError` on a cursor
        that is none. Rows inserted meanwhile never repeat or hide another."""
        where = Where().sales(wanted)
        if after is not None:
            cursor = keyset(after)
            # The second condition says the same in terms of the partition key: later partitions are pruned.
            where.add("(invoice_ts, event_id) < ({}, {})", *cursor)
            where.add("date_key <= {}", date_key(cursor.invoice_ts.date()))
        sql = _PAGE.replace("<columns>", COLUMNS).replace("<where>", str(where)) + where.param(first + 1)
        rows = await self._store.rows(sql, *where.args)
        return edges_of(rows, first, after)

    async def count(self, wanted: SaleFilter | None = None) -> int:
        """All sales that pass the filter, whatever the page."""

        async def compute() -> int:
            where = Where().sales(wanted)
            row = await self._store.row(_COUNT.replace("<where>", str(where)), *where.args)
            assert row is not None, "count(*) has one row"
            return int(row[0])

        return await self._cache.get(("count", filter_key(wanted)), compute)

    async def one(self, event_id: str) -> Sale | None:
        sql = f"SELECT {COLUMNS} FROM warehouse.fact_sales WHERE event_id = $1"  # noqa: S608 - program text
        row = await self._store.row(sql, event_id)
        return None if row is None else sale(row)

    async def invoice(self, invoice_no: str) -> Invoice | None:
        """Raises `TooMuchError` for an invoice with more lines than the limit."""
        limit = self._max_invoice_lines
        rows = await self._store.rows(_INVOICE.replace("<columns>", COLUMNS), invoice_no, limit + 1)
        if not rows:
            return None
        if len(rows) > limit:
            raise TooMuchError(
                f"the invoice has more than {limit} lines: page through `sales` with invoiceNo"
            )
        lines = [sale(row) for row in rows]
        gbp = [line.amount_gbp for line in lines]
        return Invoice(
            invoice_no=lines[0].invoice_no,  # type: ignore[arg-type]
            customer_key=next((key for line in lines if (key := int(line.customer_key)) != GUEST), None),
            source=lines[0].source,
            invoice_ts=lines[0].invoice_ts,
            country=next((line.country for line in lines if line.country is not None), None),
            is_return=lines[0].is_return,
            amount=sum((line.amount for line in lines), start=_ZERO),
            amount_gbp=None if None in gbp else sum((g for g in gbp if g is not None), start=_ZERO),
            lines=lines,
        )


def keyset(text: str) -> SaleCursor:
    """Raises `BadInputError` on a cursor that is none."""
    try:
        return decode(text)
    except BadCursorError as error:
        raise BadInputError(f"after: {error}") from None
