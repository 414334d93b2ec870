"""The vault: state that clients strip comes back, to its maker and its owner only."""

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.parts import AnyPart, Opaque, ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.request import Message, Request
from pointsman.policy.opaque_state import KEEP_SECONDS, Vault

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


def asking(parts: list[AnyPart]) -> Request:
    user = Message(role="user", parts=[TextPart(text="Look.")])
    return Request(
        wire="openai.chat",
        model="m",
        messages=[user, Message(role="assistant", parts=parts, path="messages[1]"), user],
    )


def restored(
    vault: Vault, parts: list[AnyPart], workspace: str = "ws_1", wire: str = "anthropic", now: float = 1.0
) -> tuple[list[AnyPart], Fidelity]:
    request, fidelity = asking(parts), Fidelity()
    vault.restore(workspace, request, wire, now, fidelity)
    return request.messages[1].parts, fidelity


def keeping(parts: list[AnyPart]) -> Vault:
    vault = Vault()
    vault.keep("ws_1", parts, 0.0)
    return vault


def shape(parts: list[AnyPart]) -> list[tuple[str, str | None]]:
    return [(type(part).__name__, part.opaque.data if part.opaque is not None else None) for part in parts]


def test_stripped_reasoning_comes_back_where_it_stood() -> None:
    parts, fidelity = restored(keeping(answer()), stripped())
    assert shape(parts) == shape(answer())
    assert [(note.path, note.action) for note in fidelity.notes] == [("messages[1]", Action.SYNTHESISED)]


def test_one_call_id_is_enough_to_find_it() -> None:
    vault = keeping(answer())
    second = Vault()
    second._entries = {key: value for key, value in vault._entries.items() if key in list(vault._entries)[1:]}  # type: ignore[assignment]
    second._entries = type(vault._entries)(second._entries)
    parts, _ = restored(second, stripped())
    assert shape(parts) == shape(answer())


def test_state_on_a_call_comes_back_on_that_call() -> None:
    call = ToolCallPart(id="call_9", name="look", arguments="{}", opaque=THOUGHT)
    parts, _ = restored(keeping([call]), [ToolCallPart(id="call_9", name="look", arguments="{}")], wire="gemini")
    assert shape(parts) == [("ToolCallPart", "thought-1")]


def test_an_answer_without_calls_is_found_by_its_text() -> None:
    vault = keeping([ReasoningPart(text="Hm.", opaque=SIGNATURE), TextPart(text="It is Paris.")])
    parts, _ = restored(vault, [TextPart(text="It is Paris.")])
    assert shape(parts) == [("ReasoningPart", "sig-1"), ("TextPart", None)]


def test_an_empty_text_that_a_client_adds_to_a_call_shifts_nothing() -> None:
    vault = keeping([ToolCallPart(id="call_9", name="look", arguments="{}", opaque=THOUGHT)])
    added = [TextPart(text=""), ToolCallPart(id="call_9", name="look", arguments="{}")]
    parts, _ = restored(vault, added, wire="gemini")
    assert shape(parts) == [("TextPart", None), ("ToolCallPart", "thought-1")]


def test_another_tenant_gets_nothing() -> None:
    parts, fidelity = restored(keeping(answer()), stripped(), workspace="ws_2")
    assert shape(parts) == shape(stripped())
    assert not fidelity


def test_state_does_not_go_to_another_api() -> None:
    parts, _ = restored(keeping(answer()), stripped(), wire="gemini")
    assert shape(parts) == shape(stripped())


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
        vault.keep("ws_1", [ToolCallPart(id=f"call_{number}", name="look", opaque=THOUGHT)], 0.0)
    assert vault.bytes <= 10_000
    assert 0 < len(vault) < 1000
    last, _ = restored(vault, [ToolCallPart(id="call_999", name="look")], wire="gemini")
    assert last[0].opaque == THOUGHT
    first, _ = restored(vault, [ToolCallPart(id="call_0", name="look")], wire="gemini")
    assert first[0].opaque is None


def test_a_turn_that_the_client_rewrote_is_not_touched() -> None:
    call = ToolCallPart(id="call_2", name="look", opaque=THOUGHT)
    vault = keeping([TextPart(text="a"), ToolCallPart(id="call_1", name="look"), call])
    shorter: list[AnyPart] = [ToolCallPart(id="call_2", name="look")]
    parts, _ = restored(vault, shorter, wire="gemini")
    assert shape(parts) == [("ToolCallPart", None)]


def test_a_client_without_ids_gets_it_back_by_what_was_said_and_called() -> None:
    call = ToolCallPart(id="toolu_1", name="look", arguments='{"at": 1, "for": "it"}')
    vault = keeping([ReasoningPart(text="First I look.", opaque=SIGNATURE), call])
    renamed: list[AnyPart] = [ToolCallPart(id="call_1_0", name="look", arguments='{"for":"it","at":1}')]
    request = asking(renamed)
    vault.restore("ws_1", request, "anthropic", 1.0, Fidelity())
    assert shape(request.messages[1].parts) == [("ToolCallPart", None)]
    request.wire = "ollama"
    vault.restore("ws_2", request, "anthropic", 1.0, Fidelity())
    assert shape(request.messages[1].parts) == [("ToolCallPart", None)]
    vault.restore("ws_1", request, "anthropic", 1.0, Fidelity())
    assert shape(request.messages[1].parts) == [("ReasoningPart", "sig-1"), ("ToolCallPart", None)]


def test_an_empty_text_beside_the_calls_does_not_shift_them() -> None:
    vault = keeping([ToolCallPart(id="call_1", name="look", arguments="{}", opaque=THOUGHT)])
    told: list[AnyPart] = [TextPart(text=""), ToolCallPart(id="call_1", name="look", arguments="{}")]
    parts, _ = restored(vault, told, wire="gemini")
    assert shape(parts) == [("TextPart", None), ("ToolCallPart", "thought-1")]
