"""The door of the platform: HTTP, webhooks and files in, `sales.raw.v1` and quarantine out."""
