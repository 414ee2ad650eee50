-- The shop's own database (`shop`): the source of change data capture, written by the API's v1.
--
-- Personal fields hold ciphertext (schemas/personal.py); the keys are in `ops`, which is not captured.
-- REPLICA IDENTITY FULL puts the whole row before a change into the change event.

CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE SCHEMA IF NOT EXISTS shop;

-- Whoever writes, version and updated_at tell the truth, so that optimistic locking holds for plain SQL too.
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;

CREATE TABLE shop.customers (
    customer_id text COLLATE "C" PRIMARY KEY CHECK (customer_id <> ''),
    name        text,
    email       text,
    email_index text COLLATE "C",
    phone       text,
    address     text,
    country     text,
    segment     text,
    tier        text,
    valid_from  timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX customers_email_index ON shop.customers (email_index) WHERE email_index IS NOT NULL;
COMMENT ON COLUMN shop.customers.email IS 'Ciphertext under the customer''s key, as are name, phone and address';
COMMENT ON COLUMN shop.customers.email_index IS 'Keyed hash of the e-mail address, for looking it up';
COMMENT ON COLUMN shop.customers.valid_from IS 'Since when the row is true in the world; null: since it was committed';

CREATE TABLE shop.products (
    stock_code  text COLLATE "C" PRIMARY KEY CHECK (stock_code <> ''),
    description text,
    category    text,
    list_price  numeric(20, 6) CHECK (list_price >= 0),
    currency    text COLLATE "C" CHECK (currency ~ '^[A-Z]{3}$'),
    supplier    text,
    valid_from  timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (list_price IS NULL OR currency IS NOT NULL)
);
CREATE INDEX products_category ON shop.products (category, stock_code);

CREATE TABLE shop.stock_levels (
    stock_code    text COLLATE "C" NOT NULL REFERENCES shop.products ON DELETE CASCADE,
    location      text COLLATE "C" NOT NULL CHECK (location <> ''),
    quantity      integer          NOT NULL,
    reorder_level integer          NOT NULL DEFAULT 0 CHECK (reorder_level >= 0),
    version       bigint           NOT NULL DEFAULT 1,
    updated_at    timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stock_code, location)
);
COMMENT ON COLUMN shop.stock_levels.quantity IS 'Pieces at hand; below zero when more was sold than counted';

CREATE TABLE shop.price_list (
    stock_code text COLLATE "C" NOT NULL REFERENCES shop.products ON DELETE CASCADE,
    currency   text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    price      numeric(20, 6)   NOT NULL CHECK (price >= 0),
    valid_from timestamptz      NOT NULL,
    valid_to   timestamptz      CHECK (valid_to > valid_from),
    version    bigint           NOT NULL DEFAULT 1,
    updated_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stock_code, currency, valid_from),
    CONSTRAINT price_list_no_overlap EXCLUDE USING gist
        (stock_code WITH =, currency WITH =, tstzrange(valid_from, valid_to) WITH &&)
);
COMMENT ON COLUMN shop.price_list.valid_to IS 'Exclusive; null: until further notice';

CREATE TRIGGER touch BEFORE UPDATE ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER touch BEFORE UPDATE ON shop.products FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER touch BEFORE UPDATE ON shop.stock_levels FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER touch BEFORE UPDATE ON shop.price_list FOR EACH ROW EXECUTE FUNCTION shop.touch();

ALTER TABLE shop.customers REPLICA IDENTITY FULL;
ALTER TABLE shop.products REPLICA IDENTITY FULL;
ALTER TABLE shop.stock_levels REPLICA IDENTITY FULL;
ALTER TABLE shop.price_list REPLICA IDENTITY FULL;

-- The connector writes here every few seconds. Without it, an idle shop beside a busy warehouse would never
-- confirm a position, and the slot would keep all of the warehouse's write-ahead log.
CREATE TABLE ops.cdc_heartbeat (
    id integer     PRIMARY KEY CHECK (id = 1),
    at timestamptz NOT NULL
);

CREATE PUBLICATION tillstream_cdc
    FOR TABLE shop.customers, shop.products, shop.stock_levels, shop.price_list, ops.cdc_heartbeat;
