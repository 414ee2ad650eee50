-- What the tables' quality was, measured again and again (percent; 100 is best).
CREATE TABLE ops.data_quality_metrics (
    metric_id       bigserial PRIMARY KEY,
    table_name      varchar(100) NOT NULL,
    column_name     varchar(100),
    metric_type     varchar(50)  NOT NULL, -- completeness, accuracy, validity, consistency, uniqueness, timeliness
    metric_value    numeric(5, 2) NOT NULL,
    threshold_value numeric(5, 2) NOT NULL,
    status          varchar(20)  NOT NULL CHECK (status IN ('PASS', 'WARNING', 'FAIL')),
    check_timestamp timestamptz  NOT NULL DEFAULT clock_timestamp(),
    check_details   jsonb        NOT NULL DEFAULT '{}'
);
CREATE INDEX data_quality_metrics_time ON ops.data_quality_metrics (check_timestamp);
CREATE INDEX idx_quality_metrics_details ON ops.data_quality_metrics USING gin (check_details);
