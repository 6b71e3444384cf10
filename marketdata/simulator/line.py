"""One WebSocket of the twin: its dialogue, and a bounded buffer of frames that one task empties."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from marketdata.twin.dialogue import Action, Close, Dialogue, Drop, Send
from marketdata.twin.faults import Faults
from marketdata.twin.mangle import frames
from marketdata.twin.schedule import Due

BUFFER_BYTES = 16_000_000  # of one connection; beyond it the client reads too slowly
FAREWELL_SECONDS = 10
_ACKNOWLEDGED = '[{"ev":"status","status":"success"'

logger = logging.getLogger(__name__)


class Line:
    """One connection. Not thread-safe: it lives on the event loop."""

    def __init__(self, connection: ServerConnection, faults: Faults) -> None:
        self.dialogue = Dialogue(faults)
        self.waiting_bytes = 0
        self._connection = connection
        self._faults = faults
        self._frames: deque[str | bytes] = deque()
        self._ending: Close | Drop | None = None
        self._filled = asyncio.Event()
        self._riding: list[bytes] = []
        self._megabytes = 0.0
        self._dead = False

    @property
    def listens(self) -> bool:
        """Whether data goes to this line: it is subscribed to something, and not over."""
        return self._ending is None and not self._dead and any(self.dialogue.subscriptions.values())

    @property
    def over(self) -> bool:
        """Whether the line has been told its end, its client has gone, or neither can be known any more."""
        return self._ending is not None or self._dead or self._connection.state is not State.OPEN

    def act(self, actions: Iterable[Action]) -> None:
        """Queue what the dialogue decided; after its end, nothing."""
        for action in actions:
            if self._ending is not None or self._dead:
                return
            if isinstance(action, Send):
                self._say(action.text)
            else:
                self._ending = action
                self._filled.set()

    def send(self, events: Iterable[Due]) -> None:
        """Queue the events that this connection wants, several a frame; after the dialogue's end, nothing."""
        wanted = [event for event in events if self.dialogue.wants(event.topic, event.symbol)]
        made = frames(wanted, self._riding, self._faults, megabytes=self._megabytes)
        if made:
            self._riding, self._megabytes = [], (0.0 if wanted else self._megabytes)
        for frame in made:
            self.put(frame)

    def put(self, frame: str | bytes) -> None:
        """Queue one frame as it stands; give the client up where too much waits already."""
        if self._ending is not None or self._dead:
            return
        self._frames.append(frame)
        self.waiting_bytes += len(frame)
        self._filled.set()
        limit = self._faults.find("slow_consumer")
        if self.waiting_bytes > (limit.number if limit and self.listens else BUFFER_BYTES):
            self._faults.feel("slow_consumer")
            self._give_up()

    def swell(self, megabytes: float) -> None:
        """Make the next frame of data so large."""
        self._megabytes = megabytes

    def die(self) -> None:
        """Say nothing more and hear nothing more, not even pings, and keep the connection: a peer behind a broken path."""
        self._dead = True
        self._frames.clear()
        self._connection.transport.pause_reading()

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
                self.waiting_bytes -= len(frame)
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

    def _say(self, text: str) -> None:
        """Queue one status frame, or keep it for the midst of the next data where a fault wants it there."""
        if text.startswith(_ACKNOWLEDGED) and self._faults.feel("status_in_data"):
            self._riding.append(text[1:-1].encode())
        else:
            self.put(text)

    def _give_up(self) -> None:
        """Replace what is queued by the farewell; cut the line when even that is not read."""
        logger.info("client %s reads too slowly, closing", self._connection.id)
        self._frames.clear()
        self.waiting_bytes = 0
        farewell = self.dialogue.buffer_full()
        self._frames.extend(action.text for action in farewell if isinstance(action, Send))
        self._ending = next(action for action in farewell if not isinstance(action, Send))
        self._filled.set()
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._connection.transport.abort)
