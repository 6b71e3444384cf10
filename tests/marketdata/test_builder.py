"""The builder: events in, one-minute bars out."""

from functools import partial
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.bars.builder import BarBuilder, fold
from marketdata.bars.minute import PARTIAL, SECONDS, TRADES, VENDOR
from marketdata.bars.sizes import BadSizeError, decimal_text, units
from marketdata.bars.snapshot import SHARE
from marketdata.feed.decode import decode
from marketdata.feed.events import Quote
from tests.factories import at, make_minute, make_second, make_sessions, make_trade

SESSIONS = make_sessions()


def values(bar):
    return bar.open, bar.high, bar.low, bar.close, bar.volume / SHARE, bar.trades


def live_builder(**options):
    builder = BarBuilder(SESSIONS, now_ms=at("14:28"), **options)
    builder.resume()
    builder.add(make_second(9.0, time="14:28:59", symbol="OTHER"))
    return builder


# -- which trades count (MASSIVE B5) -------------------------------------------------------------------------------------------------


def test_the_published_vector_of_a_regular_minute():
    trades = [
        make_trade(50.00, 100, time="14:30:00.120"),
        make_trade(51.25, 10, time="14:30:01.500", conditions=(37,)),
        make_trade(50.10, 200, time="14:30:05", conditions=(14, 41)),
        make_trade(49.00, 1000, time="14:30:20", conditions=(2,)),
        make_trade(50.60, 100, time="14:30:25", conditions=(10,)),
        make_trade(48.00, 5000, time="14:30:30", conditions=(16,)),
        make_trade(50.05, 0, time="14:30:42", conditions=(37,), ds="0.5"),
        make_trade(49.95, 300, time="14:30:59.999", conditions=(14,)),
    ]

    [bar] = fold(trades, SESSIONS)

    assert values(bar) == (50.00, 50.60, 49.95, 49.95, 1710.5, 7)
    assert bar.vwap == pytest.approx(49.4607, abs=5e-5)
    assert bar.opened_at_ms == at("14:30")
    assert (bar.source, bar.complete) == (TRADES, True)


def test_form_t_sets_prices_only_outside_the_regular_session():
    def minute(clock):
        return [
            make_trade(10.0, 100, time=clock, conditions=(12,)),
            make_trade(10.2, 100, time=clock, conditions=(12, 14)),
            make_trade(11, 7, time=clock, conditions=(12, 37)),
        ]

    assert [values(bar) for bar in fold(minute("12:00:05"), SESSIONS)] == [(10.0, 10.2, 10.0, 10.2, 207, 3)]
    assert fold(minute("15:00:05"), SESSIONS) == []


def test_a_minute_of_odd_lots_has_no_bar():
    assert fold([make_trade(10.0, 5, time="15:00:05", conditions=(37,))], SESSIONS) == []


def test_a_trade_on_the_boundary_opens_the_next_bar():
    bars = fold([make_trade(10.0, time="14:30:59.999"), make_trade(11.0, time="14:31:00.000")], SESSIONS)

    assert [(bar.opened_at_ms, bar.close) for bar in bars] == [(at("14:30"), 10.0), (at("14:31"), 11.0)]


# -- a set, not a sum ------------------------------------------------------------------------------------------------------------------

trades = st.builds(
    make_trade,
    st.integers(1_00, 2_00).map(lambda cents: cents / 100),
    st.integers(1, 500),
    time=st.integers(at("14:30"), at("14:34")),
    conditions=st.sampled_from([(), (), (14, 41), (37,), (2,), (10,), (16,), (38,)]),
    symbol=st.sampled_from(["ACME", "BOLT"]),
)
tapes = st.lists(trades, min_size=1, max_size=40)
seconds = st.builds(
    make_second,
    st.integers(1_00, 2_00).map(lambda cents: cents / 100),
    st.integers(0, 500),
    time=st.integers(0, 239).map(lambda second: at("14:30") + 1000 * second),
    av=st.integers(0, 10_000),
    o=st.integers(1_00, 2_00).map(lambda cents: cents / 100),
)


def last_stored(builder_events, *, step=1):
    """Run events as a stream, closing bars on the way; return the last version of each bar that the guard of the table would keep."""
    builder = BarBuilder(SESSIONS, unbroken=True)
    table = {}

    def keep(bars):
        for bar in bars:
            key = (bar.symbol, bar.opened_at_ms)
            known = table.get(key)
            if known is None or (bar.source, bar.version) >= (known.source, known.version):
                table[key] = bar

    for number, event in enumerate(builder_events):
        builder.add(event)
        if number % step == 0:
            keep(builder.closed(builder.clock_ms))
    keep(builder.finish())
    assert builder.late_events == 0
    return table


@given(tape=tapes, data=st.data())
@settings(deadline=None)
def test_any_order_with_any_repeats_gives_the_same_bars(tape, data):
    shuffled = data.draw(st.permutations(tape + data.draw(st.lists(st.sampled_from(tape), max_size=20))))

    assert last_stored(shuffled) == last_stored(tape, step=7)


@given(tape=st.lists(seconds, min_size=1, max_size=40), data=st.data())
@settings(deadline=None)
def test_seconds_in_any_order_with_repeats_and_corrections_give_the_same_bars(tape, data):
    shuffled = data.draw(st.permutations(tape + data.draw(st.lists(st.sampled_from(tape), max_size=20))))

    final = {key: (bar.open, bar.high, bar.low, bar.close, bar.volume) for key, bar in last_stored(shuffled).items()}
    assert final == {key: (bar.open, bar.high, bar.low, bar.close, bar.volume) for key, bar in last_stored(tape, step=7).items()}


@given(tape=tapes)
@settings(max_examples=50, deadline=None)
def test_volume_is_conserved_and_prices_are_in_order(tape):
    from marketdata.feed.conditions import VOLUME, eligibility

    bars = fold(tape, SESSIONS)
    for bar in bars:
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        mine = [trade for trade in tape if trade.sym == bar.symbol and trade.t // 60_000 * 60_000 == bar.opened_at_ms]
        assert bar.volume == sum(int(trade.s) * SHARE for trade in mine if eligibility(trade.c, extended=False) & VOLUME)


def test_a_trade_sent_again_with_another_content_keeps_the_larger_whatever_comes_first():
    small, large = make_trade(10.0, 100, time="14:30:05", q=7), make_trade(10.5, 200, time="14:30:05", q=7)

    assert (
        [values(bar) for bar in fold([small, large], SESSIONS)]
        == [values(bar) for bar in fold([large, small], SESSIONS)]
        == [(10.5, 10.5, 10.5, 10.5, 200, 1)]
    )


def test_seconds_and_trades_never_meet_in_one_bar():
    builder = BarBuilder(SESSIONS, unbroken=True)
    for event in (make_second(10.0, 900, time="14:30:01"), make_trade(12.0, 100, time="14:30:02")):
        builder.add(event)

    [bar] = builder.finish()

    assert values(bar) == (12.0, 12.0, 12.0, 12.0, 100, 1)


# -- when a bar closes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "closes"), [(make_trade(10.0, time="14:30:30"), "14:31:01"), (make_second(10.0, time="14:30:30"), "14:31:03")]
)
def test_bars_close_a_little_after_their_minute_by_the_streams_time(event, closes):
    builder = live_builder()
    builder.add(event)

    assert [bar for bar in builder.closed(at(closes) - 1) if bar.symbol == "ACME"] == []
    assert [bar.opened_at_ms for bar in builder.closed(at(closes)) if bar.symbol == "ACME"] == [at("14:30")]


def test_the_feeds_own_minute_closes_on_arrival_and_stands_above_seconds():
    builder = live_builder()
    builder.expect_minute_aggregates()
    builder.add(make_second(10.0, 100, time="14:30:30"))
    builder.add(make_minute(10.5, 150, time="14:30"))

    [bar] = [bar for bar in builder.closed(at("14:31")) if bar.symbol == "ACME"]

    assert (bar.close, bar.source, bar.complete) == (10.5, VENDOR, True)
    builder.add(make_second(11.0, 999, time="14:30:40"))
    assert builder.closed(at("14:31:30")) == []


def test_a_bar_from_seconds_is_stored_only_where_the_awaited_minute_is_not_there_five_seconds_after():
    builder = live_builder()
    builder.expect_minute_aggregates()
    builder.add(make_second(10.0, time="14:30:30"))

    assert [bar for bar in builder.closed(at("14:31:04.999")) if bar.symbol == "ACME"] == []
    assert [bar.source for bar in builder.closed(at("14:31:05")) if bar.symbol == "ACME"] == [SECONDS]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_versions_of_the_feeds_minute_the_one_with_more_accumulated_volume_stays(order):
    versions = [make_minute(10.0, 100, time="14:30", av=1000), make_minute(10.2, 160, time="14:30", av=1060)]
    builder = live_builder()
    bars = []
    for place in order:
        builder.add(versions[place])
        bars += [bar for bar in builder.closed(at("14:31:01")) if bar.symbol == "ACME"]

    assert bars[-1].close == 10.2


def test_a_late_trade_revises_a_closed_bar_for_fifteen_minutes_of_stream_time():
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:30"))
    assert [bar.high for bar in builder.closed(at("14:31:01")) if bar.symbol == "ACME"] == [10.0]
    builder.add(make_trade(12.0, time="14:30:40"))
    [revised] = builder.closed(at("14:31:10"))
    assert (revised.high, revised.volume) == (12.0, 200 * SHARE)

    builder.closed(at("14:45"))
    builder.add(make_trade(20.0, time="14:46:00.001", symbol="OTHER"))
    builder.add(make_trade(13.0, time="14:30:50"))

    assert builder.late_events == 1
    assert [item.reason for item in builder.refused] == ["late"]


def test_an_event_of_a_minute_that_was_let_go_is_late_although_no_event_moved_the_clock_so_far():
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:10"))
    assert [bar.complete for bar in builder.closed(at("14:31:01")) if bar.symbol == "ACME"] == [True]
    builder.closed(at("14:46:01"))  # signs of life only
    builder.add(make_trade(12.0, time="14:30:15"))

    assert builder.closed(at("14:46:02")) == []
    assert builder.late_events == 1


def test_moving_bars_are_the_forming_ones_only():
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:30"))
    assert {bar.symbol for bar in builder.moving()} == {"ACME", "OTHER"}
    assert builder.moving() == []
    builder.closed(at("14:31:01"))
    assert builder.moving() == []


# -- whole minutes and broken lines --------------------------------------------------------------------------------------------------------


def test_the_minute_in_which_a_line_comes_up_is_partial_and_the_next_is_whole():
    builder = BarBuilder(SESSIONS, now_ms=at("14:30"))
    builder.resume()
    builder.add(make_trade(10.0, time="14:30:30"))
    builder.add(make_trade(10.0, time="14:31:00.000"))

    bars = builder.closed(at("14:32:01"))

    assert [(bar.source, bar.complete) for bar in bars] == [(PARTIAL, False), (TRADES, True)]


@pytest.mark.parametrize(
    "first", [make_minute(10.0, time="14:33", symbol="OTHER"), make_second(10.0, time="14:31:10", symbol="OTHER")], ids=["AM", "A"]
)
def test_an_old_event_sent_again_after_an_outage_makes_no_minute_of_the_outage_whole(first):
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:10"))
    builder.interrupt()
    builder.resume(at("14:35:30"))
    builder.add(first)
    builder.add(make_trade(10.0, time="14:35:31"))
    builder.add(make_trade(11.0, time="14:36:00"))

    bars = [bar for bar in builder.closed(at("14:38")) if bar.symbol == "ACME" and bar.opened_at_ms > at("14:34")]

    assert [(bar.opened_at_ms, bar.complete) for bar in bars] == [(at("14:35"), False), (at("14:36"), True)]


def test_of_several_lines_the_one_that_comes_back_makes_no_running_minute_whole():
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:59.990", symbol="OTHER"))
    builder.interrupt()
    builder.add(make_trade(10.0, time="14:31:00.400", symbol="OTHER"))
    builder.resume()
    builder.add(make_trade(10.0, time="14:30:59.995", symbol="OTHER"))  # out of order, on the line that was up
    builder.add(make_trade(10.0, time="14:31:20"))

    assert [bar.complete for bar in builder.closed(at("14:32:01")) if bar.symbol == "ACME"] == [False]


def test_a_line_that_falls_leaves_its_open_minutes_partial():
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:30"))
    builder.interrupt()
    builder.resume()
    builder.add(make_trade(10.1, time="14:30:50"))
    builder.add(make_trade(10.2, time="14:31:10"))

    bars = [bar for bar in builder.closed(at("14:32:01")) if bar.symbol == "ACME"]

    assert [(bar.opened_at_ms, bar.complete) for bar in bars] == [(at("14:30"), False), (at("14:31"), True)]


def test_a_line_that_stops_leaves_closed_bars_whole_and_the_forming_one_partial():
    builder = live_builder()
    builder.add(make_trade(10.0, time="14:30:30"))
    builder.closed(at("14:31:01"))
    builder.add(make_trade(11.0, time="14:31:30"))

    [partial] = builder.abandon()

    assert (partial.opened_at_ms, partial.source, partial.complete) == (at("14:31"), PARTIAL, False)


# -- what is refused -----------------------------------------------------------------------------------------------------------------------


def test_one_absurd_time_does_not_make_the_others_late():
    builder = BarBuilder(SESSIONS, unbroken=True)
    builder.add(make_trade(10.0, time="14:30:30"))
    builder.add(make_trade(10.1, time="14:30:31"))
    builder.add(make_trade(99.0, time=at("14:30", "2090-01-01")))
    builder.add(make_trade(10.2, time="14:30:32"))

    [bar] = builder.finish()

    assert (bar.close, builder.late_events) == (10.2, 0)
    assert [item.reason for item in builder.refused] == ["time_ahead"]


def test_live_one_event_that_is_ahead_by_minutes_does_not_make_the_others_late():
    builder = live_builder()
    builder.closed(at("14:30:29"))
    builder.add(make_trade(99.0, time="15:20:00", symbol="BAD"))
    for minute in range(31, 40):
        builder.add(make_trade(10.0, time=f"14:{minute}:01"))

    assert builder.late_events == 0


def test_an_aggregate_of_a_far_minute_opens_none():
    builder = live_builder()
    for day in range(1, 20):
        builder.add(make_second(9.0, time=at("14:30", f"2090-01-{day:02}")))
        builder.add(make_second(9.0, time="14:30:00"))

    assert len(builder) == 2
    assert [item.reason for item in builder.refused] == ["time_ahead"] * 19


def test_a_thin_symbol_that_trades_once_in_days_keeps_every_bar():
    days = ["2026-11-16", "2026-11-18", "2026-11-20", "2026-11-23"]

    assert [bar.close for bar in fold([make_trade(10.0 + number, time=at("15:00", day)) for number, day in enumerate(days)], SESSIONS)] == [
        10.0, 11.0, 12.0, 13.0,
    ]  # fmt: skip


def test_a_second_off_the_second_is_refused():
    builder = BarBuilder(SESSIONS, unbroken=True)
    builder.add(make_second(10.0, time=at("14:30") + 10))

    assert builder.finish() == []
    assert [item.reason for item in builder.refused] == ["bad_value"]


@pytest.mark.parametrize("mean", [1e308, -1e308, 0.0, -5.0, 1e7])
def test_an_absurd_mean_price_of_a_second_gives_way_to_its_close(mean):
    [bar] = fold([msgspec.structs.replace(make_second(10.0, time="14:30:01"), vw=mean)], SESSIONS)

    assert bar.vwap == 10.0


def test_a_recording_that_begins_with_an_absurd_time_loses_only_that_event():
    bars = fold(
        [make_trade(99.0, time=at("14:30", "2090-01-01")), make_trade(10.0, time="14:30:30"), make_trade(10.2, time="14:30:32")], SESSIONS
    )

    assert [(bar.open, bar.close) for bar in bars] == [(10.0, 10.2)]


def test_a_recording_may_jump_to_another_day_and_may_hold_a_single_event():
    other_day = at("14:30:00", "2026-12-20")
    bars = fold(
        [
            make_trade(10.0, time="14:30:30"),
            make_trade(10.1, time="14:30:31"),
            make_trade(11.0, time=other_day),
            make_trade(11.5, time=other_day + 1),
        ],
        SESSIONS,
    )

    assert [bar.close for bar in bars] == [10.1, 11.5]
    assert [bar.close for bar in fold([make_trade(10.0, time="14:30:30")], SESSIONS)] == [10.0]


def test_exchange_test_tickers_are_dropped_by_exact_name():
    builder = BarBuilder(SESSIONS, unbroken=True)
    for symbol in ("ZVZZT", "ZTS", "ZVZZT"):
        builder.add(make_trade(10.0, time="14:30:30", symbol=symbol))

    assert [bar.symbol for bar in builder.finish()] == ["ZTS"]
    assert builder.test_ticker_events == 2


@pytest.mark.parametrize("symbol", ["A B", "AAPL'--", "Ä", "A\n", ""])
def test_what_is_no_symbol_is_refused(symbol):
    builder = BarBuilder(SESSIONS, unbroken=True)
    builder.add(make_trade(10.0, time="14:30:30", symbol=symbol))

    assert builder.finish() == []
    assert [item.reason for item in builder.refused] == ["bad_symbol"]


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e400", "x", "", "0.0000000001", "9" * 30])
def test_bad_sizes_are_refused(text):
    with pytest.raises(BadSizeError):
        units(text, 0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 1e15])
def test_bad_numbers_are_refused_where_there_is_no_text(number):
    with pytest.raises(BadSizeError):
        units(None, number)


@given(st.decimals(min_value=0, max_value=10**12, places=6, allow_nan=False, allow_infinity=False))
def test_sizes_survive_exactly(size):
    from decimal import Decimal

    assert Decimal(decimal_text(units(str(size), 0))) == size


def at_once(frames):
    builder = BarBuilder(SESSIONS, unbroken=True)
    for events in frames:
        builder.add_all(events, lambda event: True, msgspec.json.encode(events))
    return builder.finish(), builder.refused


def test_numbers_that_no_machine_integer_holds_are_folded_like_others():
    trades = [make_trade(10.0 + number, time="14:30:05", q=2**62 + number * 2**61, ds="900000000000") for number in range(4)]

    [bar], refused = at_once([trades[:1], trades[1:]])

    assert values(bar) == (10.0, 13.0, 10.0, 13.0, 3.6e12, 4)
    assert refused == []


def test_a_volume_that_no_machine_integer_holds_is_exact():
    seconds = [make_second(10.0, time=at("14:30") + 1000 * number) for number in range(50)]
    frames = [
        [msgspec.structs.replace(second, dv="4000000000.000000001") for second in seconds[first:last]] for first, last in ((0, 1), (1, 50))
    ]

    [bar], _ = at_once(frames)

    assert decimal_text(bar.volume) == "200000000000.00000005"


def test_what_comes_again_after_others_were_folded_is_found_among_them():
    trades = [make_trade(10.0 + number, 100, time=at("14:30") + 1000 * number, q=number + 1) for number in range(30)]
    builder = BarBuilder(SESSIONS, unbroken=True)
    for trade in trades:
        builder.add_all([trade], lambda event: True, msgspec.json.encode([trade]))
        builder.moving()
    larger = msgspec.structs.replace(trades[17], s=500)
    for trade in (trades[3], larger, trades[17]):
        builder.add_all([trade], lambda event: True, msgspec.json.encode([trade]))
    assert [bar.volume / SHARE for bar in builder.moving()] == [3_400]

    [bar] = builder.finish()

    assert values(bar) == (10.0, 39.0, 10.0, 39.0, 3_400, 30)


# -- frames -----------------------------------------------------------------------------------------------------------------------------

odd_seconds = st.builds(  # what is refused must be refused on both ways
    lambda second, changes: msgspec.structs.replace(second, **changes),
    seconds,
    st.sampled_from(
        [{}, {}, {}, {}, {"l": 9.0}, {"dv": "many"}, {"dv": "10.25"}, {"s": at("14:30:07") + 1}, {"vw": -1.0}, {"s": at("14:10")}]
    ),
)
odd_trades = st.builds(
    lambda trade, changes: msgspec.structs.replace(trade, **changes),
    trades,
    st.sampled_from(
        [
            {},
            {},
            {},
            {},
            {"ds": "-3"},
            {"ds": "0.5"},
            {"q": 7},
            {"q": 7, "p": 1.5},
            {"q": 2**70},
            {"t": at("14:10")},
            {"t": at("19:00")},
            {"sym": "?"},
        ]
    ),
)
frames_of_all = st.lists(
    st.one_of(*(st.lists(events, max_size=12) for events in (st.one_of(odd_trades, odd_seconds), odd_trades, odd_seconds))),
    min_size=1,
    max_size=12,
)


@mock.patch("marketdata.bars.page.CHUNK", 3)
@mock.patch("marketdata.bars.builder.WAITING", 5)
@given(
    frames_of_all,
    st.lists(st.integers(0, 11), max_size=6),
    st.sets(st.integers(0, 17)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 700, 10**6]),
)
@settings(max_examples=1000, deadline=None)
def test_a_frame_at_once_gives_what_its_events_give_one_by_one(frames, again, looks, moves, started, frame_bytes):
    """Whether a page keeps frames as they came, columns, or first the ones and then the others."""
    with mock.patch("marketdata.bars.page.FRAME_BYTES", frame_bytes):
        sent = list(map(msgspec.json.encode, frames))
        _compare_ways(sent + [sent[number % len(sent)] for number in again], looks, moves, now_ms=at("14:30") if started else 0)


def _compare_ways(frames, looks, moves, *, now_ms):
    ways = []
    for at_once in (True, False):
        builder = BarBuilder(SESSIONS, unbroken=True, now_ms=now_ms)
        told, largest = [], []
        for number, frame in enumerate(frames):
            events = decode(frame).events
            if at_once:
                kinds = {type(event) for event in events}
                kind = kinds.pop() if len(kinds) == 1 else None
                largest.append(builder.add_all(events, lambda event: True, frame, kind)[0])
            else:
                largest.append(max((event.t if hasattr(event, "t") else event.s + 1000 for event in events), default=0))
                for event in events:
                    builder.add(event)
            if moves:
                told.append(sorted(builder.moving(), key=lambda bar: (bar.symbol, bar.opened_at_ms)))
            if number in looks:
                told.append(builder.closed(builder.clock_ms))
        told.append(builder.finish())
        refused = sorted((item.reason, msgspec.json.encode(item.event)) for item in builder.refused)
        ways.append((told, refused, builder.late_events, builder.clock_ms, largest))
    assert ways[0] == ways[1]


def sent(builder, *events):
    """Have the builder take one frame."""
    frame = msgspec.json.encode(list(events))
    kinds = {type(event) for event in events}
    builder.add_all(decode(frame).events, lambda event: True, frame, kinds.pop() if len(kinds) == 1 else None)


def test_what_a_frame_says_later_is_not_known_before():
    builder = BarBuilder(SESSIONS, unbroken=True)
    sent(builder, make_trade(5.0, time="14:30", symbol="BOLT"), make_trade(5.0, time="14:30", symbol="BOLT"))  # the clock stands
    sent(
        builder,
        make_trade(10.0, 100, time="14:30:01", q=1),
        make_trade(11.0, 100, time="14:30:02", q=2),
        make_trade(10.5, 100, time="14:30:01", q=1),  # has all trades of its minute read again
        make_trade(20.0, 100, time="19:00", q=3),
        make_trade(20.0, 100, time="19:00", q=4),
        make_trade(12.0, 900, time="14:30:03", q=9),  # late by now
    )

    first = builder.finish()[0]

    assert values(first) == (10.5, 11.0, 10.5, 11.0, 200, 2)
    assert [item.reason for item in builder.refused] == ["late"]


def test_a_trade_is_late_however_busy_its_minute_was():
    builder = BarBuilder(SESSIONS, unbroken=True)
    sent(builder, make_trade(10.0, time="14:30:01", q=1), make_trade(10.0, time="14:30:02", q=2))
    sent(builder, make_minute(10.0, time="15:00", symbol="BOLT"))
    sent(builder, make_trade(10.0, time="14:30:03", q=3))

    assert [item.reason for item in builder.refused] == ["late"]
    assert [bar.volume / SHARE for bar in builder.finish() if bar.symbol == "ACME"] == [200]


def test_a_second_whose_size_cannot_be_read_is_refused_among_others():
    builder = BarBuilder(SESSIONS, unbroken=True)
    seconds = [make_second(10.0, 100, time=at("14:30") + 1000 * number, symbol=f"S{number}") for number in range(20)]
    sent(builder, *seconds)
    again = [msgspec.structs.replace(second, s=second.s + 30_000) for second in seconds]
    again[7] = msgspec.structs.replace(again[7], dv="many")
    again[9] = msgspec.structs.replace(again[9], dv="99999999999.5")  # no column holds it
    sent(builder, *again)

    volumes = {bar.symbol: bar.volume / SHARE for bar in builder.finish()}

    assert [(item.reason, item.event.sym) for item in builder.refused] == [("bad_value", "S7")]
    assert volumes == {f"S{number}": 200 for number in range(20)} | {"S7": 100, "S9": 99999999999.5 + 100}


def busy_then_next_minute():
    """Return a builder of a live line in which ACME traded busily, and BOLT has begun the minute behind."""
    builder = BarBuilder(SESSIONS, now_ms=at("14:29"))
    builder.resume()
    sent(builder, make_trade(5.0, time="14:29:30", symbol="BOLT"))
    sent(builder, *(make_trade(10.0, time=at("14:30") + number, q=number + 1) for number in range(10)))
    sent(builder, *(make_trade(5.0, time=at("14:31") + number, symbol="BOLT") for number in range(2)))
    return builder


def test_a_busy_symbol_that_rests_has_no_bar():
    builder = busy_then_next_minute()

    bars = builder.closed(at("14:33"))

    assert [(bar.symbol, bar.opened_at_ms) for bar in bars if bar.symbol == "ACME"] == [("ACME", at("14:30"))]
    late = make_trade(11.0, time="14:31:59", q=20)
    sent(builder, late)
    assert [(values(bar), bar.complete) for bar in builder.closed(at("14:33:01"))] == [((11.0, 11.0, 11.0, 11.0, 100, 1), True)]


def test_a_line_that_breaks_leaves_no_minute_whole_that_was_opened_ahead():
    builder = busy_then_next_minute()
    builder.interrupt()
    builder.resume()
    sent(builder, make_trade(11.0, time="14:31:30", q=20), make_trade(11.0, time="14:31:31", q=21))

    bars = {(bar.symbol, bar.opened_at_ms): bar.complete for bar in builder.closed(at("14:33"))}

    assert {moment: complete for (symbol, moment), complete in bars.items() if symbol == "ACME"} == {at("14:30"): False, at("14:31"): False}


@pytest.mark.parametrize(("most", "frames"), [(3_000, 400), (10**6, 5)], ids=["bytes", "frames"])
def test_no_page_holds_more_of_frames_than_it_may(most, frames):
    """A frame of other things may be sixteen megabytes long and hold one trade, or one second."""
    builder = BarBuilder(SESSIONS, unbroken=True, now_ms=at("14:30"))
    trades = [make_trade(10.0 + number, 100, time=at("14:30") + number, q=number + 1) for number in range(40)]
    seconds = [make_second(10.0, 100, time=at("14:30") + 1000 * number, symbol="BOLT") for number in range(40)]
    sent(builder, trades[0], seconds[0])
    quotes = [Quote(sym="ACME", t=at("14:30"), bp=1.0)] * 20
    with mock.patch("marketdata.bars.page.FRAME_BYTES", most), mock.patch("marketdata.bars.page.FRAMES", frames):
        for trade, second in zip(trades[1:], seconds[1:], strict=True):
            sent(builder, trade, *quotes, second)
            page = builder._newest
            assert sum(map(len, page._frames)) <= most
            assert sum(len(source.args[0]) for source in page._waiting._sources if isinstance(source, partial)) <= most
            assert len(page._waiting._sources) < frames
    sent(builder, msgspec.structs.replace(trades[3], s=500), trades[5])

    acme, bolt = builder.finish()

    assert (values(acme), values(bolt)) == ((10.0, 49.0, 10.0, 49.0, 4_400, 40), (10.0, 10.0, 10.0, 10.0, 4_000, None))


def test_a_minute_of_odd_lots_does_not_fill_the_memory_while_its_bar_moves():
    builder = BarBuilder(SESSIONS, unbroken=True, now_ms=at("15:00"))
    builder.add(make_trade(10.0, 5, time="15:00:05", conditions=(37,), q=0))
    for number in range(1, 50):
        sent(builder, make_trade(10.0, 5, time="15:00:05", conditions=(37,), q=number))
        assert builder.moving() == []

    trades = builder._newest.minutes["ACME"].trades

    assert (trades.counted, trades.waiting) == (50, [])


@pytest.mark.parametrize("number", [0, -1, -(2**40)])
def test_a_bar_moves_whatever_the_number_of_its_first_trade(number):
    builder = BarBuilder(SESSIONS, unbroken=True, now_ms=at("14:30"))
    sent(builder, make_trade(5.0, time="14:29:59"))
    sent(builder, make_trade(5.0, time="14:30", symbol="BOLT"))
    builder.moving()
    sent(builder, make_trade(10.0, time="14:30:01", q=number))

    assert [bar.symbol for bar in builder.moving()] == ["ACME"]


def test_the_version_of_a_bar_from_seconds_does_not_know_their_order():
    seconds = [make_second(10.0, time=at("14:30") + 1000 * number, av=av) for number, av in enumerate((0.25, 1e14 + 0.7, 0.7, 1e14 + 0.1))]

    versions = {
        bar.version for order in (seconds, seconds[::-1]) for frames in ([order], [[each] for each in order]) for bar in at_once(frames)[0]
    }

    assert versions == {(4 << 56) + 2 * 10**14}


def test_a_frame_of_many_minutes_has_its_seconds_read_a_few_times_only():
    """Else a hostile frame of sixteen megabytes keeps the stream for hours."""
    minutes = [make_second(10.0, time=at("14:30") + 60_000 * number) for number in range(300)]
    mixed = [
        event for second in range(50) for event in (make_second(10.0, time=at("19:30") + 1000 * second), make_trade(9.0, time="19:30"))
    ]
    mixed[40] = msgspec.structs.replace(mixed[40], h=1.0)
    with (
        mock.patch("marketdata.bars.page.astuple", wraps=msgspec.structs.astuple) as taken,
        mock.patch("marketdata.bars.page.decode", wraps=decode) as read,
    ):
        bars, refused = at_once([minutes, mixed])

    assert (len(bars), len(refused)) == (301, 1)
    assert taken.call_count <= 3 * (300 + 50)
    assert read.call_count <= 2


def test_of_trades_of_one_moment_the_smallest_number_opens_and_the_largest_closes():
    builder = BarBuilder(SESSIONS, unbroken=True)
    sent(builder, make_trade(5.0, time="14:30", symbol="BOLT"), make_trade(5.0, time="14:30", symbol="BOLT"))
    sent(builder, make_trade(9.0, time="14:30:02", q=1), make_trade(10.0, time="14:30:01", q=2), make_trade(12.0, time="14:30:02", q=3))
    sent(
        builder, make_trade(11.0, time="14:30:01", q=4), make_trade(13.0, time="14:30:02", q=5), make_trade(14.0, time="14:30:01.500", q=6)
    )

    assert values(builder.finish()[0]) == (10.0, 14.0, 9.0, 13.0, 600, 6)


def test_what_waits_in_the_sums_is_added_up_once_it_is_much():
    builder = BarBuilder(SESSIONS, unbroken=True, now_ms=at("14:30"))
    with mock.patch("marketdata.bars.builder.WAITING", 20):
        for number in range(25):
            sent(builder, make_trade(10.0, 5, time="14:30:05", q=number), make_trade(10.0, 5, time="14:30:05", symbol="BOLT", q=number))
            builder.closed(at("14:30:06"))
            assert [len(minute.trades.waiting) <= 22 for minute in builder._newest.minutes.values()] == [True, True]
            assert number != 5 or all(minute.trades.waiting for minute in builder._newest.minutes.values()), "not before"


def test_a_tie_is_broken_by_negative_numbers_too():
    builder = BarBuilder(SESSIONS, unbroken=True)
    sent(builder, *(make_trade(9.0, time="14:30", conditions=conditions) for conditions in ((), (38,))))
    sent(builder, make_trade(10.0, time="14:31", q=-9), make_trade(10.0, time="14:31:01", q=-7), make_trade(8.0, time="14:31", q=-6))
    sent(builder, make_trade(12.0, time="14:31", q=-5, conditions=(38,)), make_trade(11.0, time="14:31:01", q=-3, conditions=(38,)))

    bar = builder.finish()[1]

    assert (values(bar), bar.version) == ((10.0, 12.0, 8.0, 11.0, 300, 3), 5)


def test_a_bar_that_moves_by_pieces_is_the_sum_of_them():
    builder = BarBuilder(SESSIONS, unbroken=True, now_ms=at("14:30"))
    told = []
    for number in range(4):
        times = [at("14:30") + 1000 * (2 * number + place) for place in range(2)]
        sent(builder, *(make_second(10.0 + number, 100, time=time, symbol="BOLT", av=100) for time in times))
        sent(builder, *(make_trade(0.5 + number, 0, time=time, q=time, ds="0.000000001") for time in times))
        told.append({bar.symbol: (bar.volume, bar.vwap, bar.version) for bar in builder.moving()})

    assert [moved["BOLT"] for moved in told] == [(200 * n * SHARE, 9.5 + n / 2, (2 * n << 56) + 200 * n) for n in range(1, 5)]
    assert [moved["ACME"] for moved in told] == [(2 * n, n / 2, 2 * n) for n in range(1, 5)]
