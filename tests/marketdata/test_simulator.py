"""The twin as a process: the official client signs in, subscribes and parses it, and asks its REST."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import massive
import pytest
from massive.exceptions import AuthError, BadResponse
from massive.websocket.models import EquityAgg, EquityTrade
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from marketdata.twin.days import NEW_YORK
from marketdata.twin.market import Market

ROOT = Path(__file__).resolve().parents[2]
# What would lead to a database or a Redis must not be touched
NOWHERE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
COMMAND = (sys.executable, "manage.py", "simulate_massive")
SEED = 5


def run(*flags):
    """Run a twin that ends by itself."""
    return subprocess.run([*COMMAND, *flags], cwd=ROOT, env=os.environ | NOWHERE, capture_output=True, text=True)


class Twin:
    """A running `simulate_massive`."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [*COMMAND, "--port", "0", "--seed", str(SEED), *flags],
            cwd=ROOT,
            env=os.environ | NOWHERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.announced = self.process.stdout.readline().strip()
        self.port = int(self.announced.rpartition(":")[2])

    @property
    def rest(self):
        return massive.RESTClient("key", base=f"http://127.0.0.1:{self.port}", retries=0)

    def websocket(self, key, subscriptions):
        return massive.WebSocketClient(key, feed=f"127.0.0.1:{self.port}", secure=False, subscriptions=subscriptions, max_reconnects=0)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def twin():
    running = Twin("--speed", "120", "--interval", "0.05", "--tickers", "72")
    yield running
    running.process.kill()
    running.process.communicate()


async def listen(client, enough):
    """Let the official client run until `enough` says so; return what it parsed."""
    got, done = [], asyncio.Event()

    async def collect(messages):
        got.extend(messages)
        if enough(got):
            done.set()

    running = asyncio.create_task(client.connect(collect))
    waiting = asyncio.create_task(done.wait())
    async with asyncio.timeout(60):
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        running.result()
    await client.close()
    running.cancel()
    return got


def test_it_says_where_it_listens(twin):
    assert twin.announced == f"listening on ws://127.0.0.1:{twin.port}/stocks and http://127.0.0.1:{twin.port}"


async def test_the_official_client_receives_what_it_subscribed_to(twin):
    def enough(messages):
        kinds = Counter(message.event_type for message in messages)
        return len({message.symbol for message in messages if message.event_type == "AM"}) == 72 and kinds["A"] > 5 and kinds["T"] > 5

    got = await listen(twin.websocket("key", ["AM.*", "A.AAPL", "T.AAPL"]), enough)

    assert all(isinstance(message, EquityTrade if message.event_type == "T" else EquityAgg) for message in got)
    assert {message.symbol for message in got if message.event_type in ("A", "T")} == {"AAPL"}
    market = Market(seed=SEED, tickers=72)
    finals = {(bar.symbol, bar.start_timestamp): bar for bar in got if bar.event_type == "AM"}
    right = 0
    for (symbol, start), bar in finals.items():
        minute = market.minute(market.by_symbol[symbol], start // 60_000)
        right += (bar.open, bar.high, bar.low, bar.close) == (minute.open, minute.high, minute.low, minute.close)
        assert bar.end_timestamp == start + 60_000
        assert bar.open == minute.open
    assert right >= 0.9 * len(finals)  # the rest came too early, and its correction after we had left


async def test_the_official_client_is_told_that_its_key_is_bad(twin):
    with pytest.raises(AuthError, match="authentication failed"):
        await listen(twin.websocket("bad", ["AM.*"]), bool)


async def test_a_bad_key_ends_the_line_without_a_close_frame(twin):
    async with connect(f"ws://127.0.0.1:{twin.port}/stocks") as line:
        await line.recv()
        await line.send('{"action":"auth","params":"bad"}')
        assert json.loads(await line.recv())[0]["status"] == "auth_failed"
        with pytest.raises(ConnectionClosedError) as ended:
            await line.recv()
    assert ended.value.rcvd is None


async def test_pipelined_requests_are_answered_in_their_order(twin):
    async with connect(f"ws://127.0.0.1:{twin.port}/stocks") as line:
        await line.send('{"action":"subscribe","params":"AM.*"}')
        await line.send('{"action":"auth","params":"key"}')
        await line.send('{"action":"subscribe","params":"Q.AAPL,FMV.X, Q.BRK.B"}')
        await line.send('{"action":"unsubscribe","params":"Q.BRK.B"}')
        heard = [[item["message"] for item in json.loads(await line.recv())] for _ in range(5)]

    assert heard == [
        ["Connected Successfully"],
        ["authentication required"],
        ["authenticated"],
        ["not authorized", "subscribed to: Q.AAPL", "subscribed to: Q.BRK.B"],
        ["unsubscribed to: Q.BRK.B"],
    ]


async def test_a_symbol_matched_twice_comes_once_and_frames_stay_small(twin):
    async with connect(f"ws://127.0.0.1:{twin.port}/stocks", max_size=999_999) as line:
        await line.send('{"action":"auth","params":"key"}')
        await line.send('{"action":"subscribe","params":"T.*,T.AAPL,A.*,AM.*"}')
        trades, topics_of_frames = Counter(), set()
        while sum(trades.values()) < 200:
            frame = json.loads(await line.recv())
            topics_of_frames.add(frozenset(event["ev"] for event in frame))
            trades.update(event["q"] for event in frame if event["ev"] == "T" and event["sym"] == "AAPL")

    assert set(trades.values()) == {1}
    assert any(len(topics) > 1 for topics in topics_of_frames)


def test_the_official_client_pages_through_two_years_and_a_month_of_minutes(twin):
    today = datetime.now(NEW_YORK).date()
    days = list(twin.rest.list_aggs("AAPL", 1, "day", today - timedelta(days=730), today, adjusted=False, limit=200))
    minutes = list(twin.rest.list_aggs("BRK.B", 1, "minute", today - timedelta(days=12), today - timedelta(days=10), limit=1000))

    assert len(days) >= 730
    assert len({bar.timestamp for bar in days}) == len(days)
    assert len({bar.timestamp for bar in minutes}) == len(minutes) in (3 * 1440 - 60, 3 * 1440, 3 * 1440 + 60)
    assert all(
        bar.low <= min(bar.open, bar.close) <= bar.vwap + (bar.high - bar.low) and bar.volume > 0 and bar.transactions > 0
        for bar in minutes
    )


def test_the_official_client_reads_the_reference_data(twin):
    assert len(list(twin.rest.list_tickers(market="stocks", active=True, limit=30))) == 72
    assert twin.rest.get_ticker_details("BRK.B").primary_exchange == "XNYS"
    assert {condition.id for condition in twin.rest.list_conditions(asset_class="stocks", data_type="trade", limit=1000)} >= {
        2,
        12,
        14,
        37,
        41,
    }
    assert twin.rest.get_market_status().market == "open"
    assert twin.rest.get_market_holidays() == []
    yesterday = datetime.now(NEW_YORK).date() - timedelta(days=1)
    assert {bar.ticker for bar in twin.rest.get_grouped_daily_aggs(yesterday)} >= {"AAPL", "BRK.B", "QAAAA"}
    with pytest.raises(BadResponse, match="Ticker not found"):
        twin.rest.get_ticker_details("NOPE")
    with pytest.raises(BadResponse, match="Unknown API Key"):
        massive.RESTClient("bad", base=f"http://127.0.0.1:{twin.port}").get_market_status()


def test_a_port_in_use_is_one_sentence_and_status_1(twin):
    second = subprocess.run(
        [sys.executable, "manage.py", "simulate_massive", "--port", str(twin.port)],
        cwd=ROOT,
        env=os.environ | NOWHERE,
        capture_output=True,
        text=True,
    )

    assert second.returncode == 1
    assert second.stderr == f"CommandError: Port {twin.port} of 127.0.0.1 is in use; choose another with --port.\n"
    assert second.stdout == ""


def test_too_many_tickers_are_one_sentence_and_status_1():
    refused = subprocess.run(
        [sys.executable, "manage.py", "simulate_massive", "--tickers", "0"],
        cwd=ROOT,
        env=os.environ | NOWHERE,
        capture_output=True,
        text=True,
    )

    assert refused.returncode == 1
    assert refused.stderr.startswith("CommandError: The twin has 1 to ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_though_clients_are_connected(number):
    running = Twin()
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"GET /stocks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        client.sendall(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert b"101" in client.recv(1000)
        status, errors = running.stop(number)

    assert status == 0
    assert "Traceback" not in errors


async def test_who_reads_too_slowly_is_told_and_closed():
    running = Twin("--speed", "2000", "--interval", "0.2")
    try:
        async with connect(f"ws://127.0.0.1:{running.port}/stocks", max_queue=1, ping_interval=None) as line:
            await line.send('{"action":"auth","params":"key"}')
            await line.send('{"action":"subscribe","params":"T.*,A.*,AM.*"}')
            await asyncio.to_thread(_read_until, running.process.stderr, "reads too slowly")
            heard = await _everything(line)
        assert json.loads(heard[-1])[0]["status"] == "slow_consumer"
        assert line.close_code == 1008
    finally:
        running.process.kill()
        running.process.communicate()


async def _everything(line):
    """Return all frames until the connection ends."""
    heard = []
    with suppress(ConnectionClosed):
        while True:
            heard.append(await line.recv())
    return heard


def _read_until(stream, word):
    for line in stream:
        if word in line:
            return
    raise AssertionError(f"{word!r} was never said")
