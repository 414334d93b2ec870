"""OpenAI's chat API at a path of its own on the raw lane: compatible hosts whose paths are not OpenAI's."""

from pointsman.providers import openai


class OpenAIAt:
    """The raw lane's format for hosts with another path; all else is `pointsman.providers.openai`'s."""

    build_request = staticmethod(openai.build_request)
    parse_response = staticmethod(openai.parse_response)
    parse_error = staticmethod(openai.parse_error)
    StreamReader = openai.StreamReader

    def __init__(self, path: str) -> None:
        """``path`` follows the base URL."""
        self._path = path

    def build_head(self, path_prefix: str, host: bytes, secret: str | None) -> bytes:
        """As `openai.build_head`, with another path."""
        usual = openai.build_head(path_prefix, host, secret)
        _, end, rest = usual.partition(b"\r\n")
        return f"POST {path_prefix}{self._path} HTTP/1.1".encode("latin-1") + end + rest
