"""
What has been said lately, and what each socket has not yet been told of it. No Redis, no network.

A socket has no queue of its own messages: it has a place in the ring of recent flushes for each topic, so a slow one costs no memory, and
what waits for it is merged when it is ready to take it. Sockets that stand at the same place are told the same message, made once; it goes
straight onto those lines that have taken all before, and only a line that is full has its socket's task woken.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dashboards import wire
from dashboards.wire import Flush, Message, Part

RING_BYTES = 12_000_000
FLUSHES_AT_HAND = 16  # the newest; of older ones only the body is kept
MESSAGES_WAITING = 8  # more than these on a topic, and bars, quotes and feed states are merged to the newest
DETECTIONS_KEPT = 200
MERGED_BARS = 1000  # merged so far, no further: minutes do not merge with each other, and each slow socket holds one message
MESSAGES_SHARED = 64  # kept between two flushes for the next socket at the same place

NOTHING, SNAPSHOT, GAP, RESUME = "", "snapshot", "gap", "resume"


class Line(Protocol):
    """A socket's connection, where its server lets us write frames ourselves."""

    def ready(self) -> bool:
        """Return whether everything written before has left this process."""

    def write(self, frame: bytes) -> None:
        """Send a frame; what the kernel does not take now waits here, and `ready` says so."""


class Board:
    """
    What this process knows: a ring of recent flushes, and the newest state for those who come later.

    Places in the ring are counted from the start of the process and never used twice.
    """

    def __init__(self, *, ring_bytes: int = RING_BYTES) -> None:
        self.ready = False  # whether the log's past is in; before that nobody is told anything
        self.seq = 0  # of the newest flush; 0: none yet
        self.begin = 0  # place of the oldest flush in the ring
        self._ring: list[Flush] = []
        self._ring_bytes = 0
        self._ring_limit = ring_bytes
        self._swept = 0
        self._floor = 0  # who has seen this number can be told everything since
        self._follows = False  # whether the next flush must have the next number
        self._broken = False  # whether something before the next flush may be missing
        self._closed: dict[str, Part] = {}
        self._forming: dict[str, Part] = {}
        self._quotes: dict[str, Part] = {}
        self._detections: dict[str, Part] = {}
        self._surveys: dict[str, Part] = {}
        self._feed = "null"
        self._snapshots: dict[str, str] = {}
        self.void = 0  # every place before this one was lost
        self.listeners: dict[str, set[Outbox]] = {}  # topic → who watches it
        self.shared: dict[tuple[str, int, int | None], tuple[Message, int, int]] = {}  # (topic, place, prev) → message, next place, seq
        self._newest: dict[str, dict[str, int]] = {}  # kind → symbol, or "" for all of it → place of the newest flush

    @property
    def end(self) -> int:
        """Return the place behind the newest flush."""
        return self.begin + len(self._ring)

    def add(self, flush: Flush) -> None:
        """Take the next flush; a number that does not follow the last one means a loss."""
        if self._follows and flush.seq != self.seq + 1:
            self.lose()
        if not self._ring:
            self._floor = flush.seq if self._broken else flush.seq - 1
        self.seq, self._follows, self._broken = flush.seq, True, False
        newest = self._newest.setdefault(flush.kind, {})
        newest.update(dict.fromkeys(flush.symbols, self.end))
        newest[""] = self.end
        self._ring.append(flush)
        self._shed()
        self.shared.clear()
        self._ring_bytes += len(flush.body)
        self._keep(flush)
        self._trim()

    def lose(self) -> None:
        """Forget the ring: something between it and what comes next may be missing. Every place before now is void."""
        self.begin = self.void = self.end + 1
        self._ring.clear()
        self.shared.clear()
        self._ring_bytes = 0
        self._floor = self.seq + 1
        self._follows, self._broken = False, True
        self._forming.clear()  # they and quotes age within seconds; closed bars, detections and the feed's state do not
        self._quotes.clear()
        self._snapshots.clear()

    def place_after(self, seq: int) -> int | None:
        """Return the place of the first flush behind that number, None where something since is no longer here."""
        if not self._floor <= seq <= self.seq:
            return None
        return self.begin + bisect_right(self._ring, seq, key=lambda flush: flush.seq)

    def has_news(self, place: int, topic: str) -> bool:
        """Return whether a flush that concerns the topic stands, or stood, at `place` or behind it."""
        kind, _, symbol = topic.partition(":")
        return self._newest.get(kind, {}).get(symbol, -1) >= place

    def audience(self, flushes: Iterable[Flush]) -> "set[Outbox]":
        """Return whom these flushes concern."""
        found: set[Outbox] = set()
        for flush in flushes:
            found |= self.listeners.get(flush.kind, set())
            for symbol in flush.symbols:
                found |= self.listeners.get(f"{flush.kind}:{symbol}", set())
        return found

    def since(self, place: int, topic: str) -> list[tuple[int, Flush]]:
        """Return the flushes that concern a topic from `place` on, each with its place."""
        kind, _, symbol = topic.partition(":")
        found = []
        for index in range(place - self.begin, len(self._ring)):
            flush = self._ring[index]
            if flush.kind == kind and (not symbol or symbol in flush.symbols):
                found.append((self.begin + index, flush))
        return found

    def snapshot(self, topic: str) -> str:
        """Return the data of the newest state of a topic."""
        kind, _, symbol = topic.partition(":")
        if kind == wire.QUOTES:
            return wire.quotes_data([self._quotes[symbol]] if symbol in self._quotes else [])
        if symbol:
            return wire.bars_data(state[symbol] for state in (self._closed, self._forming) if symbol in state)
        if kind not in self._snapshots:
            self._snapshots[kind] = self._whole(kind)
        return self._snapshots[kind]

    def _whole(self, kind: str) -> str:
        if kind == wire.BARS:
            return wire.bars_data([*self._closed.values(), *self._forming.values()])
        if kind == wire.MARKET:
            return wire.market_data(self._surveys.values())
        return wire.patterns_data(self._detections.values()) if kind == wire.PATTERNS else self._feed

    def _keep(self, flush: Flush) -> None:
        self._snapshots.pop(flush.kind, None)
        if flush.kind == wire.FEED:
            self._feed = flush.body
        for part in flush.parts:
            if flush.kind == wire.PATTERNS:
                self._detections.pop(part.name, None)  # so that the order is that of the last word
                self._detections[part.name] = part
            elif flush.kind == wire.MARKET:
                self._surveys[part.name] = part
            elif flush.kind == wire.QUOTES:
                self._quotes[part.name] = part
            else:
                self._keep_bar(part)
        while len(self._detections) > DETECTIONS_KEPT:
            del self._detections[next(iter(self._detections))]

    def _keep_bar(self, part: Part) -> None:
        """ISO minutes of one form order as text. A revision of an older minute is an update, never the newest bar."""
        closed = self._closed.get(part.name)
        if part.forming:
            if closed is None or part.minute > closed.minute:
                self._forming[part.name] = part
            return
        if closed is None or part.minute >= closed.minute:
            self._closed[part.name] = part
        forming = self._forming.get(part.name)
        if forming is not None and forming.minute <= part.minute:
            del self._forming[part.name]

    def _shed(self) -> None:
        """Keep of the flush that is no longer at hand the body only, and, one a turn, of those that a returning socket has asked for."""
        old = len(self._ring) - FLUSHES_AT_HAND
        if old > 0:
            self._swept = (self._swept + 1) % old
            self._ring[old - 1].shed()
            self._ring[self._swept].shed()

    def _trim(self) -> None:
        drop = 0
        while self._ring_bytes > self._ring_limit and drop < len(self._ring) - 1:
            self._ring_bytes -= len(self._ring[drop].body)
            self._floor = self._ring[drop].seq
            drop += 1
        if drop:
            del self._ring[:drop]
            self.begin += drop


@dataclass(slots=True)
class _Reading:
    """How far one socket is on one topic."""

    place: int
    prev: int | None = None
    owes: str = SNAPSHOT


class Outbox:
    """What one socket has yet to be told. `wake` is set when there may be something for its task to say."""

    def __init__(self, board: Board, line: Line | None = None) -> None:
        self.wake = asyncio.Event()
        self.topics: dict[str, _Reading] = {}
        self.told_at = float("-inf")  # the loop's time of the last message
        self._board = board
        self._line = line
        self._replies: deque[str] = deque()

    def reply(self, message: str) -> None:
        """Put a direct answer before everything else."""
        self._replies.append(message)
        self.wake.set()

    def watch(self, topic: str) -> None:
        """Owe a snapshot of the topic and what follows; once more, where it is watched already."""
        reading = self._listen(topic, self.topics.get(topic) or _Reading(self._board.end))
        reading.owes = SNAPSHOT

    def unwatch(self, topic: str) -> None:
        """Owe nothing more of the topic."""
        self.topics.pop(topic, None)
        others = self._board.listeners.get(topic, set())
        others.discard(self)
        if not others:
            self._board.listeners.pop(topic, None)

    def resume(self, topic: str, after: int) -> None:
        """Owe what came behind that number, or a gap and a snapshot where that is not known any more."""
        self._listen(topic, _Reading(self._board.end, after, RESUME))

    def leave(self) -> None:
        """Owe nobody anything."""
        for topic in list(self.topics):
            self.unwatch(topic)

    def push(self, clock: Callable[[], str], now: float) -> None:
        """Put what is owed straight onto the line, as long as it takes it; where it does not, the socket's task has to wait for it."""
        line = self._line
        if line is None or not line.ready():
            self.wake.set()
            return
        for message in self.messages(clock):
            line.write(message.frame())
            self.told_at = now
            if not line.ready():
                self.wake.set()
                return

    def messages(self, clock: Callable[[], str]) -> Iterator[Message]:
        """
        Yield what is owed, the state of the board being read anew for each message; `clock` gives ISO text.

        The socket may change its topics between two messages.
        """
        while self._replies:
            yield Message(self._replies.popleft())
        for topic, reading in list(self.topics.items()) if self._board.ready else ():
            while self.topics.get(topic) is reading:
                message = self._next(topic, reading, clock)
                if message is None:
                    break
                yield message

    def _listen(self, topic: str, reading: _Reading) -> _Reading:
        self.topics[topic] = reading
        self._board.listeners.setdefault(topic, set()).add(self)
        self.wake.set()
        return reading

    def _next(self, topic: str, reading: _Reading, clock: Callable[[], str]) -> Message | None:
        board = self._board
        if reading.owes == RESUME and reading.prev is not None:
            place = board.place_after(reading.prev)
            reading.place, reading.owes = (board.end, GAP) if place is None else (place, NOTHING)
        if reading.owes == NOTHING and reading.place < board.begin and (reading.place < board.void or board.has_news(reading.place, topic)):
            reading.owes = GAP
        if reading.owes != NOTHING:
            return Message(self._restart(topic, reading, clock()))
        return self._update(topic, reading) if board.has_news(reading.place, topic) else None

    def _update(self, topic: str, reading: _Reading) -> Message | None:
        """Return the next update, the one that another socket at the same place was told where there is one."""
        board, key = self._board, (topic, reading.place, reading.prev)
        known = board.shared.get(key) or _written(board, topic, reading)
        if known is None:
            reading.place = board.end
            return None
        if len(board.shared) < MESSAGES_SHARED:
            board.shared[key] = known
        message, reading.place, reading.prev = known
        return message

    def _restart(self, topic: str, reading: _Reading, at: str) -> str:
        board = self._board
        if reading.owes == GAP:
            message = wire.gap(topic, seq=board.seq, prev=reading.prev, at=at)
            reading.owes = SNAPSHOT
        else:
            data = board.snapshot(topic)
            message = wire.message(topic, seq=board.seq, prev=reading.prev, kind="snapshot", at=at, data=data)
            reading.owes = NOTHING
        reading.place, reading.prev = board.end, board.seq
        return message


def _written(board: Board, topic: str, reading: _Reading) -> tuple[Message, int, int] | None:
    """Return the update for one who stands there, where it leaves them, and its number."""
    waiting = board.since(reading.place, topic)
    if not waiting:
        return None
    merge = len(waiting) > MESSAGES_WAITING and wire.kind_of(topic) != wire.PATTERNS  # every detection is news
    data, skipped, taken = _merged(topic, [flush for _, flush in waiting]) if merge else (_alone(topic, waiting[0][1]), 0, 1)
    place, newest = waiting[taken - 1]
    text = wire.message(topic, seq=newest.seq, prev=reading.prev, kind="update", at=newest.at, data=data, skipped=skipped)
    return Message(text), place + 1, newest.seq


_JOINS = {wire.BARS: wire.bars_data, wire.QUOTES: wire.quotes_data, wire.MARKET: wire.market_data}  # those that merge


def _alone(topic: str, flush: Flush) -> str:
    """Return the data of one flush for a topic."""
    kind, _, symbol = topic.partition(":")
    return _JOINS[kind](flush.by_symbol[symbol]) if symbol else flush.body


def _merged(topic: str, flushes: list[Flush]) -> tuple[str, int, int]:
    """Return the newest state per symbol and minute as one message's data, how many older states it leaves out, how many flushes it holds."""
    kind, _, symbol = topic.partition(":")
    if kind == wire.FEED:
        return flushes[-1].body, len(flushes) - 1, len(flushes)
    newest: dict[tuple[str, str], Part] = {}
    count = taken = 0
    for flush in flushes:
        parts = flush.by_symbol[symbol] if symbol else flush.parts
        fresh = {(part.name, part.minute if kind == wire.BARS else ""): part for part in parts}
        if taken and len(newest.keys() | fresh.keys()) > max(MERGED_BARS, len(newest)):
            break
        newest |= fresh
        count, taken = count + len(parts), taken + 1
    return _JOINS[kind](newest.values()), count - len(newest), taken
