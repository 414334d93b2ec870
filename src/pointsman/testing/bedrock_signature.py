"""The simulated model's own signature over its thoughts."""

import base64
import hmac
from typing import Final

_KEY: Final = b"a simulated model's key"


def signature_of(thoughts: str) -> str:
    """The signature that comes with ``thoughts``, and without which they are not taken back."""
    return base64.b64encode(hmac.digest(_KEY, thoughts.encode(), "sha256")).decode()
