"""Contracts between the services: Avro schemas, topics, identity, quality rules and the batch codec.

This package imports none of the other packages of the project.
"""
