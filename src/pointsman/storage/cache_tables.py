"""The table of the response cache's clearings (docs/cache.md)."""

from typing import Final

from sqlalchemy import BigInteger, Column, Table, Text

from pointsman.storage.tables import metadata

# Since when entries of a scope count: "" all, "model:NAME", "entry:SIGNATURE". `cleared_at` in us.
cache_clearings: Final = Table(
    "cache_clearings",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("cleared_at", BigInteger, nullable=False),
)
