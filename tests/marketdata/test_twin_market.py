"""The twin's market adds up: days to minutes, minutes to seconds and trades; by seed, in any order of asking."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.feed.listing import COMBO_TEST, LISTINGS, SECTORS, STOCK_ETF_TEST
from marketdata.twin.days import DAYS, MINUTE_MS, day_at, day_of, day_starts, local_hours
from marketdata.twin.market import Market
from marketdata.twin.rest import Rest
from marketdata.twin.schedule import Schedule
from marketdata.twin.securities import roster

SEED = 38
MARKET = Market(seed=SEED, tickers=120)
SCHEDULE = Schedule(MARKET)
FIRST_MINUTE = int(day_starts()[0]) // MINUTE_MS
LAST_MINUTE = int(day_starts()[DAYS]) // MINUTE_MS - 1
NOW_MS = int(datetime(2026, 11, 20, 14, 30, tzinfo=UTC).timestamp()) * 1000

securities = st.sampled_from(MARKET.securities)
minutes = st.integers(FIRST_MINUTE, LAST_MINUTE)
days = st.integers(0, DAYS - 1)

# An independent reading of Massive's rules: condition -> (sets high and low, sets open and close)
PRICE_RULES = {14: (True, True), 41: (True, True), 37: (False, False), 2: (False, False)}


def fold_trades(trades):
    """Fold T events the slow and obvious way, in decimals."""
    bar = None
    volume = value = Decimal(0)
    for trade in sorted(trades, key=lambda trade: (trade["t"], trade["q"])):
        size, price = Decimal(trade.get("ds", trade["s"])), Decimal(str(trade["p"]))
        volume, value = volume + size, value + size * price
        rules = [PRICE_RULES[condition] for condition in trade.get("c", ())]
        if all(high_low and open_close for high_low, open_close in rules):
            if bar is None:
                bar = {"o": price, "h": price, "l": price}
            bar |= {"h": max(bar["h"], price), "l": min(bar["l"], price), "c": price}
    return bar and bar | {"v": volume, "vw": value / volume, "n": len(trades)}


def fold_aggregates(bars):
    """Fold A events in the order of time."""
    bars = sorted(bars, key=lambda bar: bar["s"])
    volume = sum(volume_of(bar) for bar in bars)
    return {
        "o": exact(bars[0]["o"]),
        "h": max(exact(bar["h"]) for bar in bars),
        "l": min(exact(bar["l"]) for bar in bars),
        "c": exact(bars[-1]["c"]),
        "v": volume,
        "vw": sum(volume_of(bar) * exact(bar["vw"]) for bar in bars) / volume,
    }


def exact(number):
    return Decimal(str(number))


def volume_of(bar):
    return Decimal(bar.get("dv", bar["v"]))


def said(security, minute, topics=("A", "AM", "T")):
    """Return what the stream says about one minute, as it stands in the end."""
    after = minute * MINUTE_MS
    due = SCHEDULE.due(after, after + 3 * MINUTE_MS, demand={topic: [security.symbol] for topic in topics})
    events = [json.loads(event.body) for event in due]
    inside = [event for event in events if after <= event["t" if event["ev"] == "T" else "s"] < after + MINUTE_MS]
    return {topic: [event for event in inside if event["ev"] == topic] for topic in topics}


@settings(max_examples=120, deadline=None)
@given(securities, minutes.filter(lambda minute: minute < LAST_MINUTE - 3))
def test_a_minute_is_the_fold_of_its_seconds_and_of_its_trades(security, minute):
    events = said(security, minute)
    final = events["AM"][-1]

    from_trades, from_seconds = fold_trades(events["T"]), fold_aggregates(events["A"])

    for fold in (from_trades, from_seconds):
        assert {key: fold[key] for key in "ohlc"} == {key: exact(final[key]) for key in "ohlc"}
        assert fold["v"] == volume_of(final)
        assert abs(fold["vw"] - exact(final["vw"])) <= Decimal("0.0001")
    assert from_trades["n"] == MARKET.minute(security, minute).trades


@settings(max_examples=60, deadline=None)
@given(securities, minutes.filter(lambda minute: minute < LAST_MINUTE - 3))
def test_each_second_bar_is_the_fold_of_the_trades_of_its_second(security, minute):
    events = said(security, minute)
    by_second = {}
    for trade in events["T"]:
        by_second.setdefault(trade["t"] // 1000 * 1000, []).append(trade)

    assert {bar["s"] for bar in events["A"]} == set(by_second)
    for bar in events["A"]:
        fold = fold_trades(by_second[bar["s"]])
        assert {key: exact(bar[key]) for key in "ohlc"} == {key: fold[key] for key in "ohlc"}
        assert volume_of(bar) == fold["v"]
        assert bar["e"] == bar["s"] + 1000


@settings(max_examples=60, deadline=None)
@given(securities, days)
def test_a_day_is_the_fold_of_its_hours_and_of_its_minutes(security, day):
    whole = MARKET.days(security, day, day + 1)
    starts, hours = MARKET.hours(security, day, day + 1)
    minute_starts, parts = MARKET.minutes(security, day, day + 1)

    for bars in (hours, parts):
        fold = bars.fold(np.array([0]))
        for column in ("open", "high", "low", "close", "volume", "trades"):
            assert getattr(fold, column)[0] == getattr(whole, column)[0], column
        assert fold.vwap[0] == pytest.approx(whole.vwap[0], rel=2e-3)
    assert len(starts) == len(local_hours(day))
    assert minute_starts[0] == day_starts()[day]
    assert minute_starts[-1] == day_starts()[day + 1] - MINUTE_MS


@settings(max_examples=60, deadline=None)
@given(securities, days)
def test_every_minute_trades_at_possible_prices(security, day):
    _, bars = MARKET.minutes(security, day, day + 1)

    assert (bars.low > 0).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert ((bars.vwap >= bars.low - 1e-6) & (bars.vwap <= bars.high + 1e-6)).all()
    assert (bars.volume > 0).all()
    assert (bars.trades >= 8).all()


@settings(max_examples=40, deadline=None)
@given(securities, minutes.filter(lambda minute: FIRST_MINUTE + 60 < minute < LAST_MINUTE - 3))
def test_a_minute_is_the_same_whatever_was_asked_before_and_by_whatever_way(security, minute):
    fresh = Market(seed=SEED, tickers=120)
    day = day_at(minute * MINUTE_MS)
    first = minute - int(day_starts()[day]) // MINUTE_MS

    asked_alone = fresh.minute(security, minute)
    _, long_range = MARKET.minutes(security, max(day - 2, 0), min(day + 2, DAYS))
    place = first + (int(day_starts()[day]) - int(day_starts()[max(day - 2, 0)])) // MINUTE_MS

    assert asked_alone == MARKET.minute(security, minute)
    assert (asked_alone.open, asked_alone.high, asked_alone.low, asked_alone.close) == tuple(
        int(column[place]) / security.scale for column in (long_range.open, long_range.high, long_range.low, long_range.close)
    )
    assert asked_alone.volume == long_range.volume[place]


def test_the_same_seed_is_the_same_market_and_another_seed_another():
    apple = MARKET.by_symbol["AAPL"]
    path = MARKET.days(apple, 0, 1400).close

    assert (Market(seed=SEED, tickers=1).days(apple, 0, 1400).close == path).all()
    assert (Market(seed=SEED + 1, tickers=1).days(apple, 0, 1400).close != path).any()


def test_what_falls_due_does_not_depend_on_how_often_one_asks():
    demand = {"AM": ["*"], "A": ["AAPL", "BRK.B"], "T": ["SPY"]}
    at_once = SCHEDULE.due(NOW_MS, NOW_MS + 3 * MINUTE_MS, demand=demand)

    steps = range(NOW_MS, NOW_MS + 3 * MINUTE_MS, 700)
    in_steps = [event for step in steps for event in SCHEDULE.due(step, min(step + 700, NOW_MS + 3 * MINUTE_MS), demand=demand)]

    assert sorted(in_steps) == sorted(at_once)
    assert [event.at_ms for event in in_steps] == sorted(event.at_ms for event in at_once)


def test_volume_of_the_day_accumulates_and_ends_at_the_daily_bar():
    tesla = MARKET.by_symbol["TSLA"]
    day = day_at(NOW_MS)
    start, end = (int(moment) for moment in day_starts()[day : day + 2])

    due = SCHEDULE.due(start, end + 2 * MINUTE_MS, demand={"AM": ["TSLA"]})
    events = {event["s"]: event for event in (json.loads(event.body) for event in due) if start <= event["s"] < end}
    accumulated = [Decimal(event.get("dav", event["av"])) for _, event in sorted(events.items())]
    whole = MARKET.days(tesla, day, day + 1)

    assert len(accumulated) == 1440
    assert accumulated == sorted(accumulated)
    assert accumulated[-1] == Decimal(int(whole.volume[0])) / 1000
    assert {event["op"] for event in events.values()} == {whole.open[0] / 100}
    assert events[end - MINUTE_MS]["a"] == pytest.approx(whole.vwap[0] / 100, rel=1e-3)


def test_seconds_carry_the_volume_of_the_day_up_to_them():
    events = said(MARKET.by_symbol["BAC"], NOW_MS // MINUTE_MS)
    before = MARKET.minute(MARKET.by_symbol["BAC"], NOW_MS // MINUTE_MS).volume_before

    running = Decimal(before) / 1000
    for bar in events["A"]:
        running += volume_of(bar)
        assert Decimal(bar.get("dav", bar["av"])) == running


def test_the_tape_has_odd_lots_sweeps_average_prices_and_fractions_but_no_form_t():
    trades = [trade for minute in range(30) for trade in said(MARKET.by_symbol["AAPL"], NOW_MS // MINUTE_MS + minute, ("T",))["T"]]
    conditions = {condition for trade in trades for condition in trade.get("c", ())}

    assert conditions == {2, 14, 37, 41}
    assert any("c" not in trade for trade in trades)
    assert any(Decimal(trade.get("ds", "1")) % 1 != 0 for trade in trades)
    assert any(trade["x"] == 4 and "trfi" in trade and trade["trft"] <= trade["t"] for trade in trades)
    assert [trade["q"] for trade in trades] == sorted({trade["q"] for trade in trades})


def test_ineligible_prints_lie_outside_the_range_often_enough_to_expose_a_wrong_fold():
    outside = 0
    for minute in range(20):
        events = said(MARKET.by_symbol["JPM"], NOW_MS // MINUTE_MS + minute, ("AM", "T"))
        bar = events["AM"][-1]
        outside += any(
            not bar["l"] <= trade["p"] <= bar["h"] for trade in events["T"] if 37 in trade.get("c", ()) or 2 in trade.get("c", ())
        )
    assert outside >= 10


def test_some_minutes_come_early_and_are_corrected_within_a_minute():
    due = SCHEDULE.due(NOW_MS, NOW_MS + 60 * MINUTE_MS, demand={"AM": ["*"]})
    versions = {}
    for event in due:
        body = json.loads(event.body)
        versions.setdefault((body["sym"], body["s"]), []).append((event.at_ms, volume_of(body), Decimal(body.get("dav", body["av"]))))

    corrected = [seen for seen in versions.values() if len(seen) == 2]
    delays = [seen[0][0] - start - MINUTE_MS for (_, start), seen in versions.items() if start >= NOW_MS]

    assert 0.003 < len(corrected) / len(versions) < 0.03
    assert all(0 < second[0] - first[0] < MINUTE_MS and second[1] > first[1] and second[2] > first[2] for first, second in corrected)
    assert min(delays) >= 200
    assert max(delays) <= 3000
    assert [event.symbol for event in due] != sorted(event.symbol for event in due)


def test_prices_stand_on_the_tick_and_below_a_dollar_on_a_hundredth_of_a_cent():
    penny = next(security for security in MARKET.securities if security.price < 1)
    events = said(penny, NOW_MS // MINUTE_MS, ("AM",))["AM"] + said(MARKET.by_symbol["AAPL"], NOW_MS // MINUTE_MS, ("AM",))["AM"]

    for event in events:
        places = 4 if event["sym"] == penny.symbol else 2
        assert all(exact(event[key]) == round(exact(event[key]), places) for key in "ohlc")
    assert MARKET.days(penny, 0, DAYS).high.max() < penny.scale  # it never reaches the dollar at which its tick would change


def test_made_up_tickers_follow_the_default_universes_and_are_no_test_tickers():
    symbols = [security.symbol for security in roster(5000)]

    assert symbols[:70] == [listing.symbol for listing in LISTINGS]
    assert len(set(symbols)) == 5000
    assert all(symbol.startswith("Q") and len(symbol) == 5 for symbol in symbols[70:])
    assert not {"ZVZZT", "ZWZZT", "ZXZZT", "NTEST", "ATEST", "IBOT", "ZTST", "ZJZZT", "ZEXIT", "ZIEXT", "CBOA", "CBXY"} & set(symbols)


def test_the_default_universes_part_the_seventy():
    assert (len(STOCK_ETF_TEST), len(COMBO_TEST), len(LISTINGS)) == (37, 33, 70)
    assert set(STOCK_ETF_TEST) | set(COMBO_TEST) == {listing.symbol for listing in LISTINGS}
    assert (STOCK_ETF_TEST[0], STOCK_ETF_TEST[-1], COMBO_TEST[0], COMBO_TEST[-1]) == ("AAPL", "CRM", "XRT", "RSPN")
    assert {listing.sector for listing in LISTINGS} == {"", *SECTORS}


def mean_correlations(returns, sectors):
    matrix = np.corrcoef(returns)
    same = np.equal.outer(sectors, sectors) & ~np.eye(len(sectors), dtype=bool)
    return matrix[same].mean(), matrix[np.not_equal.outer(sectors, sectors)].mean()


@pytest.mark.parametrize("level", ["days", "minutes"])
def test_tickers_of_a_sector_move_together_more_than_those_of_different_ones(level):
    companies = [security for security in MARKET.securities if security.listing.type == "CS" and security.symbol in STOCK_ETF_TEST]
    day = day_at(NOW_MS)
    if level == "days":
        closes = [MARKET.days(security, day - 500, day).close for security in companies]
    else:
        closes = [MARKET.minutes(security, day - 3, day)[1].close for security in companies]

    returns = np.diff(np.log(np.array(closes, dtype=float)))
    within, across = mean_correlations(returns, np.array([security.listing.sector for security in companies]))

    assert within > across + 0.05
    assert across > 0.02


def test_volume_is_u_shaped_in_new_york_hours_and_small_at_night():
    totals = np.zeros(24)
    for security in MARKET.securities[:20]:
        _, hours = MARKET.hours(security, 1390, 1395)
        totals += hours.volume.reshape(5, 24).sum(axis=0)

    assert totals[[10, 15]].min() > totals[[12, 13]].max()
    assert totals[12] > 5 * totals[2]


def test_days_that_change_the_clock_have_23_and_25_hours():
    spring, autumn = day_of(date(2026, 3, 8)), day_of(date(2026, 11, 1))

    assert len(MARKET.minutes(MARKET.securities[0], spring, spring + 1)[0]) == 23 * 60
    assert len(MARKET.minutes(MARKET.securities[0], autumn, autumn + 1)[0]) == 25 * 60
    assert local_hours(autumn)[:4] == (0, 1, 1, 2)


# --- REST: the same market --------------------------------------------------------------------------------------------------------

REST = Rest(MARKET)


def ask(target, *, now_ms=NOW_MS, key="k"):
    answer = REST.answer(target, bearer=key, now_ms=now_ms, base="http://127.0.0.1:8765")
    return answer.status, json.loads(answer.body)


def all_pages(target, **options):
    found = []
    while target:
        status, body = ask(target, **options)
        assert status == 200, body
        found += body.get("results", [])
        target = body.get("next_url", "").removeprefix("http://127.0.0.1:8765")
    return found


def test_rest_minutes_are_the_final_minutes_of_the_stream():
    start = NOW_MS - 30 * MINUTE_MS
    rows = all_pages(f"/v2/aggs/ticker/XLE/range/1/minute/{start}/{NOW_MS}")

    finals = {}
    for event in SCHEDULE.due(start, NOW_MS + 5 * MINUTE_MS, demand={"AM": ["XLE"]}):
        body = json.loads(event.body)
        finals[body["s"]] = body

    assert [row["t"] for row in rows] == list(range(start, NOW_MS - MINUTE_MS, MINUTE_MS))  # the last one ended this very ms
    for row in rows:
        final = finals[row["t"]]
        assert all(row[key] == final[key] for key in ("o", "h", "l", "c", "vw"))
        assert exact(row["v"]) == volume_of(final)


def test_a_minute_appears_in_rest_a_second_after_its_end():
    target = f"/v2/aggs/ticker/SPY/range/1/minute/{NOW_MS}/{NOW_MS}"

    assert "results" not in ask(target, now_ms=NOW_MS + MINUTE_MS + 999)[1]
    assert len(ask(target, now_ms=NOW_MS + MINUTE_MS + 1000)[1]["results"]) == 1


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize(("multiplier", "timespan"), [(1, "minute"), (7, "minute"), (1, "hour"), (3, "day"), (1, "week")])
def test_pages_hold_what_one_answer_holds(sort, multiplier, timespan):
    path = f"/v2/aggs/ticker/NVDA/range/{multiplier}/{timespan}/2026-10-30/2026-11-02"
    whole = ask(f"{path}?sort={sort}&limit=50000")[1]["results"]

    paged = all_pages(f"{path}?sort={sort}&limit={max(multiplier * 400, 1) if timespan in ('minute', 'hour') else 3}")

    assert paged == whole
    assert [row["t"] for row in whole] == sorted((row["t"] for row in whole), reverse=sort == "desc")


@pytest.mark.parametrize(("multiplier", "timespan"), [(5, "minute"), (60, "minute"), (1, "hour"), (4, "hour"), (1, "day")])
def test_wider_bars_are_the_fold_of_minutes(multiplier, timespan):
    minutes_of = all_pages("/v2/aggs/ticker/AMD/range/1/minute/2026-10-31/2026-11-02?limit=50000")
    wide = all_pages(f"/v2/aggs/ticker/AMD/range/{multiplier}/{timespan}/2026-10-31/2026-11-02")

    edges = [row["t"] for row in wide] + [minutes_of[-1]["t"] + MINUTE_MS]
    for row, end in zip(wide, edges[1:], strict=True):
        inside = [minute for minute in minutes_of if row["t"] <= minute["t"] < end]
        assert row["o"] == inside[0]["o"]
        assert row["c"] == inside[-1]["c"]
        assert row["h"] == max(minute["h"] for minute in inside)
        assert row["l"] == min(minute["l"] for minute in inside)
        assert exact(row["v"]) == sum(exact(minute["v"]) for minute in inside)
        assert row["n"] == sum(minute["n"] for minute in inside)
        assert row["vw"] == pytest.approx(sum(minute["v"] * minute["vw"] for minute in inside) / row["v"], rel=1e-3)


def test_only_finished_days_are_given():
    rows = all_pages("/v2/aggs/ticker/AAPL/range/1/day/2026-11-15/2026-11-25")
    grouped = ask("/v2/aggs/grouped/locale/us/market/stocks/2026-11-19")[1]

    assert len(rows) == 5  # 15 to 19 November
    assert grouped["resultsCount"] == 120
    apple = next(row for row in grouped["results"] if row["T"] == "AAPL")
    assert {key: apple[key] for key in "ohlcvn"} == {key: rows[-1][key] for key in "ohlcvn"}
    assert ask("/v2/aggs/grouped/locale/us/market/stocks/2026-11-20")[1]["resultsCount"] == 0


def test_before_its_first_day_and_for_unknown_tickers_the_market_is_empty():
    assert ask("/v2/aggs/ticker/AAPL/range/1/day/2020-01-01/2022-12-31")[1]["resultsCount"] == 0
    assert len(all_pages("/v2/aggs/ticker/AAPL/range/1/day/2020-01-01/2023-01-10")) == 10
    status, body = ask("/v2/aggs/ticker/NOPE/range/1/day/2026-01-01/2026-02-01")
    assert (status, body["status"], body["resultsCount"]) == (200, "OK", 0)


@pytest.mark.parametrize(
    ("target", "status", "word"),
    [
        ("/v2/aggs/ticker/AAPL/range/0/day/2026-01-01/2026-02-01", 400, "multiplier"),
        ("/v2/aggs/ticker/AAPL/range/1/moon/2026-01-01/2026-02-01", 400, "timespan"),
        ("/v2/aggs/ticker/AAPL/range/1/day/yesterday/2026-02-01", 400, "from"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2026-02-01/2026-01-01", 400, "to"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2026-01-01/2026-02-01?limit=50001", 400, "limit"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2026-01-01/2026-02-01?sort=up", 400, "sort"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2026-01-01/2026-02-01?cursor=%21%21", 400, "cursor"),
        ("/v1/twin/calendar?from=2026-01-01", 400, "to"),
        ("/v3/reference/tickers/NOPE", 404, "Ticker not found."),
        ("/v9/nothing", 404, "not found"),
    ],
)
def test_a_bad_request_gets_one_sentence(target, status, word):
    got, body = ask(target)

    assert got == status
    assert word in body.get("error", body.get("message"))


def test_a_key_is_needed_and_may_stand_in_the_address():
    assert ask("/v1/marketstatus/now", key="")[0] == 401
    assert ask("/v1/marketstatus/now", key="badkey")[1]["error"] == "Unknown API Key"
    assert ask("/v1/marketstatus/now?apiKey=k", key="")[0] == 200


def test_the_calendar_has_a_session_of_a_new_york_day_for_every_day():
    rows = ask("/v1/twin/calendar?from=2026-10-31&to=2026-11-02")[1]["results"]

    assert [(row["date"], row["open"], row["close"]) for row in rows] == [
        ("2026-10-31", "2026-10-31T04:00:00Z", "2026-11-01T04:00:00Z"),
        ("2026-11-01", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ("2026-11-02", "2026-11-02T05:00:00Z", "2026-11-03T05:00:00Z"),
    ]
    assert all(row["pre_open"] == row["open"] and row["post_close"] == row["close"] for row in rows)


def test_tickers_and_conditions_come_in_pages():
    tickers = all_pages("/v3/reference/tickers?limit=50&market=stocks&active=true")
    conditions = all_pages("/v3/reference/conditions?asset_class=stocks&data_type=trade")

    assert [row["ticker"] for row in tickers] == sorted(security.symbol for security in MARKET.securities)
    assert len({row["id"] for row in conditions}) == len(conditions) > 30
    odd_lot = next(row for row in conditions if row["id"] == 37)
    assert odd_lot["update_rules"]["consolidated"] == {"updates_high_low": False, "updates_open_close": False, "updates_volume": True}
    assert [row["ticker"] for row in all_pages("/v3/reference/tickers?type=ETF&search=gold")] == ["GDX", "GLD"]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 333])
def test_pages_of_trades_hold_the_tape_of_the_span_once(order, limit):
    first_ns, end_ns = (NOW_MS - 3 * MINUTE_MS + 5_250) * 1_000_000, (NOW_MS - MINUTE_MS - 20_000) * 1_000_000
    span = f"timestamp.gte={first_ns}&timestamp.lt={end_ns}"
    rows = all_pages(f"/v3/trades/XLE?{span}&order={order}&limit={limit}")

    tape = [trade for minute in range(3, 0, -1) for trade in said(MARKET.by_symbol["XLE"], NOW_MS // MINUTE_MS - minute, ("T",))["T"]]
    inside = [trade["q"] for trade in tape if first_ns <= trade["t"] * 1_000_000 < end_ns]

    assert len(inside) > 10
    assert [row["sequence_number"] for row in rows] == (inside if order == "asc" else inside[::-1])


def test_trades_come_newest_first_and_a_date_is_its_new_york_day():
    newest = ask("/v3/trades/AAPL?limit=5")[1]["results"]
    of_day = (
        ask("/v3/trades/AAPL?timestamp=2026-11-18&order=asc&limit=1")[1]["results"]
        + ask("/v3/trades/AAPL?timestamp=2026-11-18&limit=1")[1]["results"]
    )
    edges = [int(moment) for moment in day_starts()[day_of(date(2026, 11, 18)) : day_of(date(2026, 11, 18)) + 2]]

    assert NOW_MS - 60_000 < newest[0]["sip_timestamp"] // 1_000_000 < NOW_MS
    assert edges[0] <= of_day[0]["sip_timestamp"] // 1_000_000 < edges[0] + 60_000
    assert edges[1] - 60_000 <= of_day[1]["sip_timestamp"] // 1_000_000 < edges[1]
    assert ask("/v3/trades/NOPE")[1]["results"] == []
    assert ask("/v3/trades/AAPL?timestamp.gt=2026-11-30")[1]["results"] == []
    for bad in ("timestamp=soon", "limit=50001", "order=up", "timestamp.gte=2500-01-01"):
        assert ask(f"/v3/trades/AAPL?{bad}")[0] == 400


def test_without_prices_nothing_has_ever_traded_and_the_rest_answers():
    silent = Rest(MARKET, prices=False)

    def body(target):
        return json.loads(silent.answer(target, bearer="k", now_ms=NOW_MS, base="").body)

    assert body("/v2/aggs/ticker/AAPL/range/1/day/2026-01-01/2026-02-01")["resultsCount"] == 0
    assert body("/v2/aggs/grouped/locale/us/market/stocks/2026-11-18")["resultsCount"] == 0
    assert body("/v2/aggs/ticker/AAPL/prev")["resultsCount"] == 0
    assert body("/v3/trades/AAPL")["results"] == []
    assert body("/v2/snapshot/locale/us/markets/stocks/tickers")["tickers"] == []
    assert body("/v3/reference/tickers/AAPL")["results"]["ticker"] == "AAPL"
