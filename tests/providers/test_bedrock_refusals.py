"""What Bedrock's refusals mean: they differ from other vendors' in their statuses."""

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.providers.bedrock.answers import parse_error
from pointsman.routing.failures import classify
from pointsman.testing import Bedrock, Behaviour
from pointsman.testing.reply import Request

ASKED = Request(method="POST", path="/model/m/converse", headers=(), body=b"{}", http_version="1.1", keep_alive=True)


def refused(fault: str) -> GatewayError:
    reply = Bedrock().refuse(fault, ASKED, Behaviour())
    headers = {name.encode(): value.encode() for name, value in reply.headers}
    return parse_error(reply.status, headers, reply.body, None).of(reply.status, headers, reply.body)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("quota", Kind.RATE_LIMITED),
        ("model_not_found", Kind.MODEL_NOT_FOUND),
        ("content_filter", Kind.CONTENT_FILTERED),
        ("bad_request", Kind.INVALID_REQUEST),
        ("context_length", Kind.CONTEXT_LENGTH),
    ],
)
def test_a_refusal_with_status_400_is_told_by_its_exception_and_words(fault: str, kind: Kind) -> None:
    assert refused(fault).kind is kind


@pytest.mark.parametrize(
    ("fault", "elsewhere"), [("quota", True), ("model_not_found", True), ("content_filter", False)]
)
def test_a_quota_and_a_missing_model_are_tried_elsewhere_and_filtered_content_is_not(
    fault: str, elsewhere: bool
) -> None:
    assert classify(refused(fault)).next is elsewhere
