"""What the simulated Claude says: the same request always gets the same blocks.

Words of the last user text that change the answer: "call the tool" (the first tool; "twice" makes it two calls),
"search the web" and "run the code" (when such a server tool is there), "ask the server" (when there is an MCP server),
"think in secret" (a second, redacted thinking block), "refuse", "pause the turn". Anthropic's own two magic strings
for redacted thinking and refusals work too.
"""

import re
from operator import itemgetter
from typing import Final

import msgspec

from .anthropic_cache import PromptTokens
from .anthropic_checks import Json
from .anthropic_citations import citations_for
from .anthropic_ids import block_id
from .anthropic_request import blocks_of, ends_with_tool_result, last_user_text, thinks
from .anthropic_server_tools import server_blocks
from .anthropic_thinking import Signer
from .behaviour import Behaviour
from .openai_completion import Words
from .schema_example import example_of
from .scripted_call import scripted_call

# docs/en/build-with-claude/extended-thinking and handle-streaming-refusals publish these strings for tests.
REDACTION: Final = (
    "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9A13E193C177646C7398A98432ECCCE4C1253D5E2D82641AC0E52CC2876CB"
)
REFUSAL: Final = (
    "ANTHROPIC_MAGIC_STRING_TRIGGER_REFUSAL_1FAEFB6177B4672DEE07F9D3AFC62588CCD2631EDCF22E8CCC1FB35B501C9C86"
)

# A word with the space before it; trailing space is a token too, so that the tokens add up to the text exactly.
_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_FRAGMENT: Final = 8


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One content block of an answer: ``head`` is it without what is streamed, the rest is what is streamed."""

    head: Json
    words: Words | None = None
    thought: str | None = None
    signature: str | None = None
    citations: tuple[Json, ...] = ()
    arguments: str | None = None

    def whole(self) -> Json:
        """The block as a buffered answer holds it."""
        block = dict(self.head)
        if self.words is not None:
            block["text"] = "".join(self.words)
        if self.citations:
            block["citations"] = list(self.citations)
        if self.thought is not None:
            block |= {"thinking": self.thought, "signature": self.signature or ""}
        if self.arguments is not None:
            block["input"] = msgspec.json.decode(self.arguments)
        return block

    def fragments(self) -> list[str]:
        """The arguments of a call in the pieces in which they are streamed; the first is empty, as Anthropic's is."""
        text = self.arguments or ""
        return ["", *(text[start : start + _FRAGMENT] for start in range(0, len(text), _FRAGMENT))]

    @property
    def tokens(self) -> int:
        """How many tokens were generated for it."""
        count = self.words.count if self.words is not None else 0
        return count + len(_TOKEN.findall(self.thought or "")) + -(-len(self.arguments or "") // _FRAGMENT)


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The blocks of an answer and why it ends."""

    blocks: tuple[Block, ...]
    stop_reason: str
    stop_sequence: str | None = None
    stop_details: Json | None = None
    server_uses: dict[str, int] = {}

    @property
    def thinking_tokens(self) -> int:
        """Tokens of thinking, hidden thinking included."""
        hidden = sum(20 for block in self.blocks if block.head["type"] == "redacted_thinking")
        return hidden + sum(block.tokens for block in self.blocks if block.head["type"] == "thinking")

    @property
    def tokens(self) -> int:
        """All tokens generated, of which thinking is a part."""
        return self.thinking_tokens + sum(b.tokens for b in self.blocks if b.head["type"] != "thinking")


_REFUSED: Final = {"type": "refusal", "category": None, "explanation": None}


class Writer(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer needs besides the request: ``serial`` makes its ids, ``room`` is what the context has left."""

    signer: Signer
    serial: str
    room: int
    behaviour: Behaviour


def complete(request: Json, writer: Writer) -> Completion:
    """The answer to a checked ``request``."""
    text = last_user_text(request)
    serial = writer.serial
    if request["max_tokens"] == 0:
        return Completion(blocks=(), stop_reason="max_tokens")
    if "refuse" in text.lower() or REFUSAL in text:
        return Completion(blocks=(), stop_reason="refusal", stop_details=_REFUSED)
    thoughts = _thoughts(request, text, writer.signer)
    calls = _calls(request, text, serial)
    if calls:
        return Completion(blocks=(*thoughts, *calls), stop_reason="tool_use")
    served, uses = server_blocks(request, text, serial)
    before = (*thoughts, *(Block(head=head, arguments=arguments) for head, arguments in served))
    if served and "pause the turn" in text:
        return Completion(blocks=before, stop_reason="pause_turn", server_uses=uses)
    answer, reason, stopped = _text(request, writer, sum(block.tokens for block in thoughts))
    said = Block(
        head={"type": "text", "text": ""}, words=answer, citations=tuple(citations_for(request, [h for h, _ in served]))
    )
    return Completion(
        blocks=(*before, said),
        stop_reason=reason,
        stop_sequence=stopped,
        stop_details=_REFUSED if reason == "refusal" else None,
        server_uses=uses,
    )


def usage(prompt: PromptTokens, made: Completion, behaviour: Behaviour) -> Json | None:
    """Anthropic's usage object, or None when it is to be left out."""
    if behaviour.usage == "none":
        return None
    if behaviour.prompt_tokens is not None:
        prompt = PromptTokens(uncached=behaviour.prompt_tokens)
    if behaviour.cached_tokens:
        left = max(0, prompt.uncached - behaviour.cached_tokens)
        prompt = msgspec.structs.replace(prompt, uncached=left, read=behaviour.cached_tokens)
    thinking = made.thinking_tokens + behaviour.reasoning_tokens
    output = made.tokens + behaviour.reasoning_tokens
    if behaviour.usage == "wrong":
        prompt = msgspec.structs.replace(prompt, uncached=prompt.uncached + 1_000_000)
        output = output * 10 + 7
    found: Json = {
        "input_tokens": prompt.uncached,
        "cache_creation_input_tokens": prompt.written_5m + prompt.written_1h,
        "cache_read_input_tokens": prompt.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": prompt.written_5m,
            "ephemeral_1h_input_tokens": prompt.written_1h,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": thinking},
        "service_tier": "standard",
        "inference_geo": "not_available",
    }
    if made.server_uses:
        found["server_tool_use"] = {"web_search_requests": 0, "web_fetch_requests": 0, **made.server_uses}
    return found


def _thoughts(request: Json, text: str, signer: Signer) -> list[Block]:
    if not thinks(request):
        return []
    secret = "think in secret" in text or REDACTION in text
    number = 1 + secret
    omitted = request["thinking"].get("display") == "omitted"
    thought = "" if omitted else f"The user says: {text}"
    blocks = [Block(head={"type": "thinking"}, thought=thought, signature=signer.sign(thought, 0, number))]
    if secret:
        data = signer.redact("hidden thought", 1, number)
        blocks.append(Block(head={"type": "redacted_thinking", "data": data}))
    return blocks


def _calls(request: Json, text: str, serial: str) -> list[Block]:
    choice = request.get("tool_choice") or {"type": "auto"}
    tools = [tool for tool in request.get("tools") or () if "input_schema" in tool]
    if choice["type"] == "tool":
        tools = [tool for tool in tools if tool["name"] == choice["name"]]
    wanted = "call the tool" in text and not ends_with_tool_result(request)
    if choice["type"] == "none" or (choice["type"] == "auto" and not wanted):
        tools = []
    if not tools:
        return []
    twice = "twice" in text and not choice.get("disable_parallel_tool_use")
    picked = (tools[0], tools[1 % len(tools)]) if twice else (tools[0],)
    made = [(tool, _dumps(example_of(tool["input_schema"]))) for tool in picked]
    if scripted := scripted_call(text, tools, itemgetter("name")):
        made = [scripted]
    return [
        Block(
            head={"type": "tool_use", "id": block_id("toolu", serial, at), "name": tool["name"], "input": {}},
            arguments=arguments,
        )
        for at, (tool, arguments) in enumerate(made)
    ]


def _text(request: Json, writer: Writer, spent: int) -> tuple[Words, str, str | None]:
    """The words, the stop reason and the stop sequence that was met."""
    cycle = _cycle(request)
    asked = writer.behaviour.tokens
    words = Words(cycle, len(cycle) if asked is None else asked)
    if writer.behaviour.filtered == "answer":
        return Words(words.cycle, min(words.count, writer.behaviour.after_events)), "refusal", None
    words, met = _up_to_stop(words, request.get("stop_sequences") or [])
    left = max(0, min(request["max_tokens"], writer.room) - spent)
    if words.count > left:
        full = writer.room < request["max_tokens"]
        return Words(words.cycle, left), "model_context_window_exceeded" if full else "max_tokens", None
    return words, "stop_sequence" if met is not None else "end_turn", met


def _cycle(request: Json) -> list[str]:
    wanted = (request.get("output_config") or {}).get("format") or request.get("output_format")
    text = _dumps(example_of(wanted["schema"])) if wanted else f"echo: {last_user_text(request)}"
    return _TOKEN.findall(_after_prefill(request, text))


def _after_prefill(request: Json, text: str) -> str:
    """What is left to say when the caller began the answer: nothing is said twice."""
    last = request["messages"][-1]
    if last["role"] != "assistant":
        return text
    begun = "".join(block["text"] for block in blocks_of(last) if block["type"] == "text")
    return text.removeprefix(begun) or "."


def _up_to_stop(words: Words, marks: list[str]) -> tuple[Words, str | None]:
    if not marks:
        return words, None
    text = "".join(words)
    found = [(position, mark) for mark in marks if mark and (position := text.find(mark)) >= 0]
    if not found:
        return words, None
    position, mark = min(found)
    kept = _TOKEN.findall(text[:position])
    return Words(kept or [""], len(kept)), mark


def _dumps(value: object) -> str:
    return msgspec.json.encode(value).decode()
