"""Requests for Gemini models: the whole body from our own words."""

import re
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import OutputFormat, Request
from pointsman.providers.gemini.contents import ContentsWriter, put_all
from pointsman.providers.gemini.target import Target, takes_token, target_of
from pointsman.providers.gemini.thinking import thinking_of
from pointsman.providers.gemini.tools import note_schema, tool_config_of, tools_of
from pointsman.wire.bodies import read_members
from pointsman.wire.gemini import WIRE
from pointsman.wire.gemini_schema import GEMINI_ONLY, VERTEX_ONLY

Json = dict[str, Any]
# Ours and Google's names of the options that mean the same.
_SAME: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "choices": "candidateCount",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "logprobs": "responseLogprobs",
}
_LACKING: Final = {
    "max_tool_calls": "Gemini can't be held to a number of calls",
    "min_p": "Gemini has no such option",
    "top_a": "Gemini has no such option",
    "repetition_penalty": "Gemini has no such option",
    "logit_bias": "Gemini has no such option",
    "verbosity": "Gemini has no such option",
    "user": "Gemini takes no name of the user",
    "safety_identifier": "Gemini takes no name of the user",
    "prompt_cache_key": "Gemini caches prompts by itself",
    "prompt_cache_retention": "Gemini caches prompts by itself",
    "cache": "Gemini caches prompts by itself",
    "prediction": "Gemini has no such option",
}
_TIERS: Final = {"default": "standard", "flex": "flex", "priority": "priority"}
_MOST_STOPS: Final = 5  # Google's limit
_LABEL_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE: Final = re.compile(r"[a-z0-9_-]{0,63}")
_CONFIG: Final = "generationConfig."
_STREAMED_ARGUMENTS: Final = "toolConfig.functionCallingConfig.streamFunctionCallArguments"

_encode: Final = msgspec.json.Encoder().encode


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """generateContent, or streamGenerateContent as server-sent events. Raises GatewayError for what can't be meant."""
    target = target_of(upstream)
    body = _body(request, target, fidelity)
    config = _config(request, upstream, target, fidelity)
    if config:
        body["generationConfig"] = config
    _put_rest(body, request, target, fidelity)
    _note_lacking(request, fidelity)
    return Built(path=_path(target, stream=request.stream), body=_encode(body))


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The client's own body: Gemini's path names the model, and the body only where it has done so before.

    Raises GatewayError(INVALID_REQUEST) when ``body`` is no JSON object.
    """
    target, members = target_of(upstream), read_members(body)
    if "model" in members:
        members["model"] = msgspec.Raw(_encode(target.name))
    return Built(path=_path(target, stream=request.stream), body=_encode(members))


def build_count_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """countTokens for the same prompt. Raises GatewayError for what can't be meant."""
    target = target_of(upstream)
    body = _body(request, target, fidelity)
    if not target.vertex:
        body = {"generateContentRequest": {"model": target.name, **body}}
    else:
        body.pop("toolConfig", None)
    return Built(path=f"{target.path}:countTokens", body=_encode(body))


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """A key, or for a project on Vertex AI a bearer token."""
    if takes_token(upstream):
        return (("authorization", f"Bearer {secret}"),)
    return (("x-goog-api-key", secret),)


def lacks(upstream: Upstream) -> frozenset[str]:
    """Pictures and documents by address are not taken by every model: they are fetched."""
    return frozenset({"image_url", "file_url"})


def _path(target: Target, *, stream: bool) -> str:
    return f"{target.path}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"


def _body(request: Request, target: Target, fidelity: Fidelity) -> Json:
    writer = ContentsWriter(request, target, fidelity)
    writer.write()
    body: Json = {"contents": writer.contents}
    if writer.system:
        body["systemInstruction"] = {"parts": writer.system}
    tools = tools_of(request, target, fidelity)
    if tools:
        body["tools"] = tools
    calling = tool_config_of(request, fidelity)
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}
    return body


def _config(request: Request, upstream: Upstream, target: Target, fidelity: Fidelity) -> Json:
    config: Json = {}
    for ours, theirs in _SAME.items():
        value = getattr(request, ours)
        if value is not None:
            config[theirs] = value
    _limit(config, request, upstream, fidelity)
    if request.top_logprobs is not None:
        config.setdefault("responseLogprobs", True)
        config["logprobs"] = request.top_logprobs
    if request.stop is not None:
        config["stopSequences"] = request.stop[:_MOST_STOPS]
        for number in range(_MOST_STOPS, len(request.stop)):
            fidelity.dropped(f"{request.path('stop')}[{number}]", f"Gemini takes {_MOST_STOPS} at most")
    if request.output_format is not None:
        _format(config, request.output_format, request.path("output_format"), fidelity)
    if (thinking := thinking_of(request, target, fidelity)) is not None:
        config["thinkingConfig"] = thinking
    if request.modalities is not None:
        config["responseModalities"] = [one.upper() for one in request.modalities]
    if request.audio is not None:
        _speech(config, request, fidelity)
    return config


def _limit(config: Json, request: Request, upstream: Upstream, fidelity: Fidelity) -> None:
    wanted, most = request.max_output_tokens, upstream.max_output_tokens
    if wanted is None:
        return
    config["maxOutputTokens"] = wanted if most is None else min(wanted, most)
    if most is not None and wanted > most:
        fidelity.approximated(request.path("max_output_tokens"), f"this model's answers end at {most} tokens")


def _format(config: Json, wanted: OutputFormat, path: str, fidelity: Fidelity) -> None:
    if wanted.kind == "grammar":
        fidelity.dropped(path, "Gemini has no grammars")
        return
    config["responseMimeType"] = "text/plain" if wanted.kind == "text" else "application/json"
    if wanted.kind != "json_schema":
        return
    schema = dict(wanted.schema or {"type": "object"})
    if wanted.description is not None and "description" not in schema:
        schema["description"] = wanted.description
    elif wanted.description is not None:
        fidelity.dropped(f"{path}.description", "the schema has a description of its own")
    config["responseJsonSchema"] = schema
    note_schema(schema, f"{path}.schema", fidelity)
    if wanted.name is not None:
        fidelity.approximated(f"{path}.name", "Gemini's schemas have no names")
    if wanted.strict is not None:
        fidelity.mapped(f"{path}.strict", "Gemini binds every answer to its schema")


def _speech(config: Json, request: Request, fidelity: Fidelity) -> None:
    path = request.path("audio")
    for name, value in (request.audio or {}).items():
        if name == "voice" and isinstance(value, str):
            config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": value}}}
        else:
            fidelity.dropped(f"{path}.{name}", "Gemini's speech has no such setting")


def _put_rest(body: Json, request: Request, target: Target, fidelity: Fidelity) -> None:
    """Options that stand beside generationConfig, and what a Gemini client said beyond our words."""
    if request.metadata is not None:
        _labels(body, request, target, fidelity)
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier)
        if tier is not None:
            body["serviceTier"] = tier
        elif request.service_tier == "auto":
            fidelity.mapped(request.path("service_tier"), "Google's default")
        else:
            fidelity.dropped(request.path("service_tier"), "Google has no such tier")
    if request.store is not None:
        _store(body, request, target, fidelity)
    if request.wire != WIRE:
        for path in request.extra:
            fidelity.dropped(path, "Gemini has no such member")
        return
    for path, value in request.extra.items():
        if _is_foreign(path, target):
            fidelity.dropped(path, "only Vertex AI has it" if not target.vertex else "only the Gemini API has it")
        elif path == _STREAMED_ARGUMENTS:
            fidelity.approximated(path, "calls are given out when they are whole")
        else:
            put_all(body, {path: value})


def _is_foreign(path: str, target: Target) -> bool:
    hidden = GEMINI_ONLY if target.vertex else VERTEX_ONLY
    if path.startswith(_CONFIG):
        return path.removeprefix(_CONFIG).partition(".")[0] in hidden["GenerationConfig"]
    return path in hidden["GenerateContentRequest"]


def _labels(body: Json, request: Request, target: Target, fidelity: Fidelity) -> None:
    path = request.path("metadata")
    if not target.vertex:
        for key in request.metadata or ():
            fidelity.dropped(f"{path}.{key}", "the Gemini API takes no labels")
        return
    labels: Json = {}
    for key, value in (request.metadata or {}).items():
        if _LABEL_KEY.fullmatch(key) and isinstance(value, str) and _LABEL_VALUE.fullmatch(value):
            labels[key] = value
        else:
            fidelity.dropped(f"{path}.{key}", "Google's labels are small letters, digits, - and _")
    if labels:
        body["labels"] = labels


def _store(body: Json, request: Request, target: Target, fidelity: Fidelity) -> None:
    path = request.path("store")
    if request.wire == WIRE and not target.vertex:
        body["store"] = request.store
    elif request.store:
        fidelity.dropped(path, "Gemini keeps no answers to be fetched later")
    else:
        fidelity.mapped(path, "Gemini keeps no answers")


def _note_lacking(request: Request, fidelity: Fidelity) -> None:
    for name, reason in _LACKING.items():
        if getattr(request, name) is not None:
            fidelity.dropped(request.path(name), reason)
    if request.parallel_tool_calls is not None:
        path = request.path("parallel_tool_calls")
        if request.parallel_tool_calls:
            fidelity.mapped(path, "Gemini's default")
        else:
            fidelity.dropped(path, "Gemini can't be held to one call at a time")
    for beta in request.betas:
        fidelity.dropped(f"{request.path('betas')}.{beta}", "a beta of another API")
