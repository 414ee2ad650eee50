"""Benchmarks: `./tillstream bench NAME`. See README.md of this folder."""
