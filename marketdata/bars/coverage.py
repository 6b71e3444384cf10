"""
Which minutes are proven and which are not: arithmetic on ranges of minutes. Pure.

A range is (first, last), both the start of a minute in Unix ms, both inside. Lists of ranges are ordered and do not touch.
"""

from collections.abc import Iterable, Sequence

from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import MINUTE_MS

Range = tuple[int, int]


def minutes_in(ranges: Iterable[Range]) -> int:
    """Return how many minutes the ranges hold."""
    return sum((last - first) // MINUTE_MS + 1 for first, last in ranges)


def whole_minutes(began_ms: int, alive_until_ms: int) -> Range | None:
    """Return the minutes that lie wholly in [began, alive_until), or None without any."""
    first = -(-began_ms // MINUTE_MS) * MINUTE_MS
    last = alive_until_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
    return (first, last) if first <= last else None


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return the union of any ranges."""
    union: list[Range] = []
    for first, last in sorted(ranges):
        if union and first <= union[-1][1] + MINUTE_MS:
            union[-1] = (union[-1][0], max(union[-1][1], last))
        else:
            union.append((first, last))
    return union


def without(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """Return what of `ranges` lies in none of `taken`; both as `joined` gives them."""
    rest: list[Range] = []
    place = 0
    for first, last in ranges:
        begin = first
        while place < len(taken) and taken[place][1] < begin:
            place += 1
        look = place
        while look < len(taken) and taken[look][0] <= last and begin <= last:
            if taken[look][0] > begin:
                rest.append((begin, taken[look][0] - MINUTE_MS))
            begin = max(begin, taken[look][1] + MINUTE_MS)
            look += 1
        if begin <= last:
            rest.append((begin, last))
    return rest


def expected(sessions: SessionTable, first_ms: int, end_ms: int) -> list[Range]:
    """Return the minutes of all sessions, extended hours included, that lie wholly in [first, end)."""
    ranges: list[Range] = []
    moment = first_ms
    while moment < end_ms:
        session = sessions.at(moment) or sessions.next_after(moment)
        if session is None or session.pre_open >= end_ms:
            break
        span = whole_minutes(max(first_ms, session.pre_open), min(end_ms, session.post_close))
        if span is not None:
            ranges.append(span)
        moment = session.post_close
    return joined(ranges)
