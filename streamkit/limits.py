"""How much goes into one batch, and how long a runner waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """A batch ends at the first bound it reaches: small batches at once when idle, large ones when behind."""

    max_records: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    linger_s: float = 0.005
    # Bounds how late a stop is noticed, and nothing else.
    poll_timeout_s: float = 0.2
    retry_first_s: float = 0.1
    retry_max_s: float = 5.0
    # The same batch that aborts this often in a row is no passing trouble: stop and say so.
    max_attempts: int = 10
    report_every_s: float = 1.0

    def backoff_s(self, attempt: int, first_s: float | None = None) -> float:
        """Wait before try number `attempt` (from 1): doubles up to `retry_max_s`."""
        first = self.retry_first_s if first_s is None else first_s
        return min(first * 2.0 ** min(attempt - 1, 20), max(self.retry_max_s, first))
