"""Consumer lag of every group, in records and in seconds, and the platform's heartbeat."""
