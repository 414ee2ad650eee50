"""Micro: ingest, quality and enrichment in one small process without Kafka, for the tests of producers.

The pipelines, rules, schemas and runner are those of the platform; the broker, the registry and the store of
event ids are the ones in memory. Nothing is kept beyond the process.
"""
