"""Tables of combos: what they are and what requests of theirs left behind; `combo_days` holds their outcomes."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from pointsman.storage.tables import metadata

# Names for several targets. ``document`` is the combo as the API shows it, in JSON.
combos: Final = Table(
    "combos",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("sort_order", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# What holds for all combos, by name (``comboDefaults`` ...), in JSON.
combo_options: Final = Table(
    "combo_options",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# Where a model's requests go when its own target fails, in JSON: a list of {provider, priority, enabled}.
fallback_chains: Final = Table(
    "fallback_chains",
    metadata,
    Column("model", Text, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# What requests of a combo have left behind: whose turn it is, who answered last. ``state`` is JSON.
combo_memories: Final = Table(
    "combo_memories",
    metadata,
    Column("combo", Text, primary_key=True),
    Column("turn", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index(None, combo_memories.c.updated_at)

# Which target a conversation stays with. ``conversation`` is a digest, no word of it can be read.
combo_conversations: Final = Table(
    "combo_conversations",
    metadata,
    Column("combo", Text, primary_key=True),
    Column("conversation", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("used_at", BigInteger, nullable=False),
)
Index(None, combo_conversations.c.used_at)

# From when on a combo's figures count; an empty name stands for all.
combo_resets: Final = Table(
    "combo_resets",
    metadata,
    Column("combo", Text, primary_key=True),
    Column("reset_at", BigInteger, nullable=False),
)
