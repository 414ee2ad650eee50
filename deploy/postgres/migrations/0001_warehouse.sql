-- The star schema (`warehouse`) and the bookkeeping of its writers (`ops`).
--
-- Ids and codes are compared, never sorted for people: COLLATE "C" makes their indexes cheap.
-- Times are UTC; money is numeric with six places, as the events carry it in micro-units.

CREATE SCHEMA IF NOT EXISTS warehouse;
CREATE SCHEMA IF NOT EXISTS ops;

-- Facts: one row per accepted invoice line ---------------------------------------------------------

CREATE TABLE warehouse.fact_sales (
    event_id            text COLLATE "C" NOT NULL,
    source_system       text COLLATE "C" NOT NULL,
    invoice_no          text COLLATE "C" NOT NULL,
    line_no             integer          NOT NULL,
    stock_code          text COLLATE "C" NOT NULL,
    description         text COLLATE "C",
    customer_id         text COLLATE "C",
    sale_key            bigint           NOT NULL,
    customer_key        bigint           NOT NULL,
    product_key         bigint           NOT NULL,
    date_key            integer          NOT NULL,
    invoice_key         bigint           NOT NULL,
    quantity            integer          NOT NULL,
    unit_price          numeric(20, 6)   NOT NULL,
    currency            text COLLATE "C" NOT NULL,
    total_amount        numeric(20, 6)   NOT NULL,
    amount_gbp          numeric(20, 6),
    country             text COLLATE "C",
    country_code        text COLLATE "C",
    region              text COLLATE "C",
    is_return           boolean          NOT NULL,
    is_product          boolean          NOT NULL,
    quality_score       double precision NOT NULL,
    warnings            text[]           NOT NULL DEFAULT '{}',
    invoice_ts          timestamptz      NOT NULL,
    recorded_at         timestamptz      NOT NULL,
    revision            integer          NOT NULL,
    content_hash        text COLLATE "C" NOT NULL,
    load_id             text COLLATE "C",
    ingest_ts           timestamptz      NOT NULL,
    validated_ts        timestamptz      NOT NULL,
    raw_partition       integer          NOT NULL,
    raw_offset          bigint           NOT NULL,
    validated_partition integer          NOT NULL,
    validated_offset    bigint           NOT NULL,
    enriched_partition  integer          NOT NULL,
    enriched_offset     bigint           NOT NULL,
    loaded_at           timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (date_key, event_id)
) PARTITION BY RANGE (date_key);

COMMENT ON TABLE warehouse.fact_sales IS 'One row per accepted invoice line; a higher revision replaces a lower one.';
COMMENT ON COLUMN warehouse.fact_sales.date_key IS 'yyyymmdd of invoice_ts in UTC';
COMMENT ON COLUMN warehouse.fact_sales.amount_gbp IS 'At the dated rate; null while there is none';
COMMENT ON COLUMN warehouse.fact_sales.recorded_at IS 'When this revision was made; the same in every store';
COMMENT ON COLUMN warehouse.fact_sales.loaded_at IS 'When this row was written here';

CREATE INDEX fact_sales_event_id ON warehouse.fact_sales (event_id);
CREATE INDEX fact_sales_invoice ON warehouse.fact_sales (source_system, invoice_no);
CREATE INDEX fact_sales_invoice_ts ON warehouse.fact_sales (invoice_ts, event_id);
CREATE INDEX fact_sales_country ON warehouse.fact_sales (country);
CREATE INDEX fact_sales_load_id ON warehouse.fact_sales (load_id);

-- Makes the monthly partition of a date_key, if it is not there. Called at the start of the transaction
-- that writes the batch, so that the partition and its first rows appear together.
-- CREATE TABLE ... PARTITION OF would lock the parent against all readers; ATTACH does not.
-- The advisory lock lets one of several writers create, the others wait and then find it.
CREATE FUNCTION warehouse.ensure_fact_partition(p_date_key integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    first_day date := to_date((p_date_key / 100)::text || '01', 'YYYYMMDD');
    lower_key integer := (p_date_key / 100) * 100;
    upper_key integer := to_char(first_day + interval '1 month', 'YYYYMM')::integer * 100;
    part      text := 'fact_sales_' || to_char(first_day, 'YYYYMM');
BEGIN
    IF to_regclass('warehouse.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('warehouse.fact_sales partitions'));
    IF to_regclass('warehouse.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE warehouse.%I (LIKE warehouse.fact_sales INCLUDING DEFAULTS INCLUDING INDEXES)', part);
    EXECUTE format('ALTER TABLE warehouse.fact_sales ATTACH PARTITION warehouse.%I FOR VALUES FROM (%s) TO (%s)',
                   part, lower_key, upper_key);
END
$$;

-- Dimensions ---------------------------------------------------------------------------------------
-- The first version of a natural key starts at 1900-01-01 and an inferred member has that same key, so
-- that its arrival fills the row in and re-keys no fact. Ranges are half-open; expiry_date is null while
-- the version is current. `inferred_from` is the invoice time of the sale an inferred row was taken from:
-- the earliest sale wins, whatever the order of arrival.

CREATE TABLE warehouse.dim_customers (
    customer_key   bigint PRIMARY KEY,
    customer_id    text COLLATE "C",
    name           text,
    email          text,
    country        text COLLATE "C",
    country_code   text COLLATE "C",
    region         text COLLATE "C",
    segment        text,
    value_tier     text,
    effective_date timestamptz NOT NULL DEFAULT '1900-01-01 00:00:00+00',
    expiry_date    timestamptz,
    is_current     boolean     NOT NULL DEFAULT true,
    version_number integer     NOT NULL DEFAULT 1,
    is_inferred    boolean     NOT NULL DEFAULT true,
    inferred_from  timestamptz,
    UNIQUE (customer_id, effective_date)
);
CREATE INDEX dim_customers_current ON warehouse.dim_customers (customer_id) WHERE is_current;

CREATE TABLE warehouse.dim_products (
    product_key    bigint PRIMARY KEY,
    stock_code     text COLLATE "C",
    description    text COLLATE "C",
    category       text,
    list_price     numeric(20, 6),
    effective_date timestamptz NOT NULL DEFAULT '1900-01-01 00:00:00+00',
    expiry_date    timestamptz,
    is_current     boolean     NOT NULL DEFAULT true,
    version_number integer     NOT NULL DEFAULT 1,
    is_inferred    boolean     NOT NULL DEFAULT true,
    is_product     boolean     NOT NULL,
    inferred_from  timestamptz,
    UNIQUE (stock_code, effective_date)
);
CREATE INDEX dim_products_current ON warehouse.dim_products (stock_code) WHERE is_current;

-- Special members (Kimball): facts without a customer point at the guest, never at null.
INSERT INTO warehouse.dim_customers (customer_key, customer_id, name, is_inferred) VALUES (-1, NULL, 'Guest', false);
INSERT INTO warehouse.dim_products (product_key, stock_code, description, is_inferred, is_product)
VALUES (-1, NULL, 'Unknown', false, false);

CREATE TABLE warehouse.dim_date (
    date_key    integer PRIMARY KEY,
    full_date   date    NOT NULL UNIQUE,
    year        integer NOT NULL,
    quarter     integer NOT NULL,
    month       integer NOT NULL,
    month_name  text    NOT NULL,
    day         integer NOT NULL,
    iso_year    integer NOT NULL,
    iso_week    integer NOT NULL,
    iso_weekday integer NOT NULL, -- 1 is Monday
    day_name    text    NOT NULL,
    is_weekend  boolean NOT NULL
);

-- Adds the calendar rows of these date_keys that are not there yet.
CREATE FUNCTION warehouse.ensure_dates(p_date_keys integer[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO warehouse.dim_date
    SELECT k, d,
           extract(year FROM d)::integer, extract(quarter FROM d)::integer, extract(month FROM d)::integer,
           to_char(d, 'FMMonth'), extract(day FROM d)::integer,
           extract(isoyear FROM d)::integer, extract(week FROM d)::integer, extract(isodow FROM d)::integer,
           to_char(d, 'FMDay'), extract(isodow FROM d) >= 6
    FROM (SELECT DISTINCT k, to_date(k::text, 'YYYYMMDD') AS d FROM unnest(p_date_keys) AS k) AS days
    ORDER BY k
    ON CONFLICT DO NOTHING
$$;

-- The header of an invoice, taken from its lowest line seen so far.
CREATE TABLE warehouse.dim_invoice (
    invoice_key   bigint PRIMARY KEY,
    source_system text COLLATE "C" NOT NULL,
    invoice_no    text COLLATE "C" NOT NULL,
    invoice_ts    timestamptz      NOT NULL,
    date_key      integer          NOT NULL,
    customer_key  bigint           NOT NULL,
    customer_id   text COLLATE "C",
    country       text COLLATE "C",
    country_code  text COLLATE "C",
    region        text COLLATE "C",
    is_return     boolean          NOT NULL,
    header_line_no integer         NOT NULL
);
CREATE INDEX dim_invoice_number ON warehouse.dim_invoice (invoice_no, invoice_ts DESC);

-- Bookkeeping --------------------------------------------------------------------------------------

-- The position of each consumer, moved by compare-and-set in the transaction that writes its batch.
-- next_offset is the next record to read; topic_id tells a topic from a later one of the same name.
CREATE TABLE ops.stream_offsets (
    consumer    text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    partition   integer          NOT NULL,
    topic_id    text COLLATE "C" NOT NULL,
    next_offset bigint           NOT NULL,
    updated_at  timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, topic, partition)
);

-- Refused items with their bytes. raw_*: where the item was read from, null where ingest itself refused it.
-- quarantine_*: the record of sales.quarantine.v1 that this row was made from.
CREATE TABLE ops.quarantine (
    item_id              text COLLATE "C" PRIMARY KEY,
    state                text COLLATE "C" NOT NULL CHECK (state IN ('OPEN', 'RESOLVED')),
    stage                text COLLATE "C" NOT NULL,
    event_id             text COLLATE "C",
    reason               text COLLATE "C" NOT NULL,
    rules                text[]           NOT NULL DEFAULT '{}',
    detail               text,
    source_system        text COLLATE "C",
    load_id              text COLLATE "C",
    ordinal              bigint,
    payload              bytea            NOT NULL,
    payload_format       text COLLATE "C" NOT NULL,
    schema_id            integer,
    raw_topic_id         text COLLATE "C",
    raw_partition        integer,
    raw_offset           bigint,
    content_hash         text COLLATE "C",
    amount               numeric(26, 6),
    currency             text COLLATE "C",
    traceparent          text COLLATE "C",
    ingest_ts            timestamptz      NOT NULL,
    quarantined_ts       timestamptz      NOT NULL,
    attempts             integer          NOT NULL DEFAULT 0,
    resolved_ts          timestamptz,
    resolution           text,
    quarantine_partition integer          NOT NULL,
    quarantine_offset    bigint           NOT NULL,
    loaded_at            timestamptz      NOT NULL DEFAULT clock_timestamp()
);
-- Hash: what is refused may carry an id of any length, and a B-tree entry is limited to 2,704 bytes.
CREATE INDEX quarantine_event_id ON ops.quarantine USING hash (event_id);
CREATE INDEX quarantine_load_id ON ops.quarantine (load_id);
CREATE INDEX quarantine_open ON ops.quarantine (reason, quarantined_ts) WHERE state = 'OPEN';
