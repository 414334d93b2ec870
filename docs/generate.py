"""Writes docs/configuration.md from the settings themselves; docs/cli.md and README.md's list from the commands; and
README.md's figures from the newest complete record in benchmarks/RESULTS.md.

    python docs/generate.py            write what changed
    python docs/generate.py --check    exit with 1 and name the files when something would change

A setting or environment variable without a sentence here is an error, and so is a sentence without a setting.
"""

import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import typer.main

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks is no installed package

from benchmarks.figures import figures_block
from docs.generate_cache import CACHE
from docs.generate_payments import PAYMENTS

from pointsman import settings
from pointsman.cli import app
from pointsman.cli.reference import render_reference
from pointsman.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
MEBIBYTE, KIBIBYTE = 1024 * 1024, 1024

RESILIENCE = {
    "resilience.longest_hint_ms": "An upstream that asks to be left alone for longer is left alone for this long.",
    "resilience.request_queue.auto_enable_api_key_providers": (
        "Spare an account before its upstream refuses, unless `POST /api/rate-limits` said otherwise for it."
    ),
    "resilience.request_queue.requests_per_minute": "Kept and shown; `connections.requests_per_minute` limits.",
    "resilience.request_queue.min_time_between_requests_ms": "Kept and shown.",
    "resilience.request_queue.concurrent_requests": "Kept and shown; `connections.max_concurrent` limits.",
    "resilience.request_queue.max_wait_ms": "Kept and shown; `upstream.queue_timeout_seconds` limits.",
    **{
        f"resilience.connection_cooldown.{profile}.{name}": meaning
        for profile in ("oauth", "apikey")
        for name, meaning in (
            ("base_cooldown_ms", "The first cooldown; each further one in a row is twice as long."),
            ("use_upstream_retry_hints", "Wait as long as the upstream says, when it says."),
            ("max_backoff_steps", "How often it is doubled at most."),
        )
    },
    **{
        f"resilience.provider_breaker.{profile}.{name}": meaning
        for profile in ("oauth", "apikey")
        for name, meaning in (
            ("failure_threshold", "Failures in a row after which the provider is not asked any more."),
            ("degradation_threshold", "Failures in a row after which others are preferred to it."),
            ("reset_timeout_ms", "After this time one call may try it."),
        )
    },
    "resilience.wait_for_cooldown.enabled": (
        "A request waits for the first target that is back, when all of them are limited."
    ),
    "resilience.wait_for_cooldown.max_retries": "How often one request may wait.",
    "resilience.wait_for_cooldown.max_retry_wait_sec": "How long it may wait in all, in seconds.",
    "resilience.provider_cooldown.enabled": "A breaker that opens again stays open twice as long each time.",
    "resilience.provider_cooldown.min_ms": "The shortest time that is doubled.",
    "resilience.provider_cooldown.max_ms": "The longest, unless `reset_timeout_ms` is longer.",
    "resilience.combo_cooldown_wait.enabled": (
        "A combo's request waits for the first target that is back, when all of them are limited."
    ),
    "resilience.combo_cooldown_wait.max_wait_ms": "How long one wait may be.",
    "resilience.combo_cooldown_wait.max_attempts": "How often one request may wait.",
    "resilience.combo_cooldown_wait.budget_ms": "How long it may wait in all.",
    "resilience.quota_preflight.default_threshold_percent": "An account with no more than this left is spared.",
    "resilience.quota_preflight.warn_threshold_percent": "Kept and shown.",
    "resilience.model_lockout.enabled": "Lock the model alone, not its account, after the statuses below.",
    "resilience.model_lockout.error_codes": "The statuses.",
    "resilience.model_lockout.base_ms": "The first lock.",
    "resilience.model_lockout.max_ms": "The longest.",
    "resilience.model_lockout.max_backoff_steps": "How often it is doubled at most.",
    "resilience.model_lockout.exponential": "Whether each further lock in a row is twice as long.",
    "resilience.probes.enabled": "Ask a failing account for its model list, so that clients need not find out.",
    "resilience.probes.interval_ms": "How often, give or take a quarter.",
    "resilience.probes.timeout_ms": "A list that takes longer is none.",
}
MEANINGS = {
    "server.host": "Address to listen on. Other machines reach the gateway only when this is not a loopback address.",
    "server.port": "Port to listen on; 0 takes a free one.",
    "server.workers": "Processes that share the port. One is the fastest per core; more use more cores.",
    "server.max_body_bytes": "A larger request body is refused with 413.",
    "server.max_body_memory_bytes": (
        "Request bodies beyond 64 KiB that are being received take no more than this together, in each worker; one "
        "key's half of it, and those without a key that is known there a quarter. Further ones are answered 503. One "
        "that is alone is always taken."
    ),
    "server.max_header_bytes": "A larger request head is refused with 431.",
    "server.max_header_count": "More header lines are refused with 431.",
    "server.max_connections": (
        "Client connections open at once in each worker, TLS handshakes among them. A further one takes the place of "
        "the stranger that has waited longest, 2 s at least, without a whole request; when there is none it is "
        "answered 503, over TLS cut. Each is an open file, and so is each one to an upstream: at the start the limit "
        "of open files is raised to the hard one (`ulimit -Hn`), and one that is too low is warned of."
    ),
    "server.max_concurrent_requests": "Inference calls at once in each worker; further ones wait in its queue.",
    "server.max_queued_requests": (
        "Calls that wait for a place in each worker; further ones are answered 503. 0: nobody waits."
    ),
    "server.queue_timeout_seconds": "A call that got no place within this time is answered 503.",
    "server.max_loop_lag_seconds": "While the event loop is later than this, calls of low priority are answered 503.",
    "server.header_timeout_seconds": (
        "From its first byte, a request's head must arrive within this time. So must a connection's first byte."
    ),
    "server.body_timeout_seconds": "A request's body must arrive within this time.",
    "server.keepalive_timeout_seconds": "An idle client connection is closed after this time.",
    "server.write_timeout_seconds": "A client that takes nothing for this long is cut off.",
    "server.stream_silence_seconds": (
        "A stream that is silent for this long, or up to twice that, gets a comment. 0: never."
    ),
    "server.shutdown_grace_seconds": "At shutdown, requests in flight and background responses get this long.",
    "upstream.connect_timeout_seconds": "To resolve the name and connect, through a proxy if there is one.",
    "upstream.tls_handshake_timeout_seconds": "For https: to shake hands.",
    "server.max_decompression_ratio": "A compressed body beyond 1 MiB may grow this many times, no more.",
    "server.tls_certificate": "PEM file with the certificate chain, for https. Read again when it changes.",
    "server.tls_key": "PEM file with its key, not encrypted.",
    "server.cors_origins": 'Web origins whose pages may call, e.g. `["https://example.org"]`; `["*"]`: all.',
    "server.trusted_proxies": "Addresses or networks of reverse proxies whose X-Forwarded-For is believed.",
    "server.hosts": (
        'Host names, with or without a port, whose callers are clients of one contract, e.g. `{"router.example" = '
        '"openrouter"}`: `openrouter`, `omniroute`, `crosscompute`, `hardcarrx` or `hybrid`.'
    ),
    "upstream.headers_timeout_seconds": "To the head of the upstream's answer.",
    "upstream.first_byte_timeout_seconds": "From the head to the first content of a streamed answer.",
    "upstream.hold_seconds": (
        "The beginning of a stream is held back this long for its first content: so long another target can take over."
    ),
    "upstream.idle_timeout_seconds": "Between two parts of an answer.",
    "upstream.total_timeout_seconds": "A whole call, from its start.",
    "upstream.queue_timeout_seconds": (
        "A call waits this long for a free connection; then it is another target's turn, or 503."
    ),
    "upstream.keepalive_seconds": "An idle upstream connection is kept this long for the next call.",
    "upstream.max_connection_age_seconds": "An older connection is not used for a further call.",
    "upstream.dns_ttl_seconds": "An address is looked up again after this time, while calls go on to the known one.",
    "upstream.dns_negative_ttl_seconds": "A name that can't be resolved is not looked up again for this long.",
    "upstream.max_connections_per_host": (
        "Open connections of each worker to one upstream; `max_concurrent` of a connection is lower."
    ),
    "upstream.max_waiting_per_host": (
        "Calls that wait in each worker for a free connection; further ones are refused with 503."
    ),
    "upstream.max_response_bytes": "A larger answer that is not streamed is refused.",
    "upstream.max_header_bytes": "A larger head of an upstream's answer is refused.",
    "upstream.max_header_count": "An answer with more different header fields is refused.",
    "attempts.timeout_seconds": "A whole request; a caller may ask for less: `x-pointsman-timeout: 30`.",
    "attempts.max_retries": (
        "How often one target is asked again after a 429, a 5xx or a failed connection; a combo's `maxRetries` wins. "
        "With 0 failures go to the next target or to the caller, whose SDK may retry by itself."
    ),
    "attempts.retry_delay_seconds": "Before the first retry, on average; twice as long before each further one.",
    "attempts.last_resorts": (
        "So many targets that are left alone (cooling down, their provider's breaker open) are asked all the same "
        "before a request fails, those first that recover first."
    ),
    "attempts.continuation": (
        "Have another target go on with a stream that breaks in the middle; a combo's `continuation` and a request's "
        "header `x-pointsman-continue: 1` say so, too ([failover.md](failover.md))."
    ),
    "attempts.hedging.enabled": (
        "Ask the next target, too, when the first takes longer than it nearly always does; the first to answer wins. "
        "Also on for connections with the tag `hedge`, and combos with `hedging` and `zeroLatencyOptimizationsEnabled`."
    ),
    "attempts.hedging.percentile": "Of the first target's last times to the beginning of its answer.",
    "attempts.hedging.least_seconds": "Nobody else is asked sooner; a combo's `hedgeDelayMs` wins.",
    "attempts.hedging.least_samples": "So many times must be known of a target.",
    "attempts.hedging.max_share": "So large a part of such requests has a second attempt at most.",
    "attempts.hedging.max_cost_nano_usd": (
        "What a second attempt may cost at worst, in billionths of a dollar; 0: any. With a limit, targets without a "
        "known price are no second ones."
    ),
    "attempts.max_retry_wait_seconds": "An upstream that asks for a longer wait (`Retry-After`) is not asked again.",
    "answers.keep_seconds": "An answer is given again to its `Idempotency-Key` for this long.",
    "answers.memory_bytes": "Memory of each process for such answers; beyond that the oldest goes.",
    "answers.max_entry_bytes": "A larger answer is not kept.",
    "answers.durable": (
        "Keep them in the database too, encrypted: for other workers and nodes, and for later. A request with a new "
        "key waits for it `vault.read_timeout_seconds` at most; `vault.max_bytes` bounds both together."
    ),
    "answers.max_per_workspace": "Answers of a workspace in the database; beyond that the oldest goes.",
    "local.enabled": "Offer the models that run on this machine: chat, and embeddings.",
    "local.idle_seconds": "Each one's process is stopped when nobody used it for this long.",
    "local.start_timeout_seconds": "Each one's process must be ready within this time.",
    "limits.key_requests_per_minute": "Calls of each key in any 60 seconds.",
    "limits.key_requests_per_day": "Calls of each key in any 24 hours.",
    "limits.key_tokens_per_minute": "Input and output tokens of each key in any 60 seconds.",
    "limits.workspace_requests_per_minute": "Calls of all keys of a workspace together.",
    "limits.workspace_requests_per_day": "As above, in any 24 hours.",
    "limits.workspace_tokens_per_minute": "Tokens of all keys of a workspace together.",
    "limits.key_sessions": "Conversations that a key may have under way, counted by each worker; 0: any number.",
    "limits.on_failure": "While Redis is away: let calls through uncounted (`open`), or answer 503 (`closed`).",
    "responses.keep": "Keep responses that don't say `store: false`, encrypted, to be read and gone on from.",
    "responses.retention_days": "Kept responses are forgotten after this time.",
    "responses.max_bytes": "A response that is larger with its input is not kept.",
    "responses.max_per_workspace": "Beyond this number a workspace's oldest are forgotten.",
    "vault.durable": "Keep reasoning state in the database too, encrypted: for other workers and nodes, and for later.",
    "vault.retention_hours": "Reasoning state is forgotten after this time.",
    "vault.memory_bytes": "Memory of each process for it; beyond that the oldest goes.",
    "vault.max_entry_bytes": "State of one answer that is larger is not kept.",
    "vault.max_per_workspace": "Answers of a workspace whose state is in the database; beyond that the oldest goes.",
    "vault.max_bytes": "Bytes of all state in the database; beyond that the oldest goes.",
    "vault.read_timeout_seconds": "A request waits this long for the database, then goes on without the state.",
    **RESILIENCE,
    **CACHE,
    **PAYMENTS,
    "files.max_bytes": "A larger upload is refused with 413. It is held in memory while it passes to its upstream.",
    "files.allow_unknown": "Calls may name files that were not uploaded through this gateway.",
    "ledger.zero_completion_insurance": "Answers without any text, or ended by an error, are not charged.",
    "ledger.byok_fee_percent": "What a call with the caller's own provider key is charged, of the list price.",
    "journal.segment_bytes": "A new journal file is begun at this size.",
    "journal.retention_days": "Journal files that are in the database are kept this long.",
    "journal.plan_days": "Routing decisions are kept this long, for `pointsman route replay`; 0: none are.",
    "journal.batch_rows": "Records written to the database in one transaction.",
    "journal.interval_seconds": "How often the journal is carried into the database.",
    "log.level": "Least severe lines that are written to standard error.",
    "log.requests": "Write a line for every request. It holds no prompt, answer or key.",
    "routing.default_model": "The model of requests that name none. Without it they are refused.",
    "routing.ambiguous": (
        "What a bare model name means that several connections have for models that have nothing to do with each other:"
        " `refuse` names the candidates, `route` tries them one after another (docs/model-names.md)."
    ),
    "routing.model_lists": "Ask upstreams for their own lists of models, where a connection has no `models`.",
    "routing.model_list_hours": "How old such a list may be before it is asked for again.",
    "profiles.exclude": "Patterns of models that no profile chooses, e.g. `work/*` (docs/routing-profiles.md).",
    **{
        f"profiles.{budget}.{name}": meaning
        for budget in ("cheap", "medium", "premium")
        for name, meaning in (
            ("models", "Models that stand first for this budget, in this order; names, or patterns with `*`."),
            ("simple", "Before those, for requests of the tier SIMPLE."),
            ("medium", "The same for MEDIUM."),
            ("complex", "The same for COMPLEX."),
            ("reasoning", "The same for REASONING."),
            ("only", "Choose nothing but these for this budget."),
        )
    },
    "profiles.notdiamond.api_key": "`env:NAME`, `file:PATH`, or the key itself. Without it nobody is asked.",
    "profiles.notdiamond.base_url": "Where the service is.",
    "profiles.notdiamond.timeout_ms": "A choice that comes later is not waited for; the local order stands.",
    "profiles.notdiamond.hash_content": "The service is asked to hash what it is sent, and to keep none of it.",
    "profiles.notdiamond.preference_id": "A router that was trained there.",
    "storage.database_url": "PostgreSQL to use, e.g. `postgresql://user:password@host/name`. Without it: SQLite.",
    "storage.redis_url": "Redis for limits that nodes share, e.g. `redis://host:6379/0`; needs the extra `redis`.",
    "budgets.unpriced": "Calls of models without a known price, by those whom a hard budget binds: `allow`, `refuse`.",
    "budgets.assumed_output_tokens": "Reserved for an answer when neither the client nor the model sets a limit.",
    "budgets.lease_seconds": "What a lost node holds of budgets comes back after so long; 0: never.",
    "budgets.webhook_url": "Is told with POST when a budget passes one of its thresholds.",
    "budgets.webhook_secret": "Signs those calls. `env:NAME`, `file:PATH` or the secret itself.",
    "budgets.webhook_allow_private": "The webhook may be at a loopback or private address.",
    "guards.name": "Your name for the guard. Keys name it in their setting `guards`.",
    "guards.everybody": "It looks at every call.",
    "guards.workspaces": "It looks at calls of these workspaces.",
    "guards.keys": "It looks at calls of these keys, by id.",
    "guards.members": "It looks at calls of these people, by their user's id.",
    "guards.rules": "What it looks for ([guardrails.md](guardrails.md)).",
    "credits.enforced": "Each account may spend no more than its credit.",
    "connections.id": "Your name for it. Its models are called `id/model`.",
    "connections.kind": (
        "Who it is: a host that `pointsman connections hosts` lists (`groq`, `azure-v1` ...), `openai` with a base URL "
        "for any other OpenAI-compatible API, or `local`."
    ),
    "connections.base_url": (
        "Where the API is, with its version, e.g. `https://api.openai.com/v1`. A host of the table needs none. "
        "Not for `local`."
    ),
    "connections.api_key": "`env:NAME`, `file:PATH`, or the key itself; for Amazon Bedrock an API key or `ID:SECRET`.",
    "connections.models": "The models it offers. Empty: any name behind `id/` is passed on.",
    "connections.priority": "Of several connections that serve a model, those with a larger number are tried first.",
    "connections.max_concurrent": "Calls at the same time, of each worker; further ones wait.",
    "connections.requests_per_minute": "Calls to it in any 60 seconds; further ones are answered 429.",
    "connections.requests_per_day": "Calls to it in any 24 hours; further ones are answered 429.",
    "connections.tokens_per_minute": "Input and output tokens of calls to it in any 60 seconds.",
    "connections.allow_private": "May its address be private or loopback? Connections added by command start with no.",
    "connections.provider": "Whose prices apply, e.g. `openai`. Without it the base URL decides.",
    "connections.proxy": (
        "`http://`, `socks5://` or `socks5h://` with `user:password@host:port`, or `env:NAME` or `file:PATH` that hold "
        "it. `socks5` resolves names here, the others leave it to the proxy. Environment variables are not looked at."
    ),
    "connections.ca_file": "Certificates in PEM form to trust instead of the system's. Read again when it changes.",
    "connections.client_certificate": "A certificate in PEM form to show to the upstream.",
    "connections.headers": "Header lines of every request to it; values may be `env:NAME` or `file:PATH`.",
    "connections.extra_api_keys": "Further credentials, which take turns with `api_key`; written as that is.",
    "connections.tags": "Words by which accounts are known: `oauth`, `local`, `hedge` ([failover.md](failover.md)).",
    "connections.options": "What the kind needs beyond an address: `project` and `location` (Vertex AI), `api_version` "
    "(Azure, Gemini), `guardrail_identifier` (Bedrock), `num_ctx` (Ollama), `cache_marks` "
    "(`true`: this OpenAI-compatible host reads `cache_control`; `false`: it doesn't), `prefill` (`true`: its "
    "models go on with an answer that is begun for them; `false`: they don't), `chat_path` and `models_path` (where an "
    "OpenAI-compatible host has them, behind the base URL).",
    "connections.client_key": "Its key, without a password, when it is not in the same file.",
    "models.name": "A further name for a model.",
    "models.target": "What it stands for, as `connection/model`.",
    "facts.model": "Which model: `connection/model`, `author/name`, or a pattern of either with `*`.",
    "facts.prompt": "USD per million tokens of input. It holds for costs too, and wins over every list of prices.",
    "facts.completion": "USD per million tokens of output.",
    "facts.cache_read": "USD per million tokens read from the upstream's cache; else as much as others.",
    "facts.cache_write": "USD per million tokens written to it; else as much as others.",
    "facts.request": "USD per request.",
    "facts.image": "USD per picture.",
    "facts.context_tokens": "The window, in tokens.",
    "facts.max_output_tokens": "The longest answer, in tokens.",
    "facts.inputs": "What may go in: `text`, `image`, `file`, `audio`, `video`.",
    "facts.outputs": "What may come out: `text`, `image`, `audio`, `embeddings`, `rerank` and others.",
    "facts.parameters": "Members of requests that it takes, by OpenRouter's names.",
    "facts.quantization": "How its weights are kept, e.g. `fp8`.",
    "facts.trains": "Whether the provider may learn from what it is sent.",
    "facts.zdr": "Whether the provider keeps nothing of it.",
    "facts.distillable": "Whether others may be trained on its answers.",
    "facts.service_tier": "The tier of an endpoint that is none of the default one, e.g. `flex`.",
    "facts.name": "Its name for people.",
    "facts.slug": "Its name as `author/name`, the same wherever it is served.",
    "facts.deprecated": "The day of its end, `YYYY-MM-DD`.",
    "identity.session_days": "How long a browser stays signed in without being used.",
    "identity.secure_cookies": "Mark cookies for HTTPS alone also where this server does not end TLS itself.",
    "identity.public_url": "Where browsers reach this server; cookies are taken from pages of this origin too.",
    "identity.security_contact": "A URL or `mailto:` address for `/.well-known/security.txt`.",
    "identity.sign_in_failures": "After so many wrong passwords from one address no more are looked at for a while.",
    "identity.wrong_credentials": "So many requests with a wrong key, token or session within the window, and an "
    "address has to wait (429), whatever it shows. 0: never. This machine never waits. Counted per process.",
    "identity.wrong_credentials_window_seconds": "The window for them, and how long an address then has to wait.",
    "identity.sign_in_window_seconds": "For how long failures count, and for how long an address is then refused.",
    "identity.keys_in_memory": "How many keys each process holds in memory, about 1 kB each; others are looked up when"
    " they are used.",
    "identity.agent_registrations": "How many agents may register from one address within an hour; 0: none.",
    "identity.agent_registration_secret": "What they must send as `x-agent-registration-secret`.",
    "identity.token_issuer": "The `iss` of tokens that this gateway makes.",
    "identity.token_audience": "Their `aud`.",
    "identity.token_algorithm": "How they are signed: `HS256`, or `Ed25519` for others to check with a public key.",
    "identity.token_seconds": "How long they hold.",
    "issuers.issuer": "The `iss` of its tokens, exactly.",
    "issuers.audience": "The `aud` that they must have.",
    "issuers.jwks_url": "Where its public keys are (a JSON Web Key Set).",
    "issuers.secret": "Instead of that: the secret that it signs with (HS256). `env:NAME`, `file:PATH` or itself.",
    "sign_in.id": "What it is called in addresses: `/api/auth/oidc/ID/login`.",
    "sign_in.issuer": "The provider's address; its `/.well-known/openid-configuration` is read.",
    "sign_in.client_id": "The name under which the provider knows this gateway.",
    "sign_in.client_secret": "The secret that goes with it. `env:NAME`, `file:PATH` or itself.",
    "sign_in.domains": "Whose addresses may sign in, e.g. `example.org`; none: everybody's.",
    "sign_in.admins": "Addresses of those who become administrators when they first sign in.",
    "sign_in.create_users": "Whether somebody unknown becomes a user by signing in.",
    "sign_in.allow_private": "Whether the provider may be in a private network.",
    "combos.name": "The name that clients ask for.",
    "combos.targets": "What it stands for: models as `connection/model`, or aliases. When one fails the next is tried.",
    "combos.weights": "One number for each target, for strategies that draw by weight.",
    "combos.strategy": "How they are put in order (docs/routing.md).",
    "combos.settings": "Settings of the combo, by the names in docs/combos.md.",
}

ENVIRONMENT = {
    "POINTSMAN_DATA_DIR": "Where data lives. Default: `$XDG_DATA_HOME/pointsman`, or `~/.local/share/pointsman`.",
    "POINTSMAN_DATABASE_URL": "As `storage.database_url`, which it overrides.",
    "POINTSMAN_REDIS_URL": "As `storage.redis_url`, which it overrides.",
    "POINTSMAN_SECRET_KEY": "The master key, 32 characters or more. Default: the file `secret.key` in the data folder.",
    "POINTSMAN_ADMIN_PASSWORD": "The administrator's password, set at the first start; later ones change nothing.",
    "POINTSMAN_BOOTSTRAP_KEY": "An API key that shall exist from the first start on, instead of a printed one.",
    "POINTSMAN_API_KEY": "The key that `pointsman chat` presents, instead of a temporary one.",
}

INTRODUCTION = """# Configuration

This page is written by `docs/generate.py`; change the text there.

Pointsman runs without any configuration. It reads `pointsman.toml` in the current directory when there is one, or the
file that `--config` names. [pointsman.example.toml](../pointsman.example.toml) shows a whole file. An unknown key is an
error that names the nearest known one. Settings are read once, at the start; keys and connections that are added by
command take effect while the server runs.

Options of `pointsman serve` win over the environment, and the environment wins over the file.
"""


def main() -> int:
    """Write or check; gives the exit status."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in generated().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(("not current, run make fix: " if check else "written: ") + ", ".join(stale))
    return 1 if stale and check else 0


def generated() -> dict[Path, str]:
    """Every file that this script writes, with its whole text."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs" / "configuration.md": configuration_page(),
        ROOT / "docs" / "cli.md": render_reference(),
        readme: with_block(
            with_block(readme.read_text(encoding="utf-8"), "commands", commands_table()), "figures", figures()
        ),
    }


def configuration_page() -> str:
    """The reference of all settings and environment variables. Raises ValueError when one has no sentence."""
    _compare(set(MEANINGS), {name for section in sections() for name, _ in fields(section[0], section[1])}, "settings")
    _compare(set(ENVIRONMENT), _environment_names(), "environment variables")
    parts = [INTRODUCTION, "\n## Environment\n\n| variable | meaning |\n|---|---|\n"]
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in ENVIRONMENT.items()]
    for name, struct, repeated in sections():
        parts.append(f"\n## `[[{name}]]`\n" if repeated else f"\n## `[{name}]`\n")
        parts.append(f"\n{_about(struct)}\n\n| key | type | default | meaning |\n|---|---|---|---|\n")
        for full_name, field in fields(name, struct):
            cells = f"{_type(struct, field.name)} | {_default(full_name, field)} | {MEANINGS[full_name]}"
            parts.append(f"| `{field.name}` | {cells} |\n")
    return "".join(parts)


def commands_table() -> str:
    """Every command with the first sentence of its help, from the command line's own definitions."""
    rows = ["| command | what it does |\n|---|---|\n"]
    rows += [f"| `{name}` | {text} |\n" for name, text in commands(typer.main.get_command(app), "pointsman")]
    return "".join(rows)


def figures() -> str:
    """The measured figures of the newest complete record."""
    return figures_block((ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"))


def commands(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Every command that does something, with its short help."""
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for sub in command.commands.values():
            if not sub.hidden:
                yield from commands(sub, f"{name} {sub.name}")
    else:
        yield name, command.get_short_help_str(limit=100)


def with_block(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced. ValueError when it has no such markers."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->\n"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"the markers of '{name}' are missing")
    return before + begin + content + end + after


def sections() -> list[tuple[str, type[msgspec.Struct], bool]]:
    """The tables of the file: name, struct, and whether it may stand several times."""
    found = []
    for name, kind in typing.get_type_hints(Settings).items():
        if typing.get_origin(kind) is list:
            found.append((name, typing.get_args(kind)[0], True))
        else:
            found += _tables(name, kind)
    return found


def _tables(name: str, struct: type[msgspec.Struct]) -> list[tuple[str, type[msgspec.Struct], bool]]:
    """A table and those inside of it; one that has nothing but tables is none."""
    inner = [
        table
        for field, kind in typing.get_type_hints(struct).items()
        if _is_table(kind)
        for table in _tables(f"{name}.{field}", kind)
    ]
    return [(name, struct, False), *inner] if fields(name, struct) else inner


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def fields(name: str, struct: type[msgspec.Struct]) -> list[tuple[str, msgspec.structs.FieldInfo]]:
    """A table's keys with their full names."""
    return [(f"{name}.{field.name}", field) for field in msgspec.structs.fields(struct) if not _is_table(field.type)]


def _about(struct: type[msgspec.Struct]) -> str:
    """The struct's docstring without the table's name, which the heading says already."""
    text = (struct.__doc__ or "").split("\n\n", maxsplit=1)[0]
    rest = re.sub(r"^(One )?``\[+[\w.]+\]+``( row)?:\s*", "", text)
    return rest[0].upper() + rest[1:]


def _type(struct: type[msgspec.Struct], name: str) -> str:
    hint = typing.get_type_hints(struct)[name]
    options = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{option}`" for option in options)
    if list in (typing.get_origin(hint), *map(typing.get_origin, options)):
        return "list of text"
    if typing.get_origin(hint) is dict:
        return "table"
    if typing.get_origin(hint) is tuple:
        return "list of whole numbers"
    words = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", settings.Secret: "text"}
    return words[options[0] if options else hint]


def _default(full_name: str, field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if isinstance(field.default, tuple):
        return f"`{list(field.default)}`"
    value = [] if field.default is msgspec.NODEFAULT else field.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if full_name.endswith("_bytes") and isinstance(value, int):
        unit, name = (MEBIBYTE, "MiB") if value >= MEBIBYTE else (KIBIBYTE, "KiB")
        return f"`{value}` ({value // unit} {name})"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _environment_names() -> set[str]:
    source = Path(settings.__file__).read_text(encoding="utf-8")
    return set(re.findall(r"\"(POINTSMAN_[A-Z_]+)\"", source))


def _compare(described: set[str], existing: set[str], what: str) -> None:
    if described != existing:
        missing, extra = sorted(existing - described), sorted(described - existing)
        raise ValueError(f"{what} in docs/generate.py: without a sentence {missing}, without a setting {extra}")


if __name__ == "__main__":
    sys.exit(main())
