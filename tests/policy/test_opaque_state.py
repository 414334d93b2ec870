"""The vault: state that clients strip comes back, to its maker and its owner only."""

import copy

import msgspec
import pytest

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.parts import AnyPart, Opaque, ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.request import Message, ReasoningOptions, Request
from pointsman.policy.opaque_state import KEEP_SECONDS, Vault
from pointsman.policy.opaque_turns import Answerer, make_answerer

SIGNATURE = Opaque(origin="anthropic", kind="signature", data="sig-1")
THOUGHT = Opaque(origin="gemini", kind="thought_signature", data="thought-1")


def answer() -> list[AnyPart]:
    return [
        ReasoningPart(text="First I look.", opaque=SIGNATURE),
        TextPart(text="Let me look."),
        ToolCallPart(id="call_1", name="look", arguments="{}"),
        ReasoningPart(text="And again.", opaque=Opaque(origin="anthropic", kind="signature", data="sig-2")),
        ToolCallPart(id="call_2", name="look", arguments="{}"),
    ]


def stripped() -> list[AnyPart]:
    return [
        TextPart(text="Let me look."),
        ToolCallPart(id="call_1", name="look", arguments="{}"),
        ToolCallPart(id="call_2", name="look", arguments="{}"),
    ]


def answerer(wire: str) -> Answerer:
    return make_answerer(wire, "models.example", 443, "one")


def asking(parts: list[AnyPart]) -> Request:
    user = Message(role="user", parts=[TextPart(text="Look.")])
    return Request(
        wire="openai.chat",
        model="m",
        messages=[user, Message(role="assistant", parts=parts, path="messages[1]"), user],
        reasoning=ReasoningOptions(effort="low"),
    )


def restored(
    vault: Vault, parts: list[AnyPart], workspace: str = "ws_1", wire: str = "anthropic", now: float = 1.0
) -> tuple[list[AnyPart], Fidelity]:
    request, fidelity = asking(parts), Fidelity()
    assert vault.restore(workspace, request, answerer(wire), now, fidelity) == []
    return request.messages[1].parts, fidelity


def first_turn(wire: str = "openai.chat") -> Request:
    request = asking([])
    return Request(wire=wire, model="m", messages=request.messages[:1])


def keeping(parts: list[AnyPart], wire: str = "anthropic", client: str = "openai.chat") -> Vault:
    vault = Vault()
    vault.keep("ws_1", first_turn(client), answerer(wire), parts, 0.0)
    return vault


def shape(parts: list[AnyPart]) -> list[tuple[str, str | None]]:
    return [(type(part).__name__, part.opaque.data if part.opaque is not None else None) for part in parts]


def test_stripped_reasoning_comes_back_where_it_stood() -> None:
    parts, fidelity = restored(keeping(answer()), stripped())
    assert shape(parts) == shape(answer())
    assert [(note.path, note.action) for note in fidelity.notes] == [("messages[1]", Action.SYNTHESISED)]


def test_one_call_id_is_enough_to_find_it() -> None:
    calls: list[AnyPart] = [ToolCallPart(id="call_2", name="look"), ToolCallPart(id="call_3", name="look")]
    parts, _ = restored(keeping(answer()), [TextPart(text="Let me look."), *calls])
    assert shape(parts) == shape(answer())


def test_state_on_a_call_comes_back_on_that_call() -> None:
    call = ToolCallPart(id="call_9", name="look", arguments="{}", opaque=THOUGHT)
    parts, _ = restored(keeping([call], "gemini"), [ToolCallPart(id="call_9", name="look")], wire="gemini")
    assert shape(parts) == [("ToolCallPart", "thought-1")]


def test_an_answer_without_calls_is_found_by_its_text() -> None:
    vault = keeping([ReasoningPart(text="Hm.", opaque=SIGNATURE), TextPart(text="It is Paris.")])
    parts, _ = restored(vault, [TextPart(text="It is Paris.")])
    assert shape(parts) == [("ReasoningPart", "sig-1"), ("TextPart", None)]


def test_an_empty_text_that_a_client_adds_to_a_call_shifts_nothing() -> None:
    vault = keeping([ToolCallPart(id="call_9", name="look", arguments="{}", opaque=THOUGHT)], "gemini")
    added: list[AnyPart] = [TextPart(text=""), ToolCallPart(id="call_9", name="look", arguments="{}")]
    parts, _ = restored(vault, added, wire="gemini")
    assert shape(parts) == [("TextPart", None), ("ToolCallPart", "thought-1")]


def test_another_tenant_gets_nothing() -> None:
    parts, fidelity = restored(keeping(answer()), stripped(), workspace="ws_2")
    assert shape(parts) == shape(stripped())
    assert not fidelity


def test_state_does_not_go_to_another_api_and_the_ledger_says_so() -> None:
    parts, fidelity = restored(keeping(answer()), stripped(), wire="gemini")
    assert shape(parts) == shape(stripped())
    [note] = fidelity.notes
    assert (note.path, note.action) == ("messages[1]", Action.APPROXIMATED)
    assert note.detail.endswith("only its maker reads: anthropic models.example:443")


def test_state_does_not_go_to_another_maker_that_speaks_the_same_api() -> None:
    request, fidelity = asking(stripped()), Fidelity()
    other = make_answerer("anthropic", "other.example", 443, "two")
    keeping(answer()).restore("ws_1", request, other, 1.0, fidelity)
    assert shape(request.messages[1].parts) == shape(stripped())
    assert fidelity.counts == {Action.APPROXIMATED: 1}


def test_state_that_a_client_carries_to_another_maker_is_taken_out_and_called_dropped() -> None:
    hidden = Opaque(origin="anthropic", kind="redacted", data="hidden-1")
    whole: list[AnyPart] = [ReasoningPart(opaque=hidden), *answer()]
    vault = keeping(whole)
    told = [msgspec.structs.replace(part) for part in whole]
    request, fidelity = asking(told), Fidelity()
    vault.restore("ws_1", request, answerer("anthropic"), 1.0, fidelity)
    assert shape(request.messages[1].parts) == shape(whole)
    assert not fidelity
    other = make_answerer("anthropic", "other.example", 443, "two")
    vault.restore("ws_1", request, other, 1.0, fidelity)
    assert shape(request.messages[1].parts) == [(name, None) for name, _ in shape(answer())]
    assert fidelity.counts == {Action.DROPPED: 3}


def test_what_is_put_back_for_one_target_is_not_there_when_the_next_one_is_tried() -> None:
    vault, request = keeping(answer()), asking(stripped())
    one, two = copy.copy(request), copy.copy(request)
    one.messages, two.messages = list(request.messages), list(request.messages)
    vault.restore("ws_1", one, answerer("anthropic"), 1.0, Fidelity())
    assert shape(one.messages[1].parts) == shape(answer())
    fidelity = Fidelity()
    vault.restore("ws_1", two, make_answerer("anthropic", "other.example", 443, "two"), 1.0, fidelity)
    assert shape(two.messages[1].parts) == shape(stripped())
    assert fidelity.counts == {Action.APPROXIMATED: 1}


@pytest.mark.parametrize(
    ("wire", "one", "other", "same"),
    [
        ("anthropic", ("api.anthropic.com", "a"), ("api.anthropic.com", "b"), True),
        ("bedrock", ("bedrock.us-east-1.amazonaws.com", "a"), ("bedrock.eu-west-1.amazonaws.com", "b"), True),
        ("gemini", ("generativelanguage.googleapis.com", "a"), ("us-aiplatform.googleapis.com", "b"), True),
        ("anthropic", ("api.anthropic.com", "a"), ("api.minimax.io", "b"), False),
        ("openai.responses", ("api.openai.com", "a"), ("api.openai.com", "b"), False),
        ("openai.chat", ("api.deepseek.com", "a"), ("api.moonshot.ai", "b"), False),
    ],
)  # fmt: skip
def test_a_maker_is_a_host_or_where_state_is_bound_to_it_an_account(
    wire: str, one: tuple[str, str], other: tuple[str, str], same: bool
) -> None:
    makers = {make_answerer(wire, host, 443, connection).maker for host, connection in (one, other)}
    assert (len(makers) == 1) is same


def test_state_of_a_model_behind_another_api_comes_back_there() -> None:
    """A thought signature in OpenAI's words, as Google's compatible API has it."""
    vault = keeping([ToolCallPart(id="call_9", name="look", opaque=THOUGHT)], "openai.chat")
    parts, _ = restored(vault, [ToolCallPart(id="call_9", name="look")], wire="openai.chat")
    assert shape(parts) == [("ToolCallPart", "thought-1")]


def test_the_same_words_in_another_conversation_bring_nothing() -> None:
    vault = keeping([ReasoningPart(text="Her number is 5.", opaque=SIGNATURE), TextPart(text="Done.")])
    request = asking([TextPart(text="Done.")])
    request.messages[0].parts = [TextPart(text="Look there.")]
    vault.restore("ws_1", request, answerer("anthropic"), 1.0, Fidelity())
    assert shape(request.messages[1].parts) == [("TextPart", None)]


def test_a_text_brings_nothing_back_for_who_asks_for_no_thoughts() -> None:
    vault = keeping([ReasoningPart(text="Hm.", opaque=SIGNATURE), TextPart(text="It is Paris.")])
    request = asking([TextPart(text="It is Paris.")])
    for asked in (None, ReasoningOptions(enabled=False), ReasoningOptions(effort="none")):
        request.reasoning = asked
        vault.restore("ws_1", request, answerer("anthropic"), 1.0, Fidelity())
        assert shape(request.messages[1].parts) == [("TextPart", None)]


def test_instructions_that_change_do_not_part_a_conversation() -> None:
    vault = keeping([ReasoningPart(text="Hm.", opaque=SIGNATURE), TextPart(text="It is Paris.")])
    request = asking([TextPart(text="It is Paris.")])
    request.messages.insert(0, Message(role="system", parts=[TextPart(text="It is 12:01.")]))
    vault.restore("ws_1", request, answerer("anthropic"), 1.0, Fidelity())
    assert shape(request.messages[2].parts) == [("ReasoningPart", "sig-1"), ("TextPart", None)]


def test_what_the_client_kept_is_left_alone() -> None:
    own = [ReasoningPart(text="First I look.", opaque=SIGNATURE), *stripped()]
    parts, fidelity = restored(keeping(answer()), own)
    assert parts == own
    assert not fidelity


def test_visible_reasoning_without_its_signature_is_replaced_by_the_kept_one() -> None:
    parts, _ = restored(keeping(answer()), [ReasoningPart(text="First I look."), *stripped()])
    assert shape(parts) == shape(answer())


def test_old_state_is_forgotten() -> None:
    parts, _ = restored(keeping(answer()), stripped(), now=KEEP_SECONDS + 1.0)
    assert shape(parts) == shape(stripped())


def test_answers_without_state_take_no_room() -> None:
    assert len(keeping([TextPart(text="Plain."), ToolCallPart(id="call_1", name="look")])) == 0


def test_the_vault_keeps_to_its_measure_and_drops_the_oldest() -> None:
    vault = Vault(max_bytes=10_000)
    for number in range(1000):
        call = ToolCallPart(id=f"call_{number}", name="look", opaque=THOUGHT)
        vault.keep("ws_1", first_turn(), answerer("gemini"), [call], 0.0)
    assert vault.bytes <= 10_000
    assert 0 < len(vault) < 1000
    last, _ = restored(vault, [ToolCallPart(id="call_999", name="look")], wire="gemini")
    assert last[0].opaque == THOUGHT
    first, _ = restored(vault, [ToolCallPart(id="call_0", name="look")], wire="gemini")
    assert first[0].opaque is None


def test_a_turn_that_the_client_rewrote_is_not_touched() -> None:
    call = ToolCallPart(id="call_2", name="look", opaque=THOUGHT)
    vault = keeping([TextPart(text="a"), ToolCallPart(id="call_1", name="look"), call], "gemini")
    shorter: list[AnyPart] = [ToolCallPart(id="call_2", name="look")]
    parts, _ = restored(vault, shorter, wire="gemini")
    assert shape(parts) == [("ToolCallPart", None)]


def test_a_client_without_ids_gets_it_back_by_what_was_said_and_called() -> None:
    call = ToolCallPart(id="toolu_1", name="look", arguments='{"at": 1, "for": "it"}')
    vault = keeping([ReasoningPart(text="First I look.", opaque=SIGNATURE), call], client="ollama")
    renamed: list[AnyPart] = [ToolCallPart(id="call_1_0", name="look", arguments='{"for":"it","at":1}')]
    request = asking(renamed)
    request.wire = "ollama"
    vault.restore("ws_2", request, answerer("anthropic"), 1.0, Fidelity())
    assert shape(request.messages[1].parts) == [("ToolCallPart", None)]
    vault.restore("ws_1", request, answerer("anthropic"), 1.0, Fidelity())
    assert shape(request.messages[1].parts) == [("ReasoningPart", "sig-1"), ("ToolCallPart", None)]


def test_state_on_a_call_does_not_move_to_another_when_the_client_left_a_text_out() -> None:
    calls = [ToolCallPart(id="call_1", name="look", opaque=THOUGHT), ToolCallPart(id="call_2", name="look")]
    vault = keeping([TextPart(text="a"), *calls], "gemini")
    left: list[AnyPart] = [ToolCallPart(id="call_1", name="look"), ToolCallPart(id="call_2", name="look")]
    parts, _ = restored(vault, left, wire="gemini")
    assert shape(parts) == shape(left)
