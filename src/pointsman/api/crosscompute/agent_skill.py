"""What an agent is told of this gateway, in words that a language model reads."""

from typing import Final

SKILL: Final = b"""# Calling models through this gateway

Send your key as `Authorization: Bearer <key>`.

- `POST /v1/chat/completions` answers as OpenAI's API does. `model` is `auto`, `cheap`, `medium` or `premium`, or the
  name of a model from `GET /v1/models`. Use `cheap` where cost matters most, `premium` where quality does.
- `GET /api/agents/me` shows your account, `GET /api/agents/usage` your credits, and
  `GET /api/agents/usage-models` what each model has used. 10,000 credits are one US dollar.
- The header `x-crosscompute-billed-credits` of an answer says what it cost.
- `POST /api/agents/topup` buys credits: unpaid it answers 402 and what to pay, by x402 (version 1 in the body,
  version 2 in the header `PAYMENT-REQUIRED`). Name another amount as `amountUsd` in the body. Send the payment in
  `X-PAYMENT` or `PAYMENT-SIGNATURE` with the same body. The code `x402_disabled` means that the operator alone can
  credit you.
- Status 402 of a model's call means that your credits do not suffice, or that nobody knows what the model costs.
  Trying it again does not help.
- Status 401 means that the key is wrong or no longer active. Status 429 has `retry-after` in seconds.
"""
