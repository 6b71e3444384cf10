"""F17 and F18: holidays, half days, the clock's two changes, and a machine whose own clock is wrong."""

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from marketdata.bars.coverage import expected, minutes_in
from marketdata.bars.session import SessionTable
from marketdata.connection import Frame
from marketdata.history import exchange_sessions
from tests.feed_server import trade
from tests.streams import MINUTE, unstarted, up

HOLIDAYS = {
    (1, 1), (1, 19), (2, 16), (4, 3), (5, 25), (6, 19), (7, 3), (9, 7), (11, 26), (12, 25),
}  # fmt: skip
HALF_DAYS = {(11, 27), (12, 24)}


def test_f17_the_number_of_expected_minutes_of_every_day_of_a_year_is_exact():
    """New York 2026: 960 minutes from 04:00 to 20:00, 780 to 17:00 on half days, none on weekends and holidays; also where the clock changes."""
    table = SessionTable([hours for _, hours in exchange_sessions(date(2026, 1, 1), date(2026, 12, 31))])
    seen: set[int] = set()
    for number in range(365):
        day = date(2026, 1, 1) + timedelta(days=number)
        begin = int(datetime(day.year, day.month, day.day, 6, tzinfo=UTC).timestamp() * 1000)  # between two sessions, summer and winter
        ranges = expected(table, begin, begin + 24 * 60 * MINUTE)
        closed = day.weekday() >= 5 or (day.month, day.day) in HOLIDAYS
        assert minutes_in(ranges) == (0 if closed else 780 if (day.month, day.day) in HALF_DAYS else 960), day
        minutes = {minute for first, last in ranges for minute in range(first, last + 1, MINUTE)}
        assert not minutes & seen, f"{day}: a minute of two days"
        seen |= minutes
        regular = sum(table.is_regular(minute) for minute in minutes)
        assert regular == (0 if closed else 210 if (day.month, day.day) in HALF_DAYS else 390), day


@pytest.mark.parametrize("wrong_by", [-3_600, -5, 0, 5, 300, 3_600])
def test_f18_a_wrong_clock_changes_no_bar(market, monkeypatch, wrong_by):
    """The wall clock is off, and steps while the stream runs; bars close by the feed's own time, and what passes for whole is whole."""
    start = 1_795_186_800_000
    clock = SimpleNamespace(now=float(start))
    wrong = SimpleNamespace(by=wrong_by)
    fake = SimpleNamespace(time=lambda: clock.now / 1000 + wrong.by, monotonic=lambda: clock.now / 1000)
    monkeypatch.setattr("marketdata.stream.time", fake)
    monkeypatch.setattr("marketdata.lines.time", fake)
    closed: dict[int, tuple[int | None, bool]] = {}
    with unstarted() as stream:
        stream._receive(up(1, "AAPL", "MSFT"))
        for second in range(20 * 60):
            clock.now = start + 30_000 + second * 1_000 + 50
            if second == 600:
                wrong.by = -wrong_by
            event = trade(10 + second % 7, start + 30_000 + second * 1_000, second)
            stream._receive(Frame(1, json.dumps([event]).encode(), clock.now / 1000))
            stream._intake.close(stream._stream_now())
            bars, stream._intake.bars = stream._intake.bars, []
            closed |= {bar.opened_at_ms: (bar.trades, bar.complete) for bar in bars}
    assert not closed[start][1], "half of the first minute had passed"
    whole = {opened for opened, (_, complete) in closed.items() if complete}
    assert len(whole) >= 13, "at worst, what began before the wrong clock's own beginning is asked for again"
    assert {trades for trades, complete in closed.values() if complete} == {60}
    assert [opened for opened, _ in sorted(closed.items())] == [start + minute * MINUTE for minute in range(len(closed))]
