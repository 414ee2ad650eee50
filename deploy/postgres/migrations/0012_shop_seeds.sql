-- What was sown into the shop's tables (deploy/shop), so that nothing deleted afterwards comes back.
CREATE TABLE ops.shop_seeds (
    name      text COLLATE "C" PRIMARY KEY,
    seeded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
