"""Whatever goes wrong while the configuration is read, the server goes on to look for changes."""

from pathlib import Path

from gateway import RunningGateway, running_gateway, wait_until
from pointsman.storage.accounts import DEFAULT
from raw_client import ask, request


def change_filter(gateway: RunningGateway, rules: object) -> int:
    """Store these as the rules about addresses, whatever they are; gives the revision."""
    settings = gateway.installation.accounts.change_settings
    return gateway.call(settings(DEFAULT, lambda before: {**before, "ipFilter": rules}, 1))


def test_what_can_not_be_read_does_not_end_the_look_for_changes(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {}) as gateway:
        change_filter(gateway, {"mode": 5})
        wait_until(lambda: "configuration not refreshed" in gateway.log_text(), "complaint")
        revision = change_filter(gateway, {})
        assert gateway.call(gateway.installation.await_revision(revision))


def test_a_key_that_is_revoked_ends_also_while_the_rest_can_not_be_read(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {}) as gateway:
        row, secret = gateway.call(gateway.installation.keys.create("one"))
        assert gateway.call(gateway.installation.await_revision(row.revision))
        change_filter(gateway, {"mode": 5})
        gateway.call(gateway.installation.keys.revoke(row.id))
        models = request("GET", "/v1/models", b"", key=secret.reveal())
        wait_until(lambda: ask(gateway.port, models).status == 401, "refusal of the revoked key")
        change_filter(gateway, {})
        assert gateway.call(gateway.installation.await_revision(row.revision + 3))
        assert ask(gateway.port, models).status == 401
