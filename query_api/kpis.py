"""What revenue, orders and the other figures mean: the one place that defines them.

    revenue             sum of amount_gbp over all lines, returns and non-products included
    grossRevenue        the same over lines of invoices that are no cancellation (not is_return)
    returns             the same over lines of cancellations: a negative amount
    orders              distinct invoices that are no cancellation; an invoice is one per source and number,
                        which invoice_key stands for
    lines, units        number of lines; net sum of quantity
    customers           distinct customer ids of all lines, returns included
    averageOrderValue   grossRevenue / orders, half to even at six places; null without orders

All sums are over numeric(20,6), so they are exact. A line whose amount_gbp is still null (no rate yet)
counts as a line and adds nothing to an amount. Days and buckets are in UTC by invoice_ts.
"""

from __future__ import annotations

from datetime import datetime

from query_api.coalesce import SnapshotCache
from query_api.errors import TooMuchError
from query_api.filters import Where, range_key
from query_api.postgres import Store
from query_api.types import By, CountryRevenue, Grain, Kpis, ProductSales, Range, SeriesPoint
from query_api.values import average

# Grouping by invoice first makes one pass over the facts; the distinct counts then run over its groups.
KPIS = """
WITH invoices AS (
    SELECT invoice_key, customer_id, is_return,
           sum(amount_gbp) AS gbp, count(*) AS lines, sum(quantity) AS units
    FROM <facts> WHERE <where>
    GROUP BY invoice_key, customer_id, is_return
)
SELECT coalesce(sum(gbp), 0) AS revenue,
       coalesce(sum(gbp) FILTER (WHERE NOT is_return), 0) AS gross_revenue,
       coalesce(sum(gbp) FILTER (WHERE is_return), 0) AS returns,
       count(DISTINCT invoice_key) FILTER (WHERE NOT is_return) AS orders,
       coalesce(sum(lines), 0)::bigint AS lines,
       coalesce(sum(units), 0)::bigint AS units,
       count(DISTINCT customer_id) AS customers
FROM invoices
"""

# Facts as they stood at a time: the current revision if it was recorded by then, else the one that a later
# revision has replaced since.
_FACTS_AS_OF = """(
    SELECT date_key, invoice_key, customer_id, is_return, amount_gbp, quantity, country, recorded_at
    FROM warehouse.fact_sales
    UNION ALL
    SELECT date_key, invoice_key, customer_id, is_return, amount_gbp, quantity, country, recorded_at
    FROM warehouse.fact_sales_superseded WHERE superseded_at > <at>
) AS facts"""

SERIES = """
WITH invoices AS (
    SELECT date_trunc(<grain>, invoice_ts, 'UTC') AS at, invoice_key, is_return,
           sum(amount_gbp) AS gbp, count(*) AS lines
    FROM warehouse.fact_sales WHERE <where>
    GROUP BY 1, 2, 3
)
SELECT at, coalesce(sum(gbp), 0) AS revenue,
       count(*) FILTER (WHERE NOT is_return) AS orders, sum(lines)::bigint AS lines
FROM invoices GROUP BY at ORDER BY at LIMIT <limit>
"""

COUNTRIES = """
WITH invoices AS (
    SELECT country, invoice_key, is_return, max(country_code) AS country_code, max(region) AS region,
           sum(amount_gbp) AS gbp, count(*) AS lines
    FROM warehouse.fact_sales WHERE <where>
    GROUP BY country, invoice_key, is_return
)
SELECT country, max(country_code) AS country_code, max(region) AS region,
       coalesce(sum(gbp), 0) AS revenue,
       count(*) FILTER (WHERE NOT is_return) AS orders, sum(lines)::bigint AS lines
FROM invoices GROUP BY country ORDER BY revenue DESC, country NULLS LAST LIMIT <limit>
"""

# Descriptions of one code vary ("damaged", "?"); the one that most lines carry names the product.
PRODUCTS = """
WITH described AS (
    SELECT stock_code, description, sum(amount_gbp) AS gbp, sum(quantity) AS quantity, count(*) AS lines
    FROM warehouse.fact_sales WHERE <where>
    GROUP BY stock_code, description
)
SELECT stock_code,
       (array_agg(description ORDER BY lines DESC, description COLLATE "C")
           FILTER (WHERE description IS NOT NULL))[1] AS description,
       coalesce(sum(gbp), 0) AS revenue, sum(quantity)::bigint AS quantity, sum(lines)::bigint AS lines
FROM described GROUP BY stock_code ORDER BY <by> DESC, stock_code LIMIT <limit>
"""

_PRODUCT_ORDER = {By.REVENUE: "revenue", By.QUANTITY: "quantity"}


class Analytics:
    """Answers aggregates. Each answer is of one statement, so it is consistent in itself."""

    def __init__(self, store: Store, cache: SnapshotCache, *, max_series_points: int) -> None:
        self._store = store
        self._cache = cache
        self._max_series_points = max_series_points

    async def kpis(
        self, span: Range | None = None, country: str | None = None, as_of: datetime | None = None
    ) -> Kpis:
        """`as_of`: what was recorded then or before, each sale in the revision that it had."""

        async def compute() -> Kpis:
            where = Where().range(span).country(country).as_of(as_of)
            facts = "warehouse.fact_sales"
            if as_of is not None:
                facts = _FACTS_AS_OF.replace("<at>", where.param(as_of))
            sql = KPIS.replace("<where>", str(where)).replace("<facts>", facts)
            row = await self._store.row(sql, *where.args)
            assert row is not None, "an aggregate without GROUP BY has one row"
            return Kpis(**dict(row.items()), average_order_value=average(row["gross_revenue"], row["orders"]))

        return await self._cache.get(("kpis", range_key(span), country, as_of), compute)

    async def series(
        self, span: Range | None = None, grain: Grain = Grain.DAY, country: str | None = None
    ) -> list[SeriesPoint]:
        """Ascending; buckets without sales are left out. Raises `TooMuchError` above the limit of points."""

        async def compute() -> list[SeriesPoint]:
            where = Where().range(span).country(country)
            sql = (
                SERIES.replace("<where>", str(where))
                .replace("<grain>", where.param(grain.value))
                .replace("<limit>", where.param(self._max_series_points + 1))
            )
            rows = await self._store.rows(sql, *where.args)
            if len(rows) > self._max_series_points:
                raise TooMuchError(
                    f"the series has more than {self._max_series_points} points: "
                    "ask for a shorter range or a coarser grain"
                )
            return [SeriesPoint(**dict(row.items())) for row in rows]

        return await self._cache.get(("series", range_key(span), grain, country), compute)

    async def countries(self, span: Range | None = None, first: int = 50) -> list[CountryRevenue]:
        """By revenue, highest first. Sales without a country are one entry with a null name."""

        async def compute() -> list[CountryRevenue]:
            where = Where().range(span)
            sql = COUNTRIES.replace("<where>", str(where)).replace("<limit>", where.param(first))
            return [CountryRevenue(**dict(row.items())) for row in await self._store.rows(sql, *where.args)]

        return await self._cache.get(("countries", range_key(span), first), compute)

    async def products(
        self,
        span: Range | None = None,
        first: int = 10,
        by: By = By.REVENUE,
        include_non_products: bool = False,
    ) -> list[ProductSales]:
        """Highest first. Without `include_non_products`, postage, fees and the like are left out."""

        async def compute() -> list[ProductSales]:
            where = Where().range(span)
            if not include_non_products:
                where.add("is_product")
            sql = (
                PRODUCTS.replace("<where>", str(where))
                .replace("<by>", _PRODUCT_ORDER[by])
                .replace("<limit>", where.param(first))
            )
            return [ProductSales(**dict(row.items())) for row in await self._store.rows(sql, *where.args)]

        return await self._cache.get(("products", range_key(span), first, by, include_non_products), compute)
