"""The Postgres schemas of the platform, as numbered SQL migrations with their runner."""
