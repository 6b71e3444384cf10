"""
The twin's sockets and clock: Massive's WebSocket at /stocks and its REST on one port of this machine. What is said stands in `twin`.

The market is worked out on one thread beside the event loop, so that a heavy question neither stops pings nor needs a lock.
"""

import asyncio
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EADDRINUSE
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from marketdata.twin.dialogue import AUTH_SECONDS, Action, Close, Dialogue, Drop, Send, demand
from marketdata.twin.market import Market
from marketdata.twin.rest import Rest
from marketdata.twin.schedule import Due, Schedule

HOST = "127.0.0.1"
WEBSOCKET_PATH = "/stocks"
FRAME_EVENTS = 500  # far below the million bytes that clients accept
BUFFER_BYTES = 16_000_000  # of one connection; beyond it the client reads too slowly
FAREWELL_SECONDS = 10
SLICE_MS = 60_000  # of market time at once, so that what one fast round brings does not fill a reader's buffer
LONGEST_GAP_SECONDS = 60  # a longer one, of a machine that slept, is not sent: REST has it

logger = logging.getLogger(__name__)


class PortError(RuntimeError):
    """The port cannot be listened on; the message says what to do."""


class Clock:
    """Market time: the wall clock from now on, `speed` times as fast."""

    def __init__(self, *, speed: float) -> None:
        self.speed = speed
        self._started_at = time.time()

    def now_ms(self) -> int:
        """Return the market's moment, Unix ms."""
        return int((self._started_at + self.speed * (time.time() - self._started_at)) * 1000)


class Line:
    """One connection: its dialogue, and a bounded buffer of frames that one task empties."""

    def __init__(self, connection: ServerConnection) -> None:
        self.dialogue = Dialogue()
        self._connection = connection
        self._frames: deque[str | bytes] = deque()
        self._bytes = 0
        self._ending: Close | Drop | None = None
        self._filled = asyncio.Event()

    def act(self, actions: Iterable[Action]) -> None:
        """Queue what the dialogue decided; after its end, nothing."""
        for action in actions:
            if self._ending is not None:
                return
            if isinstance(action, Send):
                self._put(action.text)
            else:
                self._ending = action
                self._filled.set()

    def send(self, events: Iterable[Due]) -> None:
        """Queue the events that this connection wants, several a frame; after the dialogue's end, nothing."""
        bodies = [event.body for event in events if self.dialogue.wants(event.topic, event.symbol)]
        for start in range(0, len(bodies), FRAME_EVENTS):
            if self._ending is None:
                self._put(b"[" + b",".join(bodies[start : start + FRAME_EVENTS]) + b"]")

    async def write(self) -> None:
        """Send what is queued, in order, until the end of the dialogue; then end the connection as it says. Return when it is gone."""
        with suppress(ConnectionClosed):  # the reader sees it too, and tidies up
            await self._send_all()
            await self._end()

    async def _send_all(self) -> None:
        """Send what is queued and what comes, until the dialogue has ended."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._bytes -= len(frame)
                await self._connection.send(frame, text=True)
            if self._ending is not None:
                return
            self._filled.clear()
            await self._filled.wait()

    async def _end(self) -> None:
        """End the connection as the dialogue says."""
        if isinstance(self._ending, Close):
            await self._connection.close(self._ending.code, self._ending.reason)
        else:
            self._connection.transport.close()  # no close frame: so Massive treats a bad key

    def _put(self, frame: str | bytes) -> None:
        self._frames.append(frame)
        self._bytes += len(frame)
        self._filled.set()
        if self._bytes > BUFFER_BYTES:
            self._give_up()

    def _give_up(self) -> None:
        """Replace what is queued by the farewell; cut the line when even that is not read."""
        logger.info("client %s reads too slowly, closing", self._connection.id)
        self._frames.clear()
        self._bytes = 0
        self.act(self.dialogue.buffer_full())
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._connection.transport.abort)


class Simulator:
    """The server. `speed` is market time by real time, `interval_seconds` the real time between two rounds of frames."""

    def __init__(self, market: Market, *, speed: float, interval_seconds: float) -> None:
        self._rest = Rest(market)
        self._schedule = Schedule(market)
        self._clock = Clock(speed=speed)
        self._interval_seconds = interval_seconds
        self._lines: set[Line] = set()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="market")

    async def run(self, port: int, *, announce: Callable[[str], None]) -> None:
        """
        Serve until SIGTERM or SIGINT; call `announce` with the addresses as soon as they answer.

        Port 0 takes any free one. PortError where it cannot be had.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            async with await self._listen(port) as server:
                bound = next(iter(server.sockets)).getsockname()[1]
                announce(f"listening on ws://{HOST}:{bound}{WEBSOCKET_PATH} and http://{HOST}:{bound}")
                await self._until(stop)
        finally:
            self._worker.shutdown(cancel_futures=True)

    async def _listen(self, port: int) -> Server:
        """Return the listening server."""
        try:
            return await serve(
                self._converse,
                HOST,
                port,
                process_request=self._answer,
                logger=_sockets_logger(),
                compression=None,  # as for pings of the server's own, nobody saw Massive use it
                ping_interval=None,
                open_timeout=60,  # holds the answer to a REST request, too
                close_timeout=2,
            )
        except OSError as error:
            reason = "is in use" if error.errno == EADDRINUSE else f"cannot be used ({error.strerror})"
            raise PortError(f"Port {port} of {HOST} {reason}; choose another with --port.") from None

    async def _until(self, stop: asyncio.Event) -> None:
        """Send what falls due until `stop` is set; a broken market ends the server instead of going silent."""
        rounds, stopped = asyncio.create_task(self._broadcast()), asyncio.create_task(stop.wait())
        done, waiting = await asyncio.wait((rounds, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()

    async def _broadcast(self) -> None:
        """Send, every interval, what has fallen due since the last round."""
        sent_until_ms = self._clock.now_ms()
        while True:
            await asyncio.sleep(self._interval_seconds)
            now_ms = self._clock.now_ms()
            after_ms = max(sent_until_ms, now_ms - int(LONGEST_GAP_SECONDS * 1000 * max(1.0, self._clock.speed)))
            for start_ms in range(after_ms, now_ms, SLICE_MS):
                await self._send(start_ms, min(start_ms + SLICE_MS, now_ms))
            sent_until_ms = max(sent_until_ms, now_ms)

    async def _send(self, after_ms: int, until_ms: int) -> None:
        """Send what falls due between two moments to those who want it."""
        wanted = demand(line.dialogue for line in self._lines)
        if wanted:
            due = partial(self._schedule.due, after_ms, until_ms, demand=wanted)
            events = await asyncio.get_running_loop().run_in_executor(self._worker, due)
            for line in self._lines:
                line.send(events)

    async def _converse(self, connection: ServerConnection) -> None:
        """Serve one WebSocket from greeting to farewell."""
        line = Line(connection)
        self._lines.add(line)
        logger.info("client %s connected, %s now", connection.id, len(self._lines))
        line.act(line.dialogue.greet())
        timer = asyncio.get_running_loop().call_later(AUTH_SECONDS, lambda: line.act(line.dialogue.auth_time_over()))
        writer = asyncio.create_task(line.write())
        try:
            with suppress(ConnectionClosed):  # an end without a close frame is an end
                async for message in connection:
                    line.act(line.dialogue.receive(message))
        finally:
            timer.cancel()
            writer.cancel()
            self._lines.discard(line)
            logger.info("client %s left, %s now", connection.id, len(self._lines))

    async def _answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        """Answer a REST request; leave the WebSocket's own to the handshake."""
        if request.path.partition("?")[0] == WEBSOCKET_PATH:
            return None
        host = request.headers.get("Host", HOST)
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        answer = await asyncio.get_running_loop().run_in_executor(
            self._worker,
            lambda: self._rest.answer(
                request.path,
                bearer=bearer.strip() if scheme.lower() == "bearer" else "",
                now_ms=self._clock.now_ms(),
                base=f"http://{host}",
            ),
        )
        headers = Headers([("Content-Type", "application/json"), ("Content-Length", str(len(answer.body))), ("Connection", "close")])
        return Response(answer.status, HTTPStatus(answer.status).phrase, headers, answer.body)


def _sockets_logger() -> logging.Logger:
    """Return the library's logger, without its line on every REST request."""
    sockets = logging.getLogger(f"{__name__}.sockets")
    sockets.setLevel(logging.ERROR)
    return sockets
