"""How the platform is put on machines: local processes, containers, databases, dashboards."""
