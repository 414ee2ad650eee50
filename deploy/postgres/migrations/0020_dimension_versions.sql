-- Versions of customers and products as `dim.customers.v1` and `dim.products.v1` have them.
--
-- A row with recorded_at null was made from a sale by the warehouse writer itself; the inferred member that
-- the dimension builder publishes for the same key replaces it.

ALTER TABLE warehouse.dim_customers
    ADD COLUMN phone       text,
    ADD COLUMN address     text,
    ADD COLUMN is_deleted  boolean NOT NULL DEFAULT false,
    ADD COLUMN valid_from  timestamptz,
    ADD COLUMN source_lsn  bigint,
    ADD COLUMN deleted_lsn bigint,
    ADD COLUMN restated    text[]  NOT NULL DEFAULT '{}',
    ADD COLUMN recorded_at timestamptz;
COMMENT ON COLUMN warehouse.dim_customers.name IS 'Ciphertext under the customer''s key, as are email, phone and address';
COMMENT ON COLUMN warehouse.dim_customers.valid_from IS 'When the version begins by the source; effective_date is the same but for the first version';

ALTER TABLE warehouse.dim_products
    ADD COLUMN currency    text COLLATE "C",
    ADD COLUMN supplier    text,
    ADD COLUMN is_deleted  boolean NOT NULL DEFAULT false,
    ADD COLUMN valid_from  timestamptz,
    ADD COLUMN source_lsn  bigint,
    ADD COLUMN deleted_lsn bigint,
    ADD COLUMN restated    text[]  NOT NULL DEFAULT '{}',
    ADD COLUMN recorded_at timestamptz;

-- As the builder publishes them: no name in the clear stands where ciphertext is expected.
UPDATE warehouse.dim_customers SET name = NULL, segment = 'GUEST' WHERE customer_key = -1;

-- Versions of a member never overlap. Deferred, because one batch may shorten one and open another. An
-- inferred row is left out: a sale's transaction makes it open at both ends, and it goes when more is known.
CREATE EXTENSION IF NOT EXISTS btree_gist;
ALTER TABLE warehouse.dim_customers ADD CONSTRAINT dim_customers_no_overlap
    EXCLUDE USING gist (customer_id WITH =, tstzrange(effective_date, expiry_date) WITH &&)
    WHERE (NOT is_inferred) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE warehouse.dim_products ADD CONSTRAINT dim_products_no_overlap
    EXCLUDE USING gist (stock_code WITH =, tstzrange(effective_date, expiry_date) WITH &&)
    WHERE (NOT is_inferred) DEFERRABLE INITIALLY DEFERRED;

-- Earlier revisions of facts, kept so that figures as of a time can be had. `superseded_at` is when the
-- next revision was recorded.
CREATE TABLE warehouse.fact_sales_superseded (
    LIKE warehouse.fact_sales INCLUDING DEFAULTS,
    superseded_at timestamptz NOT NULL,
    PRIMARY KEY (date_key, event_id, revision)
);
COMMENT ON TABLE warehouse.fact_sales_superseded IS 'Revisions of facts that a later one replaced; with fact_sales, the facts as of any time.';
CREATE INDEX fact_sales_superseded_at ON warehouse.fact_sales_superseded (superseded_at);

-- A stub may stand for a later version of a member whose first one is there.
ALTER TABLE warehouse.dim_customers DROP CONSTRAINT dim_customers_customer_id_effective_date_key;
ALTER TABLE warehouse.dim_products DROP CONSTRAINT dim_products_stock_code_effective_date_key;
CREATE INDEX dim_customers_versions ON warehouse.dim_customers (customer_id, effective_date);
CREATE INDEX dim_products_versions ON warehouse.dim_products (stock_code, effective_date);

-- A customer's sales, newest first, and a product's.
CREATE INDEX fact_sales_customer ON warehouse.fact_sales (customer_id, invoice_ts);
