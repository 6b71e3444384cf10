"""The live line over real sockets: what the feed may do to us, and what must be in the table afterwards."""

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from marketdata.announcer import Announcer
from marketdata.connection import Frame, Line, LineState, Loss, SignOfLife
from marketdata.feed.decode import Rejection
from marketdata.feed.protocol import State
from marketdata.flusher import MOST_WAITING_REJECTIONS, Flusher
from marketdata.management.commands import stream_ticks
from marketdata.models import Bar, RejectedEvent
from marketdata.signals import quotes_moving
from marketdata.stream import LiveStream
from tests.factories import make_bar
from tests.feed_server import FeedServer, door, feed_server, subscribed, trade
from tests.processes import ROOT, command_environment, database_url, run_command, wait_until
from tests.streams import MINUTE, heartbeat, streaming, this_minute, three_minutes, unstarted, up, whole_bars


@pytest.fixture(autouse=True)
def talkative(monkeypatch) -> None:
    """A stream that says often how it is."""
    monkeypatch.setattr("marketdata.stream.STATUS_SECONDS", 0.2)


def test_a_line_signs_in_subscribes_each_topic_and_stores_bars(market):
    def script(peer, number):
        peer.log_in()
        three_minutes(peer)
        peer.stay()

    with feed_server(script) as server, streaming(server.url, kinds=("T", "A")):
        wait_until(lambda: Bar.objects.count() == 2)
        said = server.said
    assert said[0] == {"action": "auth", "params": "k"}
    assert set(said[1]["params"].split(",")) == {"T.AAPL", "T.MSFT", "A.AAPL", "A.MSFT"}
    bars = list(Bar.objects.order_by("timestamp").values_list("close", "complete"))
    assert [(float(close), complete) for close, complete in bars] == [(10.0, False), (11.0, True), (12.0, False)]
    assert heartbeat()["state"] == "stopped"


def test_last_quotes_are_told_of_subscribed_symbols_and_never_stored(market):
    told: dict[str, tuple[float | None, float | None, float | None]] = {}

    def hear(quotes, **_):
        told.update({quote.sym: (quote.bp, quote.ap, quote.ask_size) for quote in quotes})

    def script(peer, number):
        peer.log_in()
        at = this_minute()
        peer.send(*({"ev": "Q", "sym": "AAPL", "bp": 10 + step, "bs": 1, "ap": 10.5 + step, "as": 2, "t": at + step} for step in range(3)))
        peer.send({"ev": "Q", "sym": "AAPL", "bp": 1.0, "ap": 2.0, "t": at}, {"ev": "Q", "sym": "MSFT", "bp": 20.0, "bs": 7, "t": at})
        peer.send({"ev": "Q", "sym": "NOBODY", "bp": 1.0, "ap": 2.0, "t": at})
        peer.stay()

    quotes_moving.connect(hear)
    try:
        with feed_server(script) as server, streaming(server.url, kinds=("T", "Q")):
            wait_until(lambda: len(told) == 2)
    finally:
        quotes_moving.disconnect(hear)
    assert told == {"AAPL": (12.0, 12.5, 2.0), "MSFT": (20.0, None, None)}
    assert Bar.objects.count() == 0


def test_three_connections_share_the_symbols(market):
    def script(peer, number):
        peer.log_in()
        peer.stay()

    symbols = [f"S{number}" for number in range(7)]
    with feed_server(script) as server, streaming(server.url, symbols=symbols, connections=3):
        wait_until(lambda: len(server.said) == 6)
        subscribed = [words["params"].split(",") for words in server.said if words["action"] == "subscribe"]
    assert sorted(len(pairs) for pairs in subscribed) == [2, 2, 3]
    assert sorted(sum(subscribed, [])) == sorted(f"T.{symbol}" for symbol in symbols)


@pytest.mark.parametrize("way", ["drop", 1000, 1001, 1008, 1011])
def test_however_the_feed_ends_the_connection_the_line_comes_back_with_all_topics(market, way):
    def script(peer, number):
        peer.log_in()
        if number == 1:
            peer.send(trade(5.0, this_minute() + 10, 1))
            peer.drop() if way == "drop" else peer.connection.close(way)
            return
        three_minutes(peer, first_q=10)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: whole_bars() == [11.0])
        subscriptions = [words["params"] for words in server.said if words["action"] == "subscribe"]
    assert subscriptions[0] == subscriptions[1] == "T.AAPL,T.MSFT"
    assert Bar.objects.order_by("timestamp").first().complete is False, "the minute of the break is never whole"


def test_a_connection_that_breaks_during_the_sign_in_is_tried_again(market):
    def script(peer, number):
        if number == 1:
            peer.drop()
        elif number == 2:
            peer.greet()
            peer.drop()
        else:
            peer.log_in()
            three_minutes(peer)
            peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: whole_bars() == [11.0])
        assert server.connections == 3


def test_rubbish_between_good_events_is_kept_and_stops_nothing(market):
    rubbish = ["[]", "not json", '{"ev":"AM","sym":"AAPL"}', '[{"sym":"AAPL"}]', '[{"ev":"ZZZ","sym":"AAPL"}]', b"\xff\xfe\x00", "[" * 3000]

    def script(peer, number):
        peer.log_in()
        for frame in rubbish:
            peer.send_raw(frame)
        peer.connection.send(b"\xff\xfe", text=True)  # a text frame that is no UTF-8
        peer.send(
            {"ev": "LULD", "T": "AAPL", "h": 55.1, "l": 44.9, "i": [17], "t": 1795185000123456789}, {"ev": "status", "status": "whatever"}
        )
        three_minutes(peer)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: whole_bars() == [11.0])
        wait_until(lambda: RejectedEvent.objects.count() == 7)
        assert server.connections == 1
    assert sorted(RejectedEvent.objects.values_list("reason", flat=True)) == [
        "no_event_type", "not_an_array", "not_json", "not_json", "not_json", "not_json", "unknown_event",
    ]  # fmt: skip


def test_a_frame_of_five_megabytes_is_stored_and_one_of_twenty_ends_only_the_connection(market):
    def script(peer, number):
        peer.log_in()
        if number == 1:
            begin = this_minute()
            many = [trade(10.0, begin + MINUTE + 1_500, q) for q in range(2, 60_000)]
            peer.send(trade(10.0, begin + 1_500, 1), *many, trade(10.0, begin + 2 * MINUTE + 1_500, 60_001))
            wait_until(lambda: whole_bars() == [10.0])
            peer.send_raw("[" + " " * 20_000_000 + "]")
        else:
            three_minutes(peer, first_q=70_000, start=this_minute() + 4 * MINUTE)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: len(whole_bars()) == 2)
        wait_until(lambda: heartbeat()["reconnects"] == 1)
        assert 5_000_000 > heartbeat()["largest_frame"] > 3_000_000
    assert Bar.objects.filter(complete=True).order_by("timestamp").first().trades == 59_998


def test_a_refused_key_keeps_trying_and_says_so_without_the_key(market, caplog):
    def script(peer, number):
        peer.refuse()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: heartbeat()["state"] == "refused")
        assert "check MASSIVE_API_KEY" in heartbeat()["reason"]
        assert server.connections <= 3


def test_another_program_on_the_same_key_makes_it_wait_a_minute(market):
    def script(peer, number):
        peer.log_in()
        peer.send({"ev": "status", "status": "max_connections", "message": "Maximum number of websocket connections exceeded."})
        peer.connection.close(1008)

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: heartbeat()["state"] == "cooling")
        assert heartbeat()["lines"][0]["retry_seconds"] >= 60
        assert server.connections == 1


def test_topics_that_are_not_in_the_plan_are_named_as_missing(market, monkeypatch):
    monkeypatch.setattr("marketdata.connection.SIGN_IN_SECONDS", 1.0)

    def script(peer, number):
        peer.accept()
        peer.send({"ev": "status", "status": "error", "message": "not authorized"}, subscribed("T.AAPL"))
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: heartbeat()["state"] == "live")
        assert heartbeat()["lines"][0]["missing_topics"] == 1


def test_a_database_connection_that_is_cut_loses_nothing(market):
    go_on = threading.Event()

    def script(peer, number):
        peer.log_in()
        three_minutes(peer)
        go_on.wait(30)
        three_minutes(peer, first_q=10, start=this_minute() + 3 * MINUTE)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: whole_bars() == [11.0])
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tickstock stream 1/1'")
        go_on.set()
        wait_until(lambda: len(whole_bars()) == 4)
    assert whole_bars() == [11.0, 12.0, 10.0, 11.0]


def test_a_database_that_answers_and_refuses_is_asked_again_calmly_and_loses_nothing(writer, monkeypatch):
    monkeypatch.setattr("marketdata.flusher.RETRY_SECONDS", 0.1)
    with connection.cursor() as cursor:
        name = connection.settings_dict["NAME"]
        cursor.execute(f"ALTER DATABASE {name} SET lock_timeout = '10ms'")
        flusher = Flusher(writer, Announcer(), batch_size=100, flush_seconds=5.0)
        try:
            with psycopg.connect(database_url()) as other:
                other.execute("LOCK TABLE ohlcv_1min IN ACCESS EXCLUSIVE MODE")
                cursor.execute("SELECT pg_terminate_backend(%s)", (writer.connection.info.backend_pid,))  # its successor knows the timeout
                flusher.add([make_bar(10)], [])
                began, first = time.monotonic(), writer.epoch
                wait_until(lambda: writer.epoch > first + 4)
                assert time.monotonic() - began >= 3 * 0.1, "each attempt costs a connection"
                other.rollback()
            wait_until(lambda: Bar.objects.count() == 1)
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET lock_timeout")
            flusher.drain(5)
            flusher.stop()


def test_rejections_that_wait_for_a_database_are_bounded_and_counted(writer):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", (writer.connection.info.backend_pid,))
    with psycopg.connect(database_url()) as other:
        other.execute("LOCK TABLE rejected_events IN ACCESS EXCLUSIVE MODE")
        flusher = Flusher(writer, Announcer(), batch_size=100, flush_seconds=5.0)
        for number in range(200):
            flusher.add([], [Rejection("bad_value", "x", "T", f"S{number}-{place}", "{}") for place in range(500)])
            assert len(flusher._rejections) <= 2 * MOST_WAITING_REJECTIONS + 500
    assert flusher.drain(20)
    flusher.stop()
    assert sum(RejectedEvent.objects.values_list("count", flat=True)) == 100_000


def test_late_and_repeated_events_revise_a_stored_bar_once(market):
    def script(peer, number):
        peer.log_in()
        three_minutes(peer)
        wait_until(lambda: whole_bars() == [11.0])
        late = trade(50.0, this_minute() + MINUTE + 2_000, 50)
        peer.send(late, late)
        peer.send(late)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: Bar.objects.filter(high=50).exists())
    bar = Bar.objects.get(high=50)
    assert (bar.revision, bar.volume, bar.trades) == (1, 200, 2)


# -- the command as a process --------------------------------------------------------------------------------------------------------------


def start_command(server: FeedServer, *arguments: str) -> subprocess.Popen:
    environment = command_environment(
        MASSIVE_API_KEY="canary-key-7f3a", MASSIVE_WS_URL=server.url, MASSIVE_REST_URL="http://127.0.0.1:9", USE_SYNTHETIC_DATA="0"
    )
    command = [sys.executable, "manage.py", "stream_ticks", "--symbols", "AAPL,MSFT", "--events", "T", "--json", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_sigterm_stores_what_was_seen_and_exits_with_status_zero(market):
    def script(peer, number):
        peer.log_in()
        three_minutes(peer)
        peer.stay()

    with feed_server(script) as server:
        process = start_command(server)
        wait_until(lambda: Bar.objects.count() == 2)
        second = run_command(
            "stream_ticks", "--symbols", "AAPL", check=False, MASSIVE_API_KEY="k", MASSIVE_WS_URL=server.url, USE_SYNTHETIC_DATA="0"
        )
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    report = json.loads(output.splitlines()[-1])
    assert (report["bars"], report["events"]) == (3, 3)
    assert Bar.objects.count() == 3
    assert (second.returncode, "already written by process" in second.stderr) == (1, True)
    assert "canary-key" not in output


TWO_SIGNALS = """
import signal, sys
import django
django.setup()
from marketdata.management.commands.stream_ticks import _stop_on_signals
stop = _stop_on_signals()
def second(frame, event, argument):
    if frame.f_code.co_name == "notify_all":  # here an event that is being set holds its lock
        sys.settrace(None)
        signal.raise_signal(signal.SIGTERM)
sys.settrace(second)
signal.raise_signal(signal.SIGTERM)
sys.settrace(None)
sys.exit(0 if stop.wait(20) else 1)
"""


def test_a_signal_that_comes_while_another_is_answered_does_not_wait_for_it_for_ever():
    assert subprocess.run([sys.executable, "-c", TWO_SIGNALS], cwd=ROOT, env=command_environment(), timeout=60, check=False).returncode == 0


def test_a_killed_stream_leaves_whole_bars_and_its_successor_goes_on(market):
    def script(peer, number):
        peer.log_in()
        three_minutes(peer, first_q=10 * number, start=this_minute() + (number - 1) * 3 * MINUTE)
        peer.stay()

    with feed_server(script) as server:
        process = start_command(server)
        wait_until(lambda: Bar.objects.count() == 2)
        process.kill()
        process.communicate()
        process = start_command(server)
        wait_until(lambda: len(whole_bars()) == 2)
        process.terminate()
        output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert whole_bars() == [11.0, 11.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--universe", "nonsense"], "There is no universe “nonsense”. Known are: combo_test, stock_etf_test."),
        (["--events", "AM,XX"], "Unknown event kind XX"),
        (["--connections", "4"], "between 1 and 3"),
        (["--connections", "0"], "between 1 and 3"),
        (["--symbols", ","], "names no symbol"),
        (["--symbols", "AAPL,*"], "'*', which is no symbol"),
        (["--events", ""], "Unknown event kind (none)"),
        (["--shard", "100/100"], "Shard 100/100 has no symbols: there are only 72."),
    ],
)
def test_a_wrong_live_call_is_one_sentence(market, settings, monkeypatch, arguments, words):
    monkeypatch.setattr(stream_ticks, "_stop_on_signals", threading.Event)  # the signals of the test run stay its own
    settings.MASSIVE_API_KEY, settings.MASSIVE_WS_URL = "k", "ws://127.0.0.1:9/stocks"

    with pytest.raises(CommandError, match=re.escape(words)):
        call_command("stream_ticks", *arguments)


def test_an_unreachable_database_is_one_sentence(market):
    done = run_command("stream_ticks", check=False, MASSIVE_API_KEY="k", DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    assert (done.returncode, "The database cannot be reached" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


# -- several lines, lost frames, hostile words ---------------------------------------------------------------------------------------------


def say(stream: LiveStream, line: int, *events: dict, received: float) -> None:
    stream._receive(Frame(line, json.dumps(list(events)).encode(), received))


def closed_bars(stream: LiveStream) -> dict[tuple[str, int], bool]:
    stream._intake.close(stream._stream_now())
    bars, stream._intake.bars = stream._intake.bars, []
    return {(bar.symbol, (bar.opened_at_ms - this_minute()) // MINUTE): bar.complete for bar in bars}


def test_a_minute_waits_for_the_slowest_line_and_is_partial_where_that_one_turns_out_dead(market):
    begin = this_minute()
    with unstarted(connections=2) as stream:
        for line in (1, 2):
            stream._receive(up(line, ("AAPL", "MSFT")[line - 1]))
        now = time.monotonic()
        for line, symbol in ((1, "AAPL"), (2, "MSFT")):
            say(stream, line, trade(10.0, begin + 59_000, 1, symbol=symbol), received=now + 1)
            say(stream, line, trade(10.0, begin + MINUTE + 30_000, 2, symbol=symbol), received=now + 32)
        say(stream, 1, trade(10.0, begin + 2 * MINUTE + 5_000, 3), received=now + 67)  # line 2 was heard of last 35 s before

        assert ("MSFT", 1) not in closed_bars(stream)
        stream._receive(LineState(2, State.CONNECTING, "no answer to a ping for 20 s"))
        say(stream, 1, trade(10.0, begin + 2 * MINUTE + 25_000, 4), received=now + 87)

        assert closed_bars(stream)["MSFT", 1] is False


def test_frames_that_a_full_queue_dropped_leave_no_minute_whole(market):
    begin = this_minute()
    with unstarted() as stream:
        line = Line(1, url="ws://127.0.0.1:9", key="k", pairs=(), into=queue.Queue(3))
        stream._receive(up(1, "AAPL", "MSFT"))
        now = time.monotonic()
        frames = [
            Frame(1, json.dumps([trade(10.0, begin + seconds * 1_000, seconds)]).encode(), now + seconds)
            for seconds in (59, 61, 70, 80, 90, 121, 122, 190)
        ]

        for frame in frames[:4]:  # the fourth finds the queue full
            line._hand_on(frame)
        handed = [line._into.get_nowait() for _ in range(3)]
        line._hand_on(frames[4])
        line._hand_on(frames[5])
        handed += [line._into.get_nowait() for _ in range(3)]
        for frame in frames[6:]:
            line._hand_on(frame)
            handed.append(line._into.get_nowait())
        for item in handed:
            stream._receive(item)

        assert [type(item) for item in handed[2:5]] == [Frame, Loss, Frame]
        assert line.dropped == 1
        assert closed_bars(stream) == {("AAPL", 0): False, ("AAPL", 1): False, ("AAPL", 2): True}


def test_in_regular_hours_a_busy_line_that_only_answers_pings_finishes_no_minute(market):
    start = int(datetime(2026, 11, 20, 15, 0, tzinfo=UTC).timestamp() * 1000)  # a Friday, 10:00 in New York
    symbols = [f"S{number}" for number in range(10)]
    with unstarted(symbols=symbols) as stream:
        stream._receive(up(1, *symbols))
        now = time.monotonic()
        say(stream, 1, trade(10.0, start, 1, symbol="S1"), received=now)
        say(stream, 1, trade(10.0, start + MINUTE + 50_000, 2, symbol="S1"), received=now + 110)
        stream._receive(SignOfLife(1, now + 125))

        assert stream._stream_now() == start + MINUTE + 50_000
        for symbol in ("S2", "S3"):
            say(stream, 1, trade(10.0, start + 6 * 60 * MINUTE - 1, 1, symbol=symbol), received=now + 6 * 3_600)
        stream._receive(SignOfLife(1, now + 6 * 3_600 + 5))
        assert stream._stream_now() > start + 6 * 60 * MINUTE, "after the close silence is normal"


def test_absurd_times_in_every_frame_do_not_stop_the_streams_clock(market):
    begin = this_minute()
    with unstarted() as stream:
        stream._receive(up(1, "AAPL", "MSFT"))
        now = time.monotonic()
        for second in range(3):
            events = (trade(10.0, begin + second * 1_000, second), trade(10.0, begin + 10**12, 100 + second, symbol="MSFT"))
            say(stream, 1, *events, received=now + second)

        assert stream._stream_now() == begin + 2_000


def test_a_status_behind_many_events_of_one_frame_is_heard(market):
    def script(peer, number):
        peer.log_in()
        events = [trade(10.0, this_minute() + 1_500, q) for q in range(1, 50)]
        peer.send(*events, {"ev": "status", "status": "max_connections", "message": "Maximum number of websocket connections exceeded."})
        peer.connection.close(1008)

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: heartbeat()["state"] == "cooling")
        assert server.connections == 1


def test_characters_that_the_database_refuses_stop_nothing(market):
    def script(peer, number):
        if number == 1:
            peer.refuse("no\0way")
            return
        peer.log_in()
        peer.send({"ev": "X\0Y", "sym": "A\0"}, {"ev": "T", "sym": "AAPL\0", "p": "\0"})
        three_minutes(peer)
        peer.stay()

    with feed_server(script) as server, streaming(server.url):
        wait_until(lambda: whole_bars() == [11.0])
        wait_until(lambda: RejectedEvent.objects.count() == 2)


def test_a_redirect_does_not_carry_the_key_to_another_host(market):
    def script(peer, number):
        peer.log_in()
        peer.stay()

    moved = "HTTP/1.1 301 Moved Permanently\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n"
    with feed_server(script) as elsewhere, door(moved.format(elsewhere.url).encode()) as url:
        items: queue.Queue = queue.Queue()
        line = Line(1, url=url, key="k", pairs=("T.AAPL",), into=items)
        line.start()
        first = items.get(timeout=10)
        line.stop()
        line.join(10)
    assert (first.state, elsewhere.connections) == (State.CONNECTING, 0)


def test_a_stream_that_saw_nothing_says_that_it_stopped(market):
    def script(peer, number):
        peer.log_in()
        peer.stay()

    for _ in range(5):
        with feed_server(script) as server, streaming(server.url):
            wait_until(lambda: heartbeat()["state"] == "live")
        assert heartbeat()["state"] == "stopped"
