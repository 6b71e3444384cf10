"""Several lines of one stream: who carries what, what happens when one falls, when silence is a fault, and what is said of all that."""

import json
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.bars.session import SessionTable
from marketdata.connection import Frame, LineState
from marketdata.feed.partition import carried, parted
from marketdata.feed.protocol import Backoff, State
from marketdata.history import exchange_sessions
from marketdata.models import Bar, FeedSpan
from tests.feed_server import FeedServer, feed_server, subscribed, trade
from tests.processes import wait_until
from tests.streams import MINUTE, heartbeat, streaming, this_minute, unstarted, up

SYMBOLS = [f"S{number}" for number in range(7)]


# -- who carries what (F-lines of PRODUCT A2) ---------------------------------------------------------------------------------------------

symbol_lists = st.lists(st.sampled_from([f"S{number}" for number in range(30)]), unique=True, min_size=1)


@given(symbol_lists, st.integers(1, 3), st.sets(st.sampled_from([f"S{number}" for number in range(30)])), st.data())
def test_every_symbol_has_one_home_and_is_carried_while_any_line_lives(symbols, connections, priority, data):
    parts = parted(symbols, connections=connections, priority=priority)

    assert sorted(sum(parts, [])) == sorted(symbols)
    assert all(parts)
    assert len(parts) <= connections
    places = range(len(parts))
    live = data.draw(st.sets(st.sampled_from(places)))
    load = carried(parts, live=live, fallen=set(places) - live, reserved=0 if len(parts) > 1 else None)
    assert all(load[place][: len(part)] == part for place, part in enumerate(parts)), "everyone keeps its own"
    if live:
        assert sorted(symbol for place in live for symbol in load[place]) == sorted(symbols)


def test_priority_symbols_have_a_line_for_themselves_and_help_nobody_while_another_lives():
    parts = parted(["A", "B", "SPY", "C"], connections=3, priority=["SPY"])
    assert parts == [["SPY"], ["A", "C"], ["B"]]
    assert carried(parts, live={0, 2}, fallen={1}, reserved=0) == [["SPY"], ["A", "C"], ["B", "A", "C"]]
    assert carried(parts, live={1, 2}, fallen={0}, reserved=0) == [["SPY"], ["A", "C", "SPY"], ["B"]]
    assert carried(parts, live={0}, fallen={1, 2}, reserved=0) == [["SPY", "A", "C", "B"], ["A", "C"], ["B"]]


def unsubscribed(server: FeedServer) -> set[str]:
    return {topic for words in server.said if words["action"] == "unsubscribe" for topic in words["params"].split(",")}


def test_one_line_falls_its_symbols_move_to_the_others_and_back(market, monkeypatch):
    monkeypatch.setattr("marketdata.lines.MOVE_SECONDS", 0.2)
    fall, rise = threading.Event(), threading.Event()
    monkeypatch.setattr("marketdata.stream.STATUS_SECONDS", 0.1)

    def script(peer, number):
        if fall.is_set() and not rise.is_set():  # its next attempts come to nothing
            peer.drop()
            return
        if "T.S1" in peer.log_in() and not fall.is_set():
            fall.wait(20)
            peer.drop()
            return
        peer.acknowledge()

    def carries(*symbols: int) -> bool:
        return sorted(line["symbols"] for line in heartbeat().get("lines", [])) == sorted(symbols)

    with feed_server(script) as server, streaming(server.url, symbols=SYMBOLS, connections=3):
        wait_until(lambda: carries(3, 2, 2) and heartbeat()["state"] == "live")
        fall.set()
        wait_until(lambda: carries(0, 4, 3) and heartbeat()["state"] == "live")
        assert any("moved to the others" in notice for notice in heartbeat()["notices"])
        rise.set()
        wait_until(lambda: carries(3, 2, 2) and heartbeat()["state"] == "live", 20)
        wait_until(lambda: unsubscribed(server) == {"T.S1", "T.S4"})  # each by the line that had it
        assert heartbeat()["notices"] == []


def test_minutes_are_whole_again_once_the_symbols_of_the_fallen_line_are_on_another(market):
    begin = this_minute()
    with unstarted(connections=2) as stream:
        stream._receive(up(1, "AAPL"))
        stream._receive(up(2, "MSFT"))
        now = time.monotonic()

        def say(minute: int) -> None:
            events = [trade(10.0, begin + minute * MINUTE + 1_000, minute, symbol=symbol) for symbol in ("AAPL", "MSFT")]
            stream._receive(Frame(1, json.dumps(events).encode(), now + minute * 60))

        say(0)
        say(1)
        stream._receive(LineState(2, State.CONNECTING, "the connection broke"))
        say(2)
        assert stream._intake.builder.whole_from is None, "nobody carries MSFT"
        stream._receive(up(1, "AAPL", "MSFT"))
        say(3)
        say(4)
        assert stream._intake.builder.whole_from == begin + 4 * MINUTE
        stream._receive(up(2, "MSFT"))  # back again: nothing is interrupted
        stream._receive(up(1, "AAPL"))
        assert stream._intake.builder.whole_from == begin + 4 * MINUTE


# -- silence (F3) ---------------------------------------------------------------------------------------------------------------------------


class Kicked:
    """Counts the new connections that the watchdog asks for, over a made-up time."""

    def __init__(self, stream, monkeypatch) -> None:
        self.reasons: list[str] = []
        self.stream = stream
        self.wall = 0.0
        self.began = time.monotonic()
        self.now = self.began
        monkeypatch.setattr("marketdata.stream.time.time", lambda: self.wall)
        stream._lines._lines[0].kick = self.reasons.append

    def watch(self, first: datetime, *, hours: float) -> None:
        self.wall = first.timestamp()
        end = self.wall + hours * 3_600
        while self.wall < end:
            self.stream._watch_for_silence(self.now)
            self.wall += 2
            self.now += 2


def new_york(stream) -> None:
    hours = [hours for _, hours in exchange_sessions(datetime(2026, 11, 1, tzinfo=UTC).date(), datetime(2026, 12, 31, tzinfo=UTC).date())]
    stream._sessions = SessionTable(hours)


@pytest.mark.parametrize(
    ("what", "first", "hours"),
    [
        ("a night", datetime(2026, 11, 20, 1, 0, tzinfo=UTC), 13.4),
        ("a weekend", datetime(2026, 11, 20, 21, 0, tzinfo=UTC), 65.4),
        ("Thanksgiving", datetime(2026, 11, 25, 21, 0, tzinfo=UTC), 41.4),
        ("after 13:00 of the half day", datetime(2026, 11, 27, 18, 0, tzinfo=UTC), 7),
        ("Christmas", datetime(2026, 12, 24, 18, 0, tzinfo=UTC), 92),
    ],
)
def test_f03_no_false_alarm_when_nothing_trades(market, monkeypatch, what, first, hours):
    with unstarted(symbols=[f"S{number}" for number in range(20)]) as stream:
        new_york(stream)
        stream._receive(up(1, *stream._symbols))
        watch = Kicked(stream, monkeypatch)
        watch.watch(first, hours=hours)
        assert watch.reasons == [], what


def test_f03_a_silent_line_in_regular_hours_gets_a_new_connection_within_twenty_seconds(market, monkeypatch):
    with unstarted(symbols=[f"S{number}" for number in range(20)]) as stream:
        new_york(stream)
        stream._receive(up(1, *stream._symbols))
        watch = Kicked(stream, monkeypatch)
        watch.watch(datetime(2026, 11, 27, 14, 30, tzinfo=UTC), hours=20 / 3600)  # the half day opens, and nothing comes
        assert watch.reasons == ["the connection is open but was silent for 15 s"]


def test_f03_a_line_that_is_open_but_silent_is_replaced_and_streams_again(market, monkeypatch):
    monkeypatch.setattr("marketdata.stream.SILENT_SECONDS_QUIET_FEED", 1.0)
    monkeypatch.setattr("marketdata.stream.STATUS_SECONDS", 0.2)
    monkeypatch.setattr("marketdata.bars.session.SessionTable.is_regular", lambda self, moment_ms: True)

    def script(peer, number):
        peer.log_in()
        if number > 1:
            while True:
                peer.send(trade(10.0, int(time.time() * 1000), int(time.time() * 1000)))
                time.sleep(0.1)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: server.connections == 2)
        wait_until(lambda: heartbeat().get("state") == "live" and heartbeat().get("frames", 0) > 5)
        assert heartbeat()["reconnects"] == 1


# -- refusals (F6, F7) ----------------------------------------------------------------------------------------------------------------------


def test_f07_two_programs_on_one_key_swap_at_most_twice_in_ten_minutes():
    for jitter in (0.0, 0.5, 0.999):
        backoff = Backoff()
        now, swaps = 0.0, 0
        while True:  # the other one comes back after a minute each time, and pushes us out again
            now += backoff.after(State.CROWDED, healthy_seconds=60.0, jitter=jitter)
            if now > 600:
                break
            swaps += 1
            now += 60.0
        assert swaps <= 2


def test_f06_a_plan_without_any_of_the_topics_is_told_and_not_hammered(market, monkeypatch):
    monkeypatch.setattr("marketdata.connection.SIGN_IN_SECONDS", 0.5)

    def script(peer, number):
        peer.accept()
        peer.send({"ev": "status", "status": "error", "message": "not authorized"})
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: heartbeat().get("state") == "refused")
        assert "the plan has none of the 2 topics" in heartbeat()["reason"]
        wait_until(lambda: heartbeat()["lines"][0]["retry_seconds"] >= 60)
        assert server.connections == 3


# -- what is said -----------------------------------------------------------------------------------------------------------------------------


def test_a_delayed_feed_is_recognised_and_said(market, monkeypatch):
    monkeypatch.setattr("marketdata.stream.STATUS_SECONDS", 0.1)

    def script(peer, number):
        peer.log_in()
        for q in range(5):
            peer.send(trade(10.0, int(time.time() * 1000) - 900_000, q))
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: heartbeat().get("state") == "delayed")
        assert heartbeat()["notices"] == ["The feed is 15 minutes behind: the plan has no real-time data."]


def test_of_a_symbol_that_the_plan_lacks_the_line_proves_nothing(market, monkeypatch):
    monkeypatch.setattr("marketdata.connection.SIGN_IN_SECONDS", 0.5)
    monkeypatch.setattr("marketdata.spans.CLAIM_LAG_MS", 0)
    monkeypatch.setattr("marketdata.stream.STATUS_SECONDS", 0.1)

    def script(peer, number):
        peer.accept()
        peer.send({"ev": "status", "status": "error", "message": "not authorized"}, subscribed("T.AAPL"))
        time.sleep(1)
        for number in range(3):
            peer.send(trade(10.0, this_minute() + number * MINUTE + 1_500, number))
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: FeedSpan.objects.exists())
        assert any("1 topics were never acknowledged (T.MSFT)" in notice for notice in heartbeat()["notices"])
    assert FeedSpan.objects.get().symbols == ["AAPL"]
    assert Bar.objects.exists()


def test_a_delayed_feed_has_whole_minutes_once_it_is_known_to_be_one_and_a_few_late_trades_make_none(market, monkeypatch):
    begin = this_minute() - 20 * MINUTE
    with unstarted() as stream:
        stream._receive(up(1, "AAPL", "MSFT"))
        wall = SimpleNamespace(time=lambda: clock.now / 1000, monotonic=lambda: clock.now / 1000)
        clock = SimpleNamespace(now=float(begin))
        monkeypatch.setattr("marketdata.stream.time", wall)
        monkeypatch.setattr("marketdata.lines.time", wall)
        stream._resumed_at = clock.now / 1000
        wholes = []
        for second in range(100):
            clock.now = begin + second * 1_000
            event = trade(10.0, begin - 900_000 + second * 1_000, second)
            stream._receive(Frame(1, json.dumps([event]).encode(), clock.now / 1000))
            wholes.append(stream._intake.builder.whole_from)
        assert min(whole for whole in wholes[:45] if whole is not None) >= begin, "it might be late trades only"
        assert wholes[-1] == begin - 900_000 + MINUTE
