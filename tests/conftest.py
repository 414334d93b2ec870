"""Fixtures that every test may use."""

pytest_plugins = ["databases", "redis_server"]
