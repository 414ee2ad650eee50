"""Every metric of change data capture, declared once."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from deploy.connect.reconcile import Observed
from deploy.connect.source import Slot

# Connect's states of a connector or a task.
STATES = ("RUNNING", "FAILED", "PAUSED", "STOPPED", "RESTARTING", "UNASSIGNED")


class CdcMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        # 1 for the state it is in, 0 for the others; nothing while Connect does not answer.
        self.connector_state = Gauge(
            "tillstream_connect_connector_state",
            "State of a connector.",
            ["connector", "state"],
            registry=registry,
        )
        self.task_state = Gauge(
            "tillstream_connect_task_state",
            "State of a connector's task.",
            ["connector", "task", "state"],
            registry=registry,
        )
        # Restarts that were asked for because something had failed.
        self.restarts = Counter(
            "tillstream_connect_restarts", "Restarts after a failure.", ["connector"], registry=registry
        )
        # Whether a connector reads from the slot now.
        self.slot_active = Gauge("tillstream_cdc_slot_active", "1 while the slot is read.", registry=registry)
        self.slot_lost = Gauge(
            "tillstream_cdc_slot_lost",
            "1 when the server gave the slot up; changes are missing.",
            registry=registry,
        )
        self.slot_lag = Gauge(
            "tillstream_cdc_slot_lag_bytes", "Log written and not yet confirmed.", registry=registry
        )
        self.slot_retained = Gauge(
            "tillstream_cdc_slot_retained_bytes", "Log kept on disk for the slot.", registry=registry
        )
        self.slot_safe = Gauge(
            "tillstream_cdc_slot_safe_bytes",
            "Log that may be written before the slot is given up.",
            registry=registry,
        )
        # The heartbeat is written through the connector: an old one means that it stands still.
        self.heartbeat_age = Gauge(
            "tillstream_cdc_heartbeat_age_seconds", "Age of the last heartbeat.", registry=registry
        )

    def observed(self, connectors: Mapping[str, Observed]) -> None:
        """What Connect says; of a connector or task that is gone nothing is told any longer."""
        self.connector_state.clear()
        self.task_state.clear()
        for name, found in connectors.items():
            for state in STATES:
                self.connector_state.labels(name, state).set(found.connector.state == state)
                for task, part in enumerate(found.tasks):
                    self.task_state.labels(name, str(task), state).set(part.state == state)

    def slot(self, found: Slot | None) -> None:
        self.slot_active.set(found is not None and found.active)
        self.slot_lost.set(found is not None and found.lost)
        for gauge, value in (
            (self.slot_lag, found.lag_bytes if found else None),
            (self.slot_retained, found.retained_bytes if found else None),
            (self.slot_safe, found.safe_bytes if found else None),
            (self.heartbeat_age, found.heartbeat_age_s if found else None),
        ):
            gauge.set(math.nan if value is None else value)
