"""Anthropic's Messages API on the wire: what its two halves share.

Sources: platform.claude.com/docs/en/api/messages and the types of Anthropic's own clients, as of 2026-11 (API versions
2023-06-01 and 2026-10-21).
"""

from typing import Final

WIRE: Final = "anthropic"
# The version that upstreams are spoken to in: everything that 2026-10-21 takes, sampling options too.
VERSION: Final = "2023-06-01"
IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
# Members of a tool_use block and others that stream: their input comes in pieces of JSON.
CALL_TYPES: Final = frozenset({"server_tool_use", "mcp_tool_use"})
STANDARD_TIERS: Final = {"standard": "default"}  # the rest of Anthropic's tiers (priority, batch) are named as ours
