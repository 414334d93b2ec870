"""The gateway's own management operations, under ``/api/pointsman``."""
