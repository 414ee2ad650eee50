"""Absolute totals of sales by window, exactly once, on a compacted topic."""
