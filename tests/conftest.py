"""Fixtures that every test may use."""

pytest_plugins = ["databases", "gateway_fixtures", "local_weights_fixture", "redis_server"]
