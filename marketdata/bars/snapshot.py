"""A bar in memory, frozen. Pure: no clock, no I/O, no Django."""

from datetime import date

import msgspec

MINUTE_MS = 60_000
SHARE = 10**9  # volumes are whole numbers of 1/SHARE shares, so that sums of fractions stay exact


class BarSnapshot(msgspec.Struct, frozen=True, gc=False):
    """
    One-minute bar of one symbol: [opened_at_ms, opened_at_ms + 60,000), Unix milliseconds UTC.

    Prices are floats whose shortest decimal form is the feed's own text; `volume` counts 1/SHARE shares; `source` is the rank of
    PRODUCT A3 and `version` orders snapshots of equal rank.
    """

    symbol: str
    opened_at_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    vwap: float | None
    trades: int | None
    source: int
    version: int
    complete: bool


class BarChange(msgspec.Struct, frozen=True, gc=False):
    """What one commit did to one stored bar: the stored values, the revision they have, and whether the key is new."""

    bar: BarSnapshot
    revision: int
    is_final: bool
    inserted: bool


class DailySnapshot(msgspec.Struct, frozen=True, gc=False):
    """One session's bar of one symbol, unadjusted; `volume` counts 1/SHARE shares."""

    symbol: str
    date: date
    open: float
    high: float
    low: float
    close: float
    volume: int
    vwap: float | None
    trades: int | None
    source: int
    version: int
