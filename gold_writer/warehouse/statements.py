"""The SQL of one batch, built once from the lists of columns. Values travel by COPY, never in a statement.

Rows are written in the order of their keys, so that two writers lock shared dimension rows in one order and
B-trees are filled page by page.
"""

from __future__ import annotations

from collections.abc import Sequence

from gold_writer.warehouse.columns import FACT, QUARANTINE, Column
from gold_writer.warehouse.dimensions import TABLES

STAGED_SALES = "staged_sales"
STAGED_QUARANTINE = "staged_quarantine"


def _temporary_table(name: str, columns: Sequence[Column]) -> str:
    types = ", ".join(f"{c.name} {c.staged_type}" for c in columns)
    return f"CREATE TEMP TABLE {name} ({types}) ON COMMIT DELETE ROWS"


def _insert(table: str, columns: Sequence[Column], distinct_on: str | None = None) -> str:
    names = ", ".join(c.name for c in columns)
    distinct = f"DISTINCT ON ({distinct_on}) " if distinct_on else ""
    return f"INSERT INTO {table} AS t ({names}) SELECT {distinct}{', '.join(c.expression for c in columns)}"


SESSION = f"""
SET synchronous_commit = on;
SET temp_buffers = '64MB';
{_temporary_table(STAGED_SALES, FACT)};
{_temporary_table(STAGED_QUARANTINE, QUARANTINE)};
{"; ".join(_temporary_table(table.staged, table.columns) for table in TABLES)}
"""

# A process that stands still within a transaction must not hold its positions' rows for ever: whoever took
# its partitions over waits for them. Postgres ends such a session by itself, but not in the middle of a COPY.

PATIENCE = """
SELECT set_config('idle_in_transaction_session_timeout', $1, false), set_config('lock_timeout', $1, false)
"""

END_STANDING_STILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid()
  AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - make_interval(secs => $2)
"""

# Positions -----------------------------------------------------------------------------------------

KNOWN_POSITIONS = """
SELECT topic, partition, topic_id, next_offset FROM ops.stream_offsets
WHERE consumer = $1 AND topic = ANY($2::text[])
"""

FIRST_POSITIONS = """
INSERT INTO ops.stream_offsets (consumer, topic, partition, topic_id, next_offset)
SELECT $1, n.* , 0 FROM unnest($2::text[], $3::integer[], $4::text[]) AS n
ON CONFLICT DO NOTHING
"""

MOVE_POSITIONS = """
UPDATE ops.stream_offsets AS o SET next_offset = n.next, updated_at = clock_timestamp()
FROM unnest($2::text[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[])
     AS n (topic, partition, topic_id, expected, next)
WHERE o.consumer = $1 AND o.topic = n.topic AND o.partition = n.partition
  AND o.topic_id = n.topic_id AND o.next_offset = n.expected
"""

# Sales ---------------------------------------------------------------------------------------------

ENSURE_CALENDAR = """
SELECT warehouse.ensure_dates($1::integer[]),
       (SELECT count(warehouse.ensure_fact_partition(k)) FROM unnest($2::integer[]) AS k)
"""

_KEY = ("date_key", "event_id")
_NAMES = ", ".join(c.name for c in FACT)
_REPLACED = ", ".join(f"{c.name} = excluded.{c.name}" for c in FACT if c.name not in _KEY)

# What a later revision replaces is kept: figures as of an earlier time need it.
_SUPERSEDED = f"""
INSERT INTO warehouse.fact_sales_superseded ({_NAMES}, loaded_at, superseded_at)
SELECT {", ".join(f"t.{c.name}" for c in FACT)}, t.loaded_at,
       timestamptz 'epoch' + s.recorded_at * interval '1 millisecond'
FROM staged_sales AS s
JOIN warehouse.fact_sales AS t ON (t.date_key, t.event_id) = (s.date_key, s.event_id)
WHERE s.revision > 0 AND s.revision > t.revision
ON CONFLICT DO NOTHING
"""  # noqa: S608 - our names

_FACTS = f"""
{_insert("warehouse.fact_sales", FACT)} FROM staged_sales AS s
ON CONFLICT (date_key, event_id) DO UPDATE SET {_REPLACED}, loaded_at = clock_timestamp()
WHERE t.revision < excluded.revision
"""

# The dimension builder makes the versions; what a sale names and has not come from there yet gets a stub row
# here, by the builder's own rule for inferred members, so that no fact ever points at nothing. A stub takes
# its attributes from the earliest sale that has them, and an invoice its header from the lowest line, so the
# order of arrival does not matter. The stub of a later version, whose first one is there, begins at that
# sale. What is there already is left out by the join: ON CONFLICT DO UPDATE would lock and rewrite the
# tuple's header even where its WHERE is false.
_CUSTOMERS = """
INSERT INTO warehouse.dim_customers AS t
    (customer_key, customer_id, country, country_code, region, inferred_from, effective_date, is_current)
SELECT s.customer_key, s.customer_id, s.country, s.country_code, s.region, s.inferred_from,
       CASE WHEN o.known THEN s.sold_at ELSE '1900-01-01 00:00:00+00' END, o.known IS NULL
FROM (
    SELECT DISTINCT ON (customer_key) customer_key, customer_id, country, country_code, region,
           timestamptz 'epoch' + invoice_ts * interval '1 millisecond' AS sold_at,
           CASE WHEN country IS NOT NULL
               THEN timestamptz 'epoch' + invoice_ts * interval '1 millisecond' END AS inferred_from
    FROM staged_sales WHERE customer_id IS NOT NULL
    ORDER BY customer_key, (country IS NULL), invoice_ts, country
) AS s
LEFT JOIN warehouse.dim_customers AS d USING (customer_key)
LEFT JOIN LATERAL (
    SELECT true AS known FROM warehouse.dim_customers AS x
    WHERE x.customer_id = s.customer_id AND x.customer_key <> s.customer_key LIMIT 1
) AS o ON d.customer_key IS NULL
WHERE d.customer_key IS NULL OR (d.is_inferred AND NOT d.is_deleted AND s.country IS NOT NULL
    AND (d.country IS NULL OR (s.inferred_from, s.country) < (d.inferred_from, d.country)))
ORDER BY s.customer_key
ON CONFLICT (customer_key) DO UPDATE SET country = excluded.country,
    country_code = excluded.country_code, region = excluded.region, inferred_from = excluded.inferred_from
WHERE t.is_inferred AND NOT t.is_deleted AND excluded.country IS NOT NULL
  AND (t.country IS NULL OR (excluded.inferred_from, excluded.country) < (t.inferred_from, t.country))
"""

_PRODUCTS = """
INSERT INTO warehouse.dim_products AS t
    (product_key, stock_code, description, is_product, inferred_from, effective_date, is_current)
SELECT s.product_key, s.stock_code, s.description, s.is_product, s.inferred_from,
       CASE WHEN o.known THEN s.sold_at ELSE '1900-01-01 00:00:00+00' END, o.known IS NULL
FROM (
    SELECT DISTINCT ON (product_key) product_key, stock_code, description, is_product,
           timestamptz 'epoch' + invoice_ts * interval '1 millisecond' AS sold_at,
           CASE WHEN description IS NOT NULL
               THEN timestamptz 'epoch' + invoice_ts * interval '1 millisecond' END AS inferred_from
    FROM staged_sales ORDER BY product_key, (description IS NULL), invoice_ts, description
) AS s
LEFT JOIN warehouse.dim_products AS d USING (product_key)
LEFT JOIN LATERAL (
    SELECT true AS known FROM warehouse.dim_products AS x
    WHERE x.stock_code = s.stock_code AND x.product_key <> s.product_key LIMIT 1
) AS o ON d.product_key IS NULL
WHERE d.product_key IS NULL OR (d.is_inferred AND NOT d.is_deleted AND s.description IS NOT NULL
    AND (d.description IS NULL OR (s.inferred_from, s.description) < (d.inferred_from, d.description)))
ORDER BY s.product_key
ON CONFLICT (product_key) DO UPDATE SET description = excluded.description,
    inferred_from = excluded.inferred_from
WHERE t.is_inferred AND NOT t.is_deleted AND excluded.description IS NOT NULL AND (t.description IS NULL
    OR (excluded.inferred_from, excluded.description) < (t.inferred_from, t.description))
"""

_INVOICES = """
INSERT INTO warehouse.dim_invoice AS t (invoice_key, source_system, invoice_no, invoice_ts, date_key,
    customer_key, customer_id, country, country_code, region, is_return, header_line_no)
SELECT s.* FROM (
    SELECT DISTINCT ON (invoice_key) invoice_key, source_system, invoice_no,
           timestamptz 'epoch' + invoice_ts * interval '1 millisecond' AS invoice_ts,
           date_key, customer_key, customer_id, country, country_code, region, is_return, line_no
    FROM staged_sales ORDER BY invoice_key, line_no, invoice_ts, event_id
) AS s
LEFT JOIN warehouse.dim_invoice AS d USING (invoice_key)
WHERE d.invoice_key IS NULL OR s.line_no < d.header_line_no
ORDER BY s.invoice_key
ON CONFLICT (invoice_key) DO UPDATE SET invoice_ts = excluded.invoice_ts, date_key = excluded.date_key,
    customer_key = excluded.customer_key, customer_id = excluded.customer_id, country = excluded.country,
    country_code = excluded.country_code, region = excluded.region, header_line_no = excluded.header_line_no
WHERE excluded.header_line_no < t.header_line_no
"""

# A stub that stood for a version which was withdrawn meanwhile: its facts have moved on.
_ORPHANS = """
DELETE FROM warehouse.dim_customers AS d USING staged_sales AS s
WHERE s.revision > 0 AND d.customer_id = s.customer_id AND d.recorded_at IS NULL AND NOT EXISTS
    (SELECT FROM warehouse.fact_sales AS f
     WHERE f.customer_id = d.customer_id AND f.customer_key = d.customer_key);
DELETE FROM warehouse.dim_products AS d USING staged_sales AS s
WHERE s.revision > 0 AND d.stock_code = s.stock_code AND d.recorded_at IS NULL AND NOT EXISTS
    (SELECT FROM warehouse.fact_sales AS f
     WHERE f.stock_code = d.stock_code AND f.product_key = d.product_key)
"""

UPSERT_SALES = ";".join((_SUPERSEDED, _FACTS, _CUSTOMERS, _PRODUCTS, _INVOICES, _ORPHANS))

# Quarantine ----------------------------------------------------------------------------------------
# The same item again is a duplicate. An accepted event resolves all that was refused of it before; what is
# refused after it (ID_CONFLICT) stays open. Items of one event may lie in several partitions, so both
# orders of arrival must end alike: a later OPEN looks for a resolution, and a RESOLVED for open items.
# A replay that was refused again (RETRIED) is an attempt at its item, and no item.

_ITEMS = (
    _insert("ops.quarantine", QUARANTINE, distinct_on="s.item_id")
    + """ FROM staged_quarantine AS s WHERE s.state <> 'RETRIED'
ORDER BY s.item_id, (s.state = 'RESOLVED'), s.quarantine_offset
ON CONFLICT (item_id) DO NOTHING
"""
)

_ATTEMPTS = """
INSERT INTO ops.quarantine_attempts AS t (item_id, load_id, outcome, stage, event_id, reason, detail, at,
    quarantine_partition, quarantine_offset)
SELECT s.item_id, s.load_id, s.state, s.stage, s.event_id, s.reason, s.detail,
    timestamptz 'epoch' + s.quarantined_ts * interval '1 millisecond',
    s.quarantine_partition, s.quarantine_offset
FROM staged_quarantine AS s WHERE s.attempts > 0
ON CONFLICT DO NOTHING
"""

_COUNTED = """
UPDATE ops.quarantine AS t SET attempts = a.attempts, last_reason = a.reason, last_detail = a.detail
FROM (
    SELECT DISTINCT ON (item_id) item_id, reason, detail, count(*) OVER (PARTITION BY item_id) AS attempts
    FROM ops.quarantine_attempts
    WHERE item_id IN (SELECT item_id FROM staged_quarantine WHERE attempts > 0)
    ORDER BY item_id, quarantine_offset DESC
) AS a
WHERE t.item_id = a.item_id
"""

_RESOLVED_BY_ID = """
UPDATE ops.quarantine AS t
SET state = 'RESOLVED', resolution = coalesce(s.detail, s.reason), resolved_event_id = s.event_id,
    resolved_ts = timestamptz 'epoch' + s.quarantined_ts * interval '1 millisecond'
FROM staged_quarantine AS s
WHERE s.state = 'RESOLVED' AND t.item_id = s.item_id AND t.resolved_ts IS NULL
"""

_RESOLVED_BY_EVENT = """
UPDATE ops.quarantine AS t
SET state = 'RESOLVED', resolution = r.resolution, resolved_ts = r.resolved_ts
FROM ops.quarantine AS r
WHERE r.state = 'RESOLVED' AND r.resolved_event_id = t.event_id
  AND t.state = 'OPEN' AND t.reason <> 'ID_CONFLICT'
  AND t.event_id IN (SELECT event_id FROM staged_quarantine WHERE event_id IS NOT NULL)
"""

UPSERT_QUARANTINE = ";".join((_ITEMS, _RESOLVED_BY_ID, _RESOLVED_BY_EVENT, _ATTEMPTS, _COUNTED))
