import random
from datetime import timedelta

import msgspec
import numpy as np
import pytest
import talib
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata.models import Session
from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.indicators.catalogue import NAMES, PIVOT_NAMES
from patterns.models import Detection, IndicatorValue, ScanFailure, ScannedBar
from patterns.scan import scan, scan_apart
from patterns.signals import bars_scanned, patterns_detected, patterns_retracted
from tests.factories import at, moment
from tests.patterns.market import NOW, everything, keys_of, random_bars, real_bars, rows, store, what_stands, window_of

pytestmark = pytest.mark.usefixtures("market")
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def heard():
    """What the app announced, by outlet."""
    said = {"detected": [], "retracted": [], "scanned": []}

    def detected(detections, **_):
        said["detected"] += detections

    def retracted(detections, **_):
        said["retracted"] += detections

    def scanned(report, **_):
        said["scanned"].append(report)

    patterns_detected.connect(detected)
    patterns_retracted.connect(retracted)
    bars_scanned.connect(scanned)
    yield said
    patterns_detected.disconnect(detected)
    patterns_retracted.disconnect(retracted)
    bars_scanned.disconnect(scanned)


def wipe_scans():
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE intraday_patterns, intraday_indicators, scanned_bars RESTART IDENTITY")


def test_each_stored_detection_is_talibs_and_none_is_missing(writer, recordings):
    runs = real_bars(recordings)
    bars = [bar for run in runs for bar in run]
    store(writer, bars)

    report = scan(keys_of(bars), now=NOW)

    expected = set()
    for run in runs:
        window = window_of([run])
        for detector in CANDLESTICKS:
            grades = detector.function(window.open, window.high, window.low, window.close)
            expected |= {(run[0].symbol, detector.pattern_type, run[bar].opened_at_ms) for bar in np.flatnonzero(grades).tolist()}
    kept = {
        (row[0], row[1], round(row[2].timestamp() * 1000)) for row in rows("SELECT symbol, pattern_type, timestamp FROM intraday_patterns")
    }
    assert kept == expected
    assert (report.bars, report.detections) == (len(bars), len(expected))
    assert report.indicators == IndicatorValue.objects.count()


def test_a_live_minute_of_many_symbols_equals_the_scan_of_their_whole_history(writer):
    runs = [random_bars(f"S{number}", 130, seed=number, price=5.0 * (number + 1)) for number in range(4)]
    bars = [bar for run in runs for bar in run]
    for minute in range(130):  # as the stream stores them
        new = [run[minute] for run in runs]
        store(writer, new)
        scan(keys_of(new), now=NOW)
    live = what_stands()
    wipe_scans()

    scan(keys_of(bars), now=LATER)

    assert what_stands() == live
    assert len(live[1]) > 130 * 4 * 10


def test_a_bar_with_its_history_has_all_indicators_by_name(writer):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)

    scan(keys_of(bars[-1:]), now=NOW)

    values = dict(rows("SELECT indicator_name, value FROM intraday_indicators"))
    assert set(values) == set(NAMES["1m"]) - {*PIVOT_NAMES, "rvol_projected", "rs_spy"}  # those need daily bars
    close = window_of([bars]).close
    assert float(values["sma_50"]) == pytest.approx(talib.SMA(close, 50)[-1], rel=1e-12)
    assert float(values["macd_hist"]) == pytest.approx(talib.MACD(close)[2][-1], rel=1e-9)


def test_the_vwap_starts_at_the_regular_open_wherever_the_scan_starts(writer):
    Session.objects.filter(date="2026-11-20").update(open=moment("14:40"), close=moment("20:00"))
    bars = random_bars("AAPL", 300, seed=1)
    store(writer, bars)

    scan(keys_of(bars[5:6]), now=NOW)  # before the open
    scan(keys_of(bars[200:201]), now=NOW)  # no ledger yet: sums from the open
    scan(keys_of(bars[201:203]), now=NOW)  # goes on from the ledger

    window = window_of([bars])
    price = (window.high + window.low + window.close) / 3
    stored = {
        round(row[0].timestamp() * 1000): float(row[1])
        for row in rows("SELECT timestamp, value FROM intraday_indicators WHERE indicator_name = 'vwap'")
    }
    assert set(stored) == {bars[place].opened_at_ms for place in (200, 201, 202)}
    for place in (200, 201, 202):
        day = slice(10, place + 1)
        assert stored[bars[place].opened_at_ms] == pytest.approx(
            (price[day] * window.volume[day]).sum() / window.volume[day].sum(), rel=1e-12
        )


def test_a_day_without_a_session_has_no_vwap(writer):
    Session.objects.filter(date="2026-11-20").delete()
    bars = random_bars("AAPL", 40, seed=1)
    store(writer, bars)

    scan(keys_of(bars), now=NOW)

    assert not IndicatorValue.objects.filter(indicator_name="vwap").exists()
    assert IndicatorValue.objects.filter(indicator_name="sma_20").count() == 21


def test_scanning_twice_changes_nothing_not_even_a_time(writer, heard):
    bars = random_bars("AAPL", 150, seed=1) + random_bars("MSFT", 150, seed=2)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    once, announced = everything(), len(heard["detected"])

    scan(keys_of(bars), now=LATER)
    forced = scan(keys_of(bars), now=LATER, again=True)

    assert everything() == once
    assert len(heard["detected"]) == announced
    assert forced.bars == 300
    assert forced.detections == Detection.objects.count()


@pytest.mark.parametrize("order", ["backwards", "odd first", "in blocks"])
def test_the_rows_do_not_depend_on_the_order_in_which_bars_are_scanned(writer, order):
    bars = random_bars("AAPL", 140, seed=4)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    straight = what_stands()
    wipe_scans()
    keys = keys_of(bars)
    batches = {
        "backwards": [[key] for key in keys[::-1]],
        "odd first": [keys[1::2], keys[::2]],
        "in blocks": [keys[100:], keys[:40], keys[40:100]],
    }[order]

    for batch in batches:
        scan(batch, now=LATER)

    assert what_stands() == straight


def test_bars_that_arrive_late_change_what_was_said_of_the_bars_after_them(writer):
    bars = random_bars("AAPL", 200, seed=4)
    store(writer, bars[:30] + bars[60:])
    scan(keys_of(bars[:30] + bars[60:]), now=NOW)
    store(writer, bars[30:60])

    scan(keys_of(bars[30:60]), now=LATER)

    healed = what_stands()
    wipe_scans()
    scan(keys_of(bars), now=LATER)
    assert what_stands() == healed


@given(st.integers(0, 2**32))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_arrives_is_revised_and_is_scanned_in_whatever_order_the_rows_are_those_of_one_scan(writer, seed):
    dice = random.Random(seed)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE ohlcv_1min, bar_revisions, intraday_patterns, intraday_indicators, scanned_bars")
    bars = random_bars("AAPL", 150, seed=seed)
    for version in range(2, 8):
        chosen = sorted(dice.sample(range(150), dice.randint(1, 60)))
        moved = [bars[place] if dice.random() < 0.6 else msgspec.structs.replace(flip(bars[place]), version=version) for place in chosen]
        store(writer, moved)
        told = keys_of(dice.sample(moved, dice.randint(0, len(moved))))  # the other hints are lost
        dice.shuffle(told)
        scan(told, now=NOW)
    store(writer, [msgspec.structs.replace(bar, version=9) for bar in bars])

    scan(keys_of(bars), now=LATER)

    healed = what_stands()
    wipe_scans()
    scan(keys_of(bars), now=LATER)
    assert what_stands() == healed


def flip(bar):
    """The bar as a later version of itself that closed where nobody expected it."""
    return msgspec.structs.replace(bar, close=round(bar.close + 3, 2), high=round(bar.high + 5, 2), version=2)


def test_a_revision_retracts_what_no_longer_stands_and_deletes_nothing(writer, heard):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    before = {row.pk: row for row in Detection.objects.all()}
    (change,) = store(writer, [flip(bars[40])])
    assert change.revision == 1

    scan(keys_of(bars[40:41]), now=LATER)

    retracted = Detection.objects.filter(status="retracted")
    assert retracted
    assert {row.status_at for row in retracted} == {LATER}
    assert {row["id"] for row in heard["retracted"]} == {row.pk for row in retracted}
    assert {row["status"] for row in heard["retracted"]} == {"retracted"}
    assert set(before) <= set(Detection.objects.values_list("pk", flat=True))
    standing = what_stands()
    wipe_scans()
    scan(keys_of(bars), now=LATER)
    assert what_stands() == standing


def test_a_detection_that_survives_a_revision_keeps_the_time_it_was_found(writer, heard):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    index, kept = next(
        (place, row) for place in range(20, 60) if (row := Detection.objects.filter(timestamp=moment_of(bars[place])).first())
    )
    heard["detected"].clear()
    store(writer, [msgspec.structs.replace(bars[index], volume=bars[index].volume * 2, version=2)])

    scan(keys_of(bars[index : index + 1]), now=LATER)

    after = Detection.objects.get(pk=kept.pk)
    assert (after.status, after.detection_timestamp, after.status_at, after.bar_revision) == ("standing", NOW, NOW, 1)
    assert (kept.pk, "confirmed") in {(row["id"], row["news"]) for row in heard["detected"]}
    assert not heard["retracted"]


def test_a_retracted_detection_returns_when_its_bar_does(writer, heard):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    store(writer, [flip(bars[40])])
    scan(keys_of(bars[40:41]), now=LATER)
    gone = set(Detection.objects.filter(status="retracted", timestamp=moment_of(bars[40])).values_list("pk", flat=True))
    heard["detected"].clear()
    store(writer, [msgspec.structs.replace(bars[40], version=3)])

    scan(keys_of(bars[40:41]), now=LATER + timedelta(minutes=1))

    assert gone
    assert not Detection.objects.filter(pk__in=gone, status="retracted")
    assert gone <= {row["id"] for row in heard["detected"] if row["news"] == "returned"}


def moment_of(bar):
    return moment("00:00") + timedelta(milliseconds=bar.opened_at_ms - at("00:00"))


def test_a_half_seen_minute_is_not_judged_until_it_is_whole(writer):
    bars = random_bars("AAPL", 30, seed=1)
    partial = msgspec.structs.replace(bars[-1], complete=False, source=10)
    store(writer, [*bars[:-1], partial])

    first = scan(keys_of(bars[-1:]), now=NOW)
    store(writer, bars[-1:])
    second = scan(keys_of(bars[-1:]), now=NOW)

    assert (first.bars, second.bars) == (0, 1)


def test_what_is_announced_is_what_was_committed(writer, heard):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)

    scan(keys_of(bars), now=NOW)

    stored = {row.pk: row for row in Detection.objects.all()}
    assert {row["id"] for row in heard["detected"]} == set(stored)
    one = heard["detected"][0]
    row = stored[one["id"]]
    assert set(one) == {
        "id", "symbol", "pattern_type", "name", "timeframe", "timestamp", "detection_timestamp", "confidence", "direction", "status", "news"
    }  # fmt: skip
    assert (one["symbol"], one["timestamp"], one["confidence"], one["news"]) == ("AAPL", row.timestamp, row.confidence, "found")
    (report,) = heard["scanned"]
    assert (report["bars"], report["detections"], report["newest"]) == (60, len(stored), moment_of(bars[-1]))


def test_a_scan_that_is_killed_before_its_commit_leaves_nothing_and_says_nothing(writer, heard):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)

    def killed():
        with transaction.atomic():
            scan(keys_of(bars), now=NOW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()

    assert everything() == [[], [], []]
    assert heard == {"detected": [], "retracted": [], "scanned": []}


@pytest.fixture
def poison():
    """The database refuses every value of the symbol BAD, as a bar would that no code of ours foresees."""
    with connection.cursor() as cursor:
        cursor.execute("""
            CREATE FUNCTION refuse_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.symbol = 'BAD' THEN RAISE EXCEPTION 'BAD cannot be stored'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse_bad BEFORE INSERT ON intraday_indicators FOR EACH ROW EXECUTE FUNCTION refuse_bad();
        """)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS refuse_bad ON intraday_indicators; DROP FUNCTION IF EXISTS refuse_bad")


def test_a_symbol_that_cannot_be_scanned_does_not_stop_the_others(writer, poison):
    good = [bar for number in range(6) for bar in random_bars(f"S{number}", 40, seed=number)]
    bad = random_bars("BAD", 40, seed=9)
    store(writer, good + bad)

    report = scan_apart(keys_of(good + bad), now=NOW)

    assert (report.bars, report.failed) == (240, 40)
    assert ScannedBar.objects.count() == 240
    failures = ScanFailure.objects.all()
    assert {(row.symbol_id, row.attempts) for row in failures} == {("BAD", 1)}
    assert failures[0].error.startswith("BAD cannot be stored")


def test_the_single_scan_of_a_poisoned_batch_raises_and_leaves_nothing_half(writer, poison):
    bars = random_bars("GOOD", 40, seed=1) + random_bars("BAD", 40, seed=2)
    store(writer, bars)

    with pytest.raises(DatabaseError, match="BAD cannot be stored"):
        scan(keys_of(bars), now=NOW)

    assert everything() == [[], [], []]


def test_odd_bars_are_scanned_like_any_others(writer):
    lone = random_bars("ONE", 1, seed=1)
    flat = [msgspec.structs.replace(bar, open=5.0, high=5.0, low=5.0, close=5.0, volume=0) for bar in random_bars("FLAT", 130, seed=1)]
    absurd = random_bars("ABSURD", 130, seed=1)
    absurd[70] = msgspec.structs.replace(absurd[70], high=9_999_999.0, low=0.000001, volume=10**23)
    normal = random_bars("AAPL", 130, seed=3)
    bars = lone + flat + absurd + normal
    store(writer, bars)

    report = scan_apart(keys_of(bars), now=NOW)

    assert (report.bars, report.failed) == (391, 0)
    flat_values = dict(
        rows(
            "SELECT indicator_name, value FROM intraday_indicators WHERE symbol = 'FLAT' AND timestamp = "
            "(SELECT max(timestamp) FROM scanned_bars WHERE symbol = 'FLAT')"
        )
    )
    assert (flat_values["rsi_14"], flat_values["atr_14"], flat_values["bb_upper"]) == (50, 0, 5)
    assert "rvol_20" not in flat_values
    with_neighbours = what_stands()[:2]
    wipe_scans()
    scan(keys_of(normal), now=LATER)
    alone = what_stands()[:2]
    assert [[row for row in table if row[0] == "AAPL"] for table in with_neighbours] == alone


def test_a_value_that_is_none_any_more_is_deleted(writer):
    bars = random_bars("AAPL", 30, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    assert IndicatorValue.objects.filter(indicator_name="rvol_20", timestamp=moment_of(bars[20])).exists()
    store(writer, [msgspec.structs.replace(bar, volume=0, version=2) for bar in bars[:20]])

    scan(keys_of(bars[:20]), now=LATER)

    assert not IndicatorValue.objects.filter(indicator_name="rvol_20", timestamp=moment_of(bars[20])).exists()


def test_bars_older_than_ten_days_still_fill_a_window(writer):
    old = random_bars("RARE", 60, seed=1, first=at("14:30", "2026-10-01"))
    new = random_bars("RARE", 1, seed=2)
    store(writer, old + new)

    scan(keys_of(new), now=NOW)

    assert IndicatorValue.objects.filter(indicator_name="sma_50").count() == 1


def test_keys_that_are_no_bars_are_nothing(writer):
    assert scan([("NOBODY", at("14:30")), ("AAPL", at("14:30"))], now=NOW).bars == 0
    assert scan([], now=NOW).bars == 0
