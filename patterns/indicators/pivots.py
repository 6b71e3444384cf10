"""Levels of the next session from the prices of the last finished one. Pure: arrays in, arrays of the same shape out."""

from marketdata.bars.window import Floats

CLASSIC = ("pivot", "pivot_r1", "pivot_r2", "pivot_r3", "pivot_s1", "pivot_s2", "pivot_s3")
FIBONACCI = ("fib_r1", "fib_r2", "fib_r3", "fib_s1", "fib_s2", "fib_s3")
_SHARES = (0.382, 0.618, 1.0)


def classic_pivots(high: Floats, low: Floats, close: Floats) -> tuple[Floats, ...]:
    """
    Return the floor traders' levels in the order of CLASSIC: P = (H + L + C) / 3, R1 = 2P - L, R2 = P + (H - L), R3 = H + 2 (P - L).

    S1 to S3 mirror them. Source: Person, A Complete Guide to Technical Trading Tactics, 2004.
    """
    pivot = (high + low + close) / 3
    span = high - low
    above = (2 * pivot - low, pivot + span, high + 2 * (pivot - low))
    below = (2 * pivot - high, pivot - span, low - 2 * (high - pivot))
    return (pivot, *above, *below)


def fibonacci_pivots(high: Floats, low: Floats, close: Floats) -> tuple[Floats, ...]:
    """Return the levels in the order of FIBONACCI: the classic pivot plus and minus 38.2 %, 61.8 % and 100 % of the session's range."""
    pivot = (high + low + close) / 3
    span = high - low
    return (*(pivot + share * span for share in _SHARES), *(pivot - share * span for share in _SHARES))
