"""Who is known to go on with a begun answer."""

import pytest

from pointsman.canonical.halves import Upstream
from pointsman.providers.hosts import hosts
from pointsman.providers.prefilling import goes_on

GO_ON = (
    "claude-2.1", "claude-3-5-sonnet-20241022", "claude-3-7-sonnet-latest", "claude-opus-4-0",
    "claude-sonnet-4-20250514", "claude-opus-4-1-20250805", "claude-haiku-4-5", "claude-sonnet-4-5@20250929",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
)  # fmt: skip
ANEW = (
    "claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-6-20260101", "claude-opus-4-7", "claude-opus-5",
    "anthropic.claude-opus-4-6-v1", "claude-mythos-preview", "amazon.nova-pro-v1:0", "sim-model",
)  # fmt: skip


@pytest.mark.parametrize(("models", "expected"), [(GO_ON, True), (ANEW, False)])
def test_claude_goes_on_up_to_version_4_5(models: tuple[str, ...], expected: bool) -> None:
    for wire in ("anthropic", "bedrock"):
        for model in models:
            assert goes_on(wire, Upstream(model=model)) is expected, model


def test_of_openais_hosts_those_that_say_so_go_on() -> None:
    known = {
        name for name, host in hosts().items() if goes_on("openai.chat", Upstream(model="m", quirks=host.quirk_map()))
    }
    assert {"groq", "mistral", "moonshot"} <= known
    assert known.isdisjoint({"openai", "openai-compatible", "xai", "deepseek", "openrouter"})


def test_the_operator_knows_better() -> None:
    assert goes_on("gemini", Upstream(model="m", options={"prefill": "true"}))
    assert not goes_on("ollama", Upstream(model="m", options={"prefill": "false"}))
    assert goes_on("ollama", Upstream(model="m"))
