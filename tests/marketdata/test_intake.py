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


def test_late_events_that_differ_only_in_what_nobody_reads_are_kept_each_as_it_came():
    intake = _intake()
    late = [f'{{"ev":"T","sym":"AAPL","x":{exchange},"p":10.0,"s":100,"t":{MINUTE},"q":3}}' for exchange in (4, 11)]
    ahead = [f'{{"ev":"T","sym":"AAPL","p":11.0,"s":100,"t":{MINUTE + 3_600_000 + number},"q":{9 + number}}}' for number in range(2)]
    intake.take(f"[{','.join([late[0], *ahead, late[1]])}]".encode())
    late.append(late[0].replace('"q":3', '"q":4'))
    intake.take(f"[{','.join(late)}]".encode())
    assert [each.raw for each in intake.rejections] == [late[1], *late]


def _frame(*events: dict[str, object]) -> bytes:
    return json.dumps(events, separators=(",", ":")).encode()


TRADE: dict[str, object] = {"ev": "T", "sym": "AAPL", "p": 10.0, "s": 100, "t": MINUTE}
SECOND: dict[str, object] = {"ev": "A", "sym": "AAPL", "v": 100, "o": 10.0, "c": 10.0, "h": 10.0, "l": 10.0}


def test_what_names_no_kind_is_in_no_bar_and_shifts_no_other():
    trades, seconds = _intake(), _intake()
    trades.take(_frame(*(TRADE | {"q": number} for number in (1, 2))))
    trades.take(_frame(TRADE | {"q": 3}, {key: value for key, value in (TRADE | {"q": 4}).items() if key != "ev"}, TRADE | {"q": 5}))
    trades.take(_frame(TRADE | {"q": 1}))  # has all read again
    trades.finish()
    seconds.take(_frame(*(SECOND | {"s": MINUTE + 1000 * number} for number in (0, 1))))
    nameless = {key: value for key, value in (SECOND | {"s": MINUTE + 2000}).items() if key != "ev"}
    seconds.take(_frame(SECOND | {"s": MINUTE + 3000}, nameless, SECOND | {"s": MINUTE + 4000, "h": 9.0}))
    seconds.finish()

    assert [(bar.volume // 10**9, bar.trades) for bar in trades.bars + seconds.bars] == [(400, 4), (300, None)]
    assert [each.reason for each in trades.rejections + seconds.rejections] == ["no_event_type", "no_event_type", "bad_value"]


def test_a_trade_that_is_not_asked_for_does_not_move_the_clock():
    intake = _intake()
    intake.take(_frame(*(TRADE | {"q": number} for number in (1, 2))))
    newest = intake.take(_frame(TRADE | {"q": 3}, TRADE | {"q": 4, "sym": "MSFT", "t": MINUTE + 30_000}))
    assert newest == intake.last_event_ms == MINUTE
