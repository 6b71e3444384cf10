"""One reader of the live log a process: it puts each flush on the board and tells the sockets that it concerns."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

import msgspec
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from dashboards import wire
from dashboards.outbox import Board, Line, Outbox
from dashboards.wire import Flush

log = logging.getLogger(__name__)

READ_AT_ONCE = 100
READ_WAIT_MS = 1000
ANSWER_SECONDS = 5.0
RECONNECT_SECONDS = 0.25
TOLD_AT_ONCE = 250  # sockets, before the loop may do something else

Entries = list[tuple[bytes, dict[bytes, bytes]]]
Streams = list[tuple[bytes, Entries]]


def _number(name: bytes) -> int:
    return int(name.partition(b"-")[0])


class Hub:
    """Read the live log as long as the process lives, and wake the sockets."""

    def __init__(self, url: str, clock: Callable[[], str]) -> None:
        self.board = Board()
        self.live: bool | None = None  # whether the log can be read; None until that is known
        self.up = asyncio.Event()  # set while it can
        self._url = url
        self._clock = clock  # gives ISO text
        self._place = 0  # number of the last entry read
        self._sockets: dict[Outbox, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read, unless it does already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="live hub")

    async def stop(self) -> None:
        """End reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def sockets(self) -> int:
        """Return how many sockets are open in this process."""
        return len(self._sockets)

    def sockets_of(self, user_id: int) -> int:
        """Return how many of them are one user's."""
        return sum(1 for owner in self._sockets.values() if owner == user_id)

    def join(self, user_id: int, line: Line | None = None) -> Outbox:
        """Return the outbox of a new socket."""
        outbox = Outbox(self.board, line)
        self._sockets[outbox] = user_id
        return outbox

    def leave(self, outbox: Outbox) -> None:
        """Forget a socket."""
        self._sockets.pop(outbox, None)
        outbox.leave()

    async def _run(self) -> None:
        while True:
            # Its own socket_timeout sends through asyncio.wait_for, which may swallow a cancellation before Python 3.12
            client = redis.asyncio.Redis.from_url(self._url, socket_timeout=None, retry=Retry(NoBackoff(), 0))
            try:
                await self._follow(client)
            except (redis.RedisError, OSError) as error:
                self._went_dark(error)
            finally:
                await client.aclose()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _follow(self, client: "redis.asyncio.Redis") -> None:
        """Read until Redis fails. The first time the past comes first, so that no socket is told half of it."""
        newest = await self._check_log(client)
        while not self.board.ready and self._place < newest:
            await self._read(client)
        if not self.live:
            log.info("The live line is up, %d flushes known", self.board.end - self.board.begin)
        self.live = self.board.ready = True
        self.up.set()
        self._wake_all()
        while True:
            if not await self._read(client):
                await self._check_log(client)

    async def _read(self, client: "redis.asyncio.Redis") -> bool:
        """Wait for entries and take them; False where none came."""
        async with asyncio.timeout(ANSWER_SECONDS):
            streams = cast(Streams, await client.xread({wire.LOG_KEY: f"{self._place}-0"}, count=READ_AT_ONCE, block=READ_WAIT_MS))
        entries = [entry for _, entries in streams for entry in entries]
        flushes = []
        for name, fields in entries:
            self._place = _number(name)
            flushes.append(self._take(self._place, fields))
        if flushes and self.board.ready:
            await self._tell([flush for flush in flushes if flush is not None], all_of_them=None in flushes)
        return bool(entries)

    async def _tell(self, flushes: list[Flush], *, all_of_them: bool) -> None:
        """Tell whom it concerns; after a loss that is everybody."""
        if all_of_them:
            self._wake_all()
        loop = asyncio.get_running_loop()
        for number, outbox in enumerate(self.board.audience(flushes), 1):
            outbox.push(self._clock, loop.time())
            if number % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _take(self, seq: int, fields: dict[bytes, bytes]) -> Flush | None:
        """Put an entry on the board; None where something may be lost."""
        try:
            flush = wire.read_flush(seq, fields[b"kind"].decode(), fields[b"at"].decode(), fields[b"body"])
        except (KeyError, msgspec.DecodeError) as error:
            log.warning("An entry of the live log cannot be read, every page is told to fetch again: %r", error)
            self.board.lose()
            return None
        void = self.board.void
        if int(fields.get(b"lost", 0)):
            self.board.lose()
        self.board.add(flush)
        return flush if self.board.void == void else None

    async def _check_log(self, client: "redis.asyncio.Redis") -> int:
        """Return the number of the newest entry; where the log ends before what was read, it is a new one, and its past is a loss."""
        async with asyncio.timeout(ANSWER_SECONDS):
            newest = cast(Entries, await client.xrevrange(wire.LOG_KEY, count=1))
        number = _number(newest[0][0]) if newest else 0
        if number < self._place:
            log.warning("The live log is gone (Redis was restarted or emptied), every page is told to fetch again")
            self._place = 0
            self.board.lose()
            self._wake_all()
        return number

    def _went_dark(self, error: Exception) -> None:
        if self.live is not False:
            words = str(error) or f"no answer within {ANSWER_SECONDS} s"
            log.warning("The live line is down, pages are told so; trying again every %s s: %s", RECONNECT_SECONDS, words)
            self.live = False
            self.up.clear()
            self._wake_all()

    def _wake_all(self) -> None:
        for outbox in self._sockets:
            outbox.wake.set()


_hubs: "WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = WeakKeyDictionary()


def hub_of_this_process(url: str, clock: Callable[[], str]) -> Hub:
    """Return the hub of the running event loop (a server has one), started."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub(url, clock)
    hub.start()
    return hub


def open_sockets() -> int:
    """Return how many sockets this process serves; asked by its figures, from any thread."""
    return sum(hub.sockets for hub in list(_hubs.values()))
