"""Moments as Unix ms, and which bar of an interval a minute lies in."""

from datetime import UTC, datetime, timedelta

import numpy as np

from marketdata.bars.interval import INTRADAY, exchange_day, midnight
from marketdata.bars.snapshot import MINUTE_MS
from marketdata.bars.window import Integers

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS = 1440 * MINUTE_MS
LENGTH_MS = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, "1h": 60 * MINUTE_MS, "1d": DAY_MS}
"""How long a bar lasts; a day may be an hour shorter or longer."""


def moment_of(milliseconds: int) -> datetime:
    """Return a moment from Unix ms."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds_of(moment: datetime) -> int:
    """Return a moment's Unix ms."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def bar_start_ms(minute_ms: int, timeframe: str) -> int:
    """Return the start of the bar that a moment lies in: by the clock up to an hour, of days New York's midnight."""
    if timeframe in INTRADAY:
        return minute_ms - minute_ms % LENGTH_MS[timeframe]
    return milliseconds_of(midnight(exchange_day(moment_of(minute_ms))))


def bar_end_ms(opened_at_ms: Integers, timeframe: str) -> Integers:
    """Return the ends of bars; those of days are the next midnights in New York."""
    if timeframe in INTRADAY:
        return opened_at_ms + LENGTH_MS[timeframe]
    ends = {int(start): bar_start_ms(int(start) + DAY_MS + DAY_MS // 2, timeframe) for start in np.unique(opened_at_ms)}
    return np.array([ends[start] for start in opened_at_ms.tolist()], dtype=np.int64)
