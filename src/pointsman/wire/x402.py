"""x402 over HTTP, versions 1 and 2, scheme ``exact`` on EVM: challenges, payments, receipts, the facilitator's API.

Version 1 has the challenge in the body and ``X-PAYMENT``; version 2 has base64 of JSON in ``PAYMENT-REQUIRED`` and
``PAYMENT-SIGNATURE``. As the specification and the reference client 2.25.0 have them (2026-11).
"""

import base64
import binascii
from typing import Annotated, Any, Final, TypeVar

import msgspec

from pointsman.canonical.payments import (
    EXACT,
    INVALID_REQUIREMENTS,
    NETWORK_MISMATCH,
    RECIPIENT_MISMATCH,
    UNSUPPORTED_SCHEME,
    VALUE_MISMATCH,
    Authorization,
    Offer,
    Payment,
    PaymentRefused,
)
from pointsman.errors import GatewayError, Kind
from pointsman.wire.json_faults import describe

Form = TypeVar("Form")

REQUEST_HEADERS: Final = {1: "x-payment", 2: "payment-signature"}
RESPONSE_HEADERS: Final = {1: "x-payment-response", 2: "payment-response"}
CHALLENGE_HEADER: Final = "payment-required"
DESCRIPTION: Final = "Credit for this agent's account"
MIME_TYPE: Final = "application/json"
MAX_PAYMENT: Final = 16 * 1024  # characters of a payment; one of a contract wallet has some thousand
MOST_AMOUNT: Final = 2**256

Address = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{40}$")]
Digits = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,78}$")]
_MEMBERS: Final = ("x402Version", "scheme", "network", "accepted", "resource", "payload", "extensions")
_encode: Final = msgspec.json.Encoder().encode


class AuthorizationText(msgspec.Struct, frozen=True, kw_only=True):
    """What the payer signed; numbers are decimal texts."""

    from_: Address = msgspec.field(name="from")
    to: Address
    value: Digits
    valid_after: Digits = msgspec.field(name="validAfter")
    valid_before: Digits = msgspec.field(name="validBefore")
    nonce: Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{64}$")]


class ExactPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of scheme ``exact``."""

    signature: Annotated[str, msgspec.Meta(pattern="^0x(?:[0-9a-fA-F]{2}){1,4096}$")]
    authorization: AuthorizationText


class PaymentV1(msgspec.Struct, frozen=True, kw_only=True):
    """``X-PAYMENT``."""

    x402_version: int = msgspec.field(name="x402Version")
    scheme: str
    network: str
    payload: ExactPayload


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The one of the offers that the payer chose, as far as it is compared."""

    scheme: str
    network: str
    asset: str
    amount: str
    pay_to: str = msgspec.field(name="payTo")


class PaymentV2(msgspec.Struct, frozen=True, kw_only=True):
    """``PAYMENT-SIGNATURE``."""

    x402_version: int = msgspec.field(name="x402Version")
    accepted: Accepted
    payload: ExactPayload


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a facilitator answers to ``POST /verify``."""

    is_valid: bool = msgspec.field(name="isValid")
    invalid_reason: str | None = msgspec.field(name="invalidReason", default=None)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What a facilitator answers to ``POST /settle``."""

    success: bool
    error_reason: str | None = msgspec.field(name="errorReason", default=None)
    transaction: str = ""
    network: str = ""


def read_payment(version: int, text: str, offer: Offer) -> Payment:
    """A payment header's value for what is asked.

    Raises GatewayError(INVALID_REQUEST) for one that can't be read, PaymentRefused for one that is for something else.
    """
    header = REQUEST_HEADERS[version]
    try:
        document = base64.b64decode(text.encode("ascii"), validate=True) if len(text) <= MAX_PAYMENT else b""
    except (UnicodeEncodeError, binascii.Error):
        document = b""
    if not document:
        raise GatewayError(Kind.INVALID_REQUEST, f"{header} must be base64 of a JSON object", param=header)
    shown: PaymentV1 | PaymentV2
    shown = _decoded(document, PaymentV1, header) if version == 1 else _decoded(document, PaymentV2, header)
    if shown.x402_version != version:
        raise GatewayError(Kind.INVALID_REQUEST, f"{header}: x402Version must be {version}", param="x402Version")
    _check_choice(shown, offer)
    told = _encode(_read_only(_decoded(document, dict[str, Any], header), shown.payload))
    return Payment(version=version, offer=offer, authorization=_authorization(shown.payload), document=told)


def _decoded(document: bytes, form: type[Form], header: str) -> Form:
    """A payment's JSON as one of its forms. Raises GatewayError(INVALID_REQUEST) for what can't be read."""
    try:
        return msgspec.json.decode(document, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fault = describe(error, document)
        message = f"{header}: {fault.message}"
        raise GatewayError(Kind.INVALID_REQUEST, message, param=fault.param or header) from None


def _read_only(told: dict[str, Any], payload: ExactPayload) -> dict[str, Any]:
    """The payment with what was read of it and no more: who settles it must find no other one in it."""
    return {name: payload if name == "payload" else told[name] for name in _MEMBERS if name in told}


def _check_choice(shown: PaymentV1 | PaymentV2, offer: Offer) -> None:
    """Raises PaymentRefused when the payer chose something else than what is asked now."""
    if isinstance(shown, PaymentV1):
        scheme, network, wanted = shown.scheme, shown.network, offer.old_network
    else:
        scheme, network, wanted = shown.accepted.scheme, shown.accepted.network, offer.network
    if scheme != EXACT:
        raise PaymentRefused(UNSUPPORTED_SCHEME)
    if network != wanted:
        raise PaymentRefused(NETWORK_MISMATCH)
    if isinstance(shown, PaymentV2):
        accepted = shown.accepted
        if accepted.pay_to.lower() != offer.pay_to.lower():
            raise PaymentRefused(RECIPIENT_MISMATCH)
        if accepted.amount != str(offer.atomic):
            raise PaymentRefused(VALUE_MISMATCH)
        if accepted.asset.lower() != offer.asset.lower():
            raise PaymentRefused(INVALID_REQUIREMENTS)


def _authorization(payload: ExactPayload) -> Authorization:
    told = payload.authorization
    for name in ("value", "valid_after", "valid_before"):
        if int(getattr(told, name)) >= MOST_AMOUNT:
            raise GatewayError(Kind.INVALID_REQUEST, f"{name} is longer than 256 bits", param=f"authorization.{name}")
    return Authorization(
        payer=told.from_.lower(),
        pay_to=told.to.lower(),
        value=int(told.value),
        valid_after=int(told.valid_after),
        valid_before=int(told.valid_before),
        nonce=told.nonce.lower(),
        signature=bytes.fromhex(payload.signature[2:]),
    )


def requirements(version: int, offer: Offer) -> dict[str, Any]:
    """What is asked, in the words of a version."""
    extra = {"name": offer.asset_name, "version": offer.asset_version}
    common = {"asset": offer.asset, "payTo": offer.pay_to, "maxTimeoutSeconds": offer.valid_seconds, "extra": extra}
    if version == 1:
        about = {"resource": offer.resource, "description": DESCRIPTION, "mimeType": MIME_TYPE}
        return {
            "scheme": EXACT, "network": offer.old_network, "maxAmountRequired": str(offer.atomic), **about, **common
        }  # fmt: skip
    return {"scheme": EXACT, "network": offer.network, "amount": str(offer.atomic), **common}


def challenge(offer: Offer, reason: str) -> tuple[dict[str, Any], str]:
    """Both forms at once: version 1's body, and version 2's header."""
    body = {"x402Version": 1, "error": reason, "accepts": [requirements(1, offer)]}
    about = {"url": offer.resource, "description": DESCRIPTION, "mimeType": MIME_TYPE}
    header = {"x402Version": 2, "error": reason, "resource": about, "accepts": [requirements(2, offer)]}
    return body, _packed(header)


def receipt(payment: Payment, transaction: str, reason: str | None = None) -> str:
    """The header's value that says how a payment went; ``reason`` is why it did not."""
    offer = payment.offer
    told: dict[str, Any] = {
        "success": reason is None,
        "transaction": transaction,
        "network": offer.old_network if payment.version == 1 else offer.network,
        "payer": payment.authorization.payer,
    }
    if reason is not None:
        told["errorReason"] = reason
    elif payment.version == 2:
        told["amount"] = str(offer.atomic)
    return _packed(told)


def facilitator_request(payment: Payment) -> bytes:
    """The body of both of a facilitator's calls."""
    return _encode(
        {
            "x402Version": payment.version,
            "paymentPayload": msgspec.Raw(payment.document),
            "paymentRequirements": requirements(payment.version, payment.offer),
        }
    )


def _packed(value: dict[str, Any]) -> str:
    return base64.b64encode(_encode(value)).decode("ascii")
