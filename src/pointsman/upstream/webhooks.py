"""An operator's webhook: told something in JSON, signed where there is a secret that both sides have.

The signature is ``t=SECONDS,v1=HEX`` in ``X-Pointsman-Signature``: HMAC-SHA-256 under the shared secret of the seconds
since 1970, a full stop and the body.
"""

import hmac
from typing import Any

import msgspec

from pointsman.clock import Clock
from pointsman.keyring import Secret
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.json_posts import JsonPost


class Webhook:
    """One of them."""

    def __init__(self, post: JsonPost, secret: Secret | None, clock: Clock) -> None:
        self._post = post
        self._secret = secret
        self._clock = clock

    async def tell(self, told: Any, seconds: float, headers: tuple[tuple[str, str], ...] = ()) -> CollectedAnswer:
        """Its whole answer, whatever the status. Raises GatewayError, UPSTREAM_TIMEOUT after ``seconds``."""
        body = msgspec.json.encode(told)
        if self._secret is not None:
            at = self._clock.now_us() // 1_000_000
            signature = hmac.digest(self._secret.reveal().encode(), b"%d.%b" % (at, body), "sha256").hex()
            headers = (*headers, ("x-pointsman-signature", f"t={at},v1={signature}"))
        return await self._post.ask(body, seconds, headers=headers)
