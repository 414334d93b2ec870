"""Fixtures that every test may use."""

pytest_plugins = ["databases", "gateway_fixtures", "redis_server"]
