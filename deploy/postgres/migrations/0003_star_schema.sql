-- Indexes of the fact table, the fiscal calendar with holidays, and what is computed ahead of questions.
--
-- Partitions, calendar rows, refreshes and the check of keys are the work of gold_writer.maintenance.

-- Facts --------------------------------------------------------------------------------------------
-- Every index here is paid for by the writer; README of gold_writer.maintenance says what they cost together.

-- Sales of a product by country, answered from the index alone; and the facts of a product's version.
CREATE INDEX fact_sales_product_country ON warehouse.fact_sales (product_key, country) INCLUDE (total_amount, quantity);
-- A customer's purchases over time; and the facts of a customer's version.
CREATE INDEX fact_sales_customer_date ON warehouse.fact_sales (customer_key, date_key);
CREATE INDEX fact_sales_high_value ON warehouse.fact_sales (customer_key, product_key) WHERE total_amount > 1000;
-- Pages of one product's sales, in the order in which they are listed.
CREATE INDEX fact_sales_stock_code ON warehouse.fact_sales (stock_code, invoice_ts, event_id);
-- Rows arrive in the order of these times, so a range per block says enough, and writing it costs next to nothing.
CREATE INDEX fact_sales_time_series ON warehouse.fact_sales USING brin (recorded_at, loaded_at) WITH (pages_per_range = 32, autosummarize = on);

-- Makes the partitions of the month of `p_from` and of the `p_months` after it; how many are new.
CREATE FUNCTION warehouse.ensure_fact_partitions(p_from date, p_months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    month date;
    made  integer := 0;
BEGIN
    FOR month IN SELECT generate_series(date_trunc('month', p_from), date_trunc('month', p_from) + make_interval(months => p_months), interval '1 month')::date LOOP
        IF to_regclass('warehouse.fact_sales_' || to_char(month, 'YYYYMM')) IS NULL THEN
            PERFORM warehouse.ensure_fact_partition(to_char(month, 'YYYYMMDD')::integer);
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END
$$;

-- Keys ---------------------------------------------------------------------------------------------
-- Facts and dimension versions come on different topics, so a fact may be there before the version that it
-- points at: a FOREIGN KEY would stop the writer over what mends itself within a second, and cost it a look-up
-- for each key of each row. They are checked in sets instead, for rows that had time to mend.

CREATE FUNCTION warehouse.broken_keys(p_older_than interval)
RETURNS TABLE (reference text, broken bigint, example text)
LANGUAGE sql STABLE AS $$
    WITH keys AS (
        SELECT customer_key, product_key, invoice_key, date_key, min(event_id) AS event_id, count(*) AS facts
        FROM warehouse.fact_sales WHERE loaded_at < clock_timestamp() - p_older_than
        GROUP BY 1, 2, 3, 4
    ), missing AS (
        SELECT 'customer_key' AS reference, facts, event_id FROM keys
        WHERE NOT EXISTS (SELECT FROM warehouse.dim_customers AS d WHERE d.customer_key = keys.customer_key)
        UNION ALL
        SELECT 'product_key', facts, event_id FROM keys
        WHERE NOT EXISTS (SELECT FROM warehouse.dim_products AS d WHERE d.product_key = keys.product_key)
        UNION ALL
        SELECT 'invoice_key', facts, event_id FROM keys
        WHERE NOT EXISTS (SELECT FROM warehouse.dim_invoice AS d WHERE d.invoice_key = keys.invoice_key)
        UNION ALL
        SELECT 'date_key', facts, event_id FROM keys
        WHERE NOT EXISTS (SELECT FROM warehouse.dim_date AS d WHERE d.date_key = keys.date_key)
    )
    SELECT r.reference, coalesce(sum(m.facts), 0)::bigint, min(m.event_id)
    FROM unnest(ARRAY['customer_key', 'product_key', 'invoice_key', 'date_key']) AS r (reference)
    LEFT JOIN missing AS m USING (reference)
    GROUP BY r.reference ORDER BY r.reference
$$;
COMMENT ON FUNCTION warehouse.broken_keys IS 'Facts whose dimension row is missing, by key, among those loaded longer ago than this';

-- Calendar -----------------------------------------------------------------------------------------
-- The writer adds a day the moment a sale needs it; maintenance fills in what a library must tell.

ALTER TABLE warehouse.dim_date
    ADD COLUMN fiscal_year integer,
    ADD COLUMN fiscal_quarter integer CHECK (fiscal_quarter BETWEEN 1 AND 4),
    ADD COLUMN fiscal_month integer CHECK (fiscal_month BETWEEN 1 AND 12),
    ADD COLUMN is_holiday boolean,
    ADD COLUMN holidays jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN warehouse.dim_date.fiscal_year IS 'Named after the calendar year in which it ends; null until the calendar job has seen the day';
COMMENT ON COLUMN warehouse.dim_date.is_holiday IS 'In the home country';
COMMENT ON COLUMN warehouse.dim_date.holidays IS 'ISO 3166-1 alpha-2 of a country -> the name of its holiday';
CREATE INDEX dim_date_holidays ON warehouse.dim_date USING gin (holidays);
CREATE INDEX dim_date_fiscal ON warehouse.dim_date (fiscal_year, fiscal_quarter);

-- Materialised views -------------------------------------------------------------------------------
-- Amounts in GBP at the dated rate. Revenue is net of returns; gross revenue and orders leave cancellations out.
-- A unique index each, so that they are refreshed without locking readers out.

CREATE MATERIALIZED VIEW warehouse.sales_by_day AS
SELECT f.date_key, d.full_date, d.fiscal_year, d.fiscal_quarter, d.is_holiday, f.country, f.country_code, f.region,
       coalesce(sum(f.amount_gbp), 0) AS revenue,
       coalesce(sum(f.amount_gbp) FILTER (WHERE NOT f.is_return), 0) AS gross_revenue,
       coalesce(sum(f.amount_gbp) FILTER (WHERE f.is_return), 0) AS returns,
       count(DISTINCT f.invoice_key) FILTER (WHERE NOT f.is_return) AS orders,
       count(*) AS lines, sum(f.quantity) AS units, count(DISTINCT f.customer_id) AS customers
FROM warehouse.fact_sales AS f JOIN warehouse.dim_date AS d USING (date_key)
GROUP BY f.date_key, d.full_date, d.fiscal_year, d.fiscal_quarter, d.is_holiday, f.country, f.country_code, f.region;
CREATE UNIQUE INDEX sales_by_day_key ON warehouse.sales_by_day (date_key, country, country_code, region) NULLS NOT DISTINCT;

CREATE MATERIALIZED VIEW warehouse.sales_by_product AS
SELECT f.stock_code, f.is_product,
       coalesce(sum(f.amount_gbp), 0) AS revenue,
       coalesce(sum(f.amount_gbp) FILTER (WHERE NOT f.is_return), 0) AS gross_revenue,
       coalesce(sum(f.amount_gbp) FILTER (WHERE f.is_return), 0) AS returns,
       count(DISTINCT f.invoice_key) FILTER (WHERE NOT f.is_return) AS orders,
       count(*) AS lines, sum(f.quantity) AS units, count(DISTINCT f.customer_id) AS customers,
       min(f.invoice_ts) AS first_sale, max(f.invoice_ts) AS last_sale
FROM warehouse.fact_sales AS f GROUP BY f.stock_code, f.is_product;
CREATE UNIQUE INDEX sales_by_product_key ON warehouse.sales_by_product (stock_code, is_product);
CREATE INDEX sales_by_product_revenue ON warehouse.sales_by_product (revenue DESC);

CREATE MATERIALIZED VIEW warehouse.sales_by_customer AS
SELECT f.customer_id,
       coalesce(sum(f.amount_gbp), 0) AS revenue,
       coalesce(sum(f.amount_gbp) FILTER (WHERE NOT f.is_return), 0) AS gross_revenue,
       coalesce(sum(f.amount_gbp) FILTER (WHERE f.is_return), 0) AS returns,
       count(DISTINCT f.invoice_key) FILTER (WHERE NOT f.is_return) AS orders,
       count(*) AS lines, sum(f.quantity) AS units,
       min(f.invoice_ts) AS first_sale, max(f.invoice_ts) AS last_sale
FROM warehouse.fact_sales AS f WHERE f.customer_id IS NOT NULL GROUP BY f.customer_id;
CREATE UNIQUE INDEX sales_by_customer_key ON warehouse.sales_by_customer (customer_id);
CREATE INDEX sales_by_customer_revenue ON warehouse.sales_by_customer (revenue DESC);
