"""Surveys of stored bars: what was known then, what is honest about bad input, and that the same bars give the same rows."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count

import numpy as np
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from marketdata.bars.snapshot import SHARE, BarChange, DailySnapshot
from marketdata.models import Membership, Session, Split, Symbol, Universe
from marketdata.writer import Writer
from patterns import market_api, panels, survey
from patterns.models import MarketSurvey
from patterns.panels import DayBook
from patterns.receivers import SurveyHint, queue_survey
from patterns.signals import market_surveyed
from patterns.survey import BLOCKS, look, store, survey_closes, survey_minute, thin
from patterns.tasks import survey_market
from tests.factories import DAY, make_bar, moment
from tests.patterns.market import store as store_bars

Answered = Callable[[datetime], dict]
KEY = "six"
MEMBERS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
HISTORY = 300
TODAY = date.fromisoformat(DAY)
AT_THREE = moment("15:00")
EVENING = moment("23:00")


@pytest.fixture
def universe(market):
    """Six symbols of which the last has no sector."""
    made = Universe.objects.create(key=KEY, name="Six")
    for place, symbol in enumerate(MEMBERS):
        sector = "" if symbol == "FFF" else ("Energy", "Financials")[place % 2]
        Symbol.objects.create(symbol=symbol, name=f"{symbol} Inc.", type="CS", sector=sector)
        Membership.objects.create(universe=made, symbol_id=symbol, position=place)
    yield made
    made.delete()


def earlier_days(count: int = HISTORY, *, until: date = TODAY) -> list[date]:
    """Return the last sessions before a day, oldest first."""
    return list(Session.objects.filter(date__lt=until).order_by("-date").values_list("date", flat=True)[:count])[::-1]


def walk(symbol: str, count: int) -> np.ndarray:
    """Return closes of a random walk that is the symbol's own."""
    dice = np.random.default_rng(sum(map(ord, symbol)))
    return np.round(50 * np.exp(np.cumsum(dice.normal(0.0005, 0.02, count))), 2)


def store_days(writer: Writer, symbol: str, closes: Sequence[float], days: Sequence[date], *, source: int = 40, version: int = 1) -> None:
    rows = [
        DailySnapshot(symbol, day, close, round(close * 1.01, 2), round(close * 0.99, 2), close, 1000 * SHARE, None, None, source, version)
        for day, close in zip(days, (float(close) for close in closes), strict=True)
    ]
    assert writer.write_days(rows) == len(rows)


@pytest.fixture
def history(universe, writer):
    """300 days of six symbols and of SPY before the day, none of the day itself."""
    days = earlier_days()
    for symbol in (*MEMBERS, "SPY"):
        store_days(writer, symbol, walk(symbol, HISTORY), days)
    return days


def minutes(symbol: str, *closes: float, first: str = "14:30") -> list:
    start = round(moment(first).timestamp() * 1000)
    return [make_bar(float(close), symbol=symbol, time=start + place * 60_000, volume=10) for place, close in enumerate(closes)]


def surveyed(at: datetime, *, now: datetime = EVENING, key: str = KEY) -> dict:
    (found,) = look(at, [key], now=now)
    return found


def row_of(found: dict, symbol: str, block: str = "rankings") -> dict:
    return next(row for row in found[block] if row["symbol"] == symbol)


# ---- what was known then


def test_before_the_close_the_minutes_stand_and_from_it_on_the_daily_bar(history, writer):
    before = float(walk("AAA", HISTORY)[-1])
    store_bars(writer, minutes("AAA", before * 1.01, before * 1.02, before * 1.10))
    store_days(writer, "AAA", [before * 1.5], [TODAY])

    early, running, over = (surveyed(at) for at in (moment("14:32:10"), moment("20:59:59"), moment("21:00")))

    assert [row_of(found, "AAA")["change_day"] for found in (early, running, over)] == pytest.approx([2, 10, 50], abs=0.01)
    assert [(found["as_of"], found["kind"]) for found in (early, running, over)] == [
        (moment("14:32"), "intraday"), (moment("14:33"), "intraday"), (moment("21:00"), "close"),
    ]  # fmt: skip
    assert early["coverage"] == {"symbols": 1, "of": 6, "oldest_bar": "2026-11-20T14:31:00Z"}
    assert row_of(running, "AAA")["change_open"] == pytest.approx(100 * (1.10 / 1.01 - 1), abs=0.01)
    assert row_of(running, "AAA")["volume"] == 30
    assert over["breadth"]["advancers"] == 1
    assert over["breadth"]["up_4_percent"] == 1


def test_before_the_open_the_close_before_stands(history):
    found = surveyed(moment("14:00"))

    assert (found["kind"], found["as_of"]) == ("close", Session.objects.get(date=history[-1]).close)
    assert found["coverage"]["symbols"] == 6
    assert row_of(found, "BBB")["last"] == walk("BBB", HISTORY)[-1]


def test_what_is_read_bit_by_bit_is_what_is_read_at_once(history, writer):
    closes = {symbol: walk(symbol, 90) for symbol in MEMBERS}
    session = Session.objects.get(date=TODAY)
    book = DayBook(session, MEMBERS)
    for end in (20, 50, 51, 90):
        for symbol in MEMBERS:
            store_bars(writer, minutes(symbol, *closes[symbol][:end]))
        if end == 90:  # a minute that has long settled is revised
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE ohlcv_1min SET high = 9999, updated_at = clock_timestamp() WHERE symbol = 'CCC' AND timestamp = %s",
                    [moment("14:33")],
                )
        until = moment("14:30") + timedelta(minutes=end)
        now = datetime.now(UTC) if end == 90 else until
        book._changed_since = book._changed_since and datetime.now(UTC) - timedelta(minutes=2)  # the rows say when they were really written
        found, afresh = book.until(until, now=now), DayBook(session, MEMBERS).until(until, now=until + timedelta(days=1))
        for mine, other in zip(found._columns(), afresh._columns(), strict=True):
            np.testing.assert_array_equal(mine, other)
    assert found.high[2] == 9999


def test_daily_bars_that_changed_are_read_anew_and_the_others_are_held(history, writer, monkeypatch):
    read = []
    real = panels.read_days
    monkeypatch.setattr(panels, "read_days", lambda symbols, first: read.append(list(symbols)) or real(symbols, first))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ohlcv_daily SET updated_at = clock_timestamp() - interval '1 hour' WHERE symbol <> 'SPY'")
    held, everyone = panels.HeldDays(), (*MEMBERS, "NEW", "SPY")

    def reads(*changed: str) -> None:
        read.clear()
        found, afresh = held.panel(everyone, TODAY), real(everyone, panels.first_day(TODAY))
        assert read == ([list(changed)] if changed else [])
        for mine, other in zip((found.day, *found.prices()), (afresh.day, *afresh.prices()), strict=True):
            np.testing.assert_array_equal(mine, other)

    reads(*everyone)
    reads()
    store_days(writer, "CCC", [1.0], history[-1:], version=2)
    reads("CCC", "SPY")  # what changed in the two minutes before is looked at again: it may have become visible since
    store_days(writer, "AAA", [2.0, 3.0], [TODAY, TODAY + timedelta(days=3)])  # it is longer now than all were
    store_days(writer, "NEW", [5.0], history[-1:])
    reads("AAA", "CCC", "NEW", "SPY")
    Split.objects.create(symbol_id="DDD", execution_date=TODAY + timedelta(days=1), split_from=1, split_to=2)
    reads()


def test_the_same_bars_give_the_same_rows_and_are_announced_once(history, writer):
    store_bars(writer, minutes("AAA", 51, 52) + minutes("SPY", 50, 51))
    heard = []
    market_surveyed.connect(lambda surveys, **_: heard.append(surveys), weak=False, dispatch_uid="test")
    try:
        changed = [store([surveyed(AT_THREE)], now=EVENING + timedelta(seconds=second)) for second in (0, 1)]
    finally:
        market_surveyed.disconnect(dispatch_uid="test")

    assert changed == [1, 0]
    assert [[one["universe"] for one in surveys] for surveys in heard] == [[KEY]]
    kept = MarketSurvey.objects.get(universe=KEY)
    assert kept.rankings == json.loads(json.dumps(surveyed(AT_THREE)["rankings"]))
    assert MarketSurvey.objects.standing_at(KEY, moment("14:31")) is None
    assert MarketSurvey.objects.standing_at(KEY, AT_THREE) == kept


def test_a_close_is_made_once_and_again_when_its_daily_bar_comes(history, writer, monkeypatch):
    monkeypatch.setattr("patterns.survey.CLOSES", 12)
    store_bars(writer, minutes("AAA", 51, 52))
    later = datetime.now(UTC) + timedelta(minutes=1)  # daily bars are written at the wall's time
    Session.objects.filter(date__gt=TODAY, close__lte=later).update(close=later + timedelta(days=1))
    run = [survey_closes(now=later, seconds=0.0).moments for _ in range(2)]
    assert run == [1, 1], "newest first, one a run where there is no time"

    while survey_closes(now=later, seconds=60).moments:
        pass
    closes = MarketSurvey.objects.closes(KEY, 500)
    assert len(closes) >= 10
    assert [row.as_of for row in closes] == sorted(row.as_of for row in closes)
    assert {sum(row.stage_counts.values()) for row in closes} == {6}

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE ohlcv_daily SET updated_at = %s WHERE symbol = 'AAA' AND date = %s", [later + timedelta(hours=1), history[-3]]
        )
    assert survey_closes(now=later + timedelta(hours=2), seconds=60).moments == 1


def test_the_running_minute_is_surveyed_for_every_universe_and_not_twice(history, writer):
    store_bars(writer, minutes("AAA", 51, 52))
    now = moment("14:32:05")

    first, again = survey_minute(now=now, only_missing=True), survey_minute(now=now, only_missing=True)

    assert (first.moments, again.moments) == (1, 0)
    assert set(MarketSurvey.objects.values_list("universe", "as_of")) == {
        (key, moment("14:32")) for key in (KEY, "stock_etf_test", "combo_test", "stock_etf_test:combo_test")
    }
    assert survey_minute(now=moment("22:00"), only_missing=False).moments == 0, "nothing runs after the close"


@contextmanager
def locked(which: int) -> Iterator[None]:
    """Another process that surveys."""
    raw = {key: value for key, value in connection.get_connection_params().items() if key not in {"cursor_factory", "context"}}
    with psycopg.connect(**raw) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, %s)", [survey.LOCK_CLASS, which])
        yield


def test_the_minute_is_surveyed_once_at_a_time_and_waits_for_no_close(history, writer):
    store_bars(writer, minutes("AAA", 51, 52))
    now = moment("14:32:05")

    with locked(survey.LOCK_MINUTE):
        assert survey_minute(now=now, only_missing=True).moments == 0
    with locked(survey.LOCK_CLOSE):
        assert survey_closes(now=datetime.now(UTC), seconds=0.0).moments == 0
        assert survey_minute(now=now, only_missing=True).moments == 1


def test_minutes_are_thinned_out_to_half_hours_after_five_days(history, writer):
    store_bars(writer, minutes("AAA", *([51] * 90)) + minutes("AAA", 51, 51, first="20:58"))
    kept = ("15:00", "15:30", "15:58", "21:00")  # of the last half hour, which ends without a bar, its last minute
    for clock in ("14:59", "15:00", "15:01", "15:30", "15:31", "15:57", "15:58", "20:59", "21:00"):
        made = surveyed(moment(clock))
        assert made["as_of"] == moment(clock)
        store([made], now=EVENING)

    assert thin(now=EVENING) == 0
    assert thin(now=moment("15:00:30") + timedelta(days=5)) == 1, "14:59, for 15:00 is old as well"
    assert thin(now=EVENING + timedelta(days=6)) == 4
    assert [one.as_of for one in MarketSurvey.objects.order_by("as_of")] == [moment(clock) for clock in kept]
    assert thin(now=EVENING + timedelta(days=60)) == 0


def test_the_bars_of_a_minute_ask_for_one_survey_however_many_flushes_bring_them(market, monkeypatch):
    asked = []
    monkeypatch.setattr(survey_market, "apply_async", lambda **options: asked.append(options["countdown"]))
    monkeypatch.setattr("patterns.receivers.hint", SurveyHint())
    now_ms = round(datetime.now(UTC).timestamp() * 1000) // 60_000 * 60_000

    def closed(symbol: str, minutes_ago: int, *, complete: bool = True) -> None:
        bar = make_bar(10.0, symbol=symbol, time=now_ms - minutes_ago * 60_000, complete=complete)
        queue_survey(bars=[BarChange(bar, 0, False, True)])

    closed("AAA", 2, complete=False)
    closed("AAA", 90)
    assert asked == [], "neither half a bar nor an old one"
    for symbol in MEMBERS:
        closed(symbol, 2)
    assert len(asked) == 1
    closed("AAA", 1)
    assert len(asked) == 2


# ---- bad input, as the API answers it

DOORS = ("rankings", "sectors", "rotation", "stages", "breadth", "regime", "averages")


@pytest.fixture
def answered(universe, reader) -> Answered:
    """The survey of a moment, stored, and put together again from what every door of the API answers."""
    turn = count()

    def ask(at: datetime) -> dict:
        made = surveyed(at)
        store([made], now=EVENING + timedelta(seconds=next(turn)))
        found: dict = {}
        for door in DOORS:
            response = reader.get(f"/api/market/{door}/", {"universe": KEY, "as_of": made["as_of"].isoformat()})
            assert response.status_code == 200, response.content
            found |= response.json()
        assert found.keys() == {"universe", "as_of", "kind", *BLOCKS}
        assert {name: found[name] for name in BLOCKS} == json.loads(json.dumps({name: made[name] for name in BLOCKS}))
        return found

    return ask


def test_three_days_of_history_are_said_to_be_three(universe, writer, answered):
    days = earlier_days(3)
    store_days(writer, "AAA", [10, 11, 12], days)
    store_bars(writer, minutes("AAA", 12.6))

    found = answered(AT_THREE)
    row = row_of(found, "AAA")

    assert row["reason"] == "needs 252 earlier closes, has 3"
    assert (row["rs_rating"], row["rank"], row["change_1m"], row["change_1y"]) == (None, None, None, None)
    assert row["change_day"] == 5
    assert found["breadth"]["above_sma50"] is None
    assert found["breadth"]["n"]["new_highs"] == 0
    assert found["breadth"]["new_highs"] is None
    assert row_of(found, "AAA", "stages")["reason"].startswith("needs 34 weeks, has ")
    assert found["regime"]["score"] is None


def test_a_gap_in_the_history_skips_days_and_invents_none(history, writer, answered):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ohlcv_daily WHERE symbol = 'AAA' AND date = ANY(%s)", [history[-8:-3]])
    store_bars(writer, minutes("AAA", 60.0))

    row = row_of(answered(AT_THREE), "AAA")

    own = np.delete(walk("AAA", HISTORY), slice(-8, -3))
    assert row["change_1w"] == pytest.approx((60 / own[-5] - 1) * 100, abs=1e-4)
    assert row["change_1y"] == pytest.approx((60 / own[-252] - 1) * 100, abs=1e-4)


def test_a_split_yesterday_moves_no_number_and_one_of_tomorrow_is_not_known(history, writer, answered):
    plain = answered(moment("14:00"))
    closes = walk("AAA", HISTORY)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ohlcv_daily WHERE symbol = 'AAA' AND date = %s", [history[-1]])
    Split.objects.create(symbol_id="AAA", execution_date=history[-1], split_from=1, split_to=2)
    Split.objects.create(symbol_id="BBB", execution_date=TODAY + timedelta(days=1), split_from=1, split_to=10)
    store_days(writer, "AAA", [closes[-1] / 2], history[-1:])

    split = answered(moment("14:00"))

    for name in ("change_day", "change_1w", "change_1y", "rs_rating", "stage", "atr_sma50"):
        assert row_of(split, "AAA")[name] == pytest.approx(row_of(plain, "AAA")[name], abs=0.02), name
    assert row_of(split, "AAA")["last"] == pytest.approx(closes[-1] / 2)
    assert row_of(split, "BBB") == row_of(plain, "BBB")


def test_who_is_halted_or_delisted_counts_in_the_universe_and_not_in_the_numbers(history, writer, answered):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ohlcv_daily WHERE symbol = 'BBB' AND date > %s", [history[-25]])  # delisted a month ago
    store_bars(writer, [bar for symbol in ("AAA", "CCC", "DDD", "EEE", "FFF", "SPY") for bar in minutes(symbol, 50, 51)])
    store_bars(writer, [bar for symbol in ("AAA", "CCC", "DDD", "EEE") for bar in minutes(symbol, 52, 52, first="14:50")])  # FFF is halted

    found = answered(AT_THREE)

    assert found["coverage"] == {"symbols": 5, "of": 6, "oldest_bar": "2026-11-20T14:31:00Z"}, "the oldest is the halted one's"
    gone = row_of(found, "BBB")
    assert (gone["last"], gone["rs_rating"], gone["stage"], gone["reason"]) == (None, None, None, "no price today")
    assert {name for name, value in row_of(found, "BBB", "stages").items() if value is not None} == {"symbol", "sector", "reason"}
    assert row_of(found, "BBB", "averages")["ema10"] == {"value": None, "percent": None, "atr": None}
    assert found["rankings"][-1] == gone
    assert row_of(found, "FFF")["bar_at"] == "2026-11-20T14:31:00Z"
    assert found["stage_counts"]["unknown"] == 1
    assert found["breadth"]["symbols"] == 5


def test_an_unknown_sector_stays_unknown_with_its_share(history, answered):
    found = answered(moment("14:00"))

    by_sector = {row["sector"]: row for row in found["sectors"]}
    assert {sector: (row["symbols"], row["of"], row["fund"]) for sector, row in by_sector.items()} == {
        "": (1, 1, None), "Energy": (3, 3, "XLE"), "Financials": (2, 2, "XLF"),
    }  # fmt: skip
    assert by_sector[""]["change_day"] == row_of(found, "FFF")["change_day"]


def test_a_universe_of_which_nothing_streams_answers_with_nulls(universe, answered):
    found = answered(AT_THREE)

    assert found["coverage"] == {"symbols": 0, "of": 6, "oldest_bar": None}
    assert {row["reason"] for row in found["rankings"]} == {"no price today"}
    assert [found["breadth"][name] for name in ("advancers", "ad_line", "mcclellan", "above_sma200", "new_lows")] == [None] * 5
    assert found["regime"]["score"] is None
    assert found["stage_counts"] == {"1": 0, "2": 0, "3": 0, "4": 0, "unknown": 6}


def test_a_market_of_which_no_day_is_stored_yet_answers_with_nulls_after_its_close(universe, answered):
    found = answered(EVENING)

    assert (found["kind"], found["coverage"]["symbols"]) == ("close", 0)


def test_volume_and_open_of_a_day_that_was_not_seen_from_its_open_are_unknown(history, writer, answered):
    store_bars(writer, [bar for symbol in MEMBERS for bar in minutes(symbol, 50, 51, first="16:05")])

    late = row_of(answered(moment("16:10")), "AAA")
    store_bars(writer, [bar for clock in ("14:30", "15:10", "15:40") for bar in minutes("BBB", 50, first=clock)])
    seen = row_of(answered(moment("16:10")), "AAA")

    assert (late["rvol"], late["rvol_projected"], late["change_open"]) == (None, None, None)
    assert late["reason"] == "half an hour of today has no bar, so its volume is unknown"
    assert (seen["rvol"], seen["change_open"], seen["reason"]) == (0.02, pytest.approx(2), None)


def test_a_sector_fund_beside_the_universe_has_its_days_change_in_the_rotation(history, writer, answered):
    store_days(writer, "XLE", [*walk("XLE", HISTORY - 1), 40.0], history)
    store_bars(writer, minutes("XLE", 41))

    assert row_of(answered(AT_THREE), "XLE", "rotation")["change_day"] == pytest.approx(2.5)


def test_a_day_without_spy_has_no_rotation_and_says_so(history, writer, answered):
    store_bars(writer, [bar for symbol in MEMBERS for bar in minutes(symbol, 50, 51)])

    found = answered(AT_THREE)

    assert {(row["ratio"], row["quadrant"], row["reason"]) for row in found["rotation"] if not row["fund"]} == {
        (None, None, "SPY has no price today")
    }
    assert row_of(found, "AAA", "stages")["mansfield"] is None
    assert row_of(found, "AAA", "stages")["stage"] is not None
    assert row_of(found, "AAA")["rs_rating"] is not None


# ---- doors


def command(*arguments: str) -> dict:
    out = io.StringIO()
    call_command("survey_market", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue().splitlines()[-1])


def test_the_command_tells_what_was_known_at_a_moment(history, writer):
    store_bars(writer, minutes("AAA", 51, 52))

    found = command("--at", "2026-11-20T14:31:30Z", "--universe", KEY)

    assert (found["as_of"], found["universe"], found["coverage"]["of"]) == ("2026-11-20T14:31:00Z", KEY, 6)
    assert {"symbol", "rs_rating", "change_day", "change_1w", "change_1m", "change_3m", "change_6m", "change_1y"} <= found["rankings"][
        0
    ].keys()
    assert {"advancers", "decliners", "unchanged", "above_sma20", "above_sma50", "above_sma200", "new_highs", "new_lows"} <= found[
        "breadth"
    ].keys()
    assert {"symbol", "stage", "substage", "since"} <= found["stages"][0].keys()
    assert {"symbol", "ratio", "momentum", "quadrant"} <= found["rotation"][0].keys()
    assert {"score", "parts"} <= found["regime"].keys()
    assert not MarketSurvey.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "tomorrow"], "is not a moment"),
        (["--at", "2999-01-01"], "has not come yet"),
        (["--at", "1980-01-01"], "no session that had begun"),
        (["--universe", "nobody"], "There is no universe"),
    ],
)
def test_the_command_refuses_in_one_sentence(market, arguments, words):
    with pytest.raises(CommandError, match=words):
        command(*arguments)


def test_weights_and_caps_come_as_numbers(history):
    Symbol.objects.filter(pk="AAA").update(market_cap=Decimal("1234.50"))

    assert row_of(surveyed(moment("14:00")), "AAA")["market_cap"] == 1234.5


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch):
    """Each test has a process of its own: what an earlier one held is of another database."""
    monkeypatch.setattr(survey, "held", survey.Held())
    monkeypatch.setattr(market_api, "held", market_api.Held())
    yield
    assert not panels.lock.locked()
