"""Indicator lines of one symbol over bars of any interval, as a chart draws them. Computed from the bars when asked for; reads only."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from marketdata.bars.interval import INTRADAY, Candle
from marketdata.bars.window import BarWindow, Floats
from marketdata.intervals import candles
from patterns.indicators.catalogue import STORED, names_of, window_values
from patterns.indicators.volume import no_sums, session_sums, traded_prices
from patterns.windows import NEVER, milliseconds_of, sessions_around

LIKE = "1h"  # intervals that are drawn and not scanned have the indicators of this one
VWAP = "vwap"
DRAWN = (*names_of(STORED[LIKE]), VWAP)
LONGEST_SESSION = 1_500  # minutes: so many bars before the first one asked for may count in its VWAP


def curves(
    symbol: str,
    interval: str,
    names: Sequence[str],
    *,
    end: datetime | None,
    limit: int,
    now: datetime,
    as_of: datetime | None,
    adjusted: bool,
) -> tuple[list[datetime], dict[str, list[float | None]]]:
    """
    Return the starts of the last `limit` bars that start before `end`, oldest first, and for each name its values at them.

    A value is a function of the same window of bars that a scan reads, so a line meets the stored value of its bar. None where too few
    bars are stored, where there is no volume, and for VWAP outside of regular hours or on bars longer than they are.
    """
    indicators = [indicator for indicator in STORED.get(interval, STORED[LIKE]) if set(indicator.names) & set(names)]
    if interval == "1m":  # its long averages are not stored, and drawn all the same
        indicators = [indicator for indicator in STORED[LIKE] if set(indicator.names) & set(names)]
    longest = max((indicator.length for indicator in indicators), default=1)
    before = max(longest, LONGEST_SESSION // INTRADAY[interval] if VWAP in names and interval in INTRADAY else 0)
    newest = candles(
        symbol, interval, start=None, end=end, forward=False, limit=limit + before, now=now, as_of=as_of, adjusted=adjusted
    )  # fmt: skip
    bars = newest[::-1]
    if not bars:
        return [], {name: [] for name in names}
    window = _window(symbol, bars)
    first = max(0, len(bars) - limit)
    values = window_values(window, np.arange(first, len(bars), dtype=np.int64), indicators) if indicators else {}
    if VWAP in names:
        values[VWAP] = _vwap(window, interval, cut=len(bars) == limit + before)[first:]
    return [bar.start for bar in bars[first:]], {name: [_known(value) for value in values[name].tolist()] for name in names}


def _window(symbol: str, bars: Sequence[Candle]) -> BarWindow:
    def column(values: Iterable[Any]) -> Floats:
        return np.array([float("nan") if value is None else float(value) for value in values], dtype=np.float64)

    return BarWindow(
        (symbol,), np.array([0, len(bars)], dtype=np.int64), np.array([milliseconds_of(bar.start) for bar in bars], dtype=np.int64),
        column(bar.open for bar in bars), column(bar.high for bar in bars), column(bar.low for bar in bars), column(bar.close for bar in bars),
        column(bar.volume for bar in bars), column(bar.vwap for bar in bars),
    )  # fmt: skip


def _vwap(window: BarWindow, interval: str, *, cut: bool) -> Floats:
    """Return the session's VWAP at each bar; NaN on days and weeks, and in the first session where more of it is stored than was read."""
    if interval not in INTRADAY:
        return np.full(len(window), np.nan)
    sessions = sessions_around(int(window.opened_at_ms[0]), int(window.opened_at_ms[-1]))
    opens = sessions.opens_of(window.opened_at_ms)
    if cut and opens[0] != NEVER and window.opened_at_ms[0] > opens[0]:
        opens = np.where(opens == opens[0], NEVER, opens)
    sums = session_sums(
        window, opens, price=traded_prices(window), volume=window.volume, begin=np.zeros(1, dtype=np.int64), before=no_sums(1, value=0.0),
        close_before=np.full(1, np.nan),
    )  # fmt: skip
    return sums.average()


def _known(value: float) -> float | None:
    return None if value != value else round(value, 6)
