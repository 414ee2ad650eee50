"""Measuring the whole platform from outside: load, arrival in every store, CPU of every process."""
