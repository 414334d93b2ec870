"""The catalogue: what a model name means, and what is said when it means nothing."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.errors import GatewayError, Kind
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.targets import Connection


def connection(name: str, *models: str) -> Connection:
    """A connection; without models an open one."""
    return Connection(id=name, kind="openai", models=models)


CATALOGUE = Catalogue(
    [
        connection("one", "gpt-5.2", "shared", "org/nested-model", "a:b@c"),
        connection("two", "shared", "claude-5"),
        connection("open"),
    ],
    {
        "fast": "one/gpt-5.2",
        "bare": "claude-5",
        "wide": "open/any/thing",
        "gone": "nowhere/x",
        "claude-5": "one/gpt-5.2",
        "one/shared": "two/shared",
        "chain": "fast",
        "loop": "loop",
    },
)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("one/gpt-5.2", "one/gpt-5.2"),
        ("gpt-5.2", "one/gpt-5.2"),
        ("one/org/nested-model", "one/org/nested-model"),
        ("org/nested-model", "one/org/nested-model"),
        ("a:b@c", "one/a:b@c"),
        ("two/shared", "two/shared"),
        ("open/anything", "open/anything"),
        ("open/org/model:free", "open/org/model:free"),
        ("open/one/gpt-5.2", "open/one/gpt-5.2"),
        ("fast", "one/gpt-5.2"),
        ("bare", "two/claude-5"),
        ("wide", "open/any/thing"),
    ],
)
def test_a_name_means_its_target(name: str, target: str) -> None:
    found = CATALOGUE.resolve(name)
    assert found.id == target
    assert json.loads(bytes(found.encoded)) == found.model


def test_an_alias_wins_over_a_bare_name_and_a_full_id_over_an_alias() -> None:
    assert CATALOGUE.resolve("claude-5").id == "one/gpt-5.2"
    assert CATALOGUE.resolve("one/shared").id == "one/shared"
    assert CATALOGUE.resolve("two/claude-5").id == "two/claude-5"


def refusal(name: str, catalogue: Catalogue = CATALOGUE) -> str:
    """The message with which a name is refused."""
    with pytest.raises(GatewayError) as caught:
        catalogue.resolve(name)
    error = caught.value
    assert (error.kind, error.status, error.param) == (Kind.MODEL_NOT_FOUND, 404, "model")
    assert error.message.isprintable()
    assert len(error.message) < 1500
    return error.message


def test_an_ambiguous_name_is_refused_with_the_choices() -> None:
    assert "ask for one of: one/shared, two/shared" in refusal("shared")


def test_at_most_five_choices_are_named() -> None:
    catalogue = Catalogue([connection(f"c{number}", "m") for number in range(100)], {})
    assert refusal("m", catalogue).count("/m") == 5


@pytest.mark.parametrize("name", ["gone", "loop"])
def test_an_alias_to_nothing_says_so(name: str) -> None:
    assert f"the alias '{name}' points to" in refusal(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("gpt-5.3", "'gpt-5.2'"), ("one/gpt5.2", "'one/gpt-5.2'"), ("fasst", "'fast'"), ("claude5", "'claude-5'")],
)
def test_the_nearest_names_are_offered(name: str, near: str) -> None:
    assert near in refusal(name)


@pytest.mark.parametrize(
    "name", ["", "/", "one/", "/gpt-5.2", "open/", "open", "one", "nowhere/gpt-5.2", "one/unknown"]
)
def test_half_names_are_refused(name: str) -> None:
    assert "does not exist" in refusal(name)


def test_a_name_like_no_other_points_to_the_list() -> None:
    assert "GET /v1/models" in refusal("zzzzzzzzzz")


def test_an_empty_catalogue_refuses_everything() -> None:
    assert "does not exist" in refusal("x", Catalogue([], {}))
    assert Catalogue([], {}).targets == []


@pytest.mark.parametrize("text", ["\r\nset-cookie: a", "\x1b[31mred", "\u202eevil", "\x00", "\ud800", "a" * 10_000_000])
def test_a_hostile_name_is_shown_short_and_printable(text: str) -> None:
    assert len(refusal(text)) < 400


def test_a_hostile_alias_target_is_shown_short_and_printable() -> None:
    assert len(refusal("bad", Catalogue([], {"bad": "x\n" * 10_000}))) < 400


def test_a_hostile_name_is_refused_in_bounded_time_even_among_many_models() -> None:
    models = [f"organisation/model-with-a-long-name-{number}-instruct" for number in range(2000)]
    catalogue = Catalogue([connection("c", *models)], {})
    hostile = ["model-with-a-long-name-instruct" * 100, "-" * 5_000_000, "a" * 200, "instruct-" * 30, models[7][:-1]]
    for name in hostile:
        start = time.process_time()
        refusal(name, catalogue)
        assert time.process_time() - start < 0.5, name[:40]


def test_a_near_miss_among_many_models_costs_little() -> None:
    models = [f"organisation/model-with-a-long-name-{number}-instruct" for number in range(10_000)]
    catalogue = Catalogue([connection("c", *models)], {})
    start = time.process_time()
    message = refusal("organisation/model-with-a-lng-name-77-instruct", catalogue)
    assert time.process_time() - start < 0.5
    assert "did you mean" in message


def test_targets_are_every_full_id_once() -> None:
    ids = [target.id for target in CATALOGUE.targets]
    assert ids == ["one/gpt-5.2", "one/shared", "one/org/nested-model", "one/a:b@c", "two/shared", "two/claude-5"]


def test_a_connection_that_lists_a_model_twice_offers_it_once() -> None:
    catalogue = Catalogue([connection("one", "m", "m")], {})
    assert catalogue.resolve("m").id == "one/m"


def test_a_full_id_is_never_taken_by_another_connections_bare_name() -> None:
    catalogue = Catalogue([connection("a", "b/m"), connection("b", "m")], {})
    assert catalogue.resolve("b/m").id == "b/m"
    assert catalogue.resolve("a/b/m").id == "a/b/m"


def test_a_full_id_of_an_open_connection_is_never_taken_by_anothers_bare_name() -> None:
    catalogue = Catalogue([connection("router", "openai/gpt-5"), connection("openai")], {})
    assert catalogue.resolve("openai/gpt-5").id == "openai/gpt-5"
    assert catalogue.resolve("router/openai/gpt-5").id == "router/openai/gpt-5"


@given(name=st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_name_is_resolved_or_refused(name: str) -> None:
    try:
        found = CATALOGUE.resolve(name)
    except GatewayError as error:
        shown = error.message
    else:
        shown = found.id.replace("\n", "")
        assert "/" in found.id
    assert shown


@given(models=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6))
@settings(max_examples=100, deadline=None)
def test_every_offered_id_can_be_asked_for(models: list[str]) -> None:
    catalogue = Catalogue([connection("x", *models)], {})
    for target in catalogue.targets:
        assert catalogue.resolve(target.id) is target
