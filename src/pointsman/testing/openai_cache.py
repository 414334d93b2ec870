"""OpenAI's prompt cache as usage shows it: beginnings of long prompts that were sent before are read from the cache.

Source: OpenAI's prompt caching guide, as of 2026-11: from 1,024 tokens on, in steps of 128, apart for each
``prompt_cache_key``.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

import msgspec

from .openai_request import Json, prompt_tokens

FEWEST_TOKENS: Final = 1024
STEP_TOKENS: Final = 128
MOST_REMEMBERED: Final = 4096


class PromptCache:
    """Remembers the beginnings of prompts, the latest of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def take(self, request: Json) -> int:
        """The tokens of ``request`` that are in the cache; all of it is afterwards."""
        if prompt_tokens(request) < FEWEST_TOKENS:
            return 0
        head = [request["model"], request.get("prompt_cache_key"), request.get("tools")]
        digest = blake2b(msgspec.json.encode(head), digest_size=16)
        cached, messages = 0, request["messages"]
        for count, message in enumerate(messages, 1):
            digest.update(msgspec.json.encode(message))
            key = digest.digest()
            if key in self._known:
                cached = prompt_tokens({**request, "messages": messages[:count]})
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return cached // STEP_TOKENS * STEP_TOKENS if cached >= FEWEST_TOKENS else 0
