"""Azure OpenAI on the raw lane: the key in ``api-key``, the deployment in the path, everything else as OpenAI has it.

Source: the Azure OpenAI REST reference, as of 2026-11. Its v1 paths are OpenAI's own and need the header alone.
"""

from typing import Final

import msgspec

from pointsman.providers import openai
from pointsman.providers.hosts import Host
from pointsman.wire.openai_chat import Fields

API_VERSION: Final = "2024-10-21"  # the last dated version that is generally available; newer features are on v1
_DEPLOYMENT: Final = b"{deployment}"
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

_name: Final = msgspec.json.Decoder(str)


def chat_path(template: str, deployment: str, api_version: str = API_VERSION) -> str:
    """The path of a deployment's chat completions, its name percent-encoded."""
    return template.replace("{model}", quoted(deployment)).replace("{api_version}", quoted(api_version))


def quoted(text: str) -> str:
    """Text as one segment of a path: all but letters, digits and ``-._~`` percent-encoded."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


class AzureOpenAI:
    """The raw lane's format for hosts that take ``api-key``; what isn't here is `pointsman.providers.openai`'s."""

    parse_response = staticmethod(openai.parse_response)
    parse_error = staticmethod(openai.parse_error)
    StreamReader = openai.StreamReader

    def __init__(self, host: Host) -> None:
        """``host`` tells whether the deployment stands in the path."""
        self._template = host.chat_path

    def build_head(self, path_prefix: str, host: bytes, secret: str | None) -> bytes:
        """Everything of a request's head that doesn't change, up to the value of content-length; with deployments
        in the path, a mark where each request's goes.
        """
        path = openai.CHAT_PATH
        if self._template is not None:
            path = self._template.replace("{model}", _DEPLOYMENT.decode()).replace("{api_version}", API_VERSION)
        lines = [f"POST {path_prefix}{path} HTTP/1.1", f"host: {host.decode('ascii')}"]
        if secret is not None:
            lines.append(f"api-key: {secret}")
        lines += [
            "content-type: application/json",
            "accept-encoding: identity",
            "user-agent: pointsman",
            "content-length: ",
        ]
        return "\r\n".join(lines).encode("latin-1")

    def build_request(self, head: bytes, fields: Fields, model: msgspec.Raw, ask_usage: bool = False) -> bytes:
        """As `openai.build_request`, with the deployment in the path."""
        if self._template is not None:
            head = head.replace(_DEPLOYMENT, quoted(_name.decode(model)).encode("ascii"), 1)
        return openai.build_request(head, fields, model, ask_usage)


def build_models_request(path_prefix: str, host: bytes, secret: str | None, template: str | None) -> bytes:
    """The whole HTTP request for a resource's list of models."""
    path = openai.MODELS_PATH if template is None else f"/openai{openai.MODELS_PATH}?api-version={API_VERSION}"
    lines = [f"GET {path_prefix}{path} HTTP/1.1", f"host: {host.decode('ascii')}"]
    if secret is not None:
        lines.append(f"api-key: {secret}")
    lines += ["accept: application/json", "accept-encoding: identity", "user-agent: pointsman", "", ""]
    return "\r\n".join(lines).encode("latin-1")
