from __future__ import annotations

import numpy as np
import pytest

from streamkit.clock import FakeClock
from streamkit.stats import StageStats
from streamkit.telemetry import render_metrics


def observed(stats: StageStats, clock: FakeClock, latencies_ms: list[float]) -> None:
    stats.observe_latency(np.array([clock.now_ms() - ms for ms in latencies_ms], dtype=np.int64))


def test_quantiles_are_within_a_percent_of_the_exact_ones() -> None:
    clock = FakeClock()
    stats = StageStats("s", clock)
    latencies = np.random.default_rng(7).lognormal(5, 1, 20_000).astype(np.int64) + 1
    for part in np.array_split(latencies, 20):
        observed(stats, clock, list(part))
        clock.advance(1.0)
    snapshot = stats.snapshot()
    assert snapshot["p50_ms"] == pytest.approx(np.quantile(latencies, 0.5), rel=0.02)
    assert snapshot["p99_ms"] == pytest.approx(np.quantile(latencies, 0.99), rel=0.02)


def test_latencies_leave_the_window_after_a_minute_and_stay_in_the_histogram() -> None:
    clock = FakeClock()
    stats = StageStats("s", clock)
    observed(stats, clock, [100.0] * 10)
    clock.advance(59.0)
    observed(stats, clock, [3.0])
    assert stats.snapshot()["p99_ms"] == pytest.approx(100, rel=0.02)
    clock.advance(2.0)
    assert stats.snapshot()["p99_ms"] == pytest.approx(3, rel=0.02)
    clock.advance(60.0)
    assert stats.snapshot()["p99_ms"] is None
    text = render_metrics(stats.registry).decode()
    assert 'tillstream_latency_seconds_bucket{le="0.1",stage="s"} 11.0' in text
    assert 'tillstream_latency_seconds_bucket{le="0.05",stage="s"} 1.0' in text
    assert 'tillstream_latency_seconds_count{stage="s"} 11.0' in text


def test_a_producer_with_a_clock_ahead_makes_no_negative_latency() -> None:
    clock = FakeClock()
    stats = StageStats("s", clock)
    observed(stats, clock, [-5000.0, 40.0])
    assert 'tillstream_latency_seconds_sum{stage="s"} 0.04' in render_metrics(stats.registry).decode()


def test_counts_and_lag_are_told_alike_by_stats_and_metrics() -> None:
    stats = StageStats("s", FakeClock())
    assert stats.snapshot() == {
        "name": "s",
        "state": "starting",
        "lag": None,
        "lag_seconds": None,
        "p50_ms": None,
        "p99_ms": None,
        "records_in": 0,
        "records_out": 0,
    }
    stats.add_in(5)
    stats.add_out(4)
    stats.set_lag(7, 1.5)
    stats.ready()
    snapshot = stats.snapshot()
    assert (snapshot["records_in"], snapshot["records_out"]) == (5, 4)
    assert (snapshot["state"], snapshot["lag"], snapshot["lag_seconds"]) == ("ready", 7, 1.5)
    text = render_metrics(stats.registry).decode()
    assert 'tillstream_records_total{direction="in",stage="s"} 5.0' in text
    assert 'tillstream_records_total{direction="out",stage="s"} 4.0' in text
    assert 'tillstream_lag_records{stage="s"} 7.0' in text


def test_readiness_gives_the_reason() -> None:
    stats = StageStats("s", FakeClock())
    assert stats.readiness() == (False, "starting")
    stats.ready()
    assert stats.readiness() == (True, None)
    stats.degraded("registry down")
    assert stats.readiness() == (False, "registry down")
