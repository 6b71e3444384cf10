"""
One live line to Massive: connect, back off, hand frames on. The reading thread does nothing else, for a slow reader is cut off.

Not the dialogue (feed/protocol.py) and not the meaning of a frame (feed/decode.py): both run on the receiving side.
"""

import contextlib
import logging
import queue
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import websocket
from websocket._abnf import frame_buffer

from marketdata.feed.decode import decode
from marketdata.feed.events import StatusMessage
from marketdata.feed.protocol import Backoff, Dialogue, State

log = logging.getLogger(__name__)

LARGEST_FRAME = 16 * 1024 * 1024
CONNECT_SECONDS = 10.0
SIGN_IN_SECONDS = 15.0
PING_SECONDS = 5.0
PONG_SECONDS = 20.0
POLL_SECONDS = 0.5


class FrameTooLargeError(websocket.WebSocketException):
    """The server announced a frame above LARGEST_FRAME; refused as its header is read."""


class _BoundedFrames(frame_buffer):
    """websocket-client has no limit of its own: count what a message, fragments included, announces."""

    _message_bytes = 0

    def recv_length(self) -> None:
        super().recv_length()
        opcode = self.header[4] if self.header is not None else 0
        if opcode >= websocket.ABNF.OPCODE_CLOSE:
            return  # control frames stand between the fragments and are short
        self._message_bytes = (self.length or 0) + (self._message_bytes if opcode == websocket.ABNF.OPCODE_CONT else 0)
        if self._message_bytes > LARGEST_FRAME:
            raise FrameTooLargeError(f"a frame of {self._message_bytes:,} bytes was announced; {LARGEST_FRAME:,} is the limit")


@dataclass(frozen=True, slots=True)
class Frame:
    """A data frame as received, with the monotonic second of its arrival."""

    line: int
    data: bytes
    received: float


@dataclass(frozen=True, slots=True)
class LineState:
    """
    A change of a line's state: up when `state` is live, in words why not otherwise.

    A live line names the `pairs` it has asked for and those of them that are `missing`: never acknowledged.
    """

    line: int
    state: State
    reason: str
    missing: tuple[str, ...] = ()
    retry_seconds: float = 0.0
    pairs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The server answered a ping: all that it sent before has arrived."""

    line: int
    received: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Frames were dropped here, between what came before and what comes after."""

    line: int
    frames: int


Item = Frame | LineState | SignOfLife | Loss


class Line:
    """
    A connection that never gives up, on a thread of its own.

    Frames and changes of state go into `into`, in the order they happened. A full queue blocks nothing: the frame is counted in `dropped`
    and a `Loss` stands in its place, so that no minute built without it passes for whole.
    """

    def __init__(self, number: int, *, url: str, key: str, pairs: tuple[str, ...], into: "queue.Queue[Item]") -> None:
        self.number = number
        self.url = url
        self.dropped = 0
        self.largest_frame = 0
        self.reconnects = 0
        self._key = key
        self._wanted = pairs
        self._asked_anew: set[str] = set()  # pairs of a change of subscription that is not settled yet
        self._asked_at = 0.0
        self._into = into
        self._stop = threading.Event()
        self._kick = ""
        self._lost = 0  # dropped, and not said yet
        self._socket: Any = None
        self._thread = threading.Thread(target=self._run, name=f"line-{number}", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the end; an attempt to connect may outlast it, and hands nothing on any more."""
        self._thread.join(seconds)

    def want(self, pairs: tuple[str, ...]) -> None:
        """Carry these pairs from now on; a LineState tells when the change is acknowledged, or will not be."""
        self._wanted = pairs

    def kick(self, reason: str) -> None:
        """Ask for a new connection: this one is open but silent."""
        self._kick = reason

    # -- the thread ---------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            began = time.monotonic()
            dialogue = Dialogue(self._key, self._wanted)
            reason = self._connected(dialogue)
            if self._stop.is_set():
                return
            state = dialogue.state if dialogue.ended else State.CONNECTING
            healthy = time.monotonic() - began if dialogue.state is State.LIVE else 0.0
            wait = backoff.after(state, healthy_seconds=healthy, jitter=random.random())  # noqa: S311 - spreads reconnects, guards nothing
            self.reconnects += 1
            log.warning("Line %s: %s. Next attempt in %.1f s.", self.number, reason, wait)
            self._hand_on(LineState(self.number, state, reason, retry_seconds=wait))
            self._stop.wait(wait)

    def _connected(self, dialogue: Dialogue) -> str:
        """Live through one connection; return in words why it ended."""
        self._kick = ""
        self._asked_anew = set()
        try:
            self._socket = self._open()
        except websocket.WebSocketBadStatusException as error:
            if error.status_code in (401, 403):
                dialogue.state = State.REFUSED
                return f"the feed at {self.url} refused the key (HTTP {error.status_code}); check MASSIVE_API_KEY and the plan"
            return f"the feed at {self.url} answered HTTP {error.status_code}"
        except (OSError, websocket.WebSocketException, ValueError) as error:
            return f"no connection to {self.url} ({_words(error)})"
        try:
            return self._read(dialogue)
        except FrameTooLargeError as error:
            return str(error)
        except (OSError, websocket.WebSocketException) as error:
            return f"the connection broke ({_words(error)})"
        finally:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                self._socket.shutdown()

    def _open(self) -> Any:
        line: Any = websocket.WebSocket(
            enable_multithread=False,
            sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)],
            skip_utf8_validation=True,  # the decoder checks, and refuses one element instead of the whole line
        )
        line.frame_buffer = _BoundedFrames(line._recv, True)
        line.settimeout(CONNECT_SECONDS)
        line.connect(self.url, suppress_origin=True, redirect_limit=0)  # the key goes to the configured host only
        line.settimeout(POLL_SECONDS)
        return line

    def _read(self, dialogue: Dialogue) -> str:
        """Read until the connection ends; return why."""
        began = asked = answered = time.monotonic()
        awaiting_pong = False
        while not self._stop.is_set() and not self._kick:
            now = time.monotonic()
            if dialogue.state is not State.LIVE and not self._still_hopeful(dialogue, now - began):
                return self._hopeless(dialogue)
            if dialogue.state is State.LIVE:
                self._change_subscriptions(dialogue, now)
            if awaiting_pong and now - asked > PONG_SECONDS:
                return f"no answer to a ping for {PONG_SECONDS:.0f} s"
            if not awaiting_pong and now - max(asked, answered) > PING_SECONDS:
                self._socket.ping()
                asked, awaiting_pong = now, True
            try:
                opcode, frame = self._socket.recv_data_frame(control_frame=True)
            except websocket.WebSocketTimeoutException:
                continue
            received = time.monotonic()
            if opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
                self._take(dialogue, frame.data, received)
                if dialogue.ended:
                    return self._farewell(dialogue)
            elif opcode == websocket.ABNF.OPCODE_PONG:
                answered, awaiting_pong = received, False
                self._hand_on(SignOfLife(self.number, received))
            elif opcode == websocket.ABNF.OPCODE_CLOSE:
                code = int.from_bytes(frame.data[:2], "big") if len(frame.data) >= 2 else 1005
                return f"the feed closed the connection (code {code})"
        return self._kick or "stopped"

    def _still_hopeful(self, dialogue: Dialogue, seconds: float) -> bool:
        """Return whether the sign-in may still succeed; after the time, live with the topics that were acknowledged."""
        if seconds < SIGN_IN_SECONDS:
            return True
        dialogue.settle()
        if dialogue.state is not State.LIVE:
            return False
        self._announce_live(dialogue)
        return True

    def _hopeless(self, dialogue: Dialogue) -> str:
        """Say why the sign-in came to nothing; a plan without any of the topics is like a refused key: asking often changes nothing."""
        if dialogue.state is State.SUBSCRIBING and dialogue.not_authorized:
            dialogue.state = State.REFUSED
            return f"the plan has none of the {len(dialogue.pairs)} topics ({dialogue.reason}); check MASSIVE_EVENTS and the plan"
        return dialogue.reason or "the feed did not answer the sign-in in time"

    def _change_subscriptions(self, dialogue: Dialogue, now: float) -> None:
        """Ask for what is wanted now; tell once every new pair is acknowledged, or when no more answers are to be expected."""
        wanted = self._wanted
        if wanted != dialogue.pairs:
            self._asked_anew = set(wanted) - set(dialogue.pairs)
            self._asked_at = now
            for text in dialogue.turn_to(wanted):
                self._socket.send(text)
            if not self._asked_anew:
                self._announce_live(dialogue)
        elif self._asked_anew and (not self._asked_anew & dialogue.missing or now - self._asked_at > SIGN_IN_SECONDS):
            self._asked_anew = set()
            self._announce_live(dialogue)

    def _take(self, dialogue: Dialogue, data: bytes, received: float) -> None:
        """Hand a frame on; before the line is live, or where a frame may hold a status, let the dialogue see it first."""
        self.largest_frame = max(self.largest_frame, len(data))
        if dialogue.state is not State.LIVE or b'"status"' in data:
            was_live = dialogue.state is State.LIVE
            for event in decode(data).events:
                if isinstance(event, StatusMessage):
                    for answer in dialogue.receive(event):
                        self._socket.send(answer)
            if dialogue.state is State.LIVE and not was_live:
                self._announce_live(dialogue)
        self._hand_on(Frame(self.number, data, received))

    def _announce_live(self, dialogue: Dialogue) -> None:
        missing = tuple(sorted(dialogue.missing))
        if missing:
            log.warning("Line %s: %s topics were not acknowledged (%s …): %s", self.number, len(missing), missing[0], dialogue.reason)
        log.info("Line %s: live at %s with %s topics", self.number, self.url, len(dialogue.pairs) - len(missing))
        self._hand_on(LineState(self.number, State.LIVE, "", missing, pairs=frozenset(dialogue.pairs)))

    def _farewell(self, dialogue: Dialogue) -> str:
        if dialogue.state is State.REFUSED:
            return f"the feed refused the key ({dialogue.reason}); check MASSIVE_API_KEY and the plan"
        if dialogue.state is State.CROWDED:
            return "the account's connection limit is reached: another program streams with this key"
        return f"the feed ended the session ({dialogue.reason})"

    def _hand_on(self, item: Item) -> None:
        patience = POLL_SECONDS if isinstance(item, LineState) else 0.0
        while True:
            try:
                if self._lost:
                    self._into.put(Loss(self.number, self._lost), timeout=patience)
                    self._lost = 0
                self._into.put(item, timeout=patience)
            except queue.Full:
                if isinstance(item, LineState) and not self._stop.is_set():
                    continue  # rare, and must not be lost
                if isinstance(item, Frame):
                    self._drop()
            return

    def _drop(self) -> None:
        self.dropped += 1
        self._lost += 1
        if self.dropped == 1 or self.dropped % 1_000 == 0:
            log.error("Line %s: %s frames were dropped, the reader of the queue is too slow.", self.number, self.dropped)


def _words(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
