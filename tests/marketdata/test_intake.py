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
