"""What takes a target out, by which name, and what the caller is told when nothing is left."""

import json
from typing import Any

import pytest

from pointsman.dialects import anthropic, openai_chat, openrouter
from pointsman.routing.explain import MAX_HEADER, explain, header, reason, unavailable
from pointsman.routing.plan import Condition, Problem, Route, Step, plan
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, target_of
from pointsman.routing.wants import Preferences, Wants

NOW = 1_790_000_000_000_000


def problem(facts: dict[str, dict[str, Any]], conditions: dict[str, Condition] | None = None, **wants: Any) -> Problem:
    """A choice between targets with these facts; ``tags`` and ``provider`` are their connections'."""
    steps = []
    for name, known in facts.items():
        known = dict(known)
        connection = Connection(
            id=name, kind="openai", provider=known.pop("provider", None), tags=frozenset(known.pop("tags", ()))
        )
        steps.append(Step(target=target_of(connection, "m", ModelFacts(**known))))
    route = Route(name="smart", kind="combo", steps=tuple(steps))
    named = {f"{name}/m": condition for name, condition in (conditions or {}).items()}
    return Problem(route=route, wants=Wants(model="smart", **wants), conditions=named, now=NOW)


def left(facts: dict[str, dict[str, Any]], **wants: Any) -> tuple[str, str]:
    """The letters of those that are left, and the filters that were at work."""
    made = plan(problem(facts, **wants))
    return "".join(target.connection.id for target in made.order), ",".join(
        dict.fromkeys(rule for _, rule in made.excluded)
    )


TEXT, IMAGE = frozenset(("text",)), frozenset(("text", "image"))
TOOLS = frozenset(("tools", "temperature", "response_format"))
PRICE = PriceTag(prompt=10**6, completion=2 * 10**6)
PREFERENCES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"zdr": True}, {"zdr": True}, "zdr"),
    ({"deny_data_collection": True}, {"trains": False}, "data_collection"),
    ({"distillable": True}, {"distillable": True}, "distillable"),
    ({"quantizations": ("fp8",)}, {"quantization": "mxfp8"}, "quantizations"),
    ({"max_price": {"prompt": 10**6}}, {"price": PRICE}, "max_price"),
]


@pytest.mark.parametrize(("wish", "fact", "rule"), PREFERENCES)
def test_who_asks_for_a_guarantee_gets_none_of_the_unknown(
    wish: dict[str, Any], fact: dict[str, Any], rule: str
) -> None:
    assert left({"a": {}, "b": fact}, preferences=Preferences(**wish)) == ("b", rule)


def test_unknown_quantisation_can_be_asked_for() -> None:
    facts: dict[str, dict[str, Any]] = {"a": {}, "b": {"quantization": "fp8"}}
    assert left(facts, preferences=Preferences(quantizations=("unknown",))) == ("a", "quantizations")


@pytest.mark.parametrize(
    ("wants", "bad", "rule"),
    [
        ({"inputs": frozenset(("image",))}, {"inputs": TEXT}, "input_modalities"),
        ({"outputs": frozenset(("image",))}, {"outputs": TEXT}, "output_modalities"),
        ({"tools": True}, {"parameters": frozenset()}, "tools"),
        ({"operation": "embeddings"}, {"outputs": TEXT}, "operation"),
        ({"operation": "chat"}, {"outputs": frozenset(("embeddings",))}, "operation"),
        ({"input_tokens": 9000}, {"context_tokens": 8000}, "context"),
        ({"input_tokens": 5, "max_output_tokens": 5000}, {"max_output_tokens": 4096}, "context"),
        ({}, {"deprecated_at": NOW}, "deprecated"),
        ({}, {"service_tier": "flex"}, "service_tier"),
        (
            {"parameters": TOOLS, "preferences": Preferences(require_parameters=True)},
            {"parameters": frozenset(("tools",))},
            "parameters",
        ),
    ],
)  # fmt: skip
def test_what_is_unknown_excludes_nothing(wants: dict[str, Any], bad: dict[str, Any], rule: str) -> None:
    assert left({"a": {}, "b": bad}, **wants) == ("a", rule)


def test_an_estimate_of_tokens_that_fits_nowhere_may_be_wrong() -> None:
    facts = {"a": {"context_tokens": 8000}, "b": {"context_tokens": 2000}}
    assert left(facts, input_tokens=9000) == ("a", "context")
    assert left(facts, input_tokens=90_000) == ("", "context")


def test_targets_that_know_a_preferred_parameter_are_taken_when_there_are_any() -> None:
    asked = frozenset(("response_format",))
    some = {"a": {"parameters": frozenset(("tools",))}, "b": {"parameters": TOOLS}}
    assert left(some, parameters=asked) == ("b", "parameters")
    none = {"a": {"parameters": frozenset(("tools",))}, "b": {"parameters": frozenset()}}
    assert left(none, parameters=asked) == ("ab", "")


def test_providers_are_named_by_slug() -> None:
    facts: dict[str, dict[str, Any]] = {
        "a": {"provider": "google-vertex", "tags": ("us-east5",)},
        "b": {"provider": "google-vertex"},
        "c": {"provider": "openai"},
    }
    assert left(facts, preferences=Preferences(only=("Google-Vertex",))) == ("ab", "only")
    assert left(facts, preferences=Preferences(only=("google-vertex/us-east5",))) == ("a", "only")
    assert left(facts, preferences=Preferences(ignore=("google-vertex",))) == ("c", "ignore")
    assert left(facts, allowed_providers=("openai",)) == ("c", "allowed_providers")


def test_a_key_may_be_kept_to_some_models() -> None:
    facts: dict[str, dict[str, Any]] = {"a": {"slug": "openai/gpt-5"}, "b": {}}
    assert left(facts, allowed_models=("openai/*",)) == ("a", "allowed_models")
    assert left(facts, allowed_models=("b/m",)) == ("b", "allowed_models")
    assert left(facts, allowed_models=()) == ("", "allowed_models")


def test_endpoints_of_a_tier_are_for_those_who_ask_for_it() -> None:
    facts: dict[str, dict[str, Any]] = {"a": {}, "b": {"service_tier": "priority", "provider": "p"}}
    assert left(facts) == ("a", "service_tier")
    assert left(facts, preferences=Preferences(order=("p/priority",))) == ("ab", "")


def test_the_filter_that_left_nothing_is_told_with_what_excluded_what() -> None:
    asked = problem({"a": {"context_tokens": 800}, "b": {"context_tokens": 900, "inputs": TEXT}}, input_tokens=9000)
    error = unavailable(asked, plan(asked))
    assert error.status == 400
    for part in ("'smart'", "context", "a/m", "a window of 800 tokens, about 9,000 are needed", "b/m"):
        assert part in error.message
    assert error.availability is not None
    assert error.availability["code"] == "constraint_filtered"
    assert error.availability["excluded_by"] == ["context_length"]
    assert error.availability["affected_providers"] == ["openai"]


@pytest.mark.parametrize(
    ("wants", "status", "code"),
    [
        ({"preferences": Preferences(zdr=True)}, 404, "privacy_restricted"),
        ({"preferences": Preferences(max_price={"prompt": 1})}, 404, "constraint_filtered"),
        ({"preferences": Preferences(only=("nobody",))}, 404, "constraint_filtered"),
        ({"operation": "embeddings"}, 400, "wrong_endpoint"),
        ({"allowed_models": ()}, 403, "no_endpoints"),
    ],
)
def test_each_dialect_tells_it_in_its_own_shape(wants: dict[str, Any], status: int, code: str) -> None:
    asked = problem({"a": {"outputs": TEXT}}, **wants)
    error = unavailable(asked, plan(asked))
    assert error.status == status
    assert json.loads(openrouter.render_error(error, "r"))["error"]["availability"]["code"] == code
    assert json.loads(openai_chat.render_error(error, "r"))["error"]["availability"]["requested_models"] == ["smart"]
    assert error.message == json.loads(anthropic.render_error(error, "r"))["error"]["message"]


def test_every_filter_has_words() -> None:
    from pointsman.routing.filters import FILTERS

    asked = problem({"a": {}})
    target = asked.route.steps[0].target
    for name, *_ in FILTERS:
        assert reason(name, target, asked) not in ("", name)


def test_an_explanation_is_plain_data_with_every_reason() -> None:
    ill = {"b": Condition(usable=False, until=NOW + 5_000_000, reason="rate_limited")}
    asked = problem({"a": {}, "b": {}, "c": {"inputs": TEXT}}, ill, inputs=frozenset(("image",)))
    told = json.loads(json.dumps(explain(asked, plan(asked))))
    assert [row["target"] for row in told["order"]] == ["a/m"]
    assert {row["target"]: (row["filter"], row["reason"]) for row in told["excluded"]} == {
        "b/m": ("health", "rate_limited, left alone for another 5 s"),
        "c/m": ("input_modalities", "takes no image"),
    }


def test_the_last_resort_is_named() -> None:
    ill = {"a": Condition(usable=False, until=NOW + 9), "b": Condition(usable=False, until=NOW + 5)}
    asked = problem({"a": {}, "b": {}}, ill)
    made = plan(asked)
    assert [target.id for target in made.order] == ["b/m"]
    assert "last resort" in explain(asked, made)["order"][0]["reason"]
    assert header(asked, made) == (
        b"x-pointsman-plan: strategy=priority; order=b/m; excluded=a/m:health; last-resort\r\n"
    )


def test_the_header_is_bounded_and_holds_no_line_break() -> None:
    asked = problem({f"n\r\n{number}": {} for number in range(500)})
    line = header(asked, plan(asked))
    assert len(line) < MAX_HEADER + 40
    assert line.count(b"\r\n") == 1
