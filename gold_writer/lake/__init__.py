"""Spark Structured Streaming from the sales topics to the Delta tables of the lake."""
