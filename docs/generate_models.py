"""Writes src/pointsman/routing/data/models.json: what models can do. Facts only, from two public packages under MIT.

    pip download --no-deps litellm
    unzip -p litellm-*.whl litellm/model_prices_and_context_window_backup.json > l.json
    python docs/generate_models.py l.json LITELLM_VERSION DATE

genai-prices (installed) gives the names ``author/model`` and context windows, LiteLLM's table limits, modalities,
parameters and the end of life. DATE (YYYY-MM-DD) is written into the file's head with the versions.
"""

import re
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from pointsman.providers.hosts import hosts
from pointsman.routing.capabilities import Head, Row, Source, plain_name

OUT = Path(__file__).resolve().parent.parent / "src/pointsman/routing/data/models.json"
MAX_TOKENS = 100_000_000
# LiteLLM's providers: our host, and the author of models that only this provider's rows name.
PROVIDERS: dict[str, tuple[str, str | None]] = {
    "openai": ("openai", "openai"), "text-completion-openai": ("openai", "openai"),
    "anthropic": ("anthropic", "anthropic"),
    "gemini": ("gemini", "google"), "mistral": ("mistral", "mistralai"), "xai": ("xai", "x-ai"),
    "cohere": ("cohere", "cohere"), "cohere_chat": ("cohere", "cohere"), "deepseek": ("deepseek", "deepseek"),
    "moonshot": ("moonshot", "moonshotai"), "zai": ("zai", "z-ai"), "perplexity": ("perplexity", "perplexity"),
    "minimax": ("minimax", "minimax"), "voyage": ("voyage", "voyageai"), "jina_ai": ("jina", "jina-ai"),
    "ai21": ("ai21", "ai21"), "dashscope": ("alibaba", "qwen"), "meta": ("meta-llama", "meta-llama"),
    "azure": ("azure", None), "azure_ai": ("azure", None), "bedrock": ("bedrock", None),
    "bedrock_converse": ("bedrock", None),
    "groq": ("groq", None), "together_ai": ("together", None), "fireworks_ai": ("fireworks", None),
    "cerebras": ("cerebras", None), "deepinfra": ("deepinfra", None), "novita": ("novita", None),
    "nebius": ("nebius", None), "sambanova": ("sambanova", None), "databricks": ("databricks", None),
    "hyperbolic": ("hyperbolic", None), "nscale": ("nscale", None), "scaleway": ("scaleway", None),
    "ovhcloud": ("ovhcloud", None), "lambda_ai": ("lambda", None), "wandb": ("wandb", None),
    "morph": ("morph", "morph"),
    "gmi": ("gmi", None), "publicai": ("publicai", None), "baseten": ("baseten", None),
    "snowflake": ("snowflake", None),
    "vercel_ai_gateway": ("vercel", None), "volcengine": ("volcengine", None), "aihubmix": ("aihubmix", None),
    "opencode_go": ("opencode-go", None), "cloudflare": ("cloudflare", None), "vertex_ai": ("vertex", None),
    "vertex_ai-language-models": ("vertex", "google"), "vertex_ai-anthropic_models": ("vertex", None),
    "vertex_ai-embedding-models": ("vertex", "google"), "ollama": ("ollama", None),
}  # fmt: skip
OUTPUTS = {
    "chat": ["text"], "completion": ["text"], "responses": ["text"], "embedding": ["embeddings"], "rerank": ["rerank"],
    "image_generation": ["image"], "image_edit": ["image"], "audio_speech": ["speech"],
    "audio_transcription": ["transcription"], "video_generation": ["video"],
}  # fmt: skip
INPUTS = {
    "supports_vision": "image", "supports_image_input": "image", "supports_embedding_image_input": "image",
    "supports_pdf_input": "file", "supports_audio_input": "audio", "supports_video_input": "video",
}  # fmt: skip
PARAMETERS = {
    "supports_function_calling": ("tools", "tool_choice"),
    "supports_parallel_function_calling": ("parallel_tool_calls",),
    "supports_response_schema": ("response_format", "structured_outputs"),
    "supports_reasoning": ("reasoning", "include_reasoning", "reasoning_effort"),
    "supports_web_search": ("web_search_options",),
}
MODALITIES = ("image", "file", "audio", "video")


def main(table: Path, litellm_version: str, date: str) -> None:
    """Read both sources and write the file."""
    rows = msgspec.json.decode(table.read_bytes())
    slugs, windows = _genai()
    by_plain: dict[str, list[tuple[str, str, dict[str, Any]]]] = defaultdict(list)
    for name, row in rows.items():
        host, author = PROVIDERS.get(row.get("litellm_provider", ""), ("", None))
        if host and row.get("mode") in OUTPUTS:
            upstream = re.sub(rf"^{re.escape(row['litellm_provider'])}/", "", name)
            by_plain[plain_name(upstream, dated=True)].append((host, upstream, row | {"author": author}))
    names = _names(slugs, by_plain)
    models: dict[str, Row] = {}
    for slug in {*slugs, *names.values()}:
        found = [one for plain, same in by_plain.items() if names.get(plain) == slug for one in same]
        models[slug] = _row(found, windows.get(slug))
    chosen = {slug: row for slug, row in sorted(models.items()) if row != Row()}
    names = {plain: slug for plain, slug in sorted(names.items()) if slug in chosen}
    here = _hosts(by_plain, names, chosen)
    about = Head(
        generated=date,
        sources=(
            Source(name="genai-prices", version=version("genai-prices"), date=date, licence="MIT"),
            Source(name="litellm: model_prices_and_context_window_backup.json", version=litellm_version, date=date,
                   licence="MIT"),
        ),
    )  # fmt: skip
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(_lines({"about": about, "models": chosen, "names": names, "hosts": here}))
    print(f"{len(chosen)} models, {len(names)} names, {sum(map(len, here.values()))} rows of hosts")


def _lines(document: dict[str, Any]) -> bytes:
    """JSON with a line for each row, so that changes can be read."""
    encode = msgspec.json.encode

    def block(rows: dict[str, Any]) -> bytes:
        return b"{\n" + b",\n".join(encode(key) + b":" + encode(value) for key, value in rows.items()) + b"\n}"

    inner = [encode(host) + b":" + block(rows) for host, rows in document["hosts"].items()]
    return b"".join(
        (b'{"about":', encode(document["about"]), b',\n"models":', block(document["models"]), b',\n"names":',
         block(document["names"]), b',\n"hosts":{\n', b",\n".join(inner), b"\n}}\n")
    )  # fmt: skip


def _genai() -> tuple[list[str], dict[str, int]]:
    """The names ``author/model`` that OpenRouter has, and context windows by them."""
    from genai_prices.data_snapshot import get_snapshot

    slugs: list[str] = []
    windows: dict[str, int] = {}
    for provider in get_snapshot().providers:
        for model in provider.models:
            if provider.id == "openrouter" and "/" in model.id and ":" not in model.id:
                slugs.append(model.id.lower())
            if model.context_window and provider.id == "openrouter":
                windows[model.id.lower()] = model.context_window
    return slugs, windows


def _names(slugs: list[str], by_plain: dict[str, Any]) -> dict[str, str]:
    """What each plain name means. A name that two authors have means neither."""
    found: dict[str, set[str]] = defaultdict(set)
    for slug in slugs:
        found[plain_name(slug, dated=True)].add(slug)
    for plain, same in by_plain.items():
        undated = plain_name(plain)
        if plain in found:
            continue
        if undated in found:
            found[plain] = found[undated]
            continue
        authors = {row["author"] for _, _, row in same if row["author"]}
        if len(authors) == 1:
            found[plain].add(f"{authors.pop()}/{undated}")
    return {plain: slug for plain, (slug, *others) in ((p, sorted(s)) for p, s in found.items() if s) if not others}


def _row(found: list[tuple[str, str, dict[str, Any]]], window: int | None) -> Row:
    """What is known of a model: limits from its author's own host if it has rows, what it can do from all of them."""
    own = [row for _, _, row in found if row["author"]] or [row for _, _, row in found]
    contexts, outputs = [_context(row) for row in own], [_tokens(row.get("max_output_tokens")) for row in own]
    context = max((one for one in (*contexts, window) if one), default=None)
    rows = [row for _, _, row in found]
    days = {row.get("deprecation_date") for row in own}
    day = days.pop() if len(days) == 1 else None
    return Row(
        c=context,
        o=max((one for one in outputs if one), default=None),
        i=_inputs(rows),
        u=_outputs(rows),
        p=_parameters(rows),
        s=not any(row.get("supports_sampling_params") is False for row in rows) and not _reasons_at_openai(own),
        d=day if day and re.fullmatch(r"\d{4}-\d\d-\d\d", day) else None,
    )


def _reasons_at_openai(rows: list[dict[str, Any]]) -> bool:
    return any(row.get("litellm_provider") == "openai" and row.get("supports_reasoning") for row in rows)


def _context(row: dict[str, Any]) -> int | None:
    read, written = _tokens(row.get("max_input_tokens")), _tokens(row.get("max_output_tokens"))
    if row.get("litellm_provider") == "openai" and read == 272_000 and written == 128_000:
        return read + written  # OpenAI's table counts the output apart
    return read


def _tokens(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value <= MAX_TOKENS else None


def _inputs(rows: list[dict[str, Any]]) -> tuple[str, ...] | None:
    if not rows:
        return None
    found = {kind for row in rows for name, kind in INPUTS.items() if row.get(name)}
    found |= {kind for row in rows for kind in row.get("supported_modalities") or () if kind in MODALITIES}
    if any(row.get("mode") == "audio_transcription" for row in rows):
        found.add("audio")
    return tuple(sorted(found))


def _outputs(rows: list[dict[str, Any]]) -> tuple[str, ...] | None:
    if not rows:
        return None
    found = {kind for row in rows for kind in OUTPUTS[row["mode"]]}
    if any(row.get("supports_audio_output") for row in rows):
        found.add("audio")
    return tuple(sorted(found))


def _parameters(rows: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """None unless some row says whether there are tools: what nobody tells excludes nothing."""
    if not any("supports_function_calling" in row for row in rows):
        return None if not rows or any(row["mode"] in ("chat", "responses", "completion") for row in rows) else ()
    return tuple(sorted({name for row in rows for flag, some in PARAMETERS.items() if row.get(flag) for name in some}))


def _hosts(by_plain: dict[str, Any], names: dict[str, str], models: dict[str, Row]) -> dict[str, dict[str, Row]]:
    """Rows of hosts that differ from the model's own, and those of models without one."""
    known = hosts()
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for plain, same in by_plain.items():
        row = models.get(names.get(plain, ""))
        for host, upstream, one in same:
            if host not in known or (row is not None and one["author"]):
                continue
            context, output = _context(one), _tokens(one.get("max_output_tokens"))
            if row is None:
                found[host][upstream] = _row([(host, upstream, one)], None)
            elif (context and context != row.c) or (output and output != row.o):
                found[host][upstream] = Row(
                    c=context if context != row.c else None, o=output if output != row.o else None
                )
    return {host: dict(sorted(rows.items())) for host, rows in sorted(found.items())}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
