"""An administrator's calls to a running gateway, each answer checked against a shape and kept for a search."""

import io
import json
import zipfile
from typing import Any

import httpx
import jsonschema_rs
from contract_shapes import REFUSAL

from gateway import KEY, RunningGateway

SECRET = "sk-canary-Zx9Qw7Er5Ty3Ui1Op-secret"


class Admin:
    """Calls with one key; ``seen`` is everything that was answered."""

    def __init__(self, gateway: RunningGateway, key: str | None = KEY) -> None:
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        self._client = httpx.Client(base_url=gateway.address, headers=headers, timeout=20)
        self.seen: list[str] = []

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, shape: Any = None) -> Any:
        """The decoded answer, which has ``status`` and, when given, ``shape``; a refusal has the contract's."""
        sent = {"json": body} if body is not None else {}
        response = self._client.request(method, path, **sent)
        self.seen.append(f"{response.headers!r}{response.text}")
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        found = response.json()
        shape = REFUSAL if status >= 400 else shape
        if shape is not None:
            jsonschema_rs.validate(shape, found, validate_formats=True)
        return found

    def send(self, method: str, path: str, content: bytes, content_type: str) -> httpx.Response:
        """A call with any body."""
        response = self._client.request(method, path, content=content, headers={"content-type": content_type})
        self.seen.append(response.text)
        return response

    def create(self, **fields: Any) -> Any:
        """Make a connection."""
        return self.ask("POST", "/api/providers", fields, status=201)["connection"]

    def fault(self, method: str, path: str, body: Any) -> str:
        """The field that a 400 names."""
        found = self.ask(method, path, body, status=400)
        return str(found["error"]["details"][0]["field"])

    def chat(self, model: str, **headers: str) -> httpx.Response:
        """One chat call."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return self._client.post("/v1/chat/completions", json=body, headers=headers)


def archive(**files: bytes) -> bytes:
    """A ZIP archive; ``__`` in a name stands for a slash."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name.replace("__", "/") + ".json", content)
    return packed.getvalue()


def token_file() -> bytes:
    """What the contract calls a token file."""
    return json.dumps({"access_token": "ya29.a", "refresh_token": "1//r"}).encode()
