"""Whatever happens in the twin's market: in the end A, AM, T and REST tell the same story, and the same seed tells it again."""

import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from marketdata.twin.days import DAYS, MINUTE_MS, day_at, day_of, day_starts
from marketdata.twin.market import Market
from marketdata.twin.plants import OUTLINES
from marketdata.twin.rest import Rest
from marketdata.twin.scenarios import SCENARIOS
from marketdata.twin.schedule import Schedule

SEED = 38
NOW_MS = int(datetime(2026, 11, 20, 14, 30, tzinfo=UTC).timestamp()) * 1000
TODAY = day_at(NOW_MS)
QUARTER_MS = 15 * MINUTE_MS
SETS_NO_PRICE = {2, 37}


def made(scenario, *, tickers=12, seed=SEED):
    market = Market(seed=seed, tickers=tickers, scenario_name=scenario)
    return market, Schedule(market), Rest(market)


def said(schedule, topics, symbols=("*",), *, minutes, start_ms=NOW_MS):
    """Return what the stream says about some minutes, in the order of saying, until nothing more can come."""
    end_ms = start_ms + minutes * MINUTE_MS
    due = schedule.due(start_ms, end_ms + QUARTER_MS, demand=dict.fromkeys(topics, symbols))
    events = [(event.at_ms, json.loads(event.body)) for event in due]
    return [(at_ms, event) for at_ms, event in events if start_ms <= event["t" if event["ev"] in "TQ" else "s"] < end_ms]


def ask(rest, target, *, now_ms=NOW_MS):
    answer = rest.answer(target, bearer="k", now_ms=now_ms, base="")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def bars_of(rest, symbol, first_ms, end_ms, *, adjusted="false", timespan="minute", multiplier=1):
    body = ask(
        rest,
        f"/v2/aggs/ticker/{symbol}/range/{multiplier}/{timespan}/{first_ms}/{end_ms - 1}?adjusted={adjusted}&limit=50000",
        now_ms=end_ms + 2 * QUARTER_MS,
    )
    return {row["t"]: row for row in body.get("results", [])}


def volume_of(bar):
    return Decimal(str(bar.get("dv", bar["v"])))


def ohlcv(bar):
    return tuple(Decimal(str(bar[key])) for key in "ohlc") + (volume_of(bar),)


def fold_trades(trades):
    """Fold T events the slow and obvious way; None without one that sets a price."""
    trades = sorted(trades, key=lambda trade: (trade["t"], trade["q"]))
    prices = [Decimal(str(trade["p"])) for trade in trades if not SETS_NO_PRICE & set(trade.get("c", ()))]
    volume = sum(Decimal(trade.get("ds", trade["s"])) for trade in trades)
    return (prices[0], max(prices), min(prices), prices[-1], volume) if prices else None


def fold_seconds(bars):
    bars = [bars[opened] for opened in sorted(bars)]
    return (
        Decimal(str(bars[0]["o"])),
        max(Decimal(str(bar["h"])) for bar in bars),
        min(Decimal(str(bar["l"])) for bar in bars),
        Decimal(str(bars[-1]["c"])),
        sum(volume_of(bar) for bar in bars),
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_in_the_end_trades_seconds_minutes_and_rest_are_one_market(scenario):
    market, schedule, rest = made(scenario)
    trades, seconds, minutes = defaultdict(list), defaultdict(dict), {}
    for _, event in said(schedule, ("T", "A", "AM"), minutes=6):
        minute = event.get("t", event.get("s")) // MINUTE_MS * MINUTE_MS
        if event["ev"] == "T":
            trades[event["sym"], minute].append(event)
        elif event["ev"] == "A":
            seconds[event["sym"], minute][event["s"]] = event  # the last word on a second stands
        else:
            minutes[event["sym"], minute] = event

    compared = 0
    for security in market.securities:
        rows = bars_of(rest, security.symbol, NOW_MS, NOW_MS + 6 * MINUTE_MS)
        for minute in range(NOW_MS, NOW_MS + 6 * MINUTE_MS, MINUTE_MS):
            key = (security.symbol, minute)
            from_trades = fold_trades(trades[key])
            assert (from_trades is not None) == (minute in rows) == (key in minutes) == (key in seconds), key
            if from_trades is not None:
                compared += 1
                assert from_trades == ohlcv(minutes[key]) == fold_seconds(seconds[key]) == ohlcv(rows[minute]), key
                assert len(trades[key]) == rows[minute]["n"]
    assert compared > 30
    assert len({trade["q"] for trade in sum(trades.values(), []) if trade["sym"] == "AAPL"}) == sum(
        len(some) for (symbol, _), some in trades.items() if symbol == "AAPL"
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_seed_is_the_same_market_and_what_falls_due_does_not_depend_on_how_one_asks(scenario):
    _, schedule, _ = made(scenario, tickers=6)
    _, again, _ = made(scenario, tickers=6)
    demand = {topic: ["*"] for topic in ("AM", "A", "T", "Q", "LULD")}
    end_ms = NOW_MS + 4 * MINUTE_MS

    at_once = schedule.due(NOW_MS, end_ms, demand=demand)
    in_steps = [event for step in range(NOW_MS, end_ms, 7_300) for event in again.due(step, min(step + 7_300, end_ms), demand=demand)]

    assert sorted(in_steps) == sorted(at_once)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_days_and_hours_of_rest_are_the_fold_of_its_minutes(scenario):
    market, _, rest = made(scenario)
    start, end = (int(moment) for moment in day_starts()[TODAY - 1 : TODAY + 1])
    for security in market.securities[:6]:
        minutes = bars_of(rest, security.symbol, start, end)
        _, parts = market.minutes(security, TODAY - 1, TODAY)
        assert parts.volume.sum() == market.days(security, TODAY - 1, TODAY).volume[0]
        without_bar = Decimal(int(parts.volume[parts.trades == 0].sum())) / 1000
        for timespan in ("hour", "day"):
            wide = bars_of(rest, security.symbol, start, end, timespan=timespan)
            edges = [*sorted(wide), end]
            for opened, closed in pairwise(edges):
                inside = [minutes[moment] for moment in sorted(minutes) if opened <= moment < closed]
                row = wide[opened]
                assert (row["o"], row["c"]) == (inside[0]["o"], inside[-1]["c"])
                assert (row["h"], row["l"]) == (max(bar["h"] for bar in inside), min(bar["l"] for bar in inside))
                odd_lots = Decimal(str(row["v"])) - sum(Decimal(str(bar["v"])) for bar in inside)
                assert odd_lots == (without_bar if timespan == "day" else 0)


def test_no_scenario_is_named_in_vain():
    with pytest.raises(ValueError, match="the scenarios are default, quiet, halts, splits, gaps, patterns, late"):
        Market(seed=SEED, tickers=1, scenario_name="moon")


# --- quiet ------------------------------------------------------------------------------------------------------------------------


def test_thin_tickers_have_silent_minutes_and_odd_lots_without_a_bar():
    market, schedule, rest = made("quiet")
    thin = market.securities[2].symbol
    trades = defaultdict(list)
    for _, event in said(schedule, ("T",), (thin,), minutes=120):
        trades[event["t"] // MINUTE_MS * MINUTE_MS].append(event)
    rows = bars_of(rest, thin, NOW_MS, NOW_MS + 120 * MINUTE_MS)

    silent = [minute for minute in range(NOW_MS, NOW_MS + 120 * MINUTE_MS, MINUTE_MS) if minute not in rows]
    odd = [minute for minute in silent if minute in trades]

    assert len(silent) > 20
    assert 3 < len(odd) < len(silent)
    assert all(trade["c"] == [37] and 1 <= trade["s"] < 100 for minute in odd for trade in trades[minute])


def test_accumulated_volume_jumps_over_minutes_of_odd_lots():
    market, schedule, _ = made("quiet")
    thin = market.securities[2].symbol
    bars = {event["s"]: event for _, event in said(schedule, ("AM",), (thin,), minutes=180)}
    traded = Counter()
    for _, event in said(schedule, ("T",), (thin,), minutes=180):
        traded[event["t"] // MINUTE_MS * MINUTE_MS] += Decimal(event.get("ds", event["s"]))

    jumps = 0
    for before, after in pairwise(sorted(bars)):
        grown = Decimal(bars[after].get("dav", bars[after]["av"])) - Decimal(bars[before].get("dav", bars[before]["av"]))
        between = sum(volume for minute, volume in traded.items() if before < minute < after)
        if "dav" in bars[after] and "dav" in bars[before]:
            assert grown == volume_of(bars[after]) + between
            jumps += between > 0
    assert jumps > 3


# --- halts ------------------------------------------------------------------------------------------------------------------------


def test_a_pause_is_announced_in_nanoseconds_and_nothing_trades_in_it():
    market, schedule, rest = made("halts")
    halting = market.securities[1].symbol
    start, end = (int(moment) for moment in day_starts()[TODAY : TODAY + 2])
    bands = [json.loads(event.body) for event in schedule.due(start, end, demand={"LULD": ["*"]})]
    rows = bars_of(rest, halting, start, end)

    pauses = [event["t"] // 1_000_000 for event in bands if event["T"] == halting and event["i"] == [17]]
    resumptions = [event["t"] // 1_000_000 for event in bands if event["T"] == halting and event["i"] == [21]]

    assert len(pauses) == len(resumptions) >= 2
    assert all(len(str(event["t"])) == 19 and event["l"] < event["h"] and "sym" not in event for event in bands)
    for paused, resumed in zip(pauses, resumptions, strict=True):
        minute = paused // MINUTE_MS * MINUTE_MS
        assert [minute + n * MINUTE_MS in rows for n in range(-1, 6)] == [True, *[False] * 5, True]
        assert resumed // MINUTE_MS == paused // MINUTE_MS + 5
    assert len(rows) == 1440 - 5 * len(pauses)


# --- splits -----------------------------------------------------------------------------------------------------------------------


def test_a_split_moves_raw_prices_at_the_open_and_leaves_adjusted_ones_continuous():
    _, _, rest = made("splits")
    splits = [row for row in ask(rest, "/stocks/v1/splits?ticker=AAPL&limit=1000")["results"] if row["execution_date"] < "2026-11-01"]
    forward = next(row for row in splits if (row["split_from"], row["split_to"]) == (1, 3))
    day = date.fromisoformat(forward["execution_date"])
    around = f"{day - timedelta(days=1)}/{day}"

    raw = ask(rest, f"/v2/aggs/ticker/AAPL/range/1/day/{around}?adjusted=false")["results"]
    adjusted = ask(rest, f"/v2/aggs/ticker/AAPL/range/1/day/{around}")["results"]

    assert raw[1]["o"] / raw[0]["c"] == pytest.approx(1 / 3, rel=0.03)
    assert adjusted[1]["o"] / adjusted[0]["c"] == pytest.approx(1, rel=0.03)
    factor = raw[0]["c"] / adjusted[0]["c"]
    assert adjusted[0]["v"] == pytest.approx(raw[0]["v"] * factor)
    before = [row for row in splits if row["execution_date"] <= str(day)]
    assert before[0]["historical_adjustment_factor"] == pytest.approx(1 / factor, rel=1e-3)
    grouped = ask(rest, f"/v2/aggs/grouped/locale/us/market/stocks/{day - timedelta(days=1)}")["results"]
    assert next(row for row in grouped if row["T"] == "AAPL")["c"] == adjusted[0]["c"]
    minutes = ask(rest, f"/v2/aggs/ticker/AAPL/range/1/minute/{day}/{day}?limit=50000")["results"]
    assert minutes[0]["o"] == adjusted[1]["o"]


def test_a_split_that_is_only_announced_adjusts_nothing_yet():
    market, _, rest = made("splits", tickers=70)
    ahead = ask(rest, "/stocks/v1/splits?execution_date.gt=2026-11-20&limit=100")["results"]
    symbol = ahead[0]["ticker"]

    today = ask(rest, f"/v2/aggs/ticker/{symbol}/range/1/day/2026-11-18/2026-11-19?adjusted=false")["results"]

    assert ahead
    assert len(market.securities) == 70
    assert ask(rest, f"/v2/aggs/ticker/{symbol}/range/1/day/2026-11-18/2026-11-19")["results"] == today


def test_funds_and_other_scenarios_never_split():
    _, _, rest = made("splits", tickers=70)
    _, _, ordinary = made("default")

    assert not ask(rest, "/stocks/v1/splits?ticker=SPY")["results"]
    assert not ask(ordinary, "/stocks/v1/splits")["results"]
    assert not ask(ordinary, "/stocks/v1/dividends")["results"]


# --- gaps -------------------------------------------------------------------------------------------------------------------------


def test_some_nights_jump_and_most_do_not():
    market, _, _ = made("gaps")
    bars = market.days(market.securities[0], 0, 1400)

    jumps = np.abs(np.log(bars.open[1:] / bars.close[:-1]))

    assert 0.04 < (jumps > 0.02).mean() < 0.12
    assert jumps.max() < 0.12
    ordinary = made("default")[0]
    plain = ordinary.days(ordinary.securities[0], 0, 1400)
    assert np.abs(np.log(plain.open[1:] / plain.close[:-1])).max() < 0.02


# --- patterns ---------------------------------------------------------------------------------------------------------------------


def test_planted_patterns_are_listed_and_stand_in_the_bars():
    market, _, rest = made("patterns", tickers=21)
    plants = ask(rest, "/v1/twin/planted?from=2026-09-25&to=2026-11-18")["results"]

    likeness = []
    for plant in plants:
        first, last = (int(datetime.fromisoformat(plant[end]).timestamp()) * 1000 for end in ("from", "to"))
        rows = bars_of(rest, plant["symbol"], first, last + MINUTE_MS, multiplier=5)
        closes = np.array([rows[moment]["c"] for moment in sorted(rows)])
        outline = OUTLINES[plant["pattern"]]
        shares, levels = zip(*outline.knots, strict=True)
        drawn = outline.side * np.interp(np.linspace(0, 1, len(closes)), shares, levels)
        likeness.append(np.corrcoef(drawn, closes)[0, 1])
        assert closes.max() / closes.min() > 1 + 0.015 * outline.tall
        assert plant["from"] < plant["turns"][0] <= plant["turns"][-1] < plant["to"]

    assert len(plants) > 40
    assert {plant["pattern"] for plant in plants} == set(OUTLINES)
    assert np.mean(np.array(likeness) > 0.9) > 0.9
    only = ask(rest, "/v1/twin/planted?from=2026-09-25&to=2026-11-18&symbols=AAPL")["results"]
    assert only == [plant for plant in plants if plant["symbol"] == "AAPL"]
    assert len(market.securities) == 21


def test_a_planted_day_joins_its_neighbours_without_a_tear():
    market, _, _ = made("patterns", tickers=6)
    apple = market.by_symbol["AAPL"]
    days = [number for number in range(TODAY - 40, TODAY) if market.plant(apple, number)]
    _, bars = market.minutes(apple, TODAY - 40, TODAY)

    steps = np.abs(np.diff(np.log(bars.close.astype(float))))

    assert len(days) > 10
    assert steps.max() < 0.012
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()


# --- late -------------------------------------------------------------------------------------------------------------------------


def test_late_trades_come_minutes_later_and_the_bars_that_they_change_come_again_larger():
    market, schedule, rest = made("late", tickers=12)
    versions, seconds, reported = defaultdict(list), defaultdict(list), []
    for at_ms, event in said(schedule, ("AM", "A", "T"), minutes=60):
        if event["ev"] == "A":
            seconds[event["sym"], event["s"]].append(volume_of(event))
        elif event["ev"] == "AM":
            versions[event["sym"], event["s"]].append((at_ms - event["e"], volume_of(event), ohlcv(event)))
        elif at_ms - event["t"] > 10_000:
            reported.append(at_ms - event["t"])

    late = [seen for seen in versions.values() if seen[-1][0] > 60_000]

    assert len(late) > 10
    assert max(seen[-1][0] for seen in late) < 14 * MINUTE_MS
    assert all(seen[-1][1] > seen[0][1] for seen in late)
    again = [seen for seen in seconds.values() if len(seen) > 1]
    assert len(again) > 50
    assert all(len(seen) == 2 and seen[1] > seen[0] for seen in again)
    assert len(reported) > 50
    assert max(reported) < 15 * MINUTE_MS
    symbol, start = next(key for key, seen in versions.items() if seen[-1][0] > 60_000)
    row = bars_of(rest, symbol, start, start + MINUTE_MS)[start]
    assert ohlcv(row) == versions[symbol, start][-1][2] != versions[symbol, start][0][2]
    assert len(market.securities) == 12


# --- quotes, at the edges of time -------------------------------------------------------------------------------------------------


def test_quotes_stand_a_tick_about_the_last_trade():
    _, schedule, _ = made("default", tickers=1)
    events = said(schedule, ("Q", "T"), minutes=2)
    trades = {event["q"]: event for _, event in events if event["ev"] == "T"}
    quotes = [event for _, event in events if event["ev"] == "Q"]

    assert len(quotes) > 20
    for quote in quotes:
        trade = trades[quote["q"]]
        assert quote["bp"] < trade["p"] < quote["ap"]
        assert quote["ap"] - quote["bp"] == pytest.approx(0.02)
        assert quote["t"] == trade["t"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_first_and_the_last_hour_of_the_market_are_no_exception(scenario):
    market, schedule, _ = made(scenario, tickers=6)
    demand = {topic: ["*"] for topic in ("AM", "A", "Q", "LULD")}
    first, last = int(day_starts()[0]), int(day_starts()[DAYS])

    assert schedule.due(first - MINUTE_MS, first + 3 * MINUTE_MS, demand=demand)
    assert schedule.due(last - 3 * MINUTE_MS, last + 10 * MINUTE_MS, demand=demand)
    assert schedule.due(last + MINUTE_MS, last + 2 * MINUTE_MS, demand=demand) == []
    assert len(market.days(market.securities[1], 0, DAYS).open) == DAYS == day_of(date(2044, 12, 31)) + 1
