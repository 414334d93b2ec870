"""A chat request in our own words. Dialects make it, provider formats read it; it knows neither.

Every option is None when the client did not give it: the gateway adds no defaults of its own. ``paths`` holds, for
options whose client name is not ours, the client's own path, so that errors and the fidelity ledger name what the
client wrote: ``request.path("max_output_tokens")`` is ``max_tokens`` for an Anthropic client. ``names`` does the same
for members of parts, tools and objects, for a whole dialect: ``detail`` is ``image_url.detail`` for a Chat client. A
key may name what the member stands in (``tools.strict``); a value may begin with ``/`` (from the body) or ``../``.
"""

from typing import Any, Final, Literal

import msgspec

from pointsman.canonical.parts import AnyPart, CacheMark, Extra

Role = Literal["system", "developer", "user", "assistant"]


class Message(msgspec.Struct, kw_only=True):
    """One turn's worth of parts of one speaker.

    Tool results stand in messages of role ``user``, wherever the client's API puts them. System and developer
    messages may stand anywhere.
    """

    role: Role
    parts: list[AnyPart]
    name: str | None = None
    path: str = ""
    extra: Extra | None = None


class Tool(msgspec.Struct, kw_only=True):
    """Something the model may call: a function with a JSON schema, a custom tool with free or grammar text, or a
    ``native`` one that the API named by ``wire`` runs itself (``value`` is the whole definition as it came).
    """

    kind: Literal["function", "custom", "native"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: Extra | None = None  # of a custom tool: OpenAI's grammar object
    namespace: str | None = None
    cache: CacheMark | None = None
    wire: str | None = None
    value: Extra | None = None
    path: str = ""
    extra: Extra | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """What the client said of it: its path, and that of the namespace that it stands in."""
        return (self.path,) if self.namespace is None else (self.path, self.path.rpartition(".tools[")[0] or self.path)


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools may or must be used.

    ``auto``, ``none``, ``required``: as they say. ``tool``: exactly ``name``. ``allowed`` limits the names in all
    modes. ``native``: a tool of the API ``wire`` is forced, ``value`` says which.
    """

    mode: Literal["auto", "none", "required", "tool", "native"]
    name: str | None = None
    kind: Literal["function", "custom"] = "function"
    allowed: tuple[str, ...] | None = None
    wire: str | None = None
    value: Extra | None = None


class OutputFormat(msgspec.Struct, kw_only=True):
    """What the answer's text has to be."""

    kind: Literal["text", "json_object", "json_schema", "grammar"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    value: Extra | None = None  # a grammar, as the client wrote it


class ReasoningOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How much to think and what to show of it.

    ``effort`` is one of none, minimal, low, medium, high, xhigh, max; ``max_tokens`` a budget in tokens. ``adaptive``:
    the model decides. ``summary`` asks for summaries (auto, concise, detailed); ``exclude``: think, but don't show it.
    ``encrypted``: give the hidden state to the client.
    """

    enabled: bool | None = None
    effort: str | None = None
    max_tokens: int | None = None
    adaptive: bool | None = None
    summary: str | None = None
    exclude: bool | None = None
    encrypted: bool | None = None


LONG_CONTEXT: Final = "[1m]"  # behind a Claude model's name: how some clients ask for the large window
LONG_CONTEXT_BETA: Final = "context-1m-2025-08-07"  # what Anthropic's API calls it


class Request(msgspec.Struct, kw_only=True):
    """A chat request. ``wire`` is the API that the client speaks; ``extra`` what it said that has no word here, by
    path (``stream_options.include_obfuscation``): given back to providers of the same API, dropped by name elsewhere.
    """

    wire: str
    model: str
    messages: list[Message]
    stream: bool = False
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    output_format: OutputFormat | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: int | None = None
    choices: int | None = None
    stop: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    top_a: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    user: str | None = None  # the end user's name, for abuse reports
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    cache: CacheMark | None = None  # a mark for the whole prompt, at no part
    modalities: list[str] | None = None
    audio: Extra | None = None  # voice and format of spoken answers, as OpenAI has them
    prediction: Extra | None = None
    web_search: Extra | None = None  # OpenAI's web_search_options
    include_usage: bool | None = None  # whether a stream's usage was asked for; the upstream is always asked
    betas: tuple[str, ...] = ()  # anthropic-beta
    paths: dict[str, str] = {}
    names: dict[str, str] = {}
    extra: Extra = {}

    @property
    def all_betas(self) -> tuple[str, ...]:
        """The betas, with that of the large window when the model was asked for by its name and ``[1m]``."""
        if not self.model.endswith(LONG_CONTEXT) or LONG_CONTEXT_BETA in self.betas:
            return self.betas
        return (*self.betas, LONG_CONTEXT_BETA)

    def path(self, option: str) -> str:
        """The client's own name of one of this struct's options."""
        return self.paths.get(option, option)


# The options that a provider format either sends or reports: everything that a client may have set above.
OPTIONS = (
    "tool_choice", "parallel_tool_calls", "max_tool_calls", "output_format", "reasoning", "max_output_tokens",
    "choices", "stop", "temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "seed", "logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity", "user",
    "safety_identifier", "metadata", "store", "prompt_cache_key", "prompt_cache_retention", "cache", "modalities",
    "audio", "prediction", "web_search", "betas",
)  # fmt: skip
