"""The sole writer: an upsert that is safe to repeat, ranks, revisions, the fence, and the database's own checks."""

import os
import signal
from datetime import UTC, date, datetime
from decimal import Decimal

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from msgspec.structs import replace

from marketdata.bars.snapshot import SHARE, DailySnapshot
from marketdata.feed.decode import Rejection
from marketdata.models import Bar, BarRevision, Cause, DailyBar, RejectedEvent, Source, Symbol
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError, line_name
from tests.factories import make_bar, moment
from tests.processes import wait_until


def stored():
    return list(
        Bar.objects.order_by("symbol_id", "timestamp").values_list("symbol_id", "close", "volume", "source", "revision", "complete")
    )


def test_a_bar_is_stored_with_the_digits_of_the_feed(writer):
    [change] = writer.write([make_bar(188.4217, volume=9099.618093, h=188.5)])[0]

    bar = Bar.objects.get()
    assert (bar.symbol_id, bar.timestamp) == ("AAPL", moment("14:30"))
    assert (str(bar.close), bar.volume) == ("188.4217", Decimal("9099.618093"))
    assert (change.revision, change.inserted, change.bar.volume) == (0, True, round(9099.618093 * SHARE))


def test_the_same_batch_again_changes_nothing(writer):
    bars = [
        make_bar(10 + number, symbol=symbol, time=1795185000000 + 60_000 * number) for number in range(5) for symbol in ("AAPL", "MSFT")
    ]
    writer.write(bars)
    before = list(Bar.objects.order_by("pk").values())

    assert writer.write(bars) == ([], [])
    assert list(Bar.objects.order_by("pk").values()) == before
    assert BarRevision.objects.count() == 0


def test_of_a_whole_minute_of_the_market_sent_again_only_what_differs_is_replaced(writer):
    minute = [make_bar(10 + number / 100, symbol=f"S{number}") for number in range(600)]
    assert len(writer.write(minute[:599])[0]) == 599
    minute[7] = replace(minute[7], close=11.0, high=11.0, version=2)

    changes, refused = writer.write(minute)

    assert [(change.bar.symbol, change.revision, change.inserted) for change in changes] == [("S599", 0, True), ("S7", 1, False)]
    assert refused == []
    assert [(row.symbol_id, row.close) for row in BarRevision.objects.all()] == [("S7", Decimal("10.07"))]
    assert Bar.objects.count() == 600


def test_bars_that_are_new_among_stored_ones_of_other_minutes_keep_their_fence_and_their_finality(writer):
    writer.write([make_bar(10, time="14:30"), make_bar(10, time="14:32")])
    changes, _ = writer.write([make_bar(11, time="14:31"), make_bar(12, time="14:33", source=Source.FLATFILE)])

    assert [(change.revision, change.is_final, change.inserted) for change in changes] == [(0, False, True), (0, True, True)]
    assert list(Bar.objects.order_by("timestamp").values_list("is_final", "writer_epoch", "revision")) == [
        (False, writer.epoch, 0), (False, writer.epoch, 0), (False, writer.epoch, 0), (True, writer.epoch, 0),
    ]  # fmt: skip


def test_rank_decides_and_equal_rank_the_higher_version(writer):
    steps = [
        (make_bar(10, source=Source.PARTIAL, complete=False), 10),
        (make_bar(11, source=Source.SECONDS, version=5), 11),
        (make_bar(99, source=Source.PARTIAL, version=9, complete=False), 11),
        (make_bar(12, source=Source.TRADES, version=2), 12),
        (make_bar(98, source=Source.SECONDS, version=9), 12),
        (make_bar(13, source=Source.VENDOR, version=100), 13),
        (make_bar(97, source=Source.VENDOR, version=99), 13),
        (make_bar(14, source=Source.VENDOR, version=100), 14),
        (make_bar(15, source=Source.SETTLED, version=1), 15),
        (make_bar(96, source=Source.VENDOR, version=10**9), 15),
        (make_bar(16, source=Source.FLATFILE, version=1), 16),
        (make_bar(17, source=Source.OPERATOR, version=1), 17),
    ]
    for bar, close in steps:
        writer.write([bar])
        assert Bar.objects.get().close == close

    assert Bar.objects.get().revision == BarRevision.objects.count() == 7
    assert Bar.objects.get().is_final


def test_a_revision_keeps_the_old_values_their_span_and_the_cause(writer):
    writer.write([make_bar(10, volume=100)])
    first = Bar.objects.get()
    writer.write([make_bar(10.5, volume=150, version=2)], cause=Cause.CORRECTED)

    kept = BarRevision.objects.get()
    assert (kept.close, kept.volume, kept.revision, kept.cause) == (10, 100, 0, "corrected")
    assert (kept.stored_at, kept.replaced_at) == (first.updated_at, Bar.objects.get().updated_at)


def test_what_the_feeds_own_minute_replaces_was_corrected_and_what_it_sends_again_was_late(writer):
    writer.write([make_bar(10, source=Source.SECONDS)])
    writer.write([make_bar(11, source=Source.VENDOR, version=1)])
    writer.write([make_bar(12, source=Source.VENDOR, version=2)])

    assert list(BarRevision.objects.order_by("revision").values_list("cause", flat=True)) == ["corrected", "late"]


def test_a_better_source_with_the_same_values_is_no_revision(writer):
    writer.write([make_bar(10, source=Source.SECONDS)])
    writer.write([make_bar(10, source=Source.VENDOR)])

    assert [(row[3], row[4]) for row in stored()] == [(Source.VENDOR, 0)]
    assert BarRevision.objects.count() == 0


def test_a_final_bar_changes_only_by_a_settled_source(writer):
    writer.write([make_bar(10)])
    assert writer.settle(moment("14:00"), moment("15:00")) == 1
    assert writer.settle(moment("14:00"), moment("15:00")) == 0
    writer.write([make_bar(11, version=9)])
    assert Bar.objects.get().close == 10
    writer.write([make_bar(12, source=Source.SETTLED)])
    assert (Bar.objects.get().close, Bar.objects.get().is_final) == (12, True)


def test_an_incomplete_bar_never_becomes_final_by_time(writer):
    writer.write([make_bar(10, source=Source.PARTIAL, complete=False)])
    assert writer.settle(moment("14:00"), moment("15:00")) == 0


def test_unknown_symbols_get_a_row_first(writer):
    writer.write([make_bar(10, symbol="KIMpL"), make_bar(10, symbol="BRK.B")])
    assert Symbol.objects.filter(symbol__in=["KIMpL", "BRK.B"]).count() == 2


@pytest.mark.parametrize("symbol", ["A\tB", "A\\B", "A\nB", "A\rB", "\\N", "\\."])
def test_a_symbol_with_the_signs_of_the_copy_format_stays_itself(writer, symbol):
    changes, refused = writer.write([make_bar(symbol=symbol), make_bar(symbol="AAPL")])

    assert not refused
    assert {change.bar.symbol for change in changes} == {symbol, "AAPL"}
    assert set(Bar.objects.values_list("symbol", flat=True)) == {symbol, "AAPL"}


def test_a_change_names_the_stored_average_and_count_where_the_sender_knew_none(writer):
    writer.write([replace(make_bar(9.0, version=1), vwap=9.25, trades=7)])

    [change], _ = writer.write([replace(make_bar(10.0, version=2), vwap=None, trades=None)])

    assert (change.bar.vwap, change.bar.trades, change.inserted) == (9.25, 7, False)


def test_a_row_that_the_database_refuses_does_not_take_the_others_with_it(writer):
    good = [make_bar(10 + number, symbol=f"S{number}") for number in range(9)]
    changes, rejections = writer.write([*good[:4], make_bar(10, symbol="BAD", h=5, l=20), *good[4:]])

    assert len(changes) == Bar.objects.count() == 9
    assert [(item.reason, item.symbol) for item in rejections] == [("refused_by_database", "BAD")]
    writer.reject(rejections)
    assert RejectedEvent.objects.get().symbol == "BAD"


def test_rejections_beyond_the_bound_are_counted_not_lost(writer):
    writer.reject([Rejection(reason="bad_value", detail="x", kind="T", symbol=f"S{number}", raw="{}") for number in range(2_500)])

    assert RejectedEvent.objects.count() == 1_001
    assert sum(RejectedEvent.objects.values_list("count", flat=True)) == 2_500


def test_daily_bars_are_upserted_too(writer):
    day = DailySnapshot("AAPL", date(2026, 11, 19), 10.0, 11.0, 9.5, 10.5, 100 * SHARE, None, None, Source.SETTLED, 1)
    assert writer.write_days([day]) == 1
    assert writer.write_days([day]) == 0
    assert DailyBar.objects.get().close == Decimal("10.5")


# -- one writer ------------------------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_holds_the_line(writer):
    with pytest.raises(WriterBusyError, match=r"already written by process \d+ on .* since 20"):
        Writer(line_name(1, 1)).acquire()

    past = Writer(PAST)
    past.acquire()  # another line
    past.close()


def test_shards_of_another_count_are_refused_and_those_of_the_same_count_run_together(market):
    first, second, other = Writer(line_name(1, 2)), Writer(line_name(2, 2)), Writer(line_name(1, 3))
    first.acquire()
    second.acquire()
    with pytest.raises(WriterBusyError, match="would share symbols with “stream 1/2”"):
        other.acquire()
    first.close()
    second.close()
    other.acquire_within(5)
    other.close()


def test_a_deposed_writers_next_write_is_refused_by_the_database(writer):
    writer.write([make_bar(10)])
    with connection.cursor() as cursor:  # its lock connection dies without its knowledge, and another takes over
        cursor.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
        stale = writer._connection
        writer._connection = writer._open()
        cursor.execute("SELECT pg_terminate_backend(%s)", (stale.info.backend_pid,))
    other = Writer(line_name(1, 1))
    other.acquire_within(5)

    with pytest.raises(WriterDeposedError):
        writer.write([make_bar(99, source=Source.OPERATOR)])
    assert Bar.objects.get().close == 10
    with pytest.raises(WriterDeposedError):
        writer.reconnect()
    other.close()


def test_after_its_connection_broke_a_writer_goes_on_where_nobody_came_between(writer):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", (writer.connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        writer.write([make_bar(10)])
    writer.reconnect()
    assert len(writer.write([make_bar(10)])[0]) == 1


def test_a_writer_waits_for_its_own_former_session_to_end(writer):
    writer.write([make_bar(10)])
    backend = writer.connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)  # as behind a network that broke: the server has not noticed yet
    try:
        with pytest.raises(psycopg.OperationalError, match="not gone yet"):
            writer.reconnect()
    finally:
        os.kill(backend, signal.SIGCONT)

    wait_until(lambda: _reconnects(writer))
    assert len(writer.write([make_bar(11, version=2)])[0]) == 1


def _reconnects(writer):
    try:
        writer.reconnect()
    except psycopg.OperationalError:
        return False
    return True


def test_a_database_filled_by_the_other_feed_is_refused(writer):
    writer.claim_origin("twin")
    writer.claim_origin("twin")
    with pytest.raises(RuntimeError, match="never share one"):
        writer.claim_origin("massive")


# -- the database's own checks ------------------------------------------------------------------------------------------------------------

GOOD = {"open": "10", "high": "11", "low": "9", "close": "10", "volume": "100", "timestamp": "2026-11-20 14:30:00+00"}


@pytest.mark.parametrize(
    "wrong",
    [
        *({field: value} for field in ("open", "high", "low", "close") for value in ("NaN", "Infinity", "-Infinity", "0", "-1", "1e13")),
        *({"volume": value} for value in ("NaN", "Infinity", "-Infinity", "-1", "1e16")),
        {"high": "8"},
        {"low": "10.5"},
        {"open": "12"},
        {"close": "8.5"},
        {"timestamp": "2026-11-20 14:30:01+00"},
        {"timestamp": "2026-11-20 14:30:00.5+00"},
        {"open": None},
        {"volume": None},
    ],
    ids=str,
)
def test_no_sql_gets_a_bar_in_that_cannot_be(db, wrong):
    row = GOOD | wrong
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source, source_version, revision, complete, is_final, "
            "writer_epoch, updated_at) VALUES ('AAPL', %(timestamp)s, %(open)s, %(high)s, %(low)s, %(close)s, %(volume)s, 30, 1, 0, true, false, 1, now())",
            row,
        )


def test_a_second_row_of_one_minute_is_impossible(db):
    values = {
        "symbol_id": "AAPL",
        "timestamp": datetime(2026, 11, 20, 14, 30, tzinfo=UTC),
        "open": 1,
        "high": 1,
        "low": 1,
        "close": 1,
        "volume": 1,
        "source": 30,
        "source_version": 1,
        "complete": True,
        "writer_epoch": 1,
        "updated_at": moment("14:31"),
    }
    Bar.objects.create(**values)
    with pytest.raises(DatabaseError), transaction.atomic():
        Bar.objects.create(**values)
