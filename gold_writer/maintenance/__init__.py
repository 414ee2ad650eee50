"""Scheduled work on the stores, apart from the hot path."""
