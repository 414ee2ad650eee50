"""What watches the platform from outside: the lag exporter, dashboards, alerts."""
