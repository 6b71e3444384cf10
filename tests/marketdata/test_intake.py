"""What one line's events come to before any thread or table sees them."""

import json

from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.intake import MOST_LATE_QUOTE_MS, Intake

MINUTE = 1_780_000_020_000


def _intake() -> Intake:
    return Intake(BarBuilder(SessionTable([])), symbols=frozenset({"AAPL"}), kinds=None)


def _bid(intake: Intake, price: float, at: int) -> None:
    intake.take(json.dumps([{"ev": "Q", "sym": "AAPL", "bp": price, "t": at}]).encode())


def _taken(intake: Intake) -> list[float | None]:
    return [quote.bp for quote in intake.take_quotes().values()]


def test_an_older_quote_is_no_news_even_after_the_newer_one_was_told():
    intake = _intake()
    _bid(intake, 10.0, MINUTE + 2)
    assert _taken(intake) == [10.0]
    _bid(intake, 1.0, MINUTE)
    assert _taken(intake) == []
    _bid(intake, 11.0, MINUTE + 2)
    assert _taken(intake) == [11.0], "of two of one millisecond the later word stands"


def test_a_quote_of_an_absurd_time_does_not_silence_its_symbol():
    intake = _intake()
    _bid(intake, 10.0, MINUTE + 2 * MOST_LATE_QUOTE_MS)
    _bid(intake, 11.0, MINUTE)
    assert _taken(intake) == [11.0]


def test_a_refused_event_is_kept_as_it_came_with_all_that_nobody_reads():
    intake = _intake()
    late = '{"ev":"T","sym":"AAPL","x":4,"i":"77","p":10.0,"s":100,"t":1780000020000,"q":3,"trfi":202}'
    intake.take(f'[{{"ev":"T","sym":"AAPL","p":11.0,"s":100,"t":{MINUTE + 3_600_000},"q":9}},{late}]'.encode())
    intake.take(f'[{late},{{"ev":"T","sym":"AAPL","p":"?"}}]'.encode())
    assert [(each.reason, each.raw) for each in intake.rejections if each.reason == "late"] == [("late", late)] * 2
