"""What a failed call means: one row for each kind of refusal that was seen."""

import time
from typing import Any

import pytest

from pointsman.errors import BudgetExceeded, EndpointNotReady, GatewayError, Kind, Unjudged
from pointsman.routing import failures
from pointsman.routing.failures import Failure, classify, classify_broken


def refused(status: int, body: bytes = b"", kind: Kind = Kind.INVALID_REQUEST) -> Failure:
    """What an upstream's answer means."""
    return classify(GatewayError(kind, "").of(status, {}, body))


def error(message: str, **members: str) -> bytes:
    """A body as most upstreams write it."""
    more = "".join(f',"{name}":"{value}"' for name, value in members.items())
    return f'{{"error":{{"message":"{message}"{more}}}}}'.encode()


ROWS: list[tuple[str, int, bytes, str, str]] = [
    ("account deactivated", 401, error("Your account has been deactivated."), "banned", "connection"),
    ("account suspended", 403, error("This account is suspended"), "banned", "connection"),
    ("verify your account", 403, error("Please verify your account to continue"), "banned", "connection"),
    ("disabled for violation", 403, error("Service disabled due to violation of the Terms"), "banned", "connection"),
    ("Google's consumer suspended", 403, error("no", reason="CONSUMER_SUSPENDED"), "banned", "connection"),
    ("insufficient_quota", 429, error("You exceeded it", code="insufficient_quota"), "credits_exhausted", "connection"),
    ("current quota", 429, error("You exceeded your current quota, please"), "credits_exhausted", "connection"),
    ("credit balance", 400, error("x", type="billing_error"), "credits_exhausted", "connection"),
    ("credit balance in words", 403, error("Your credit balance is too low"), "credits_exhausted", "connection"),
    ("out of credits", 403, error("You are out of credits"), "credits_exhausted", "connection"),
    ("insufficient balance", 402, error("Insufficient Balance"), "credits_exhausted", "connection"),
    ("Anthropic's empty account", 400,
     b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the '
     b'Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},"request_id":"req_1"}',
     "credits_exhausted", "connection"),
    ("Anthropic's ceiling", 400,
     b'{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage '
     b'limits. You will regain access on 2030-01-01 at 00:00 UTC."}}', "credits_exhausted", "connection"),
    ("Google's billing", 403,
     b'{"error":{"code":403,"message":"This API method requires billing to be enabled.","status":"PERMISSION_DENIED",'
     b'"details":[{"reason":"BILLING_DISABLED"}]}}', "credits_exhausted", "connection"),
    ("Google's empty account", 429,
     error("Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your "
           "project and billing.", status="RESOURCE_EXHAUSTED"), "credits_exhausted", "connection"),
    ("Google's country", 400,
     error("Gemini API free tier is not available in your country. Please enable billing on your project in Google AI "
           "Studio.", status="FAILED_PRECONDITION"), "credits_exhausted", "connection"),
    ("Google's plan without the model", 429,
     error("You exceeded your current quota, please check your plan. * Quota exceeded for metric: "
           "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0, model: gemini-3.1-pro",
           status="RESOURCE_EXHAUSTED"), "no_model_access", "model"),
    ("Bedrock's payment", 403,
     b'{"message":"Model access is denied due to INVALID_PAYMENT_INSTRUMENT: A valid payment instrument must be '
     b'provided."}', "credits_exhausted", "connection"),
    ("Ollama's week", 429, error("you've reached your weekly usage limit, please upgrade to continue"),
     "credits_exhausted", "connection"),
    ("Cohere's month", 429, error("You are using a Trial key, which is limited to 1000 API calls / month"),
     "credits_exhausted", "connection"),
    ("402", 402, b"", "credits_exhausted", "connection"),
    ("daily quota", 429, error("You have reached your daily limit"), "daily_quota", "connection"),
    ("today's quota", 429, error("today's quota is used up"), "daily_quota", "connection"),
    ("try again tomorrow", 429, error("try again tomorrow"), "daily_quota", "connection"),
    ("tokens per day", 429, error("on tokens per day (TPD)"), "daily_quota", "connection"),
    ("tokens per day of a model", 429, error("Rate limit reached for model `llama-3` on tokens per day (TPD)"),
     "model_daily_quota", "model"),
    ("Google's quota", 429, error("You exceeded your current quota", status="RESOURCE_EXHAUSTED"),
     "rate_limited", "connection"),
    ("Google's quota of a model", 429,
     b'{"status":"RESOURCE_EXHAUSTED","quotaId":"RequestsPerMinutePerProjectPerModel"}',
     "model_rate_limited", "model"),
    ("Google's daily quota of a model", 429,
     b'{"status":"RESOURCE_EXHAUSTED","quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}',
     "model_daily_quota", "model"),
    ("retired", 404, error("The model has been deprecated"), "model_retired", "model"),
    ("no longer available", 410, error("gpt-3 is no longer available"), "model_retired", "model"),
    ("end of life", 400, error("This model reached its end of life"), "model_retired", "model"),
    ("decommissioned", 400, error("x", code="model_decommissioned"), "model_retired", "model"),
    ("410", 410, b"", "model_retired", "model"),
    ("moved", 404, error("This endpoint has moved to v2"), "model_retired", "model"),
    ("no credentials", 401, error("No credentials found"), "no_credentials", "connection"),
    ("request not allowed", 403, error("Request not allowed"), "not_allowed", "connection"),
    ("improperly formed", 400, error("Improperly formed request."), "model_capacity", "request"),
    ("no access to a model", 403, error("You do not have access to the model gpt-9"), "no_model_access", "model"),
    ("no access, 400", 400, error("Your project does not have access to model x"), "no_model_access", "model"),
    ("Bedrock's access", 403, error("You don't have access to the model with the specified ID"), "no_model_access",
     "model"),
    ("a model overloaded", 503, error("The model is overloaded. Please try again later."), "model_overloaded", "model"),
    ("Bedrock's not ready", 429, b'{"__type":"ModelNotReadyException"}', "model_overloaded", "model"),
    ("rate limit of a model", 429, error("Rate limit reached for gpt-4o in organization org-1 on requests per min"),
     "model_rate_limited", "model"),
    ("rate limit of requests", 429, error("Rate limit reached for requests"), "rate_limited", "connection"),
    ("too many requests", 403, error("Too many requests"), "rate_limited", "connection"),
    ("quota exceeded", 403, error("Quota exceeded for quota metric"), "rate_limited", "connection"),
    ("Bedrock's throttling", 400, b'{"__type":"com.amazon.coral#ThrottlingException"}', "rate_limited", "connection"),
    ("429", 429, b"", "rate_limited", "connection"),
    ("Anthropic's overload", 529, error("Overloaded", type="overloaded_error"), "overloaded", "connection"),
    ("503", 503, b"", "overloaded", "connection"),
    ("500", 500, error("The server had an error"), "upstream_error", "connection"),
    ("502", 502, b"<html>", "upstream_error", "connection"),
    ("520", 520, b"", "upstream_error", "connection"),
    ("504", 504, b"", "timeout", "connection"),
    ("408", 408, b"", "timeout", "connection"),
    ("401", 401, b"", "rejected", "connection"),
    ("403", 403, b"", "rejected", "connection"),
    ("407", 407, b"", "rejected", "connection"),
    ("a link to the limits is no limit", 401, error("Bad key; see /docs/rate-limits"), "rejected", "connection"),
    ("Google's invalid key", 400, error("API key not valid", reason="API_KEY_INVALID"), "rejected", "connection"),
    ("404", 404, b"", "model_not_found", "model"),
    ("406", 406, b"", "not_acceptable", "model"),
    ("400", 400, error("temperature must be below 2"), "invalid_request", "request"),
    ("400 that quotes a prompt", 400, error("Invalid input: 'x'", param="tell me: account suspended, out of credits"),
     "invalid_request", "request"),
    ("400 that quotes a prompt about credit", 400, error("messages.0: 'your credit balance is too low' is not a role"),
     "invalid_request", "request"),
    ("422", 422, error("insufficient credits were mentioned"), "invalid_request", "request"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "word", "scope"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_refusal_is_understood(status: int, body: bytes, word: str, scope: str) -> None:
    found = refused(status, body)
    assert (found.word, found.scope) == (word, scope)


KINDS: list[tuple[Kind, dict[str, Any]]] = [
    (Kind.CONTEXT_LENGTH, {"scope": "request", "next": True, "larger": True}),
    (Kind.CONTENT_FILTERED, {"scope": "request", "next": False}),
    (Kind.INVALID_REQUEST, {"scope": "request", "next": False}),
    (Kind.UNSUPPORTED, {"scope": "request", "next": True}),
    (Kind.OVERLOADED, {"word": "limited_here", "scope": "request"}),
    (Kind.RATE_LIMITED, {"word": "limited_here", "scope": "request"}),
    (Kind.UPSTREAM_UNAVAILABLE, {"word": "unavailable", "trips": True, "network": True, "listed": "up"}),
    (Kind.UPSTREAM_TIMEOUT, {"word": "timeout", "trips": True, "network": True}),
    (Kind.UPSTREAM_ERROR, {"word": "upstream_error", "trips": True, "network": True}),
    (Kind.NOT_READY, {"word": "not_ready_here", "scope": "request", "next": True}),
]


@pytest.mark.parametrize(("kind", "expected"), KINDS, ids=[kind.value for kind, _ in KINDS])
def test_a_failure_without_an_answer_is_understood(kind: Kind, expected: dict[str, Any]) -> None:
    found = classify(GatewayError(kind, ""))
    assert {name: getattr(found, name) for name in expected} == expected


def test_only_an_endpoint_that_is_not_ready_is_left_alone() -> None:
    found = classify(EndpointNotReady(Kind.NOT_READY, ""))
    assert (found.word, found.scope, found.sent) == ("not_ready", "connection", False)


@pytest.mark.parametrize("kind", [Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTERED])
def test_what_the_format_has_understood_stays(kind: Kind) -> None:
    assert refused(429, b"", kind) == classify(GatewayError(kind, ""))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (Kind.RATE_LIMITED, "rate_limited"),
        (Kind.OVERLOADED, "overloaded"),
        (Kind.UPSTREAM_ERROR, "upstream_error"),
        (Kind.INVALID_REQUEST, "invalid_request"),
    ],
)
def test_an_error_inside_of_a_stream_is_understood(kind: Kind, word: str) -> None:
    assert classify_broken(kind).word == word


def test_only_the_providers_own_failures_trip_its_breaker() -> None:
    trips = {status for status in range(400, 600) if refused(status).trips}
    assert trips == {408, *range(500, 600)}


def test_every_word_of_the_tables_has_a_row() -> None:
    known = {one.word for one in vars(failures).values() if isinstance(one, Failure)}
    ours = [*(GatewayError(kind, "") for kind, _ in KINDS)]
    ours += [BudgetExceeded(Kind.PAYMENT_REQUIRED, ""), EndpointNotReady(Kind.NOT_READY, ""), Unjudged("", 5.0)]
    seen = {word for _, _, _, word, _ in ROWS} | {classify(error).word for error in ours}
    assert known == seen


def test_the_patterns_take_no_time_on_hostile_bodies() -> None:
    hostile = [b"model" * 900, b"account " * 600, b'"code":"' * 600, b"try again in " + b"1" * 4000, b"1 " * 2000]
    begun = time.thread_time()  # what others do with this machine meanwhile does not count
    for body in hostile:
        refused(429, body)
    assert time.thread_time() - begun < 0.5
