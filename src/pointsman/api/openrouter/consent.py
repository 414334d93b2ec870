"""``/auth``: the page on which a person lets a program have a key. Programs send browsers here.

The page tells nothing of the person, so it needs no session; the answer to it does, and comes from this page alone:
a cookie that another site's page makes a browser send is no session here (policy/authentication.py).
"""

from html import escape
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, line, wrong
from pointsman.api.openrouter.consent_sign_in import DECISION, ConsentSignIn
from pointsman.api.openrouter.exchange import amount, moment_of, usd, words_of
from pointsman.errors import GatewayError
from pointsman.identity.keys import Key
from pointsman.policy.key_codes import S256, CodeWish, KeyCodes, check_wish
from pointsman.policy.router_keys import RESETS

PATH: Final = "/auth"
MAX_ADDRESS: Final = 2000
MAX_BODY: Final = 4000
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title><h1>{title}</h1>{body}</html>'
)
_FORM: Final = (
    '<form method="post"><button name="decision" value="allow">Allow</button> '
    '<button name="decision" value="deny">Deny</button></form>'
)


class ConsentPage:
    """The views."""

    def __init__(self, codes: KeyCodes, sign_in: ConsentSignIn) -> None:
        self._codes = codes
        self._sign_in = sign_in

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per method."""

        @get(PATH)
        async def ask(request: HttpRequest) -> Response[bytes]:
            wish = _wish(request)
            return _page(f"Let {_who(wish)} have a key?", _told(wish) + _FORM, wish)

        @post(PATH, status_code=200)
        async def decide(request: HttpRequest) -> Response[bytes]:
            wish, body = _wish(request), (await request.body())[:MAX_BODY]
            fields = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
            decision = fields.get("decision", "")
            if decision == DECISION:
                return await self._signed_in(request, wish, fields)
            if decision not in ("allow", "deny"):
                raise wrong("decision", "must be allow or deny")
            key: Key | None = request.scope["state"].get("caller")
            if key is None or key.kind != "session":
                return _page("Sign in first", self._sign_in.form("Nobody is signed in here."), wish, status=401)
            if decision == "deny":
                return _sent_back(wish, error="access_denied")
            grant = await self._codes.grant(key, wish)
            return _sent_back(wish, code=grant.code)

        return [ask, decide]

    async def _signed_in(self, request: HttpRequest, wish: CodeWish, fields: dict[str, str]) -> Response[bytes]:
        """Back to the question, which is asked once more; or to the form, with what is wrong."""
        try:
            cookie = await self._sign_in.cookie(request, fields)
        except GatewayError as error:
            return _page("Sign in first", self._sign_in.form(error.message), wish, status=error.status)
        again = Response(b"", status_code=303, media_type="text/html")
        query = request.scope["query_string"].decode("latin-1")
        again.headers.update({**_headers(wish), "location": f"{PATH}?{query}", "set-cookie": cookie})
        return again


def _wish(request: HttpRequest) -> CodeWish:
    """What the program asks for, in the page's query. Raises GatewayError(INVALID_REQUEST) naming the parameter."""
    limit, reset = line(request, "limit"), line(request, "usage_limit_type")
    callback, method = request.query_params.get("callback_url"), line(request, "code_challenge_method")
    if reset is not None and reset not in RESETS:
        raise wrong("usage_limit_type", f"must be one of {', '.join(RESETS)}")
    if method not in (None, S256, "plain"):
        raise wrong("code_challenge_method", "must be S256 or plain")
    try:
        dollars = None if limit is None else float(limit)
    except ValueError:
        raise wrong("limit", "must be an amount in dollars") from None
    wish = CodeWish(
        callback_url=callback,
        label=line(request, "key_label"),
        challenge=line(request, "code_challenge"),
        method=method,
        nano_usd=amount(dollars, "limit"),
        reset=reset,
        expires_at=moment_of(line(request, "expires_at"), "expires_at"),
        workspace_id=line(request, "workspace_id"),
    )
    check_wish(wish)
    return wish


def _who(wish: CodeWish) -> str:
    """The program, by where it is told the code: what it calls itself proves nothing."""
    return "a program" if wish.callback_url is None else urlsplit(wish.callback_url).netloc


def _told(wish: CodeWish) -> str:
    rows = ["It can call models, and your account pays for it."]
    if wish.label is not None:
        rows.append(f"The key will be called {wish.label}.")
    often = "" if wish.reset is None else f", {wish.reset}"
    rows.append("It has no limit." if wish.nano_usd is None else f"It may spend ${usd(wish.nano_usd):.2f}{often}.")
    if wish.expires_at is not None:
        rows.append(f"It ends at {words_of(wish.expires_at)}.")
    return "".join(f"<p>{escape(row)}</p>" for row in rows)


def _sent_back(wish: CodeWish, **more: str) -> Response[bytes]:
    """Back to the program with what it is told; shown here where it has no address."""
    if wish.callback_url is None:
        told = f"<p>Give the program this code:</p><p><code>{escape(more['code'])}</code></p>" if "code" in more else ""
        return _page("Allowed" if told else "Denied", told, wish)
    url = urlsplit(wish.callback_url)
    query = urlencode([*parse_qsl(url.query, keep_blank_values=True), *more.items()])
    away = Response(b"", status_code=303, media_type="text/html")
    away.headers.update({**_headers(wish), "location": urlunsplit(url._replace(query=query))})
    return away


def _page(title: str, body: str, wish: CodeWish, status: int = 200) -> Response[bytes]:
    page = _PAGE.format(title=escape(title), body=body).encode()
    found = Response(page, status_code=status, media_type="text/html; charset=utf-8")
    found.headers.update(_headers(wish))
    return found


def _headers(wish: CodeWish) -> dict[str, str]:
    """Nothing is loaded, framed or kept. Browsers ask of the redirect behind a form, too, whether it may be."""
    back = "" if wish.callback_url is None else f" {check_wish(wish)}"
    policy = f"default-src 'none'; form-action 'self'{back}; frame-ancestors 'none'; base-uri 'none'"
    return {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
    }
