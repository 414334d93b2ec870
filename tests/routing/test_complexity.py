"""How requests are judged: words, structure, demands, tool loops and memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.parts import AnyPart, ImagePart, Source, TextPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, OutputFormat, Request, Tool
from pointsman.routing.complexity import (
    TIERS,
    Complexity,
    ConversationMemory,
    remember,
    score,
    tier_of,
)

PROOF = "Prove by induction that the sum of the first n odd numbers is n^2."
DESIGN = (
    "Design a distributed payment service with failover, monitoring and a rollback plan. It must scale to ten regions. "
    "Compare two approaches, analyse the risks and recommend one."
)
FACT = "What is the capital of France?"


def user(*texts: str) -> Message:
    """A user's message with these text parts."""
    return Message(role="user", parts=[TextPart(text=text) for text in texts])


def answer(text: str = "Here it is.") -> Message:
    """A model's message."""
    return Message(role="assistant", parts=[TextPart(text=text)])


def call() -> Message:
    """The model calls a tool."""
    return Message(role="assistant", parts=[ToolCallPart(id="1", name="run", arguments="{}")])


def result(*texts: str, output: str = "ok") -> Message:
    """The tool's result, and what the user says beside it."""
    parts: list[AnyPart] = [ToolResultPart(call_id="1", content=[TextPart(text=output)])]
    return Message(role="user", parts=[*parts, *(TextPart(text=text) for text in texts)])


def request(*messages: Message, **options: Any) -> Request:
    """A request of these messages."""
    return Request(wire="openai.chat", model="auto", messages=list(messages), **options)


def judged(*texts: str, **options: Any) -> Complexity:
    """The complexity of a first turn with these text parts."""
    return score(request(user(*texts), **options))


def measures(found: Complexity) -> dict[str, float]:
    """The measure of each signal."""
    return {signal.name: signal.measure for signal in found.signals}


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        (FACT, "SIMPLE"),
        ("hello", "SIMPLE"),
        ("Write a short email to my landlord asking for a repair of the heating.", "MEDIUM"),
        (DESIGN, "COMPLEX"),
        (PROOF, "REASONING"),
        ("Was ist die Hauptstadt von Peru?", "SIMPLE"),
        ("Démontre que la racine carrée de 5 est irrationnelle.", "REASONING"),
        ("¿Cuál es la capital de Perú?", "SIMPLE"),
        ("用数学归纳法证明前n个奇数之和等于n^2。", "REASONING"),
        ("√2が無理数であることを証明してください。", "REASONING"),
    ],
)
def test_plain_prompts_have_the_tier_one_expects(text: str, tier: str) -> None:
    assert judged(text).tier == tier


def test_a_short_hard_question_is_not_taken_for_an_easy_one() -> None:
    assert judged("Prove that log 3 is irrational.").tier == "REASONING"


def test_words_inside_words_do_not_count() -> None:
    assert "code" not in measures(judged("a classic apiary with functional bugles"))
    assert measures(judged("a class with a bug"))["code"] == 2


def test_every_text_part_of_the_turn_is_read() -> None:
    assert measures(judged("Here is my question.", "Please be kind.", "Prove the theorem."))["reasoning"] == 2


def test_the_middle_of_a_long_turn_is_read() -> None:
    filler = "the cat sat on the mat and looked out " * 150
    assert measures(judged(f"{filler} prove the theorem {filler}"))["reasoning"] == 2


def test_of_a_huge_turn_both_ends_are_read() -> None:
    filler = "the cat sat on the mat and looked out " * 20_000
    found = measures(judged(f"Prove it. {filler}", f"{filler} That is the theorem."))
    assert found["reasoning"] == 2
    assert found["length"] == pytest.approx(2 * len(filler) / 4, rel=0.01)


def test_messages_of_one_turn_belong_together() -> None:
    found = score(request(user("Prove this:"), user("the theorem of Pythagoras.")))
    assert measures(found)["reasoning"] == 2


def test_code_and_formulas_are_seen_without_words() -> None:
    assert measures(judged("if (a && b) { print(c); } // !== x"))["source"] >= 2
    assert measures(judged(r"$$\int_0^1 x^2 dx \leq \frac{1}{2}$$"))["notation"] >= 3


def test_list_items_are_counted() -> None:
    text = "Please:\n- one\n- two\n  3. three\n(4) four"
    assert measures(judged(text))["enumeration"] == 4


def test_much_work_alone_is_not_reasoning() -> None:
    found = judged(DESIGN * 8)
    assert found.tier == "COMPLEX"


def test_base_and_signals_add_up_to_the_score() -> None:
    found = judged("Write a short poem about autumn rain.")
    assert found.rules == ()
    assert found.base + sum(signal.contribution for signal in found.signals) == pytest.approx(found.score)


def test_the_reasons_hold_no_word_of_the_prompt() -> None:
    found = judged("Prove the zebrafish theorem.")
    assert "zebrafish" not in repr(found)
    assert "theorem" not in repr(found)


def test_structured_output_is_at_least_medium() -> None:
    assert judged(FACT).tier == "SIMPLE"
    found = judged(FACT, output_format=OutputFormat(kind="json_schema", schema={"type": "object"}))
    assert found.tier == "MEDIUM"
    assert "structured_output" in found.rules


def test_a_system_prompt_that_orders_json_is_at_least_medium() -> None:
    orders = Message(role="system", parts=[TextPart(text="Respond only with JSON.")])
    mentions = Message(role="system", parts=[TextPart(text="Users may paste JSON; explain it.")])
    assert score(request(orders, user(FACT))).rules == ("json_order",)
    assert score(request(mentions, user(FACT))).tier == "SIMPLE"


def test_a_very_long_conversation_is_at_least_complex() -> None:
    found = score(request(user("word " * 100_000), answer(), user(FACT)))
    assert found.tier == "COMPLEX"
    assert found.rules == ("long_context",)


def test_system_prompts_are_no_part_of_the_turn() -> None:
    system = Message(role="system", parts=[TextPart(text=DESIGN + PROOF)])
    assert score(request(system, user(FACT))).tier == "SIMPLE"


def test_a_request_without_a_user_is_scored() -> None:
    assert score(request()).tier in TIERS
    assert score(request(answer())).tier in TIERS


@pytest.mark.parametrize("follow_up", ["and now the second one", "why?", "shorter please", "continue", "go on"])
def test_a_follow_up_keeps_the_level_of_what_went_before(follow_up: str) -> None:
    found = score(request(user(PROOF), answer(), user(follow_up)))
    assert found.tier == "REASONING"
    assert "follow_up" in found.rules


def test_a_follow_up_keeps_the_level_that_is_remembered() -> None:
    memory = remember(judged(PROOF))
    assert score(request(user("and now the second one")), memory).tier == "REASONING"
    assert score(request(user("and now the second one"))).tier != "REASONING"


@pytest.mark.parametrize("text", [FACT, "thanks!", "ok, great, thank you very much", "谢谢", "ありがとう"])
def test_new_questions_and_thanks_stand_for_themselves(text: str) -> None:
    assert score(request(user(PROOF), answer(), user(text))).tier == "SIMPLE"


def test_the_level_survives_thanks_and_decays() -> None:
    memory = remember(judged(PROOF))
    levels = [memory.level]
    for _ in range(6):
        memory = remember(score(request(user("thanks!")), memory), memory)
        levels.append(memory.level)
    assert levels == sorted(levels, reverse=True)
    assert score(request(user("and now the second one")), memory).score < levels[0]


def test_a_tool_loop_keeps_the_tier_of_the_turn_that_started_it() -> None:
    first = score(request(user(DESIGN)))
    loop = score(request(user(DESIGN), call(), result()), remember(first))
    assert loop.tool_loop
    assert loop.tier == first.tier


def test_a_tool_loop_keeps_its_tier_when_the_memory_is_lost() -> None:
    found = score(request(user(DESIGN), call(), result(), call(), result("Remember: be brief. Thanks!")))
    assert found.tool_loop
    assert TIERS.index(found.tier) >= TIERS.index(score(request(user(DESIGN))).tier)


def test_a_tool_loop_of_a_follow_up_keeps_its_level() -> None:
    before = [user(PROOF), answer(), user("and now the second one")]
    memory = remember(score(request(*before)))
    for known in (memory, None):
        assert score(request(*before, call(), result()), known).tier == "REASONING"


def test_in_a_tool_loop_the_tier_that_was_decided_holds_whatever_the_words_say() -> None:
    memory = ConversationMemory(level=0.0, tier="COMPLEX")
    found = score(request(user(FACT), call(), result("thanks")), memory)
    assert found.tier == "COMPLEX"
    assert "tool_loop" in found.rules


def test_calls_without_results_yet_are_a_tool_loop() -> None:
    assert score(request(user(FACT), call())).tool_loop


def test_a_new_turn_ends_the_tool_loop() -> None:
    memory = ConversationMemory(level=0.6, tier="COMPLEX")
    found = score(request(user(DESIGN), call(), result(), answer(), user(FACT)), memory)
    assert not found.tool_loop
    assert found.tier == "SIMPLE"


def test_memory_does_not_decay_in_a_tool_loop() -> None:
    memory = ConversationMemory(level=0.7, tier="COMPLEX")
    loop = score(request(user(FACT), call(), result()), memory)
    assert remember(loop, memory).level == 0.7


TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from([*"aé证カ ?(\n", "prove ", "class", "first ", "json ", "- ", "1. "]), max_size=60).map(
        "".join
    ),
    st.sampled_from([FACT, PROOF, DESIGN, "thanks", "and now the second one"]),
)
MESSAGES = st.one_of(
    st.lists(TEXTS, max_size=3).map(lambda texts: user(*texts)),
    TEXTS.map(answer),
    st.just(call()),
    st.lists(TEXTS, max_size=2).map(lambda texts: result(*texts)),
    TEXTS.map(lambda text: Message(role="system", parts=[TextPart(text=text)])),
)
REQUESTS = st.lists(MESSAGES, max_size=6).map(lambda messages: request(*messages))
MEMORIES = st.none() | st.builds(ConversationMemory, level=st.floats(0, 1), tier=st.sampled_from(TIERS))


@given(REQUESTS, MEMORIES)
def test_any_request_has_a_score_and_always_the_same(given_request: Request, memory: ConversationMemory | None) -> None:
    found = score(given_request, memory)
    assert 0 <= found.score <= 1
    assert 0.5 <= found.confidence <= 1
    assert found.tier == tier_of(found.score)
    assert found == score(given_request, memory)


@given(REQUESTS, st.sampled_from(TIERS))
def test_no_tool_loop_falls_below_the_tier_of_its_memory(given_request: Request, tier: Any) -> None:
    found = score(given_request, ConversationMemory(level=0.0, tier=tier))
    assert not found.tool_loop or TIERS.index(found.tier) >= TIERS.index(tier)


@given(REQUESTS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_level_before_never_lowers_the_score(given_request: Request, one: float, other: float) -> None:
    low, high = sorted((one, other))
    scores = [score(given_request, ConversationMemory(level=level, tier="SIMPLE")).score for level in (low, high)]
    assert scores == sorted(scores)


@given(TEXTS)
def test_tools_pictures_and_structured_output_never_lower_the_score(text: str) -> None:
    plain = judged(text).score
    tool = Tool(kind="function", name="run")
    picture = ImagePart(source=Source(url="https://example.org/a.png"))
    with_picture = request(Message(role="user", parts=[TextPart(text=text), picture]))
    assert judged(text, tools=[tool]).score >= plain
    assert judged(text, output_format=OutputFormat(kind="json_object")).score >= plain
    assert score(with_picture).score >= plain
