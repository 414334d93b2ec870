"""Which conversation a request belongs to."""

from typing import Any

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.dialects import openai_chat
from pointsman.policy.conversations import Conversation, conversation_of, fields_request

FIRST: Any = [{"role": "system", "content": "You code."}, {"role": "user", "content": "go on"}]


def of(messages: Any, key: str = "key_1", headers: dict[bytes, bytes] | None = None, **rest: Any) -> Conversation:
    """The conversation of an OpenAI request."""
    body = msgspec.json.encode({"model": "m", "messages": messages, **rest})
    found = conversation_of(key, headers or {}, openai_chat.read_request(body, ClientCall()))
    assert found is not None
    return found


def test_a_beginning_is_looked_for_nowhere_and_found_by_its_second_turn() -> None:
    begun = of(FIRST)
    assert begun.known == ()
    second = of([*FIRST, {"role": "assistant", "content": "done"}, {"role": "user", "content": "more"}])
    assert begun.kept in second.known
    third = of([*FIRST, {"role": "assistant", "content": "done"}, {"role": "user", "content": "x"}, *FIRST])
    assert second.kept == third.kept == third.known[0]


def test_system_text_tools_key_and_first_answer_tell_conversations_apart() -> None:
    tool = {"type": "function", "function": {"name": "read", "parameters": {}}}
    answered = [*FIRST, {"role": "assistant", "content": "done"}]
    other = [*FIRST, {"role": "assistant", "content": "not done"}]
    kept = [
        of(FIRST).kept,
        of(FIRST, key="key_2").kept,
        of(FIRST, tools=[tool]).kept,
        of([{"role": "system", "content": "You sing."}, FIRST[1]]).kept,
        of(answered).kept,
        of(other).kept,
    ]
    assert len(set(kept)) == len(kept)


def test_a_name_that_the_client_gives_counts_more_than_the_words() -> None:
    named = of(FIRST, headers={b"x-session-id": b"abc"})
    assert named.known == (named.kept,)
    assert named == of([{"role": "user", "content": "else"}], headers={b"x-session-id": b"abc"})
    assert named != of(FIRST, key="key_2", headers={b"x-session-id": b"abc"})


def test_the_raw_lane_tells_the_same_conversation() -> None:
    messages = [*FIRST, {"role": "assistant", "content": "done"}, {"role": "user", "content": "more"}]
    body = msgspec.json.encode({"model": "m", "messages": messages, "temperature": 1})
    call = openai_chat.parse_request(body)
    assert conversation_of("key_1", {}, fields_request(call.fields)) == of(messages)


def test_what_can_not_be_read_has_no_conversation() -> None:
    assert fields_request({"messages": msgspec.Raw(b'[{"role":"user","content":7}]')}) is None
    assert conversation_of("key_1", {}, None) is None
