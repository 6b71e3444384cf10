"""Which session a bar lies in, and what the one before it was like. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from marketdata.models import Session
from patterns.indicators.catalogue import SessionBefore
from patterns.windows.copying import copied
from patterns.windows.moments import bar_end_ms, milliseconds_of, moment_of
from patterns.windows.statements import SESSION_BEFORE

OUTSIDE = -1
LONGEST_BREAK = timedelta(days=30)  # how far back the session before the first bar is looked for
USUAL_SESSIONS = 20
_FIELDS = (("place", "i4"), ("high", "f8"), ("low", "f8"), ("close", "f8"), ("usual", "f8"))


@dataclass(frozen=True, eq=False, slots=True)
class Sessions:
    """Sessions around some bars, oldest first: dates and Unix ms."""

    dates: tuple[date, ...]
    pre_open: Integers
    open: Integers
    close: Integers
    post_close: Integers

    def opens_of(self, opened_at_ms: Integers) -> Integers:
        """Return for each bar the open of the regular session that it begins in, -1 outside."""
        opens = np.full(len(opened_at_ms), OUTSIDE, dtype=np.int64)
        if len(self.open):
            place = np.searchsorted(self.open, opened_at_ms, side="right") - 1
            inside = (place >= 0) & (opened_at_ms < self.close[place])
            opens[inside] = self.open[place[inside]]
        return opens

    def last_finished(self, opened_at_ms: Integers) -> Integers:
        """Return for each bar the place of the last session that had ended before the day of the bar began, -1 where it is not known."""
        if not len(self.open):
            return np.full(len(opened_at_ms), OUTSIDE, dtype=np.int64)
        place = np.searchsorted(self.pre_open, opened_at_ms, side="right") - 1
        return np.where((place >= 0) & (opened_at_ms >= self.post_close[place]), place, np.maximum(place - 1, OUTSIDE))

    def elapsed(self, ends_ms: Integers, session_open_ms: Integers) -> Floats:
        """Return the share of each bar's regular session that is over at the bar's end, NaN outside of one."""
        share = np.full(len(ends_ms), np.nan)
        if len(self.open):
            place = np.searchsorted(self.open, session_open_ms, side="right") - 1
            opens, closes = self.open[place], self.close[place]
            share = np.where(session_open_ms >= 0, (np.minimum(ends_ms, closes) - opens) / (closes - opens), np.nan)
        return share


def sessions_around(first_ms: int, last_ms: int) -> Sessions:
    """Return the sessions from the one before `first_ms` up to `last_ms`."""
    chosen = Session.objects.filter(post_close__gt=moment_of(first_ms) - LONGEST_BREAK, pre_open__lte=moment_of(last_ms))
    rows = list(chosen.order_by("pre_open").values_list("date", "pre_open", "open", "close", "post_close"))
    moments = np.array([[milliseconds_of(moment) for moment in row[1:]] for row in rows], dtype=np.int64).reshape(len(rows), 4)
    return Sessions(tuple(row[0] for row in rows), *(moments[:, column].copy() for column in range(4)))


def session_before(window: BarWindow, bars: Integers, *, sessions: Sessions, session_open_ms: Integers, timeframe: str) -> SessionBefore:
    """
    Return for the bars of the window, shape (m,), what the last finished session before theirs was like, from its daily bar.

    That of a day is the bar before it. Where the daily bar of just that session is not stored, there is none.
    """
    if timeframe == "1d":
        return _day_before(window, bars)
    place = sessions.last_finished(window.opened_at_ms[bars])
    run = window.run[bars]
    known = np.flatnonzero(place >= 0)
    high, low, close, usual = (np.full(len(bars), np.nan) for _ in range(4))
    if len(known):
        pairs, back = np.unique(np.stack([run[known], place[known]]), axis=1, return_inverse=True)
        symbols = [window.symbols[number] for number in pairs[0].tolist()]
        rows = _session_rows(symbols, [sessions.dates[number] for number in pairs[1].tolist()])[back.ravel()]
        high[known], low[known], close[known], usual[known] = (rows[name] for name in ("high", "low", "close", "usual"))
    elapsed = sessions.elapsed(bar_end_ms(window.opened_at_ms[bars], timeframe), session_open_ms[bars])
    return SessionBefore(high, low, close, usual, elapsed)


def _session_rows(symbols: Sequence[str], dates: Sequence[date]) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    rows = copied(SESSION_BEFORE, {"symbols": list(symbols), "dates": list(dates), "sessions": USUAL_SESSIONS}, _FIELDS)
    return rows[np.argsort(rows["place"])]


def _day_before(window: BarWindow, bars: Integers) -> SessionBefore:
    has = window.position[bars] > 0
    before = np.where(has, bars - 1, bars)
    high, low, close = (np.where(has, column[before], np.nan) for column in (window.high, window.low, window.close))
    nothing = np.full(len(bars), np.nan)
    return SessionBefore(high, low, close, nothing, nothing)
