"""The price data behind a process boundary: `python -m pointsman.accounting.price_lookup` answers questions and ends.

genai-prices brings pydantic and an HTTP client: 20 MB and 200 ms of import that a serving process should not pay.
Standard input holds a JSON list of questions, standard output a list of answers in the same order.
"""

import datetime
import sys

import msgspec

from pointsman.accounting.pricing import Price, PriceBook


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A model at a provider, named as in genai-prices or by its API's URL."""

    provider: str | None
    base_url: str | None
    model: str


def main() -> None:
    """Answer what standard input asks; instants are the present."""
    questions = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Question])
    book = PriceBook(lambda: datetime.datetime.now(datetime.UTC))  # noqa: TID251 - a process of its own: its root
    book.load()
    answers: list[Price | None] = [book.find(one.provider, one.base_url, one.model) for one in questions]
    sys.stdout.buffer.write(msgspec.json.encode(answers))


if __name__ == "__main__":
    main()
