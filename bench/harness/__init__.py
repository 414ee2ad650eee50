"""What the workloads share: starting a broker, running a peer, measuring it, comparing its output."""
