"""Writes accepted sales into the stores that questions are answered from: `lake` (Delta) and `warehouse`."""
