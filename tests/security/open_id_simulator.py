"""An OpenID provider at a socket: it signs what it is told to, and checks PKCE and the client's secret itself."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT, CLIENT_SECRET = "gateway", "sk-client-secret-of-the-gateway"


class Provider:
    """``claims`` are laid over the usual ones; ``header`` over the token's; ``key`` signs."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.published = self.key
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.address = ""
        self.codes: dict[str, dict[str, str]] = {}

    def authorize(self, address: str) -> dict[str, str]:
        """What the person's consent sends the browser back with."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return {"code": code, "state": query["state"]}

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and document."""
        if path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            return 200, {"issuer": self.address, **{name: self.address + place for name, place in names.items()}}
        if path == "/keys":
            return 200, KeySet([self.published]).as_dict(private=False)
        return self._token(form)

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        begun = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        right = (
            begun is not None and begun["code_challenge"] == challenge and begun["redirect_uri"] == form["redirect_uri"]
        )
        if begun is None or not right or form.get("client_secret") != CLIENT_SECRET:
            return 400, {"error": "invalid_grant"}
        import time

        now = int(time.time())
        claims = {
            "iss": self.address, "aud": CLIENT, "sub": "42", "iat": now, "exp": now + 300, "nonce": begun["nonce"],
            "email": "a@example.org", "email_verified": True, "given_name": "Ada", **self.claims,
        }  # fmt: skip
        header = {"alg": "RS256", "kid": "one", **self.header}
        token = jwt.encode(header, claims, self.key, algorithms=[header["alg"]])
        return 200, {"access_token": "access", "token_type": "Bearer", "id_token": token}


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider that listens on a free port of this machine."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
            status, document = provider.answer(self.path, form)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _serve

        def log_message(self, *_: Any) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
