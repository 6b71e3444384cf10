"""Share sizes as whole numbers of 1/SHARE shares, so that sums of fractional shares stay exact. Pure."""

from decimal import Decimal, InvalidOperation

from marketdata.bars.snapshot import SHARE

LARGEST = 10**15  # shares


KNOWN: dict[str | float, int] = {}
"""Sizes met before, by the text or number that the feed sent; whoever reads many events looks here first and asks `known_units` for the rest."""

KNOWN_TWICE: dict[str | float, tuple[int, float]] = {}
"""The same, each with its float: to multiply a price with an integer beyond 2³⁰ takes as long as to look both up."""


class BadSizeError(ValueError):
    """The text is no share size."""


def units(text: str | None, number: float) -> int:
    """
    Return a size in 1/SHARE shares: the decimal `text` where the feed sent one, else `number`.

    BadSizeError for what is no number, negative, absurd, or finer than 1/SHARE.
    """
    if text is None:
        if not 0 <= number < LARGEST:
            raise BadSizeError(f"{number} shares cannot be")
        whole = int(number)
        return whole * SHARE if whole == number else _exact(repr(number))
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text) * SHARE
    if text.endswith(".0") and text[:-2].isdigit() and text.isascii() and len(text) <= 17:
        return int(text[:-2]) * SHARE
    return _exact(text)


def known_units(text: str | None, number: float) -> int:
    """Return `units`, and remember it. BadSizeError as there."""
    size = units(text, number)
    if len(KNOWN) < 100_000:  # sizes repeat; hostile input must not grow the table
        sent = number if text is None else text
        KNOWN[sent], KNOWN_TWICE[sent] = size, (size, float(size))
    return size


def _exact(text: str) -> int:
    try:
        size = Decimal(text)
    except InvalidOperation:
        raise BadSizeError(f"{text[:40]!r} is not a number of shares") from None
    if not size.is_finite() or size < 0 or size >= LARGEST:
        raise BadSizeError(f"{text[:40]} shares cannot be")
    scaled = size * SHARE
    if scaled != scaled.to_integral_value():
        raise BadSizeError(f"{text[:40]} is finer than 1/{SHARE} share")
    return int(scaled)


def decimal_text(size: int) -> str:
    """Return a size as the shortest decimal number of shares: 1710500000000 → '1710.5'."""
    whole, rest = divmod(size, SHARE)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)
