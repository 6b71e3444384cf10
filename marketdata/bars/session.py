"""Sessions as data: which moments are regular, extended, closed. Pure: rows in, answers out."""

from bisect import bisect_left, bisect_right
from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """Part of the exchange's day."""

    CLOSED = "closed"
    PRE = "pre"
    REGULAR = "regular"
    POST = "post"


class Hours(msgspec.Struct, frozen=True, order=True):
    """One session, Unix ms: [pre_open, open) pre-market, [open, close) regular, [close, post_close) post-market."""

    pre_open: int
    open: int
    close: int
    post_close: int


class SessionTable:
    """All known sessions, ordered. A day without one is closed."""

    def __init__(self, hours: list[Hours]) -> None:
        self._hours = sorted(hours)
        self._starts = [session.pre_open for session in self._hours]

    def __len__(self) -> int:
        return len(self._hours)

    def at(self, moment_ms: int) -> Hours | None:
        """Return the session whose span, extended hours included, holds the moment."""
        index = bisect_right(self._starts, moment_ms) - 1
        if index < 0:
            return None
        session = self._hours[index]
        return session if moment_ms < session.post_close else None

    def next_after(self, moment_ms: int) -> Hours | None:
        """Return the first session that begins after the moment."""
        index = bisect_right(self._starts, moment_ms)
        return self._hours[index] if index < len(self._hours) else None

    def before(self, moment_ms: int) -> Hours | None:
        """Return the last session that began before the moment."""
        index = bisect_left(self._starts, moment_ms) - 1
        return self._hours[index] if index >= 0 else None

    def phase(self, moment_ms: int) -> Phase:
        """Return the part of the day that the moment lies in."""
        session = self.at(moment_ms)
        if session is None:
            return Phase.CLOSED
        if moment_ms < session.open:
            return Phase.PRE
        return Phase.REGULAR if moment_ms < session.close else Phase.POST

    def is_regular(self, moment_ms: int) -> bool:
        """Return whether the moment lies in a regular session."""
        return self.phase(moment_ms) is Phase.REGULAR
