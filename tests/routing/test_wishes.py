"""What requests say to routing: read, checked by name, and taken out of what goes to an upstream."""

import json
from typing import Any

import msgspec
import pytest

from pointsman.errors import GatewayError
from pointsman.routing.demands import Asked, wants_of
from pointsman.routing.plan import Route, Step
from pointsman.routing.targets import Connection, target_of
from pointsman.routing.wants import Percentiles, Preferences, Wants
from pointsman.routing.wishes import named_model, read_wishes

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]


def body(**members: Any) -> bytes:
    """A chat request."""
    return json.dumps({"model": "m", "messages": MESSAGES, **members}).encode()


def preferences(value: Any) -> Preferences:
    """Of a ``provider`` member."""
    return read_wishes(body(provider=value), "openai.chat").preferences


def test_every_field_of_the_object_is_read() -> None:
    found = preferences(
        {
            "order": ["openai"], "only": ["openai", "azure"], "ignore": ["x"], "allow_fallbacks": False,
            "require_parameters": True, "data_collection": "deny", "zdr": True, "enforce_distillable_text": True,
            "quantizations": ["fp8"], "sort": {"by": "price", "partition": "none"},
            "max_price": {"prompt": "0.5", "completion": 2, "image": 0.01},
            "preferred_min_throughput": 50, "preferred_max_latency": {"p90": 1.5}, "options": {"openai": {"a": 1}},
        }
    )  # fmt: skip
    assert found == Preferences(
        order=("openai",), only=("openai", "azure"), ignore=("x",), allow_fallbacks=False, require_parameters=True,
        deny_data_collection=True, zdr=True, distillable=True, quantizations=("fp8",), sort="price",
        across_models=True, max_price={"prompt": 500_000, "completion": 2_000_000, "image": 10**10},
        min_throughput=Percentiles(p50=50.0), max_latency=Percentiles(p90=1.5),
    )  # fmt: skip


def test_nulls_say_nothing_and_a_string_pins_one_provider() -> None:
    assert preferences(None) == Preferences()
    assert preferences({"order": None, "sort": None, "allow_fallbacks": None, "max_price": None}) == Preferences()
    assert preferences("openai") == Preferences(only=("openai",), allow_fallbacks=False)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"nope": 1}, "provider.nope"),
        ({"nope": None}, "provider.nope"),
        ({"order": "openai"}, "provider.order"),
        ({"sort": "cheap"}, "provider.sort"),
        ({"sort": {"by": "price", "how": 1}}, "provider.sort.how"),
        ({"max_price": {"prompt": "much"}}, "provider.max_price.prompt"),
        ({"max_price": {"prompt": "-1"}}, "provider.max_price.prompt"),
        ({"max_price": {"promt": 1}}, "provider.max_price.promt"),
        ({"quantizations": ["int3"]}, "provider.quantizations"),
        ({"preferred_max_latency": {"p51": 1}}, "provider.preferred_max_latency.p51"),
        ({"data_collection": "maybe"}, "provider.data_collection"),
        (["openai"], "provider"),
        (1, "provider"),
        ("", "provider"),
    ],
)
def test_what_is_wrong_is_named(value: Any, named: str) -> None:
    with pytest.raises(GatewayError) as caught:
        preferences(value)
    assert caught.value.param == named


def test_members_for_routing_are_taken_out_and_the_rest_stays_byte_for_byte() -> None:
    sent = b'{"model":"m","provider":{"order":["x"]},"n" : 1.0,"models":["b"],"route":"sort","session_id":"s"}'
    found = read_wishes(sent, "openai.chat")
    assert (found.bare, found.models, found.session) == (b'{"model":"m","n":1.0}', ("b",), "s")
    assert found.preferences.across_models
    assert found.body_for(target_of(Connection(id="r", kind="openrouter"), "m")) is sent


def test_options_go_to_the_provider_they_are_for() -> None:
    found = read_wishes(body(provider={"options": {"openai": {"seed": 7}}}), "openai.chat")
    assert json.loads(found.body_for(target_of(Connection(id="o", kind="openai"), "m")))["seed"] == 7
    assert "seed" not in json.loads(found.body_for(target_of(Connection(id="a", kind="azure"), "m")))


def test_fallbacks_are_anthropics_clients_word_for_models() -> None:
    assert read_wishes(body(fallbacks=[{"model": "b"}]), "anthropic").models == ("b",)
    kept = read_wishes(body(fallbacks=["b"]), "openai.chat")
    assert (kept.models, b'"fallbacks"' in kept.bare) == ((), True)
    for wrong in ({"fallbacks": [{"model": "b", "x": 1}]}, {"fallbacks": [{"model": "b"}], "models": ["c"]}):
        with pytest.raises(GatewayError):
            read_wishes(body(**wrong), "anthropic")


def test_a_session_name_beyond_256_characters_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        read_wishes(body(session_id="s" * 257), "openai.chat")
    assert caught.value.param == "session_id"


def test_a_model_that_is_left_out_is_the_first_fallback_or_the_default() -> None:
    assert json.loads(named_model(b'{"models":["a","b"],"n":1}', None) or b"")["model"] == "a"
    assert json.loads(named_model(b'{"n":1}', "d") or b"")["model"] == "d"
    assert named_model(b'{"n":1}', None) is None
    assert named_model(b'{"model":3}', "d") is None
    assert named_model(b"--form", "d") is None


def wants(sent: bytes, headers: dict[bytes, bytes] | None = None) -> Wants:
    """What a chat request asks of routing."""
    fields = msgspec.json.decode(sent, type=dict[str, msgspec.Raw])
    asked = Asked(
        model="m",
        operation="chat",
        body=sent,
        headers=headers or {},
        input_tokens=9,
        max_output_tokens=0,
        fields=fields,
    )
    step = Step(target=target_of(Connection(id="c", kind="openai"), "m"))
    return wants_of(asked, Route(name="m", steps=(step,)))


def test_parameters_modalities_tools_and_tiers_are_read_from_members_as_they_came() -> None:
    parts = [{"type": "text", "text": '"input_audio"'}, {"type": "image_url", "image_url": {"url": "x"}}]
    found = wants(
        body(
            messages=[{"role": "user", "content": parts}], temperature=1, tools=[{"type": "function"}], seed=None,
            response_format={"type": "json_schema"}, service_tier="fast", unknown=1,
        )
    )  # fmt: skip
    assert found.parameters == {"temperature", "tools", "response_format", "structured_outputs"}
    assert (found.inputs, found.tools, found.service_tier) == (frozenset(("image",)), True, "priority")
    assert wants(body(service_tier="auto")).service_tier is None


def test_a_conversation_is_the_session_then_the_cache_key_then_how_it_began() -> None:
    later = [*MESSAGES, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}]
    first, second = wants(body()), wants(body(messages=later))
    assert first.conversation == second.conversation != wants(body(messages=later[1:])).conversation
    assert wants(body(prompt_cache_key="k")).conversation == "k"
    assert wants(body(), {b"x-session-id": b"s"}).session == "s"
    with pytest.raises(GatewayError):
        wants(body(), {b"x-session-id": b"s" * 257})


def test_members_that_are_not_text_ask_for_nothing() -> None:
    fields = {
        "messages": msgspec.Raw(b'[{"role":"user","content":[{"type":"t\xff"}]}]'),
        "modalities": msgspec.Raw(b'["\xff"]'),
        "service_tier": msgspec.Raw(b'"\xff"'),
    }
    asked = Asked(
        model="m", operation="chat", body=b"{}", headers={}, input_tokens=0, max_output_tokens=0, fields=fields
    )
    step = Step(target=target_of(Connection(id="c", kind="openai"), "m"))
    wants = wants_of(asked, Route(name="m", steps=(step,)))
    assert (wants.inputs, wants.tools) == (frozenset(), False)
