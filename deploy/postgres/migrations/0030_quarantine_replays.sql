-- Quarantine that people work in: what a replay needs beside the bytes, and every attempt at an item.

-- context: what the door knew beside the bytes (columns of the file, line number, defaults of the request).
-- last_*: of the latest attempt. resolved_event_id: the event whose acceptance resolved the item.
ALTER TABLE ops.quarantine
    ADD COLUMN context           text,
    ADD COLUMN last_reason       text COLLATE "C",
    ADD COLUMN last_detail       text,
    ADD COLUMN resolved_event_id text COLLATE "C";
UPDATE ops.quarantine SET resolved_event_id = event_id WHERE state = 'RESOLVED';
CREATE INDEX quarantine_resolved_event ON ops.quarantine USING hash (resolved_event_id);

-- One row for each record of sales.quarantine.v1 that tells how a replay of an item ended.
CREATE TABLE ops.quarantine_attempts (
    item_id              text COLLATE "C" NOT NULL,
    load_id              text COLLATE "C", -- the replay's
    outcome              text COLLATE "C" NOT NULL CHECK (outcome IN ('RESOLVED', 'RETRIED')),
    stage                text COLLATE "C" NOT NULL,
    event_id             text COLLATE "C",
    reason               text COLLATE "C" NOT NULL,
    detail               text,
    at                   timestamptz      NOT NULL,
    quarantine_partition integer          NOT NULL,
    quarantine_offset    bigint           NOT NULL,
    PRIMARY KEY (quarantine_partition, quarantine_offset)
);
CREATE INDEX quarantine_attempts_item ON ops.quarantine_attempts (item_id);
CREATE INDEX quarantine_attempts_load ON ops.quarantine_attempts (load_id);

-- What people asked to be replayed. Written by the query API; the outcome of each item is in the attempts.
CREATE TABLE ops.quarantine_replays (
    replay_id    text COLLATE "C" PRIMARY KEY,
    condition    text             NOT NULL,
    assignments  jsonb            NOT NULL,
    requested_by text             NOT NULL,
    requested_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    state        text COLLATE "C" NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'sent', 'failed')),
    matched      bigint           NOT NULL DEFAULT 0,
    sent         bigint           NOT NULL DEFAULT 0,
    skipped      bigint           NOT NULL DEFAULT 0,
    error        text,
    finished_at  timestamptz
);
