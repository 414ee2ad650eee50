"""Quarantine as a place that people work in: look at what was refused, mend it, replay it through ingest."""
