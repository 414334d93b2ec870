"""Credits, CrossCompute's unit of money: 10,000 of them are a dollar. The ledger has nano-USD alone."""

from decimal import Decimal, InvalidOperation
from typing import Final

CREDIT_NANO_USD: Final = 100_000
DIGITS: Final = 5  # behind the point, so that no nano-USD is lost
MOST_CREDITS: Final = 10**12


def credits_text(nano_usd: int) -> str:
    """An amount in credits, exactly, without zeros behind."""
    whole, rest = divmod(abs(nano_usd), CREDIT_NANO_USD)
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}{whole}.{rest:0{DIGITS}d}".rstrip("0").rstrip(".")


def credits_number(nano_usd: int) -> int | float:
    """An amount in credits as JSON has numbers: whole where it is."""
    return nano_usd / CREDIT_NANO_USD if nano_usd % CREDIT_NANO_USD else nano_usd // CREDIT_NANO_USD


def nano_of_credits(amount: object) -> int | None:
    """Credits, a number of 0 to 10^12 with five decimals at most, in nano-USD; None for anything else."""
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    try:
        nano = Decimal(str(amount)).scaleb(DIGITS)
    except InvalidOperation:
        return None
    if not nano.is_finite() or not 0 <= nano <= MOST_CREDITS * CREDIT_NANO_USD or nano != nano.to_integral_value():
        return None
    return int(nano)
