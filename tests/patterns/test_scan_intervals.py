"""Bars of five minutes and longer: made of the stored minutes, judged when they are over, and again when a minute of theirs is revised."""

import random
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np
import pytest
import talib
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata.bars.snapshot import MINUTE_MS, DailySnapshot
from marketdata.intervals import candles
from marketdata.models import Session, Split
from patterns.detectors import DETECTORS, SHAPES
from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.indicators.catalogue import NAMES
from patterns.models import Detection, DetectorDefinition, IndicatorValue, JudgedSplit, ScanFailure, ScannedBar
from patterns.scan import scan, scan_apart
from patterns.signals import patterns_retracted
from patterns.tasks import sweep, sweep_outdated
from patterns.windows import LENGTH_MS
from patterns.windows.missed import stored_bars
from tests.factories import at, moment
from tests.patterns.market import NOW, everything, keys_of, random_bars, real_days, rows, store, what_stands

pytestmark = pytest.mark.usefixtures("market")
LATER = NOW + timedelta(days=3650)  # when nothing that a test has stored is young any more


def longer(bars, timeframe):
    """The keys of the longer bars that these minutes lie in."""
    length = LENGTH_MS[timeframe]
    return sorted({(bar.symbol, bar.opened_at_ms - bar.opened_at_ms % length) for bar in bars})


def wipe():
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE intraday_patterns, intraday_indicators, scanned_bars, scan_failures RESTART IDENTITY")


def values_at(timeframe, symbol, opened_at_ms):
    found = IndicatorValue.objects.of_symbol(symbol, timeframe=timeframe).filter(timestamp=at_ms(opened_at_ms))
    return {row.indicator_name: float(row.value) for row in found}


def at_ms(milliseconds):
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def sparse(bars, seed):
    """Leave a fifth of the minutes without a trade."""
    dice = random.Random(seed)
    return [bar for bar in bars if dice.random() > 0.2]


@pytest.mark.parametrize("timeframe", ["5m", "15m", "1h"])
def test_longer_bars_are_judged_as_the_bars_that_are_read(writer, timeframe):
    bars = sparse(random_bars("AAPL", 3000, seed=5, first=at("00:00", "2026-11-17")), 1)
    store(writer, bars)

    report = scan(longer(bars, timeframe), now=LATER, timeframe=timeframe)

    read = candles("AAPL", timeframe, start=None, end=None, forward=True, limit=10_000, now=LATER)
    assert report.bars == len(read)
    prices = [np.array([float(getattr(candle, name)) for candle in read]) for name in ("open", "high", "low", "close")]
    expected = set()
    for detector in CANDLESTICKS:
        expected |= {(detector.pattern_type, read[place].start) for place in np.flatnonzero(detector.function(*prices)).tolist()}
    found = {(row.pattern_type, row.timestamp) for row in Detection.objects.filter(timeframe=timeframe, pattern_type__in=list(DETECTORS))}
    assert found == expected
    values = values_at(timeframe, "AAPL", round(read[-1].start.timestamp() * 1000))
    close = prices[3]
    if len(close) >= 200:
        assert values["sma_200"] == pytest.approx(close[-200:].mean(), rel=1e-12)
        assert values["ema_200"] == pytest.approx(talib.EMA(close[-220:], 200)[-1], rel=1e-9)
    assert values["adx_14"] == pytest.approx(talib.ADX(*(price[-120:] for price in prices[1:]), 14)[-1], rel=1e-9)


def test_each_chart_pattern_keeps_its_conditions_and_its_geometry(writer):
    bars = random_bars("AAPL", 3000, seed=5, first=at("00:00", "2026-11-17"))
    store(writer, bars)

    scan(longer(bars, "5m"), now=NOW, timeframe="5m")

    found = list(Detection.objects.filter(pattern_type__in=list(SHAPES)))
    assert found
    for row in found:
        assert {"conditions", "geometry", "bars"} <= set(row.detail)
        assert row.detail["conditions"]
        assert all(set(one) == {"name", "measured", "relation", "threshold", "passed"} for one in row.detail["conditions"])
        assert set(row.detail["geometry"]) == {"points", "lines", "level"}
        assert all(point["at"].endswith("Z") and point["price"] > 0 for point in row.detail["geometry"]["points"])


def test_a_bar_is_judged_when_its_last_minute_is_there_or_the_next_bar_or_when_it_is_long_over(writer):
    bars = random_bars("AAPL", 12, seed=1, first=at("15:00"))
    soon = moment("15:04") + timedelta(seconds=5)

    def judged(minutes, now):
        store(writer, minutes)
        scan(longer(bars, "5m"), now=now, timeframe="5m")
        return ScannedBar.objects.filter(timeframe="5m").count()

    counts = [
        judged(bars[:3], soon),  # nothing says that it is over
        judged(bars[3:5], soon),  # its last minute
        judged(bars[5:7], soon + timedelta(minutes=3)),
        judged(bars[10:11], soon + timedelta(minutes=6)),  # a later minute: the second bar is over without its last ones
        judged([], datetime.now(UTC) + timedelta(minutes=1)),  # nothing came for long
    ]

    assert counts == [0, 1, 1, 2, 3]


def test_a_bar_with_a_half_seen_minute_waits_for_it(writer):
    bars = random_bars("AAPL", 5, seed=1, first=at("15:00"))
    store(writer, [*bars[:3], msgspec.structs.replace(bars[3], complete=False, source=10), bars[4]])
    first = scan(longer(bars, "5m"), now=NOW, timeframe="5m")
    store(writer, bars[3:4])

    second = scan(longer(bars, "5m"), now=NOW, timeframe="5m")

    assert (first.bars, second.bars) == (0, 1)


@given(st.integers(0, 2**32), st.sampled_from(["5m", "15m"]))
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_minute_arrives_or_is_revised_the_rows_are_those_of_one_scan(writer, sessions, seed, timeframe):
    dice = random.Random(seed)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE ohlcv_1min, bar_revisions")
    wipe()
    bars = [bar for symbol in ("AAPL", "SPY") for bar in random_bars(symbol, 250, seed=seed, first=at("10:00"))]
    daily(writer, "AAPL", 30)
    daily(writer, "SPY", 30)
    for version in range(2, 6):
        chosen = sorted(dice.sample(range(len(bars)), dice.randint(1, 300)))
        moved = [bars[place] if dice.random() < 0.6 else msgspec.structs.replace(flip(bars[place]), version=version) for place in chosen]
        store(writer, moved)
        told = longer(dice.sample(moved, dice.randint(0, len(moved))), timeframe)  # the other hints are lost
        scan([key for key in told if key[0] == "SPY"], now=LATER, timeframe=timeframe)
        scan([key for key in told if key[0] != "SPY"], now=LATER, timeframe=timeframe)
    store(writer, [msgspec.structs.replace(bar, version=9) for bar in bars])

    scan(longer(bars, timeframe), now=LATER, timeframe=timeframe)

    healed = what_stands()
    wipe()
    scan(longer(bars, timeframe), now=LATER, timeframe=timeframe)
    assert what_stands() == healed


def flip(bar):
    return msgspec.structs.replace(bar, close=round(bar.close + 3, 2), high=round(bar.high + 5, 2), version=2)


def test_a_revised_minute_retracts_on_the_longer_bar_and_says_so(writer):
    bars = random_bars("AAPL", 300, seed=1, first=at("10:00"))
    store(writer, bars)
    scan(longer(bars, "5m"), now=NOW, timeframe="5m")
    before = set(Detection.objects.values_list("pk", flat=True))
    heard = []
    patterns_retracted.connect(receiver := lambda detections, **_: heard.extend(detections))
    place = next(
        number for number in range(100, 300) if Detection.objects.filter(timestamp=at_ms(longer(bars[number : number + 1], "5m")[0][1]))
    )
    store(writer, [flip(bars[place])])

    scan(longer(bars[place : place + 1], "5m"), now=LATER, timeframe="5m")

    patterns_retracted.disconnect(receiver)
    gone = Detection.objects.filter(status="retracted", timeframe="5m")
    assert gone
    assert {row["id"] for row in heard} == {row.pk for row in gone}
    assert before <= set(Detection.objects.values_list("pk", flat=True))


def test_scanning_twice_changes_nothing(writer):
    bars = random_bars("AAPL", 300, seed=1, first=at("10:00"))
    store(writer, bars)
    scan(longer(bars, "5m"), now=NOW, timeframe="5m")
    once = everything()

    scan(longer(bars, "5m"), now=LATER, timeframe="5m")
    forced = scan(longer(bars, "5m"), now=LATER, timeframe="5m", again=True)

    assert forced.bars == 60
    assert everything() == once


# ---- The session, the one before, the benchmark ------------------------------------------------------------------------------------------


def daily(writer, symbol, count, *, close=50.0, last="2026-11-19"):
    """Store days whose close rises by one a day up to `close` on the last."""
    end = date.fromisoformat(last)
    days = [
        DailySnapshot(
            symbol,
            end - timedelta(days=back),
            close - back,
            close - back + 2,
            close - back - 1,
            close - back,
            10**6 * 10**9,
            None,
            None,
            50,
            1,
        )
        for back in range(min(count, int(close) - 2))
    ]
    writer.write_days(days)
    for day in days:
        opens = datetime(day.date.year, day.date.month, day.date.day, 14, 30, tzinfo=UTC)
        hours = {"pre_open": opens - timedelta(hours=5), "open": opens, "close": opens + timedelta(hours=6, minutes=30)}
        Session.objects.update_or_create(date=day.date, defaults={"calendar": "XNYS", **hours, "post_close": opens + timedelta(hours=10)})


@pytest.fixture
def sessions():
    """Whatever hours a test has written stand there as before afterwards."""
    kept = list(Session.objects.all())
    yield
    Session.objects.all().delete()
    Session.objects.bulk_create(kept)


def test_the_vwap_of_longer_bars_is_that_of_their_minutes_from_the_open_on(writer, sessions):
    bars = random_bars("AAPL", 120, seed=1, first=at("14:00"))  # half an hour before the open
    store(writer, bars)
    for timeframe in ("1m", "5m", "15m", "1h"):
        scan(longer(bars, timeframe), now=NOW, timeframe=timeframe)

    last = {timeframe: values_at(timeframe, "AAPL", at("16:00") - LENGTH_MS[timeframe]) for timeframe in ("1m", "5m", "15m", "1h")}

    assert len({round(values["vwap"], 9) for values in last.values()}) == 1
    regular = bars[30:]
    price = np.array([(bar.high + bar.low + bar.close) / 3 for bar in regular])
    volume = np.array([bar.volume for bar in regular])
    assert last["1h"]["vwap"] == pytest.approx((price * volume).sum() / volume.sum(), rel=1e-12)
    assert last["1m"]["vwap_upper_2"] - last["1m"]["vwap"] == pytest.approx(
        2 * np.sqrt(np.average((price - last["1m"]["vwap"]) ** 2, weights=volume))
    )
    assert "vwap" not in values_at("5m", "AAPL", at("14:25"))


def test_pivots_and_projected_volume_come_from_the_sessions_before(writer, sessions):
    bars = random_bars("AAPL", 60, seed=1, first=at("14:30"))
    daily(writer, "AAPL", 25)
    store(writer, bars)

    scan(longer(bars, "5m"), now=NOW, timeframe="5m")

    values = values_at("5m", "AAPL", at("15:25"))
    assert values["pivot"] == pytest.approx((52 + 49 + 50) / 3)
    assert values["fib_r3"] == pytest.approx(values["pivot"] + 3)
    volume = sum(bar.volume for bar in bars) / 10**9
    assert values["rvol_projected"] == pytest.approx(volume / (60 / 390) / 10**6)
    assert set(NAMES["5m"]) - set(values) == {name for name in NAMES["5m"] if name not in values}


def test_relative_strength_needs_both_and_does_not_mind_who_came_first(writer, sessions):
    mine, spy = (random_bars(symbol, 10, seed=seed, first=at("14:30")) for symbol, seed in (("AAPL", 1), ("SPY", 2)))
    daily(writer, "AAPL", 3)
    daily(writer, "SPY", 3, close=40.0)
    store(writer, mine + spy)
    scan(keys_of(mine), now=NOW)
    before = IndicatorValue.objects.filter(indicator_name="rs_spy").count()

    scan(keys_of(spy), now=NOW)

    found = IndicatorValue.objects.filter(indicator_name="rs_spy", symbol="AAPL").order_by("timestamp")
    assert before == 0
    assert [float(row.value) for row in found] == pytest.approx([(a.close / 50) / (b.close / 40) for a, b in zip(mine, spy, strict=True)])
    straight = what_stands()
    wipe()
    scan(keys_of(spy), now=NOW)
    scan(keys_of(mine), now=NOW)
    assert what_stands() == straight


# ---- Days -------------------------------------------------------------------------------------------------------------------------------


def test_days_are_scanned_from_their_own_table(writer, recordings, sessions):
    run = real_days(recordings)[0][-700:]
    days = [
        DailySnapshot(bar.symbol, at_ms(bar.opened_at_ms).date(), bar.open, bar.high, bar.low, bar.close, bar.volume, None, None, 50, 1)
        for bar in run
    ]
    writer.write_days(days)
    starts = list(stored_bars("1d", run[0].symbol, None, None))
    assert len(starts) == 700

    report = scan([(run[0].symbol, start) for start in starts[-60:]], now=NOW, timeframe="1d")

    close = np.array([bar.close for bar in run])
    values = values_at("1d", run[0].symbol, starts[-1])
    assert report.bars == 60
    assert values["ema_200"] == pytest.approx(talib.EMA(close[-500:], 200)[-1], rel=1e-9)
    assert values["pivot"] == pytest.approx((run[-2].high + run[-2].low + run[-2].close) / 3, rel=1e-12)
    assert "vwap" not in values
    assert ScannedBar.objects.get(timestamp=at_ms(starts[-1])).change == pytest.approx(close[-1] / close[-21])


def test_a_split_is_no_gap_and_prices_are_those_of_the_bars_own_day(writer, recordings, sessions):
    """The same days with a 4 for 1 split in the middle: what is measured in shares of the day differs by it, all else is the same."""
    run = real_days(recordings)[0][-700:]
    whole = [
        DailySnapshot("AAPL", at_ms(bar.opened_at_ms).date(), bar.open, bar.high, bar.low, bar.close, bar.volume, None, None, 50, 1)
        for bar in run
    ]
    split = [
        msgspec.structs.replace(day, symbol="MSFT", open=day.open * 4, high=day.high * 4, low=day.low * 4, close=day.close * 4, volume=day.volume // 4)
        if place < 650 else msgspec.structs.replace(day, symbol="MSFT")
        for place, day in enumerate(whole)
    ]  # fmt: skip
    writer.write_days(whole + split)
    Split.objects.create(symbol_id="MSFT", execution_date=whole[650].date, split_from=1, split_to=4)

    for symbol in ("AAPL", "MSFT"):
        starts = list(stored_bars("1d", symbol, None, None))[600:]
        scan([(symbol, start) for start in starts], now=LATER, timeframe="1d")

    edge = at_ms(list(stored_bars("1d", "AAPL", None, None))[650])
    kept = "SELECT pattern_type, timestamp, confidence FROM intraday_patterns WHERE timeframe = '1d' AND symbol = %s ORDER BY 1, 2"
    found = [{row[:2] for row in rows(kept.replace("%s", f"'{symbol}'"))} for symbol in ("AAPL", "MSFT")]
    assert found[0] == found[1] != set()
    values = [
        {(row.indicator_name, row.timestamp): float(row.value) for row in IndicatorValue.objects.filter(symbol=symbol, timeframe="1d")}
        for symbol in ("AAPL", "MSFT")
    ]
    for (name, moment_), value in values[0].items():
        scale = 1 if moment_ >= edge or name in {"rsi_14", "stoch_k", "stoch_d", "adx_14", "rvol_20"} else 0.25 if name == "obv" else 4
        assert values[1][name, moment_] == pytest.approx(value * scale, rel=1e-6, abs=1e-6), name
    assert ScannedBar.objects.filter(symbol="MSFT").count() == 100


def test_minutes_after_a_split_are_seen_beside_the_session_before_it(writer, sessions):
    bars = random_bars("AAPL", 30, seed=1, first=at("14:30"))
    daily(writer, "AAPL", 25, close=100.0)
    store(writer, bars)
    Split.objects.create(symbol_id="AAPL", execution_date="2026-11-20", split_from=1, split_to=2)

    scan(keys_of(bars), now=NOW)

    values = values_at("1m", "AAPL", bars[-1].opened_at_ms)
    assert values["pivot"] == pytest.approx((102 + 99 + 100) / 3 / 2)
    assert values["rvol_projected"] == pytest.approx(sum(bar.volume for bar in bars) / 10**9 / (30 / 390) / (2 * 10**6))


def rows_of_one_scan(keys, timeframes):
    """What stands where these bars are scanned with all that is stored now."""
    wipe()
    for timeframe in timeframes:
        scan(keys[timeframe], now=NOW, timeframe=timeframe)
    return what_stands()


def test_a_split_that_comes_late_has_the_bars_behind_it_judged_again_and_one_that_goes_too(writer, recordings, sessions):
    run = real_days(recordings)[0][-300:]
    days = [
        DailySnapshot("AAPL", at_ms(bar.opened_at_ms).date(), bar.open, bar.high, bar.low, bar.close, bar.volume, None, None, 50, 1)
        for bar in run
    ]
    writer.write_days(days)
    starts = list(stored_bars("1d", "AAPL", None, None))
    keys = {"1d": [("AAPL", start) for start in starts]}
    scan(keys["1d"], now=NOW, timeframe="1d")
    without = what_stands()
    assert sweep_outdated(now=datetime.now(UTC)).bars == 0

    split = Split.objects.create(symbol_id="AAPL", execution_date=days[250].date, split_from=1, split_to=4)
    first = sweep_outdated(now=datetime.now(UTC))
    with_it = what_stands()
    second = sweep_outdated(now=datetime.now(UTC))

    assert first.bars == 50
    assert second.bars == 0
    assert with_it != without
    split.delete()
    assert sweep_outdated(now=datetime.now(UTC)).bars == 50
    assert what_stands() == without
    Split.objects.create(symbol_id="AAPL", execution_date=days[250].date, split_from=1, split_to=4)
    assert rows_of_one_scan(keys, ["1d"]) == with_it


def test_a_split_is_settled_when_no_scan_can_be_under_way_that_did_not_see_it(writer, sessions):
    daily(writer, "AAPL", 25)
    Split.objects.create(symbol_id="AAPL", execution_date="2026-11-10", split_from=1, split_to=2)
    now = datetime.now(UTC)

    sweep_outdated(now=now)
    assert not JudgedSplit.objects.get().settled
    sweep_outdated(now=now + timedelta(minutes=11))
    assert JudgedSplit.objects.get().settled


def test_days_that_come_after_the_minutes_have_them_judged_again_once(writer, sessions):
    minutes = random_bars("AAPL", 60, seed=1, first=at("14:30")) + random_bars("MSFT", 60, seed=2, first=at("14:30"))
    store(writer, minutes)
    keys = {timeframe: longer(minutes, timeframe) for timeframe in ("1m", "5m", "15m", "1h")}
    daily(writer, "MSFT", 25)
    for timeframe, of_it in keys.items():
        scan(of_it, now=datetime.now(UTC), timeframe=timeframe)
    assert "pivot" not in values_at("5m", "AAPL", at("15:25"))

    daily(writer, "AAPL", 25)
    report = sweep_outdated(now=datetime.now(UTC))
    again = sweep_outdated(now=datetime.now(UTC))

    assert report.bars == 60 + 12 + 4 + 1
    assert again.bars == 0
    assert values_at("5m", "AAPL", at("15:25"))["pivot"] == pytest.approx((52 + 49 + 50) / 3)
    standing = what_stands()
    assert rows_of_one_scan(keys, keys) == standing


def test_judging_again_is_bounded_and_goes_on_where_it_stopped(writer, sessions, monkeypatch):
    minutes = random_bars("AAPL", 60, seed=1, first=at("14:30"))
    store(writer, minutes)
    scan(keys_of(minutes), now=datetime.now(UTC))
    daily(writer, "AAPL", 25)
    monkeypatch.setattr("patterns.tasks.SWEEP_BARS", 40)

    bars = [sweep_outdated(now=datetime.now(UTC)).bars for _ in range(3)]

    assert bars == [40, 20, 0]


def test_the_sweep_scans_each_interval_and_then_nothing_more(writer):
    store(writer, random_bars("AAPL", 61, seed=1, first=at("14:00", "2026-11-19")))
    today = datetime.now(UTC).date()
    writer.write_days([DailySnapshot("AAPL", today - timedelta(days=back), 9, 9, 9, 9, 10**9, None, None, 50, 1) for back in (2, 3, 400)])
    later = datetime.now(UTC) + timedelta(minutes=5)

    counts = {timeframe: [sweep(timeframe, now=later).bars for _ in range(2)] for timeframe in LENGTH_MS}

    assert counts == {"1m": [61, 0], "5m": [13, 0], "15m": [5, 0], "1h": [2, 0], "1d": [2, 0]}  # what is a year old waits for a question


# ---- What is looked for, and what cannot be scanned -----------------------------------------------------------------------------------------


def test_a_disabled_pattern_is_not_looked_for_and_keeps_what_was_found(writer):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    scan(keys_of(bars[:30]), now=NOW)
    found = Detection.objects.filter(pattern_type="doji").count()
    DetectorDefinition.objects.filter(pattern_type="doji").update(enabled=False)
    DetectorDefinition.objects.filter(pattern_type="longline").update(intervals=["1d"])

    scan(keys_of(bars), now=LATER, again=True)

    assert found > 0
    assert Detection.objects.filter(pattern_type="doji", status="standing").count() == found
    assert not Detection.objects.filter(pattern_type="longline", timestamp__gte=at_ms(bars[30].opened_at_ms)).exists()
    assert Detection.objects.filter(timestamp__gte=at_ms(bars[30].opened_at_ms)).exists()
    DetectorDefinition.objects.all().delete()


def test_odd_symbols_do_not_disturb_their_neighbours_on_longer_bars(writer):
    first = at("00:00", "2026-11-16")
    lone = random_bars("ONE", 1, seed=1, first=first)
    flat = [
        msgspec.structs.replace(bar, open=5.0, high=5.0, low=5.0, close=5.0, volume=0)
        for bar in random_bars("FLAT", 900, seed=1, first=first)
    ]
    absurd = random_bars("ABSURD", 900, seed=1, first=first)
    absurd[700] = msgspec.structs.replace(absurd[700], high=9_999_999.0, low=0.000001, volume=10**23)
    many = random_bars("MANY", 5000, seed=2, first=first)
    normal = random_bars("AAPL", 900, seed=3, first=first)
    bars = lone + flat + absurd + many + normal
    store(writer, bars)

    report = scan_apart(longer(bars, "5m"), now=LATER, timeframe="5m")

    assert (report.bars, report.failed) == (len(longer(bars, "5m")), 0)
    assert values_at("5m", "FLAT", flat[-1].opened_at_ms - 4 * MINUTE_MS)["rsi_14"] == 50
    together = [[row for row in table if row[0] == "AAPL"] for table in what_stands()]
    wipe()
    scan(longer(normal, "5m"), now=LATER, timeframe="5m")
    assert what_stands() == together


def test_a_symbol_that_cannot_be_stored_is_left_out_on_its_interval_only(writer):
    bars = random_bars("GOOD", 30, seed=1, first=at("10:00")) + random_bars("BAD", 30, seed=2, first=at("10:00"))
    store(writer, bars)
    with connection.cursor() as cursor:
        cursor.execute("""
            CREATE FUNCTION refuse_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.symbol = 'BAD' THEN RAISE EXCEPTION 'BAD cannot be stored'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse_bad BEFORE INSERT ON intraday_indicators FOR EACH ROW EXECUTE FUNCTION refuse_bad();
        """)
    try:
        report = scan_apart(longer(bars, "5m"), now=NOW, timeframe="5m")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse_bad ON intraday_indicators; DROP FUNCTION refuse_bad")

    assert (report.bars, report.failed) == (6, 6)
    assert {(row.symbol_id, row.timeframe, row.bar_revision) for row in ScanFailure.objects.all()} == {("BAD", "5m", 4)}
    assert rows("SELECT DISTINCT symbol FROM scanned_bars") == [("GOOD",)]
