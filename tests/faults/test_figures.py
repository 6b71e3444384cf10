"""The figures that the product promises, measured: fuzzed frames, a long outage of many symbols, a large import in little memory."""

import gzip
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from marketdata.bars.builder import BarBuilder
from marketdata.feed.decode import decode
from marketdata.gaps import find_gaps, repair
from marketdata.history import RestHistory
from marketdata.intake import Intake
from marketdata.models import Bar, FeedSpan, Gap
from marketdata.rate import Rate
from marketdata.writer import PAST, Writer
from tests.factories import at, make_sessions, moment
from tests.processes import ROOT, command_environment
from tests.rest_server import rest_server

SESSIONS = make_sessions()
GOOD = [
    {"ev": "T", "sym": "ACME", "x": 12, "i": "1001", "z": 3, "p": 50.0, "s": 100, "ds": "100.0", "t": at("15:00:01"), "q": 1, "c": [14, 41]},
    {"ev": "A", "sym": "ACME", "v": 200, "dv": "200.0", "av": 1, "o": 50.1, "c": 50.1, "h": 50.1, "l": 50.1, "s": at("15:00"), "e": at("15:00:01")},
    {"ev": "AM", "sym": "ACME", "v": 1710, "av": 2, "o": 50.0, "c": 49.95, "h": 50.6, "l": 49.95, "s": at("15:00"), "e": at("15:01")},
    {"ev": "Q", "sym": "ACME", "bp": 49.99, "bs": 3, "ap": 50.01, "as": 5, "t": at("15:00"), "q": 7},
    {"ev": "LULD", "T": "ACME", "h": 55.1, "l": 44.9, "i": [21], "t": at("15:00") * 1_000_000},
]  # fmt: skip
STRANGE = [
    None, True, -1, 0, 1e308, -0.0, 10**30, "", "NaN", "\u0000", "\ud800", [], {}, [[[]]], "x" * 5_000, float("inf"), float("nan"), 2**63, "1e400",
]  # fmt: skip


def fuzzed(dice: random.Random) -> tuple[bytes, int]:
    """Return one frame: good events, events with something strange in them, cut texts and noise; and how many are good."""
    events, good = [], 0
    for _ in range(dice.randint(0, 4)):
        event = dict(dice.choice(GOOD))
        roll = dice.random()
        if roll < 0.4:
            good += 1
        elif roll < 0.8:
            event[dice.choice([*event, "new key"])] = dice.choice(STRANGE)
        else:
            event.pop(dice.choice(list(event)))
        events.append(event)
    frame = json.dumps(events).encode("utf-8", "surrogatepass")
    roll = dice.random()
    if roll < 0.15:
        return frame[: dice.randrange(len(frame))], 0
    if roll < 0.25:
        place = dice.randrange(len(frame))
        return frame[:place] + dice.randbytes(dice.randint(1, 8)) + frame[place:], 0
    if roll < 0.28:
        return dice.randbytes(dice.randint(0, 300)), 0
    if roll < 0.30:
        return b"[" * dice.randint(1, 5_000), 0
    return frame, good


def test_no_fuzzed_frame_breaks_anything_and_good_events_beside_bad_ones_are_taken(pytestconfig):
    cases = 100_000 if pytestconfig.getoption("full") else 10_000
    dice = random.Random(pytestconfig.getoption("seed"))
    builder = BarBuilder(SESSIONS, now_ms=at("15:00"))
    builder.expect_minute_aggregates()
    builder.resume()
    intake = Intake(builder, symbols=None, kinds=None)
    for case in range(cases):
        frame, good = fuzzed(dice)
        found = decode(frame)
        assert len(found.events) >= good, f"case {case}: a good event was lost: {frame[:300]!r}"
        intake.take(frame)
        intake.close(at("15:00:30"))
        for bar in intake.bars:
            assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high < 10**7, frame[:300]
            assert 0 <= bar.volume < 10**23
            assert bar.opened_at_ms % 60_000 == 0
        intake.bars, intake.rejections = [], []
    print(f"{cases:,} fuzzed frames: no crash, {intake.report.rejected_events:,} events refused, {intake.report.events:,} read")


def test_an_outage_of_37_minutes_of_many_symbols_closes_within_the_rate(market, monkeypatch, pytestconfig):
    """REST answers one in seven with 429 and one in eleven with 500; the rate is measured where the requests arrive."""
    monkeypatch.setattr("marketdata.history.FIRST_WAIT_SECONDS", 0.05)
    count, rate = (500, 100.0) if pytestconfig.getoption("full") else (40, 100.0)
    symbols = [f"S{number}" for number in range(count)]
    for began, until, ended in (("15:00", "15:10", "dropped"), ("15:47", "15:59:59", "")):
        FeedSpan.objects.create(
            line="stream 1/1", began_at=moment(began), alive_until=moment(until), symbols=symbols, kinds=["T"], ended=ended
        )
    past = Writer(PAST)
    past.acquire_within(10)
    past._add_symbols(symbols)
    times: list[float] = []

    def fault(number: int):
        times.append(time.monotonic())
        return (429, {"Retry-After": "0"}, b"{}") if number % 7 == 3 else (500, {}, b"{}") if number % 11 == 5 else None

    began = time.monotonic()
    with rest_server() as rest:
        rest.fault = fault
        rest.bars = {symbol: [(at("15:10") + minute * 60_000, 10.0 + minute, 100) for minute in range(37)] for symbol in symbols}
        find_gaps(SESSIONS, now=moment("16:00"))
        history = RestHistory(url=rest.url, key="k")
        limit = Rate(rate)
        while Gap.objects.filter(state="open").exists():
            repair(history, past, now=lambda: moment("16:30"), pause=limit.wait, eager=True)
    past.close()
    seconds = time.monotonic() - began
    busiest = max(sum(1 for other in times if 0 <= other - one < 1.0) for one in times)
    print(
        f"37 minutes of {count} symbols: {Bar.objects.count():,} bars in {seconds:.0f} s, {len(times)} requests, at most {busiest} in a second"
    )
    assert Bar.objects.count() == count * 37
    assert busiest <= 2 * rate  # a repeated request is not counted by the rate, but by Retry-After
    assert seconds < 600


IMPORT = """
import json, os, resource, sys, threading, time
import django
django.setup()
from django.core.management import call_command
call_command("import_history", "flatfile", sys.argv[1], "--json")
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def imported(path) -> tuple[dict, float]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(path)],
        cwd=ROOT,
        env=command_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    lines = done.stdout.splitlines()
    return json.loads(lines[-2]), json.loads(lines[-1])["peak"]


@pytest.mark.faults
def test_a_million_minute_rows_are_imported_in_flat_memory_and_again_without_a_change(market, tmp_path):
    def write(rows: int):
        path = tmp_path / f"{rows}.csv.gz"
        start = datetime(2026, 1, 2, 14, 30, tzinfo=UTC)
        with gzip.open(path, "wt", compresslevel=1) as file:
            file.write("ticker,volume,open,close,high,low,window_start,transactions\n")
            for number in range(rows):
                minute = start + timedelta(minutes=number // 1_000)
                file.write(f"S{number % 1_000},{number % 500 + 1},10,11,12,9,{int(minute.timestamp()) * 10**9},3\n")
        return path

    small, small_peak = imported(write(100_000))
    big = write(1_000_000)
    report, peak = imported(big)
    again, _ = imported(big)
    print(f"1,000,000 rows in {report['seconds']:.0f} s, peak {peak:.0f} MB (100,000 rows: {small_peak:.0f} MB); again: {again}")
    assert (report["rows"], report["inserted"] + report["unchanged"]) == (1_000_000, 1_000_000)
    assert peak < small_peak + 150
    assert (again["inserted"], again["changed"]) == (0, 0)
    assert small["inserted"] == 100_000
