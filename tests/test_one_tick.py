"""
Read first. One tick's whole way through real parts: a frame goes in over a socket, a row, a browser message and a detection come out.

feed server → stream → PostgreSQL → announcement → Valkey → hub → WebSocket, and → Celery worker → detection → WebSocket.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from django.conf import settings
from websockets.sync.client import connect

from marketdata.models import Bar, Session
from marketdata.stream import LiveStream
from marketdata.writer import Writer, line_name
from patterns.models import Detection, IndicatorValue
from tests.dashboards.conftest import Web, web, web_process  # noqa: F401 - fixtures
from tests.feed_server import Peer, feed_server, trade
from tests.people import bearer, make_token, make_user
from tests.processes import ROOT, command_environment

MINUTE = 60_000


@pytest.fixture
def worker(web: Web, market) -> Iterator[None]:  # noqa: F811 - the fixture
    """A real Celery worker on the test's database, broker and Valkey."""
    environment = command_environment(
        REDIS_URL=web.redis_url, CELERY_BROKER_URL=settings.CELERY_BROKER_URL, DJANGO_SETTINGS_MODULE="tests.settings"
    )
    command = [
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "-A",
        "tickstock",
        "worker",
        "-P",
        "threads",
        "-c",
        "1",
        "--without-gossip",
        "--without-mingle",
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    process.wait(30)


def candles(peer: Peer, number: int) -> None:
    """Send a quarter of an hour of rising candles, then a doji: a bar that closes where it opened."""
    peer.log_in()
    # Ahead of the wall clock, as the twin at speed: such a feed is its own clock, and minutes may be seen whole within seconds
    start = int(time.time() * 1000) // MINUTE * MINUTE + MINUTE
    sequence = iter(range(1, 1000))
    for minute in range(15):
        rises = 0.0 if minute == 13 else 0.5
        opens = 100 + 0.4 * minute
        for second, price in ((1, opens), (20, opens + 0.7), (40, opens - 0.2), (58, opens + rises)):
            peer.send(trade(round(price, 2), start + minute * MINUTE + second * 1000, next(sequence)))
    peer.stay()


def test_a_frame_becomes_a_row_a_browser_message_and_a_detection(web: Web, market, worker):  # noqa: F811 - the fixture
    _, token = make_token(make_user())
    held = Writer(line_name(1, 1))
    held.acquire_within(10)
    with (
        feed_server(candles) as feed,
        connect(f"ws://{web.host}/ws/live", additional_headers=bearer(token)) as page,
    ):
        page.send(json.dumps({"action": "watch", "topics": ["bars:AAPL", "patterns", "feed"]}))
        stream = LiveStream(
            held, Session.objects.table(), feed="massive", ws_url=feed.url, key="k", symbols=("AAPL",), kinds=("T",), connections=1,
            batch_size=100, flush_seconds=5.0, history=None,
        )  # fmt: skip
        thread = threading.Thread(target=stream.run)
        thread.start()
        try:
            heard = hear_until_doji(page)
        finally:
            stream.stop()
            thread.join(40)
            held.close()

    shown = {bar["t"]: bar for message in heard if message["topic"] == "bars:AAPL" for bar in message["data"]["bars"] if not bar["forming"]}
    doji = Detection.objects.get(pattern_type="doji", symbol_id="AAPL")
    rows = Bar.objects.filter(symbol_id="AAPL", complete=True, timestamp__lte=doji.timestamp).order_by("timestamp")
    assert rows.count() == 13
    for row in rows:
        bar = shown[row.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")]
        assert [bar[name] for name in "ohlcv"] == [float(value) for value in (row.open, row.high, row.low, row.close, row.volume)]
        assert (bar["complete"], bar["n"]) == (True, 4)
    assert any((message["data"] or {}).get("state") == "live" for message in heard if message["topic"] == "feed")
    assert (doji.timeframe, doji.direction, doji.status, doji.timestamp) == ("1m", "neutral", "standing", list(rows)[-1].timestamp)
    assert 0 < doji.confidence < 1
    assert IndicatorValue.objects.filter(symbol_id="AAPL", indicator_name="sma_10").exists()


def hear_until_doji(page) -> list[dict]:
    """Return all messages up to the one that names a doji."""
    heard = []
    end = time.monotonic() + 60
    while time.monotonic() < end:
        message = json.loads(page.recv(timeout=30))
        if message["type"] == "heartbeat":
            continue
        heard.append(message)
        if message["topic"] == "patterns" and any(found["pattern_type"] == "doji" for found in message["data"]["detections"]):
            return heard
    raise AssertionError([message["topic"] for message in heard])
