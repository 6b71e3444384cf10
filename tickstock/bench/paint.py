"""From a frame of the feed to a bar on the glass: a real line, stream, database, Redis and daphne, and pages in chromium."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any, cast

import redis
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from accounts.models import User
from dashboards import wire
from marketdata.models import Session, Symbol
from marketdata.stream import LiveStream
from marketdata.writer import Writer, line_name
from tickstock.bench.rows import Place, Row, not_measured, time_row
from tickstock.bench.serving import daphne

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
SYMBOLS, PAGES = 70, 10
FRAMES_A_SECOND = 10  # of second aggregates: each symbol once a second, as the feed sends them
WARM_SECONDS, SECONDS = 5, 25
MIDDLE_SECONDS, P99_SECONDS, COMMITTED_SECONDS = 0.100, 0.400, 0.150
LAST_SECONDS = 3.0
_LISTEN = """() => { window.told = []; new PerformanceObserver((list) => { for (const entry of list.getEntries())
  if (entry.name === "bars-painted") window.told.push([entry.detail.seq, entry.detail.painted_at]); }).observe({ type: "mark" }); }"""

Painted = list[list[tuple[int, float]]]  # of each page: number of the flush, Unix ms at which it stood on the glass


def rows(place: Place) -> Iterator[Row]:  # noqa: ARG001 - every subject gets it
    """Yield the rows of painting."""
    chromium = next((path for path in CHROMIUM if Path(path).exists()), None)
    if chromium is None:
        yield not_measured("70 symbols: frame → bar painted", "100 ms", 1.0, "there is no chromium: apt install chromium", at_least=False)
        return
    symbols = list(Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).order_by("symbol").values_list("symbol", flat=True)[:SYMBOLS])
    user = User.objects.create_user(username="painter", password=None)
    try:
        key = _session(user)
        with daphne() as (port, _):
            yield from _stored(
                chromium, port, key, symbols
            )  # first: on minutes of which no whole bar stands, which a late line may not replace
            yield from _moving(chromium, port, key, symbols)
    finally:
        user.delete()


def _moving(chromium: str, port: int, key: str, symbols: Sequence[str]) -> Iterator[Row]:
    with _streaming(symbols, "A") as feed, _pages(chromium, port, key, count=1) as collect:
        _paced(WARM_SECONDS, feed, symbols, _seconds)
        begin = feed.number
        _paced(SECONDS, feed, symbols, _seconds)
        time.sleep(LAST_SECONDS)
        painted = collect()
    shown = {seq: number for seq, number, _ in _announced("forming")}
    ages = _ages({number: at for number, at in feed.sent.items() if number > begin}, shown, painted)
    yield from _both(ages, "70 symbols: frame received → bar painted", f"{len(ages)} frames of second aggregates, one page")


def _stored(chromium: str, port: int, key: str, symbols: Sequence[str]) -> Iterator[Row]:
    with _streaming(symbols, "AM") as feed, _pages(chromium, port, key, count=PAGES) as collect:
        _paced(WARM_SECONDS, feed, symbols, _minutes, per_second=1)
        begin = feed.number
        _paced(SECONDS, feed, symbols, _minutes, per_second=1)
        time.sleep(LAST_SECONDS)
        painted = collect()
    announced = [entry for entry in _announced("stored") if entry[1] > begin]
    committed = {number: at for _, number, at in announced}
    ages = _ages(committed, {seq: number for seq, number, _ in announced}, painted)
    name, against = "70 symbols, ten pages: bar committed → painted, p50", "150 ms"
    if not ages:
        yield not_measured(name, against, 1.0, "no page painted anything", at_least=False)
        return
    note = f"{len(announced)} minutes on {PAGES} pages; p99 {quantiles(ages, n=100)[98] * 1000:.0f} ms"
    yield time_row(name, against, ours=median(ages), peer=COMMITTED_SECONDS, goal=1.0, note=note)


def _both(ages: list[float], name: str, note: str) -> Iterator[Row]:
    if len(ages) < FRAMES_A_SECOND:
        yield not_measured(f"{name}, p50", "100 ms", 1.0, "the page painted too few of them", at_least=False)
        return
    cuts = quantiles(ages, n=100)
    yield time_row(f"{name}, p50", "100 ms", ours=cuts[49], peer=MIDDLE_SECONDS, goal=1.0, note=note)
    yield time_row(
        f"{name}, p99", "400 ms", ours=cuts[98], peer=P99_SECONDS, goal=1.0, note=f"{min(ages) * 1000:.0f} to {max(ages) * 1000:.0f} ms"
    )


def _ages(sent: dict[int, float], shown: dict[int, int], painted: Painted) -> list[float]:
    """
    Return seconds from each sent number (to when, Unix) to the first painting that shows it or a newer one, on each page.

    `shown` gives the newest number that a flush holds.
    """
    ages = []
    for page in painted:
        seen = sorted((shown[seq], at / 1000) for seq, at in page if seq in shown)
        for number, at in sent.items():
            first = min((when for newest, when in seen if newest >= number), default=None)
            if first is not None:
                ages.append(first - at)
    return ages


def _announced(which: str) -> list[tuple[int, int, float]]:
    """Return what the live log holds of forming or stored bars: number of the flush, newest of our numbers in it, Unix time."""
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], redis.Redis.from_url(settings.REDIS_URL).xrange(wire.LOG_KEY))
    found = []
    for name, fields in entries:
        bars = json.loads(fields[b"body"])["bars"] if fields[b"kind"].decode() == wire.BARS else []
        numbers = [round(bar["h"] * 100) - 10_000 for bar in bars if bar["forming"] == (which == "forming")]
        if numbers:
            at = datetime.fromisoformat(fields[b"at"].decode()).timestamp()
            found.append((int(name.partition(b"-")[0]), max(numbers), at))
    return found


# ---- the feed ------------------------------------------------------------------------------------------------------------------------


class _Feed:
    """A server that accepts a login, and sends what it is given; the number of a frame stands in its bars' highs."""

    def __init__(self) -> None:
        self.number = 0
        self.sent: dict[int, float] = {}
        self._line: ServerConnection | None = None
        self._ready = threading.Event()
        self.server = serve(self._serve, "127.0.0.1", 0, compression=None)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}/stocks"

    def _serve(self, line: ServerConnection) -> None:
        line.send(json.dumps([{"ev": "status", "status": "connected", "message": "Connected Successfully"}]))
        line.recv()
        line.send(json.dumps([{"ev": "status", "status": "auth_success", "message": "authenticated"}]))
        pairs = json.loads(line.recv())["params"].split(",")
        line.send(json.dumps([{"ev": "status", "status": "success", "message": f"subscribed to: {pair}"} for pair in pairs]))
        self._line = line
        self._ready.set()
        try:
            while True:
                line.recv()
        except ConnectionClosed:
            return

    def send(self, events: list[dict[str, Any]]) -> None:
        if not self._ready.wait(20) or self._line is None:
            raise TimeoutError("the stream did not sign in")
        self.sent[self.number] = time.time()
        self._line.send(json.dumps(events))


def _event(symbol: str, number: int, kind: str, begin_ms: int, length_ms: int) -> dict[str, Any]:
    high = 100 + number / 100
    prices = {"o": 100.0, "h": high, "l": 99.5, "c": high, "vw": 100.0}
    return {"ev": kind, "sym": symbol, "v": 100, "av": 100 * number, "z": 10, "s": begin_ms, "e": begin_ms + length_ms, **prices}


def _seconds(symbols: Sequence[str], number: int) -> list[dict[str, Any]]:
    """The next tenth of the symbols, each with the second that has just ended."""
    begin = int(time.time()) * 1000 - 1000
    return [_event(symbol, number, "A", begin, 1000) for symbol in symbols[number % FRAMES_A_SECOND :: FRAMES_A_SECOND]]


def _minutes(symbols: Sequence[str], number: int) -> list[dict[str, Any]]:
    """A whole minute of all: each a revision of the one before, as the feed sends them again, or the next one."""
    begin = int(time.time()) // 60 * 60_000 - 60_000
    return [_event(symbol, number, "AM", begin, 60_000) | {"v": 100 + number} for symbol in symbols]


def _paced(
    seconds: int,
    feed: _Feed,
    symbols: Sequence[str],
    make: Callable[[Sequence[str], int], list[dict[str, Any]]],
    *,
    per_second: int = FRAMES_A_SECOND,
) -> None:
    first = time.perf_counter()
    for step in range(seconds * per_second):
        time.sleep(max(0.0, first + step / per_second - time.perf_counter()))
        feed.number += 1
        feed.send(make(symbols, feed.number))


@contextmanager
def _streaming(symbols: Sequence[str], kind: str) -> Iterator[_Feed]:
    """Run the live workflow against a feed of ours, without REST behind it."""
    redis.Redis.from_url(settings.REDIS_URL).delete(wire.LOG_KEY)
    feed = _Feed()
    writer = Writer(line_name(1, 1))
    writer.acquire_within(10)
    stream = LiveStream(
        writer, Session.objects.table(), feed=settings.FEED_NAME, ws_url=feed.url, key="bench", symbols=symbols, kinds=(kind,), connections=1,
        batch_size=settings.DB_BATCH_SIZE, flush_seconds=settings.DB_FLUSH_INTERVAL, history=None,
    )  # fmt: skip
    thread = threading.Thread(target=stream.run, name="bench stream")
    thread.start()
    try:
        yield feed
    finally:
        stream.stop()
        thread.join()
        feed.server.shutdown()


# ---- the pages -----------------------------------------------------------------------------------------------------------------------


@contextmanager
def _pages(chromium: str, port: int, key: str, *, count: int) -> Iterator[Callable[[], Painted]]:
    """Open the stream's page so many times; gives the way to ask what each has painted since. Inside, Django's database is out of reach."""
    playwright: Any = import_module("playwright.sync_api")  # a requirement of the benchmark and the tests, not of the product
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--disable-dev-shm-usage"])
        address = f"http://127.0.0.1:{port}"
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": key, "url": address}
        pages = []
        for _ in range(count):  # each a window of its own: one behind another is not painted
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            context.add_cookies([cookie])
            page = context.new_page()
            page.goto(f"{address}/streaming/")
            page.wait_for_selector("html[data-line=live]")
            page.evaluate(_LISTEN)
            pages.append(page)
        yield lambda: [[(seq, at) for seq, at in page.evaluate("window.told")] for page in pages]
        browser.close()


def _session(user: User) -> str:
    """Return the key of a session in which the user has signed in."""
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store.update(
        {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
    )
    store.set_expiry(timedelta(hours=1))
    store.create()
    return str(store.session_key)
