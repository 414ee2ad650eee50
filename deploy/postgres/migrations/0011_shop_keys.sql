-- Beside the shop, and never captured: the keys of personal data, and the answers kept for repeated requests.

-- Deleting a customer's row here makes every copy of their personal data unreadable, wherever it went.
CREATE TABLE ops.customer_keys (
    customer_id text COLLATE "C" PRIMARY KEY,
    wrapped_key bytea       NOT NULL,
    master_key  text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN ops.customer_keys.wrapped_key IS 'The customer''s key, encrypted under the master key';
COMMENT ON COLUMN ops.customer_keys.master_key IS 'Which master key wrapped it';

-- One row per Idempotency-Key. The answer is written in the transaction that made the change.
CREATE TABLE ops.idempotency_keys (
    scope        text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    request_hash text COLLATE "C" NOT NULL,
    status       integer          NOT NULL,
    headers      jsonb            NOT NULL,
    body         bytea            NOT NULL,
    created_at   timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
);
COMMENT ON COLUMN ops.idempotency_keys.scope IS 'Method and path: one key may serve two resources';
CREATE INDEX idempotency_keys_created_at ON ops.idempotency_keys (created_at);
