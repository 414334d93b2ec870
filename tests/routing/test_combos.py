"""What combos mean: flattening, shares, wildcards, chains, the fallback of all, nesting, the cascade."""

import pytest

from pointsman.routing.catalogue import Catalogue
from pointsman.routing.combo_settings import DEFAULTS, cascaded
from pointsman.routing.combo_shapes import InvalidFieldsError, document_of
from pointsman.routing.combos import LAST, Combo, ComboBook, Entry, nesting_problem
from pointsman.routing.targets import Connection

CONNECTIONS = (
    Connection(id="work", kind="openai", provider="openai", models=("big", "small")),
    Connection(id="home", kind="openai", provider="openai", models=("big", "quiet"), hidden=("quiet",)),
    Connection(id="hub", kind="openrouter", models=()),
)


def catalogue(*combos: Combo, **rest: object) -> Catalogue:
    """Names with these combos."""
    return Catalogue(CONNECTIONS, {}, ComboBook(combos=combos, **rest))  # type: ignore[arg-type]


def combo(name: str, *entries: str | Entry, **rest: object) -> Combo:
    """A combo of these."""
    found = tuple(entry if isinstance(entry, Entry) else Entry(target=entry) for entry in entries)
    return Combo(name=name, entries=found, **rest)  # type: ignore[arg-type]


def ids(names: Catalogue, name: str) -> list[str]:
    """The targets of a name."""
    return [step.target.id for step in names.route(name).steps]


def test_combos_within_combos_are_flattened_and_share_their_weight() -> None:
    inner = combo("inner", Entry(target="work/big", weight=3), Entry(target="work/small", weight=1))
    outer = combo("outer", Entry(target="home/big", weight=60), Entry(target="combo/inner", weight=40))
    steps = catalogue(inner, outer).route("outer").steps
    assert [(step.target.id, step.weight) for step in steps] == [
        ("home/big", 60), ("work/big", 30), ("work/small", 10)
    ]  # fmt: skip


def test_a_target_that_stands_in_several_places_is_one_step() -> None:
    steps = catalogue(combo("twice", Entry(target="work/big", weight=2), Entry(target="work/big", weight=3))).route(
        "twice"
    ).steps  # fmt: skip
    assert [(step.target.id, step.weight) for step in steps] == [("work/big", 5)]


def test_wildcards_and_vendors_stand_for_every_account_but_not_for_hidden_models() -> None:
    names = catalogue(combo("all", "openai/*"), combo("big", "openai/big"), combo("one", "work/*"))
    assert ids(names, "all") == ["work/big", "work/small", "home/big"]
    assert ids(names, "big") == ids(names, "combo/big") == ["work/big", "home/big"]
    assert ids(names, "one") == ["work/big", "work/small"]


def test_an_entry_may_name_its_connection_and_its_provider() -> None:
    names = catalogue(
        combo("pinned", Entry(target="openai/big", connection="home")),
        combo("routed", Entry(target="openai/big", provider="hub")),
        combo("kept", Entry(target="openai/big", connection="hub")),
        combo("gone", Entry(target="big", connection="nobody"), "work/small"),
    )
    assert ids(names, "pinned") == ["home/big"]
    assert ids(names, "routed") == ids(names, "kept") == ["hub/openai/big"]
    assert ids(names, "gone") == ["work/small"]


def test_only_allowed_providers_are_kept() -> None:
    names = catalogue(combo("some", "work/big", "hub/x", allowed_providers=frozenset(("openai",))))
    assert ids(names, "some") == ["work/big"]


def test_the_fallback_of_all_combos_stands_in_a_group_behind_all_others() -> None:
    names = catalogue(combo("a", "work/big"), combo("b", "home/big"), fallback="home/big")
    assert [step.group for step in names.route("a").steps] == [0, LAST]
    assert ids(names, "b") == ["home/big"]
    assert [step.target.id for step in names.combo_steps("a")] == ["work/big"]


def test_a_chain_begins_with_the_models_own_target_unless_it_names_its_place() -> None:
    names = catalogue(chains={"work/big": ("home",), "big": ("home", "work"), "small": ("nobody",)})
    assert ids(names, "work/big") == ["work/big", "home/big"]
    assert ids(names, "big") == ["home/big", "work/big"]
    assert ids(names, "small") == ["work/small"]


def test_circles_and_too_deep_nesting_are_found() -> None:
    assert nesting_problem([combo("a", "combo/b"), combo("b", "combo/a")]) is not None
    deep = [combo(str(place), f"combo/{place + 1}") for place in range(5)]
    assert "nested" in (nesting_problem(deep) or "")
    assert (
        nesting_problem([combo("a", "combo/b", "combo/b"), combo("b", "work/big"), combo("c", "combo/nobody")]) is None
    )


def test_a_circle_that_came_in_by_another_way_ends() -> None:
    names = catalogue(combo("a", "combo/b", "work/big"), combo("b", "combo/a", "work/small"))
    assert ids(names, "a") == ["work/small", "work/big"]


def test_null_says_nothing_in_the_cascade_and_unknown_names_pass() -> None:
    merged = cascaded({"maxRetries": 3, "timeoutMs": 9}, {"maxRetries": None, "newOne": [1]}, {"queueDepth": 0})
    assert (merged["maxRetries"], merged["newOne"], merged["queueDepth"]) == (3, [1], 0)
    assert "timeoutMs" not in merged
    assert merged["retryDelayMs"] == DEFAULTS["retryDelayMs"]


def test_a_change_of_the_compression_is_folded_into_the_configuration() -> None:
    before = document_of({"name": "a", "models": ["work/big"], "config": {"maxRetries": 2}})
    changed = document_of({"compressionOverride": "off"}, before)
    assert changed["config"] == {"maxRetries": 2, "compressionMode": "off"}
    assert document_of({"compressionOverride": ""}, changed)["config"] == {"maxRetries": 2}


@pytest.mark.parametrize(
    ("tiers", "field"),
    [
        ({"defaultTier": "x", "tiers": {}}, "defaultTier"),
        ({"tiers": {"a": {"stepId": "1", "fallbackTier": "b"}, "b": {"stepId": "2", "fallbackTier": "a"}}}, "tiers.a"),
        ({"tiers": {"a": {}}}, "tiers.a"),
    ],
)
def test_tiers_that_lead_nowhere_or_back_are_refused(tiers: object, field: str) -> None:
    with pytest.raises(InvalidFieldsError) as refused:
        document_of({"name": "a", "models": [], "config": {"compositeTiers": tiers}})
    assert refused.value.faults[0][0].startswith(f"config.compositeTiers.{field}")
