"""What container images are built with: the lock of one service, its health check, the Spark jars."""
