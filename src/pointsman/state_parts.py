"""What a process keeps of calls for later ones, put together for `app`."""

from pointsman.installation import Installation
from pointsman.policy.handoffs import HandoffBook
from pointsman.policy.kept_answers import KeptAnswers
from pointsman.policy.opaque_state import Vault
from pointsman.policy.response_cache import ResponseCache


def open_vault(installation: Installation) -> Vault:
    """Reasoning state that clients don't send back."""
    settings, states = installation.settings.vault, installation.states
    return Vault(
        settings.memory_bytes,
        keep_seconds=settings.retention_hours * 3600.0,
        max_entry_bytes=settings.max_entry_bytes,
        secret=states.names_secret,
        store=states if settings.durable else None,
    )


def open_handoffs(installation: Installation) -> HandoffBook:
    """Summaries of conversations that go on elsewhere."""
    states = installation.states
    durable = installation.settings.vault.durable
    return HandoffBook(installation.clock, states.names_secret, states if durable else None)


def open_kept_answers(installation: Installation) -> KeptAnswers | None:
    """Answers of idempotency keys that all processes share; None: each process has its own alone."""
    store = installation.answers
    return KeptAnswers(store, store.names_secret) if installation.settings.answers.durable else None


def open_cache(installation: Installation) -> ResponseCache | None:
    """The response cache; None when it is switched off."""
    settings, store = installation.settings.cache, installation.cached
    if settings.mode == "off":
        return None
    return ResponseCache(settings, installation.clock, store.names_secret, store if settings.durable else None)
