"""Tables, but for those with a module of their own (schema.py). Ids are text, instants are us since 1970 UTC, money is
integer nano-USD.

A change here needs a new file in ``migrations/versions``; a test compares the two.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
    true,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives row numbers to a column declared INTEGER PRIMARY KEY only, which holds 64 bits there.
ROW_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

# Every credential that callers present: API keys of every kind, tokens of the command line, sessions of browsers
# (identity/credentials.py). ``digest`` is a keyed hash, ``fingerprint`` the SHA-256 that OpenRouter calls a key's hash.
# ``revision`` is the configuration's when the row last changed.
keys: Final = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("workspace_id", Text, nullable=False, server_default="default"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("requests_per_minute", BigInteger),
    Column("requests_per_day", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("priority", Text, nullable=False, server_default="normal"),
    Column("kind", Text, nullable=False, server_default="plain"),
    Column("account_id", Text, nullable=False, server_default="default"),
    Column("user_id", Text),
    Column("creator_user_id", Text),
    Column("scopes", Text, nullable=False, server_default="[]"),
    Column("fingerprint", Text, unique=True),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("updated_at", BigInteger),
    Column("settings", Text, nullable=False, server_default="{}"),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("role IN ('admin', 'management', 'inference')", name="role"),
)
Index(None, keys.c.account_id, keys.c.created_at)
Index(None, keys.c.workspace_id, keys.c.created_at)
Index(None, keys.c.user_id, keys.c.created_at)
Index(None, keys.c.revision)
Index(None, keys.c.created_at)
Index(None, keys.c.name)
# All that lists of keys ask for and count, so that they read the rows of one page only.
Index(
    "ix_keys_listed",
    keys.c.account_id,
    keys.c.kind,
    keys.c.created_at,
    keys.c.id,
    keys.c.role,
    keys.c.workspace_id,
    keys.c.disabled,
    keys.c.expires_at,
    sqlite_where=keys.c.revoked_at.is_(None),
    postgresql_where=keys.c.revoked_at.is_(None),
)
# Whether there is any such key, which is asked with each change of the configuration.
LIMITED: Final = text(
    "requests_per_minute IS NOT NULL OR requests_per_day IS NOT NULL OR tokens_per_minute IS NOT NULL"
)
AGENTS: Final = text("kind = 'crosscompute_agent'")
ADMINS: Final = text("role = 'admin'")
for _name, _which in (("limited", LIMITED), ("agents", AGENTS), ("admins", ADMINS)):
    Index(f"ix_keys_{_name}", keys.c.id, sqlite_where=_which, postgresql_where=_which)

connections: Final = Table(
    "connections",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("base_url", Text),
    Column("sealed_secret", LargeBinary),
    Column("models", Text, nullable=False, server_default="[]"),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("max_concurrent", Integer),
    Column("allow_private", Boolean, nullable=False, server_default=false()),
    Column("provider", Text),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("sealed_proxy", LargeBinary),
    Column("ca_file", Text),
    Column("client_certificate", Text),
    Column("client_key", Text),
    Column("options", Text, nullable=False, server_default="{}"),
    Column("name", Text),
    Column("display_name", Text),
    Column("default_model", Text),
    Column("ca_certificates", Text),
    Column("node_id", Text),
    Column("prefix", Text),
    Column("excluded_models", Text, nullable=False, server_default="[]"),
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("sealed_headers", LargeBinary),
    Column("sealed_extra", LargeBinary),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("requests_per_day", BigInteger),
    CheckConstraint("max_concurrent > 0", name="max_concurrent"),
)

# The last test of each connection, also of those in the configuration file. No part of the configuration.
connection_tests: Final = Table(
    "connection_tests",
    metadata,
    Column("connection_id", Text, primary_key=True),
    Column("tested_at", BigInteger, nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("message", Text),
    Column("status", Integer),
    Column("latency_ms", Integer, nullable=False),
)

provider_nodes: Final = Table(
    "provider_nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("api_type", Text),
    Column("base_url", Text, nullable=False),
    Column("chat_path", Text),
    Column("models_path", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

aliases: Final = Table(
    "aliases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# Tokens were used and nobody knows what they cost.
UNPRICED: Final = text("cost_nano_usd IS NULL AND input_tokens + output_tokens > 0")

# The columns after `sequence` are the fields of RequestRecord but ``plan``, in its order. No check constraints: a row
# that money depends on must not be refused for an odd value, and one IN (...) costs a quarter of the insert on SQLite.
# `sequence` grows in the order of commit, which created_at does not: a long request is stored after a short one that
# began later. It is never used again (AUTOINCREMENT), so that a reader who goes on behind it misses nothing.
requests: Final = Table(
    "requests",
    metadata,
    Column("sequence", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("request_id", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("operation", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("key_id", Text),
    Column("connection_id", Text),
    Column("provider", Text),
    Column("request_model", Text),
    Column("response_model", Text),
    Column("stream", Boolean, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error_kind", Text),
    Column("finish_reason", Text),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("cost_nano_usd", BigInteger),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_byte_us", BigInteger),
    Column("upstream_us", BigInteger),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("fidelity", Text),
    Column("attempts", Text),
    Column("combo", Text),
    Column("target", Text),
    Column("account_id", Text, nullable=False, server_default="default"),
    Column("upstream_cost_nano_usd", BigInteger),
    Column("byok", Boolean, nullable=False, server_default=false()),
    Column("exemption", Text),
    Column("charges", Text),
    Column("guards", Text),
    Column("cache", Text),
    Column("cache_source", Text),
    sqlite_autoincrement=True,
)
# With the order of lists to its end, so that what a page leaves out is not read.
Index("ix_requests_listed", requests.c.workspace_id, requests.c.created_at, requests.c.request_id)
Index(None, requests.c.key_id, requests.c.created_at)
Index(None, requests.c.account_id, requests.c.created_at)
# What nobody could price, for the alert and the list of it: hardly any row where prices are known.
Index(
    "ix_requests_unpriced",
    requests.c.created_at,
    sqlite_where=UNPRICED,
    postgresql_where=UNPRICED,
)
# For the figures of the response cache; a request that was not let near it costs it nothing.
Index(
    "ix_requests_cached",
    requests.c.created_at,
    sqlite_where=requests.c.cache.is_not(None),
    postgresql_where=requests.c.cache.is_not(None),
)
# To count budgets again; a request that no budget binds costs it nothing.
Index(
    "ix_requests_charged",
    requests.c.created_at,
    sqlite_where=requests.c.charges.is_not(None),
    postgresql_where=requests.c.charges.is_not(None),
)

# The routing decisions of requests that left a choice (routing/replay.py), for a few days.
request_plans: Final = Table(
    "request_plans",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("plan", LargeBinary, nullable=False),
)
Index(None, request_plans.c.created_at)

# What clients of the Responses API asked to have kept. ``sealed`` holds prompts and answers, encrypted.
responses: Final = Table(
    "responses",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("key_id", Text),
    Column("previous_id", Text),
    Column("status", Text, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
Index(None, responses.c.expires_at)
Index(None, responses.c.workspace_id, responses.c.created_at)

# The events of a response that was streamed in the background, in batches: who lost the stream can go on behind any.
response_events: Final = Table(
    "response_events",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("response_id", Text, primary_key=True),
    Column("first_number", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["workspace_id", "response_id"], ["responses.workspace_id", "responses.id"], ondelete="CASCADE"
    ),
)

# Reasoning state of recent answers (policy/opaque_state.py). ``key`` is a keyed hash; ``sealed`` is encrypted, ``size``
# its bytes. All live equally long, so the order of expiry is the order of age.
opaque_states: Final = Table(
    "opaque_states",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index(None, opaque_states.c.expires_at, opaque_states.c.size)
Index(None, opaque_states.c.workspace_id, opaque_states.c.expires_at)
# Whose uploaded file is whose, and at which connection. ``sealed`` is what the upstream told of it, encrypted.
files: Final = Table(
    "files",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("wire", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("connection_id", Text, nullable=False),
    Column("key_id", Text),
    Column("size_bytes", BigInteger),
    Column("purpose", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("sealed", LargeBinary, nullable=False),
)
Index(None, files.c.wire, files.c.id)
Index(None, files.c.expires_at)
Index(None, files.c.workspace_id, files.c.created_at)

# Upstreams' own lists of models (upstream/model_lists.py). ``models`` is JSON.
model_lists: Final = Table(
    "model_lists",
    metadata,
    Column("connection_id", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("fetched_at", BigInteger),
    Column("models", Text, nullable=False),
    Column("problem", Text),
)

# The operator's words on models that came by command or over the API (upstream/model_words.py). ``words`` is JSON.
model_words: Final = Table(
    "model_words",
    metadata,
    Column("model", Text, primary_key=True),
    Column("words", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# Services that choose among a profile's models (upstream/engines.py). ``settings`` is JSON without the key.
routing_engines: Final = Table(
    "routing_engines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("settings", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

journal_segments: Final = Table(
    "journal_segments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("damaged", BigInteger, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    CheckConstraint("position >= 0", name="position"),
)

# One row. Its revision grows by one with every change of keys, connections or aliases, in the same transaction. The
# other two are that of the last change of people, and of a budget that is not a key's: both are held whole in memory.
configuration: Final = Table(
    "configuration",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("people_revision", BigInteger, nullable=False, server_default="0"),
    Column("budgets_revision", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("id = 1", name="one_row"),
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# What is left alone after failures (routing/health.py). ``revision`` is that of `resilience` at the last change; an
# empty ``document`` says that nothing is amiss any more.
health_states: Final = Table(
    "health_states",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("writer", Text, nullable=False),
)
Index(None, health_states.c.revision)

# One row. ``revision`` counts the changes of health states; ``overrides`` are settings changed while running.
resilience: Final = Table(
    "resilience",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("overrides", Text, nullable=False, server_default="{}"),
    CheckConstraint("id = 1", name="one_row"),
)

# How endpoints have done (storage/endpoint_figures.py): counts of a ``measure`` in a ``slot`` of time; ``place`` is one
# of a histogram, and 0 for plain counts.
endpoint_figures: Final = Table(
    "endpoint_figures",
    metadata,
    Column("target", Text, primary_key=True),
    Column("measure", Integer, primary_key=True, autoincrement=False),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)
Index(None, endpoint_figures.c.measure, endpoint_figures.c.slot)

# What each process (``writer``) has measured of a target in one slot of time, in JSON, for the others to read.
measurements: Final = Table(
    "measurements",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
Index(None, measurements.c.revision)
Index(None, measurements.c.slot)

# Where conversations with models went last. ``conversation`` is a digest, no word of it can be read.
conversation_places: Final = Table(
    "conversation_places",
    metadata,
    Column("conversation", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
Index(None, conversation_places.c.revision)
Index(None, conversation_places.c.used_at)

# One row: how many changes of the two tables above there were.
route_sharing: Final = Table(
    "route_sharing",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# Requests filled in beforehand (routing/presets.py); ``document`` is JSON.
presets: Final = Table(
    "presets",
    metadata,
    Column("slug", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
