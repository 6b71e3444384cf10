"""Combinations: rules as data over detections and values of several intervals."""

from datetime import timedelta

import msgspec
import pytest
from django.core.exceptions import ValidationError

from marketdata.bars.snapshot import MINUTE_MS
from marketdata.models import Session
from patterns.combinations import try_out
from patterns.detectors.rules import RuleError, clauses_of, margin
from patterns.models import Combination, Detection
from patterns.scan import scan
from patterns.signals import patterns_detected
from tests.factories import at, make_bar, moment
from tests.patterns.market import NOW, everything, random_bars, store, what_stands
from tests.patterns.test_scan_intervals import LATER, longer, wipe
from tests.people import make_user, session_client

BUSY = {"value": "rvol_20", "interval": "5m", "is": ">", "than": 2}


# ---- The rule ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        ({}, ["A rule is a list of at least one clause: [{…}, {…}]."]),
        ([], ["A rule is a list of at least one clause: [{…}, {…}]."]),
        ([{"interval": "5m"}], ['Clause 1: it needs either "pattern" or "value".']),
        ([BUSY, BUSY | {"interval": "2h"}], ["Clause 2: \"interval\" is '2h'; it must be one of 1m, 5m, 15m, 1h, 1d."]),
        ([BUSY | {"is": "=>"}], ["Clause 1: \"is\" is '=>'; it must be one of > >= < <=."]),
        ([BUSY | {"than": "sma_7"}], ["Clause 1: there is no value 'sma_7' on 5m to compare with."]),
        ([BUSY | {"than": True}], ['Clause 1: "than" is True; it must be a number or the name of a value.']),
        ([BUSY | {"whiten": 3}], ["Clause 1: it knows no 'whiten'."]),
        ([{"pattern": "cup", "interval": "5m"}], ["Clause 1: there is no pattern 'cup'."]),
        ([{"pattern": "bull_flag", "interval": "1m"}], ["Clause 1: bull_flag is not looked for on 1m."]),
        ([{"pattern": "doji", "interval": "1m", "close": "<"}], ['Clause 1: "close" asks for a level, which candlesticks do not have.']),
        (
            [{"pattern": "doji", "interval": "1m", "within": 0}, {"pattern": "doji", "interval": "1m", "min_confidence": 2}],
            ['Clause 1: "within" is 0; it must be a whole number from 1 to 100.', 'Clause 2: "min_confidence" is 2; it must lie between 0 and 1.'],
        ),
    ],
)  # fmt: skip
def test_each_clause_at_fault_is_named_with_its_cure(rule, faults):
    with pytest.raises(RuleError) as caught:
        clauses_of(rule, within=3)

    assert list(caught.value.faults) == faults


def test_a_number_counts_the_more_the_further_it_is_past_its_threshold():
    assert margin(2, 2) == 0.5
    assert 0.5 < margin(2.5, 2) < margin(4, 2) < margin(40, 2) < 1
    assert margin(30, 45) == margin(60, 45)
    assert margin(0.5, 0) > 0.5


# ---- Firing -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def only(market):
    """A table without the shipped combinations; they stand there again afterwards."""
    kept = list(Combination.objects.all())
    Combination.objects.all().delete()
    yield
    Combination.objects.all().delete()
    Combination.objects.bulk_create(kept)


def minutes(closes, *, first="10:00", volumes=None, symbol="AAPL"):
    """Bars of one minute around each close, two cents high and low."""
    volumes = volumes or {}
    return [
        make_bar(close, time=at(first) + place * MINUTE_MS, symbol=symbol, volume=volumes.get(place, 100), o=close - 0.01, h=close + 0.02, l=close - 0.02)
        for place, close in enumerate(closes)
    ]  # fmt: skip


def combination(**fields):
    row = {"key": "busy", "name": "Much traded", "timeframe": "5m", "direction": "bullish", "rule": [BUSY]}
    return Combination.objects.create(**row | fields)


def fired(key="busy"):
    rows = Detection.objects.filter(pattern_type=key, status="standing").order_by("timestamp")
    return [(row.symbol_id, row.timestamp.strftime("%H:%M")) for row in rows]


def scan_all(bars, *timeframes):
    for timeframe in timeframes:
        scan(longer(bars, timeframe), now=LATER, timeframe=timeframe)


def test_it_fires_on_the_first_bar_on_which_all_holds_and_says_why(writer, only):
    combination()
    volumes = dict.fromkeys(range(125, 135), 1000)  # two bars of ten times the volume
    bars = minutes([50 + place % 7 * 0.01 for place in range(150)], volumes=volumes)
    store(writer, bars)
    heard = []

    def hear(**said):
        heard.extend(said["detections"])

    patterns_detected.connect(hear)
    scan_all(bars, "5m")

    assert fired() == [("AAPL", "12:05")]
    assert [one["name"] for one in heard if one["pattern_type"] == "busy"] == ["Much traded"]
    row = Detection.objects.get(pattern_type="busy")
    assert (row.timeframe, row.direction) == ("5m", "bullish")
    assert row.detail["conditions"] == [{"name": "rvol_20 on 5m", "measured": 10.0, "relation": ">", "threshold": 2, "passed": True}]
    assert row.detail["clauses"] == [{"interval": "5m", "at": "2026-11-20T12:05:00Z", "what": "rvol_20 on 5m"}]
    assert row.confidence == pytest.approx(margin(10, 2), abs=1e-4)


def test_a_revised_minute_takes_it_back_and_gives_it_again(writer, only):
    combination()
    bars = minutes([50.0] * 150, volumes=dict.fromkeys(range(125, 130), 1000))
    store(writer, bars)
    scan_all(bars, "5m")
    number = Detection.objects.get(pattern_type="busy").pk
    store(writer, [msgspec.structs.replace(bar, volume=bars[0].volume, version=2) for bar in bars[125:130]])
    scan_all(bars[125:130], "5m")
    gone = Detection.objects.get(pk=number).status
    store(writer, [msgspec.structs.replace(bar, version=3) for bar in bars[125:130]])

    scan_all(bars[125:130], "5m")

    assert gone == "retracted"
    assert Detection.objects.get(pk=number).status == "standing"


@pytest.mark.parametrize("order", [("1h", "5m", "1m"), ("1m", "5m", "1h"), ("5m", "1h", "1m")])
def test_it_does_not_matter_which_interval_was_scanned_first(writer, only, order):
    rule = [
        {"pattern": ["doji", "spinningtop", "longline", "belthold"], "interval": "1m", "within": 4},
        {"value": "close", "interval": "5m", "is": ">", "than": "sma_5"},
        {"value": "close", "interval": "1h", "is": ">", "than": 1},
    ]
    combination(rule=rule)
    bars = random_bars("AAPL", 420, seed=8, first=at("10:00"))
    store(writer, bars)
    scan_all(bars, "5m", "1m", "1h")
    expected = what_stands()
    assert len(fired()) > 3
    wipe()

    scan_all(bars[:200], *order)
    scan_all(bars[200:], *order)

    assert what_stands() == expected


def test_a_closed_gap_is_seen_by_the_level_that_the_detection_keeps(writer, market):
    Session.objects.filter(date="2026-11-20").update(open=moment("10:00"))
    closes = [50 + place % 5 * 0.01 for place in range(125)] + [52 + place % 5 * 0.01 for place in range(50)] + [49.9] * 25
    bars = minutes(closes)
    store(writer, bars)

    scan_all(bars, "5m")

    assert Detection.objects.filter(pattern_type="gap_up", timeframe="5m").exists()
    assert fired("gap_fill") == [("AAPL", "12:55")]


def test_a_disabled_one_is_left_out_and_an_unreadable_one_stops_nobody(writer, only, caplog):
    combination()
    combination(key="quiet", enabled=False)
    combination(key="broken", rule=[{"pattern": "gone", "interval": "5m"}])
    bars = minutes([50.0] * 150, volumes=dict.fromkeys(range(125, 130), 1000))
    store(writer, bars)

    scan_all(bars, "5m")

    assert (fired(), fired("quiet"), fired("broken")) == ([("AAPL", "12:05")], [], [])
    assert "The combination “broken” cannot be read and is left out" in caplog.text


@pytest.mark.usefixtures("market")
def test_each_shipped_one_can_be_read_and_tried_out(writer):
    bars = [bar for symbol in ("AAPL", "SPY") for bar in minutes([50 + place % 9 * 0.02 for place in range(180)], symbol=symbol)]
    store(writer, bars)
    scan_all(bars, "5m", "15m", "1h")
    before = everything()

    shipped = {row.key: row for row in Combination.objects.all()}

    assert set(shipped) == {"bull_flag_volume", "rs_surge", "momentum_convergence", "gap_fill", "range_breakout_volume"}
    for row in shipped.values():
        row.full_clean()
        trial = try_out(row, since=NOW - timedelta(days=3))
        assert trial.bars == trial.of > 0
    assert everything() == before


# ---- The admin --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(market):
    user = make_user("combinations-admin", is_staff=True, is_superuser=True)
    yield session_client(user)
    user.delete()


def test_the_admin_refuses_a_rule_with_a_sentence_for_each_clause_and_keeps_a_good_one(admin, only):
    form = {"key": "mine", "name": "Mine", "enabled": "on", "timeframe": "5m", "direction": "bullish", "within_bars": 3}

    bad = admin.post(
        "/admin/patterns/combination/add/", form | {"rule": '[{"value": "rvol_21", "interval": "5m", "is": ">", "than": 2}, 5]'}
    )
    good = admin.post("/admin/patterns/combination/add/", form | {"rule": '[{"value": "rvol_20", "interval": "5m", "is": ">", "than": 2}]'})

    page = bad.content.decode()
    assert "Clause 1: there is no value &#x27;rvol_21&#x27; on 5m" in page
    assert "Clause 2: it needs either" in page
    assert good.status_code == 302
    assert Combination.objects.get().rule == [BUSY]
    with pytest.raises(ValidationError, match="A pattern is called doji already"):
        Combination(key="doji", name="x", timeframe="5m", direction="bullish", rule=[BUSY]).full_clean()


def test_a_trial_says_how_often_it_would_have_fired_and_on_what(admin, writer, only):
    combination(enabled=False)
    bars = minutes([50.0] * 150, volumes=dict.fromkeys((*range(125, 130), *range(140, 145)), 1000))
    store(writer, bars)
    scan_all(bars, "5m")

    page = admin.get("/admin/patterns/combination/busy/trial/", {"days": 365})
    refused = admin.get("/admin/patterns/combination/busy/trial/", {"days": 0})

    text = " ".join(page.content.decode().split())
    assert "It would have fired <strong>2</strong> times" in text
    assert "2026-11-20 12:05" in text
    assert "on 30 bars since" in text
    assert not Detection.objects.filter(pattern_type="busy").exists()
    assert "greater than or equal to 1" in refused.content.decode()


def test_definitions_are_there_without_loading_them_and_refuse_intervals_that_no_code_looks_on(admin):
    listed = admin.get("/admin/patterns/detectordefinition/")
    changed = admin.post("/admin/patterns/detectordefinition/bull_flag/change/", {"enabled": "on", "intervals": "5m,1m"})

    assert "Bull flag" in listed.content.decode()
    assert "Bull flag is not looked for on 1m; possible are 5m, 15m, 1d." in changed.content.decode()
