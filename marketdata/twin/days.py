"""
The twin's own calendar: every day a session of 24 New York hours, midnight to midnight, so 23 or 25 hours where the clock changes. Pure.

A day is its number since 2023-01-01, the first of the twin's market; an hour and a minute are absolute ones, Unix time divided.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from marketdata.twin.noise import Floats, Integers

NEW_YORK = ZoneInfo("America/New_York")
FIRST_DATE = date(2023, 1, 1)
LAST_DATE = date(2044, 12, 31)
DAYS = (LAST_DATE - FIRST_DATE).days + 1
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


class Session(NamedTuple):
    """One day of the calendar; bounds in Unix ms."""

    date: date
    open_ms: int
    close_ms: int


@cache
def day_starts() -> Integers:
    """Return the New York midnights of all days and the end of the last one, Unix ms, shape (DAYS + 1,)."""
    midnights = (datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) for day in (date_of(n) for n in range(DAYS + 1)))
    return np.array([int(midnight.timestamp()) * 1000 for midnight in midnights], dtype=np.int64)


def day_at(moment_ms: int) -> int:
    """Return the number of the day that holds the moment; below 0 or from DAYS on where the market does not exist."""
    return int(np.searchsorted(day_starts(), moment_ms, side="right")) - 1


def date_of(day: int) -> date:
    """Return the day's date in New York."""
    return FIRST_DATE + timedelta(days=day)


def day_of(day: date) -> int:
    """Return the number of a date."""
    return (day - FIRST_DATE).days


def sessions(first: date, last: date) -> list[Session]:
    """Return the sessions of the dates from `first` to `last`, both included, as far as the market exists."""
    starts = day_starts()
    numbers = range(max(0, day_of(first)), min(DAYS - 1, day_of(last)) + 1)
    return [Session(date_of(n), int(starts[n]), int(starts[n + 1])) for n in numbers]


@cache
def local_hours(day: int) -> tuple[int, ...]:
    """Return the New York clock hour of each of the day's 23, 24 or 25 hours."""
    start, end = (int(moment) // 1000 for moment in day_starts()[day : day + 2])
    return tuple(datetime.fromtimestamp(second, UTC).astimezone(NEW_YORK).hour for second in range(start, end, 3600))


def _volume_profile() -> Floats:
    """Return each minute's share of a day's volume by the New York clock, shape (24, 60): a U between 09:30 and 16:00, little at night."""
    minute = np.arange(1440)
    regular = (minute >= 570) & (minute < 960)
    place = (minute - 570) / 390
    profile = np.full(1440, 0.05 / 480)
    profile[(minute >= 240) & (minute < 570)] = 0.06 / 330
    profile[(minute >= 960) & (minute < 1200)] = 0.07 / 240
    u_shape = np.where(regular, 0.45 + 1.9 * (place - 0.5) ** 2 * 4 * 0.5 + 1.2 * np.exp(-place * 25) + 1.0 * np.exp((place - 1) * 35), 0)
    return np.asarray((profile * ~regular + 0.82 * u_shape / u_shape.sum()).reshape(24, 60))


VOLUME_PROFILE = _volume_profile()
# Prices move at night too, though less: a demo at any hour shows a market
VARIANCE_PROFILE = 0.5 / 1440 + 0.5 * VOLUME_PROFILE
