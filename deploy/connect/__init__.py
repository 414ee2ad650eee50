"""Kafka Connect's connectors as code: one JSON file each.

`python -m deploy.connect` keeps them registered and running.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
# What the connectors log in with, and their replication slot. Their publication comes with migration 0010.
DATABASE_ROLE = "tillstream_cdc"
SLOT = "tillstream_cdc"
