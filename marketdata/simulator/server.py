"""
The twin's server: connections, rounds of frames, faults at their moments.

The market is worked out on one thread beside the event loop, so that a heavy question neither stops pings nor needs a lock.
"""

import asyncio
import logging
import signal
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EADDRINUSE
from functools import partial

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from marketdata.simulator.answers import answer
from marketdata.simulator.clock import Clock, RecordedClock
from marketdata.simulator.line import BUFFER_BYTES, Line
from marketdata.twin.dialogue import AUTH_SECONDS, Close, Drop, demand
from marketdata.twin.faults import Fault, Faults
from marketdata.twin.holding import Holding
from marketdata.twin.market import Market
from marketdata.twin.recording import read
from marketdata.twin.rest import Rest
from marketdata.twin.schedule import Due, Schedule

HOST = "127.0.0.1"
WEBSOCKET_PATH = "/stocks"
SLICE_MS = 60_000  # of market time at once, so that what one fast round brings does not fill a reader's buffer
LONGEST_GAP_SECONDS = 60  # a longer one, of a machine that slept, is not sent: REST has it
FAULT_SECONDS = 0.1  # between two looks for a fault whose moment has come, at most

logger = logging.getLogger(__name__)


class PortError(RuntimeError):
    """The port cannot be listened on; the message says what to do."""


class RecordingError(RuntimeError):
    """A recording breaks off; the message says where."""


class Simulator:
    """
    The server. `speed` is market time by real time, `interval_seconds` the real time between two rounds of frames.

    With `recording` its frames are sent instead of the market, at `speed` times their own pace from the first subscription on, and REST has no
    prices.
    """

    def __init__(
        self,
        market: Market,
        *,
        speed: float,
        interval_seconds: float,
        faults: Sequence[Fault] = (),
        recording: Iterable[bytes] | None = None,
    ) -> None:
        self._rest = Rest(market, prices=recording is None)
        self._schedule = Schedule(market)
        self._clock = Clock(speed=speed)
        self._recording, self._recorded_clock = recording, RecordedClock(speed=speed)
        self._interval_seconds = interval_seconds
        self._faults = Faults(market.seed, *faults)
        self._holding = Holding(self._faults)
        self._lines: list[Line] = []  # the oldest first
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="market")

    async def run(self, port: int, *, announce: Callable[[str], None]) -> None:
        """
        Serve until SIGTERM or SIGINT; call `announce` with the addresses as soon as they answer.

        Port 0 takes any free one. PortError where it cannot be had.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(self._worker)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
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
                open_timeout=600,  # holds the answer to a REST request, too, as slow as a fault may make it
                close_timeout=2,
            )
        except OSError as error:
            reason = "is in use" if error.errno == EADDRINUSE else f"cannot be used ({error.strerror})"
            raise PortError(f"Port {port} of {HOST} {reason}; choose another with --port.") from None

    async def _until(self, stop: asyncio.Event) -> None:
        """Send what falls due until `stop` is set; a broken market ends the server instead of going silent."""
        rounds: Awaitable[None] = self._broadcast() if self._recording is None else self._play(self._recording)
        tasks = [asyncio.ensure_future(work) for work in (rounds, self._strike(), stop.wait())]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
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
            self._deliver(await asyncio.get_running_loop().run_in_executor(None, due), until_ms)

    def _deliver(self, events: Iterable[Due], now_ms: int) -> None:
        """Queue events, and those that were held back until now, for the lines that listen; in a silence they are lost."""
        leaving = self._holding.pass_on(events, now_ms)
        listening = [line for line in self._lines if line.listens]
        if listening and self._faults.silent(time.monotonic()):
            leaving = []
        for line in listening:
            line.send(leaving)

    async def _play(self, recording: Iterable[bytes]) -> None:
        """Send the recorded frames at their pace, from the first subscription on; then nothing more, and stay."""
        while not any(line.listens for line in self._lines):
            await asyncio.sleep(min(self._interval_seconds, FAULT_SECONDS))
        frames = 0
        try:
            for frames, frame in enumerate(recording, 1):  # noqa: B007 - counted for the log
                await self._play_one(frame)
        except (OSError, EOFError, zlib.error) as error:
            raise RecordingError(
                f"The recording cannot be read beyond its frame {frames} ({error}); record it again or cut it there."
            ) from None
        logger.info("the recording is over after %s frames", frames)
        await asyncio.Event().wait()

    async def _play_one(self, frame: bytes) -> None:
        """Send one recorded frame when its time has come, and not before slow readers have read."""
        recorded = read(frame)
        wait_seconds = self._recorded_clock.play(recorded.at_ms) if recorded.at_ms else 0.0
        await asyncio.sleep(max(0.0, wait_seconds))
        while any(line.listens and line.waiting_bytes > BUFFER_BYTES // 4 for line in self._lines):
            await asyncio.sleep(0.01)
        self._deliver(recorded.events, self._recorded_clock.now_ms())
        if recorded.raw is not None:
            for line in self._lines:
                if line.listens:
                    line.put(recorded.raw.decode(errors="replace"))

    async def _strike(self) -> None:
        """Let the faults that have moments strike the lines that listen."""
        while True:
            await asyncio.sleep(min(self._interval_seconds, FAULT_SECONDS))
            listening, now = [line for line in self._lines if line.listens], time.monotonic()
            if not listening:
                continue
            big, close = self._faults.strikes("big_frame", now), self._faults.strikes("close", now)
            drop, half_open = self._faults.strikes("drop", now), self._faults.strikes("half_open", now)
            for line in listening:
                if big:
                    line.swell(big.number)
                if self._faults.feel("empty_frames"):
                    line.put("[]")
                if close:
                    line.act([Close(int(close.number), "")])
                if drop:
                    line.act([Drop()])
                if half_open:
                    line.die()

    async def _converse(self, connection: ServerConnection) -> None:
        """Serve one WebSocket from greeting to farewell."""
        line = Line(connection, self._faults)
        self._lines.append(line)
        logger.info("client %s connected, %s now", connection.id, len(self._lines))
        line.act(line.dialogue.greet())
        patience = self._faults.find("auth_timeout")
        seconds = patience.number if patience else AUTH_SECONDS
        timer = asyncio.get_running_loop().call_later(seconds, lambda: line.act(line.dialogue.auth_time_over()))
        writer = asyncio.create_task(line.write())
        try:
            with suppress(ConnectionClosed):  # an end without a close frame is an end
                async for message in connection:
                    self._receive(line, message)
        finally:
            timer.cancel()
            writer.cancel()
            self._lines.remove(line)
            logger.info("client %s left, %s now", connection.id, len(self._lines))

    def _receive(self, line: Line, message: str | bytes) -> None:
        """Let a line answer a message, and see to its key's quota when it signs in or first subscribes."""
        was_in, listened = line.dialogue.authenticated, line.listens
        line.act(line.dialogue.receive(message))
        quota = self._faults.find("max_connections")
        if quota is None:
            return
        moment = not was_in and line.dialogue.authenticated if quota.word == "evict_older" else not listened and line.listens
        same_key = [other for other in self._lines if other.dialogue.authenticated and other.dialogue.key == line.dialogue.key]
        alive = [other for other in same_key if not other.over]
        if moment and len(alive) > quota.number:
            for victim in self._victims(quota, alive, line):
                self._faults.feel("max_connections")
                victim.act(victim.dialogue.over_quota())

    def _victims(self, quota: Fault, alive: list[Line], newcomer: Line) -> list[Line]:
        """Return who must go where a key has too many lines, the oldest first in `alive`."""
        if quota.word == "refuse_newcomer":
            return [newcomer]
        excess = len(alive) - int(quota.number)
        return alive[:excess] if quota.word == "evict_older" else self._faults.dice("max_connections").sample(alive, excess)

    async def _answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        """Answer a REST request; leave the WebSocket's own to the handshake."""
        if request.path.partition("?")[0] == WEBSOCKET_PATH:
            return None
        host = request.headers.get("Host", HOST)
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        bearer = key.strip() if scheme.lower() == "bearer" else ""
        clock = self._clock if self._recording is None else self._recorded_clock
        ask = partial(self._rest.answer, request.path, bearer=bearer, base=f"http://{host}")
        return await answer(request.path, bearer, self._faults, ask=lambda: ask(now_ms=clock.now_ms()))


def _sockets_logger() -> logging.Logger:
    """Return the library's logger, without its line on every REST request."""
    sockets = logging.getLogger(f"{__name__}.sockets")
    sockets.setLevel(logging.ERROR)
    return sockets
