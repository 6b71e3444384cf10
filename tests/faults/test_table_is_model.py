"""
Seeded fault runs over the real database: crash, drop, duplicate, reorder, late, correction, restart, broken database, second writer.

`--runs N --seed S` choose; a failure names its seed. Invariants I1 to I11 of the design stand beside their assertions.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from django.db import connection

from marketdata.gaps import coverage, find_gaps, repair
from marketdata.history import RestHistory
from marketdata.intervals import candles
from marketdata.models import Bar, BarRevision, FeedSpan, Gap, Reconciliation, Session
from marketdata.reconciliation import reconcile
from marketdata.writer import PAST, Writer
from tests.factories import make_sessions
from tests.faults.machine import Machine, SteppedFlusher, play, table
from tests.faults.tape import MINUTE, MINUTES, START, SYMBOLS, Values, make_tape, true_bars
from tests.rest_server import RestServer, rest_server

SHORT, FULL = 200, 400
TABLES = ("ohlcv_1min", "bar_revisions", "rejected_events", "feed_spans", "gaps", "reconciliations", "writer_leases", "heartbeats")
SESSIONS = make_sessions()
NOW = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)


@pytest.fixture
def quick_commits(market) -> Iterator[None]:
    """No waiting for the disk: the server itself does not fall here."""
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        cursor.execute("SET synchronous_commit = off")
        yield
        cursor.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
        cursor.execute("RESET synchronous_commit")


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The stream's only clock, in ms: wall time and monotonic time alike."""
    clock = SimpleNamespace(now=START)
    fake = SimpleNamespace(time=lambda: clock.now / 1000, monotonic=lambda: clock.now / 1000)
    monkeypatch.setattr("marketdata.stream.time", fake)
    monkeypatch.setattr("marketdata.lines.time", fake)
    monkeypatch.setattr("marketdata.stream.Flusher", SteppedFlusher)
    monkeypatch.setattr("marketdata.flusher.RETRY_SECONDS", 0.005)
    monkeypatch.setattr("marketdata.writer.LOCK_RETRY_SECONDS", 0.005)
    monkeypatch.setattr("marketdata.lines.Lines.stop", lambda self, seconds: None)
    monkeypatch.setattr("marketdata.intake.FIRST_EVENTS_LOGGED", 0)
    monkeypatch.setattr("marketdata.announcer._send", lambda signal, **payload: None)
    return clock


def test_after_any_faults_the_table_is_the_model_and_after_repair_the_truth(quick_commits, clock, pytestconfig):
    runs = pytestconfig.getoption("runs") or (FULL if pytestconfig.getoption("full") else SHORT)
    first = pytestconfig.getoption("seed")
    deposed = 0
    with rest_server() as rest:
        history = RestHistory(url=rest.url, key="k")
        for seed in range(first, first + runs):
            try:
                deposed += one_run(seed, clock, rest, history)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}") from error
    assert runs < 50 or deposed, "no run has seen a rival with something to write"


def one_run(seed: int, clock: SimpleNamespace, rest: RestServer, history: RestHistory) -> int:
    dice = random.Random(seed)
    tape = make_tape(dice)
    truth = true_bars(tape)
    with connection.cursor() as cursor:
        for name in TABLES:
            cursor.execute(f"DELETE FROM {name}")
    clock.now = START
    machine = Machine(SESSIONS, clock)
    play(machine, tape, dice)

    whole = {key: one for key, one in stored().items() if one.complete}
    assert {
        key: one.values for key, one in whole.items()
    } == machine.model.stored  # I3, I5, I8, I10: no row missing, none doubled, none wrong

    find_gaps(SESSIONS, now=NOW)
    _nothing_is_lost_in_silence(machine, whole)
    rest.bars = {}
    rest.answer = lambda path: answer(rest, path, truth)
    past = Writer(PAST)
    past.acquire_within(10)
    try:
        repair(history, past, now=lambda: NOW, eager=True)
        after = stored()
        for gap in Gap.objects.all():
            for start in range(ms(gap.first_minute), ms(gap.last_minute) + 1, MINUTE):
                key = (gap.symbol_id, start)
                assert (after[key].values if key in after else None) == truth.get(key), f"{key} was asked for"
        reconcile(datetime(2026, 11, 20).date(), SYMBOLS, history, past, now=lambda: NOW)  # noqa: DTZ001 - a plain calendar day
    finally:
        past.close()
    rows = stored()
    assert {key: one.values for key, one in rows.items()} == truth
    assert all(one.is_final for one in rows.values())
    _revisions_are_a_chain(rows)
    if seed % 4 == 0:  # as much again as all the rest costs
        _wider_bars_are_the_fold(truth)
        _again_changes_nothing(machine, tape)
    assert Reconciliation.objects.get().differing <= len(truth)
    return machine.deposed


def _nothing_is_lost_in_silence(machine: Machine, whole: dict) -> None:
    """I9: each expected minute is a row, proven without a trade, or an open gap; and what reached us in time is never taken for no trade."""
    [session] = Session.objects.filter(date="2026-11-20")
    session_rows = coverage(SYMBOLS, session, now=NOW)
    gaps: set[tuple[str, int]] = set()
    for gap in Gap.objects.all():
        gaps |= {(gap.symbol_id, start) for start in range(ms(gap.first_minute), ms(gap.last_minute) + 1, MINUTE)}
    for row in session_rows:
        assert row.expected == row.bars + row.no_trade + row.open + row.unproven
    for key, one in stored().items():
        assert one.complete or key in gaps, f"{key} is partial, and nobody will ask for it"
    first_live = min(
        (ms(span.began_at) for span in FeedSpan.objects.all()), default=START + MINUTES * MINUTE
    )  # before it nothing is expected
    for symbol, start in machine.model.arrived:
        key = (symbol, start)
        assert key in whole or key in gaps or start < first_live, f"{key} had a trade that is gone"


def _revisions_are_a_chain(rows: dict) -> None:
    """I6, I7: a revision for each change of values, rank and version never fall, and a final bar changed by a settled source only."""
    chains: dict[tuple[str, int], list] = {}
    for old in BarRevision.objects.order_by("symbol_id", "timestamp", "revision"):
        chains.setdefault((old.symbol_id, ms(old.timestamp)), []).append((old.source, old.source_version, old.revision))
    for key, row in rows.items():
        chain = [*chains.get(key, []), (row.source, row.version, row.revision)]
        assert [number for _, _, number in chain] == list(range(row.revision + 1)), key
        assert chain == sorted(chain), key


def _wider_bars_are_the_fold(truth: dict) -> None:
    """I11."""
    for symbol in SYMBOLS:
        fives: dict[int, list[Values]] = {}
        for (name, start), values in sorted(truth.items()):
            if name == symbol:
                fives.setdefault(start // (5 * MINUTE) * 5 * MINUTE, []).append(values)
        expected = {
            start: (parts[0].open, max(p.high for p in parts), min(p.low for p in parts), parts[-1].close, sum(p.volume for p in parts))
            for start, parts in fives.items()
        }
        begin = datetime.fromtimestamp(START / 1000, UTC)
        bars = candles(symbol, "5m", start=begin, end=None, forward=True, limit=50, now=NOW, as_of=None, adjusted=False)
        assert {
            ms(bar.start): (float(bar.open), float(bar.high), float(bar.low), float(bar.close), int(bar.volume)) for bar in bars
        } == expected


def _again_changes_nothing(machine: Machine, tape: list) -> None:
    """I2: the whole tape once more, by a new process."""
    before = table()
    revisions = BarRevision.objects.count()
    machine.clock.now = tape[0].arrives
    machine.begin()
    for place in range(0, len(tape), 50):
        frame = tape[place : place + 50]
        machine.clock.now = max(one.arrives for one in frame)
        machine.take(frame)
    machine.end()
    assert table() == before
    assert BarRevision.objects.count() == revisions


def stored() -> dict[tuple[str, int], SimpleNamespace]:
    rows = Bar.objects.values_list(
        "symbol_id", "timestamp", "open", "high", "low", "close", "volume", "complete", "is_final", "source", "source_version", "revision"
    )
    return {
        (symbol, ms(timestamp)): SimpleNamespace(
            values=Values(float(o), float(h), float(l), float(c), int(v)),
            complete=complete, is_final=is_final, source=source, version=version, revision=revision,
        )
        for symbol, timestamp, o, h, l, c, v, complete, is_final, source, version, revision in rows
    }  # fmt: skip


def answer(rest: RestServer, path: str, truth: dict) -> tuple[int, dict[str, str], bytes]:
    """Return what the feed's REST says of a symbol's minutes."""
    import json

    from tests.rest_server import AGGREGATES

    found = AGGREGATES.match(path)
    assert found is not None
    symbol, first, last = found[1], int(found[3]), int(found[4])
    rows = [
        {"t": start, "o": v.open, "h": v.high, "l": v.low, "c": v.close, "v": v.volume, "n": 1}
        for (name, start), v in sorted(truth.items())
        if name == symbol and first <= start <= last
    ]
    return 200, {"Content-Type": "application/json"}, json.dumps({"status": "OK", "results": rows}).encode()


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
