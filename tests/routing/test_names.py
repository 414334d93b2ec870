"""What names mean when several connections, authors, variants, words and dates come into it."""

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.routing.alias_patterns import AliasPatterns
from pointsman.routing.capabilities import capabilities
from pointsman.routing.catalogue import Ambiguous, Catalogue, Naming
from pointsman.routing.combos import Combo, ComboBook, Entry
from pointsman.routing.facts import FactBook, ListedModel, Override
from pointsman.routing.plan import Route, Step
from pointsman.routing.targets import Connection, ModelFacts, PriceTag

OPUS, DATED = "claude-opus-4-5", "claude-opus-4-5-20251101"
FREE = ListedModel(name="meta-llama/llama-3.3-70b-instruct:free", facts=ModelFacts(price=PriceTag()))
ROUTER = (
    ListedModel(name="openai/gpt-5.2"),
    ListedModel(name="meta-llama/llama-3.3-70b-instruct", facts=ModelFacts(price=PriceTag(prompt=5))),
    FREE,
)


def connection(name: str, *models: str, provider: str | None = None, **more: int) -> Connection:
    """A connection; without models an open one."""
    kind = provider or "openai-compatible"
    return Connection(id=name, kind=kind, provider=provider, models=models, priority=more.get("priority", 0))


def catalogue(ambiguous: Ambiguous = "refuse", **aliases: str) -> Catalogue:
    """Two accounts at OpenAI, one at Anthropic, one at a router that has told its list, two strangers."""
    connections = [
        connection("home", "gpt-5.2", "gpt-4o-2024-08-06", "gpt-4o-2024-05-13", provider="openai"),
        connection("work", "gpt-5.2", provider="openai", priority=3),
        connection("claude", DATED, provider="anthropic"),
        connection("router", provider="openrouter"),
        connection("one", "thing", "gemini-2.5-pro", "llama3:8b"),
        connection("two", "thing", "gemini-2.5-pro"),
    ]
    combos = [Combo(name="smart", entries=(Entry(target="home/gpt-5.2"), Entry(target="anthropic/claude-opus-4.5")))]
    book = FactBook(known=capabilities, listed={"router": ROUTER})
    return Catalogue(connections, aliases, ComboBook(combos=tuple(combos)), book, Naming(ambiguous))


def ids(route: Route) -> list[str]:
    return [step.target.id for step in route.steps]


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("openai/gpt-5.2", ["work/gpt-5.2", "home/gpt-5.2", "router/openai/gpt-5.2"]),
        ("OpenAI/GPT-5.2", ["work/gpt-5.2", "home/gpt-5.2", "router/openai/gpt-5.2"]),
        ("gpt-5.2", ["work/gpt-5.2", "home/gpt-5.2"]),
        ("openai:gpt-5.2", ["work/gpt-5.2", "home/gpt-5.2"]),
        ("home:gpt-5.2", ["home/gpt-5.2"]),
        ("home/gpt-5.2", ["home/gpt-5.2"]),
        ("router/whatever", ["router/whatever"]),
        ("router:whatever", ["router/whatever"]),
        ("gemini-2.5-pro", ["one/gemini-2.5-pro", "two/gemini-2.5-pro"]),
        ("google/gemini-2.5-pro", ["one/gemini-2.5-pro", "two/gemini-2.5-pro"]),
        ("anthropic/claude-opus-4.5", [f"claude/{DATED}"]),
        (f"anthropic/{DATED}", [f"claude/{DATED}"]),
        (OPUS, [f"claude/{DATED}"]),
        ("claude-opus-4.5", [f"claude/{DATED}"]),
        ("claude-opus-4-5-latest", [f"claude/{DATED}"]),
        (f"{DATED}[1m]", [f"claude/{DATED}"]),
        ("gpt-4o", ["home/gpt-4o-2024-08-06"]),
        ("llama3:8b", ["one/llama3:8b"]),
        ("smart", ["home/gpt-5.2", f"claude/{DATED}"]),
        ("meta-llama/llama-3.3-70b-instruct:free", [f"router/{FREE.name}"]),
        ("llama-3.3-70b-instruct", ["router/meta-llama/llama-3.3-70b-instruct"]),
    ],
)
def test_a_name_means_these_targets(name: str, targets: list[str]) -> None:
    assert sorted(ids(catalogue().route(name))) == sorted(targets)


def test_a_larger_priority_comes_first() -> None:
    assert ids(catalogue().route("gpt-5.2"))[0] == "work/gpt-5.2"


@pytest.mark.parametrize("name", ["gpt-5.2:nitro", "gpt-5.2:floor", "openai/gpt-5.2:nitro:exacto", "smart:floor"])
def test_a_variant_keeps_the_targets_of_what_stands_before_it(name: str) -> None:
    found = catalogue()
    route = found.route(name)
    assert sorted(ids(route)) == sorted(ids(found.route(name.partition(":")[0])))
    assert route.settings["variants"] == tuple(name.split(":")[1:])


def test_a_variant_behind_a_full_id_of_an_open_connection_is_its_upstreams_own() -> None:
    route = catalogue().route("router/x/y:free")
    assert (ids(route), route.settings) == (["router/x/y:free"], {})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt-5.2:free", "no endpoint of 'gpt-5.2' is ':free'"),
        ("nothing:free", "does not exist"),
        ("gpt-4o-2024-11-20", "does not exist"),
        ("thing", "ask for one of: one/thing, two/thing"),
        ("opnai/gpt-5.2", "'openai/gpt-5.2'"),
        ("unknown[1m]", "does not exist"),
        ("x" * 100_000, "does not exist"),
    ],
)
def test_a_name_that_means_nothing_says_why(name: str, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        catalogue().route(name)
    assert (caught.value.kind, caught.value.param) == (Kind.MODEL_NOT_FOUND, "model")
    assert said in caught.value.message


def test_models_that_have_nothing_to_do_with_each_other_are_routed_when_the_operator_says_so() -> None:
    assert ids(catalogue("route").route("thing")) == ["one/thing", "two/thing"]


def test_the_order_of_kinds_of_names() -> None:
    found = catalogue(**{"home/gpt-5.2": "one/thing", "smart": "one/thing", "gpt-5.2": "one/thing"})
    assert ids(found.route("home/gpt-5.2")) == ["home/gpt-5.2"], "a full id before an alias"
    assert found.route("smart").kind == "combo", "a combo before an alias"
    assert ids(found.route("gpt-5.2")) == ["one/thing"], "an alias before a bare name"
    assert ids(found.route("openai/gpt-5.2"))[0] == "work/gpt-5.2", "an alias is no part of other names"


def test_an_alias_may_stand_for_everything_else() -> None:
    found = catalogue(a="openai/gpt-5.2", b="smart", c="claude-opus-4-5", d="a")
    assert len(found.route("a").steps) == 3
    assert found.route("b").kind == "combo"
    assert found.route("d").steps == found.route("a").steps


def test_a_word_is_made_into_a_route_by_whoever_knows_it() -> None:
    def cheapest(found: Catalogue, name: str) -> Route:
        return Route(name=name, kind="auto", steps=(Step(target=found.targets[0]),))

    found = Catalogue([connection("one", "m", "auto")], {"auto": "one/m"}, naming=Naming(words={"auto": cheapest}))
    assert found.route("auto").kind == "auto", "before an alias and a bare name"
    assert found.route("one/auto").kind == "model"


def test_a_known_model_goes_to_its_own_vendor_where_nobody_lists_it() -> None:
    found = Catalogue([connection("mine", provider="openai")], {}, (), FactBook(known=capabilities))
    assert ids(found.route("gpt-5.2")) == ["mine/gpt-5.2"]
    assert ids(found.route("openai/gpt-5.2")) == ["mine/gpt-5.2"]
    with pytest.raises(GatewayError):
        found.route("claude-opus-4-5")


def test_names_that_are_made_up_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.routing.catalogue.MAX_KEPT", 5)
    found = catalogue()
    for number in range(50):
        found.route(f"router/m{number}")
    assert len(found._routes) < len(found.targets) + 6


# facts


def test_a_later_source_wins_and_says_so() -> None:
    from pointsman.routing.facts import merged, origins

    book = FactBook(
        known=capabilities,
        prices=lambda connection, model: PriceTag(prompt=1, completion=2),
        listed={"router": [ListedModel(name="openai/gpt-5.2", facts=ModelFacts(context_tokens=7, name="Listed"))]},
        overrides=[
            Override(model="openai/*", facts=ModelFacts(quantization="fp8", zdr=True)),
            Override(model="router/openai/gpt-5.2", facts=ModelFacts(quantization="bf16")),
        ],
    )
    at = connection("router", provider="openrouter")
    layers = book.layers(at, "openai/gpt-5.2")
    facts, sources = merged(layers), origins(layers)
    assert (facts.price, facts.context_tokens, facts.name) == (PriceTag(prompt=1, completion=2), 7, "Listed")
    assert (facts.quantization, facts.zdr, facts.author) == ("bf16", True, "openai")
    assert sources["price"] == "price data"
    assert sources["context_tokens"] == sources["name"] == "upstream's list"
    assert sources["max_output_tokens"] == sources["slug"] == "models.json"
    assert sources["quantization"] == sources["zdr"] == "operator"
    assert book.facts(at, "of/nobody") == ModelFacts(price=PriceTag(prompt=1, completion=2))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "anthropic/claude-opus-4.5"),
        ("claude-opus-4-5@20251101", "anthropic/claude-opus-4.5"),
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/llama-3.3-70b-instruct"),
        ("models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("deepseek-v3", "deepseek/deepseek-v3"),
        ("sim-model", None),
        ("", None),
        ("llama3:8b", None),
    ],
)
def test_a_model_is_known_by_the_names_that_hosts_have_for_it(name: str, slug: str | None) -> None:
    assert capabilities().slug(name) == slug


def test_the_shipped_file_says_where_its_figures_come_from() -> None:
    about = capabilities().about
    assert {source.name.partition(":")[0] for source in about.sources} == {"genai-prices", "litellm"}
    assert all(source.licence == "MIT" and source.date == about.generated for source in about.sources)


def test_every_row_of_the_shipped_file_can_be_read() -> None:
    known = capabilities()
    for slug in known._file.models:
        facts = known.facts("openai", "openai.chat", slug)
        assert facts.slug == slug
        assert facts.context_tokens is None or facts.context_tokens > 0
    for host, rows in known._file.hosts.items():
        for model in rows:
            known.facts(host, "openai.chat", model)
    assert set(known._file.names.values()) <= set(known._file.models)


PATTERNS = {
    "claude-*": "home/gpt-5.2",
    "claude-opus-*": "work/gpt-5.2",
    "my/*": "openai/*",
    "*-usual": "smart",
    "broken-*": "nobody/nothing",
    "exact-one": "one/thing",
    "exact-*": "two/thing",
}


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("claude-haiku-9", ["home/gpt-5.2"]),
        ("claude-opus-4-5", ["work/gpt-5.2"]),
        ("claude-", ["home/gpt-5.2"]),
        ("my/gpt-5.2", ["work/gpt-5.2", "home/gpt-5.2", "router/openai/gpt-5.2"]),
        ("the-usual", ["home/gpt-5.2", f"claude/{DATED}"]),
        ("exact-one", ["one/thing"]),
        ("exact-two", ["two/thing"]),
        (f"claude/{DATED}", [f"claude/{DATED}"]),
    ],
)
def test_of_the_patterns_that_fit_the_longest_is_meant(name: str, targets: list[str]) -> None:
    assert sorted(ids(catalogue(**PATTERNS).route(name))) == sorted(targets)


def test_a_pattern_that_leads_nowhere_means_nothing_and_patterns_are_no_models() -> None:
    found = catalogue(**PATTERNS)
    with pytest.raises(GatewayError) as caught:
        found.route("broken-heart")
    assert caught.value.kind is Kind.MODEL_NOT_FOUND
    assert set(found.aliases) == {"exact-one"}


def test_a_name_made_to_fit_badly_is_judged_at_once() -> None:
    book = AliasPatterns({"*a*a*a*b": "x", "ab*bc": "*", "**": "y*"})
    assert book.meaning("a" * 500) == "y"
    assert (book.meaning("abXbc"), book.meaning("abc")) == ("X", "y")


@pytest.mark.parametrize("name", [f"claude/{DATED}[1m]", "anthropic/claude-opus-4.5[1m]", "open/claude-x[1m]"])
def test_the_large_windows_mark_is_no_part_of_a_name(name: str) -> None:
    connections = [
        connection("claude", DATED, provider="anthropic"),
        connection("open", provider="anthropic"),
    ]
    found = Catalogue(connections, {}, None, FactBook(known=capabilities))
    assert "[1m]" not in found.route(name).steps[0].target.model
