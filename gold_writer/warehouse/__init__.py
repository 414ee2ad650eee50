"""Kafka to the star schema in Postgres: COPY, upsert and offsets in one transaction per batch."""
