"""The batch-stream runtime that every Python service of the platform shares."""
