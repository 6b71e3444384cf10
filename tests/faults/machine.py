"""
One seeded run of the live line over the real database, step by step, and beside it a model that says what the table must hold.

The stream is the product's own (LiveStream with its intake, builder, evidence, flusher and writer); only its sockets, its clock and the flusher's
thread are in the test's hands, so that a seed gives the same run again.
"""

import json
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from django.db import connection

from marketdata.bars.session import SessionTable
from marketdata.connection import Frame, LineState, Loss
from marketdata.feed.protocol import State
from marketdata.flusher import Flusher, StreamFailedError, hand_over
from marketdata.spans import CLAIM_LAG_MS
from marketdata.stream import LiveStream
from marketdata.writer import Writer, WriterBusyError, WriterDeposedError, line_name
from tests.faults.tape import LATE, MINUTE, SYMBOLS, Print, Values, keep, values

HOLD = 1_000


class SteppedFlusher(Flusher):
    """The flusher without its thread: it writes when the test says so."""

    def _run(self) -> None:
        pass

    def drain(self, seconds: float | None) -> bool:
        try:
            while (self._bars or self._rejections or self._settle or self._beat or self._afterwards) and self.failure is None:
                self._turn()
        except WriterDeposedError as error:
            self.failure = StreamFailedError(str(error))
        return self.failure is None


class Minute:
    """What one process saw of one minute."""

    def __init__(self, whole: bool) -> None:
        self.prints: dict[int, Print] = {}
        self.whole = whole
        self.closed = False


class Model:
    """
    What the table must hold of whole minutes, by the rules as they are written down, computed without the product's code.

    A minute is whole if it began after the line was up (the clock tells when that was), and nothing broke before it was closed. It closes a second
    of stream time after its end, and is revised for a quarter of an hour. What a process has seen is forgotten when it dies, except for what it
    had committed.
    """

    def __init__(self) -> None:
        self.stored: dict[tuple[str, int], Values] = {}
        self.arrived: set[tuple[str, int]] = set()  # keys of which a print reached a living line in time
        self.begin()

    def begin(self) -> None:
        """A new process, its line not yet up."""
        self.minutes: dict[tuple[str, int], Minute] = {}
        self.newest = self.newest_came = self.heard = self.stream_now = 0
        self.whole_from: int | None = None
        self.awaiting = False
        self.resumed = 0

    def up(self, now: int) -> None:
        self.awaiting = True
        self.resumed = now
        if self.newest:
            self.newest_came = self.heard = now

    def down(self) -> None:
        self.whole_from, self.awaiting = None, False
        for minute in self.minutes.values():
            minute.whole = minute.whole and minute.closed

    def take(self, prints: list[Print], now: int) -> None:
        for one in prints:
            if one.t > self.newest:
                self.newest, self.newest_came = one.t, now
            if self.awaiting:
                self.awaiting = False
                self.whole_from = max(one.t, self.newest, self.resumed) // MINUTE * MINUTE + MINUTE
            if one.minute + MINUTE + LATE < max(self.newest, self.stream_now):
                continue
            key = (one.symbol, one.minute)
            if key not in self.minutes:
                self.minutes[key] = Minute(self.whole_from is not None and one.minute >= self.whole_from)
            keep(self.minutes[key].prints, one)
            if now <= one.minute + MINUTE + CLAIM_LAG_MS:  # a later one may be lost with its process, until the night's reconciliation
                self.arrived.add(key)
        self.heard = now
        self.stream_now = self.newest + self.heard - self.newest_came
        for (_, start), minute in self.minutes.items():
            minute.closed = minute.closed or start + MINUTE + HOLD <= self.stream_now

    def committed(self) -> None:
        for key, minute in self.minutes.items():
            if minute.whole and minute.closed and minute.prints:
                self.stored[key] = values(minute.prints)


class Machine:
    """The stream under test, its line, its clock, and the model; every fault is a method."""

    def __init__(self, sessions: SessionTable, clock: SimpleNamespace) -> None:
        self.sessions = sessions
        self.clock = clock
        self.model = Model()
        self.stream: LiveStream | None = None
        self.deposed = 0
        self.begin()

    def begin(self) -> None:
        """Start a process and its line."""
        writer = Writer(line_name(1, 1))
        writer.acquire_within(10)
        self.cut = False  # the server ended the writer's session, and it does not know yet
        self.stream = LiveStream(
            writer, self.sessions, feed="massive", ws_url="ws://127.0.0.1:9", key="k", symbols=SYMBOLS, kinds=("T",), connections=1,
            batch_size=1, flush_seconds=5.0, history=None,
        )  # fmt: skip
        self.model.begin()
        self.line_up()

    @property
    def writer(self) -> Writer:
        assert self.stream is not None
        return self.stream._writer

    def line_up(self) -> None:
        assert self.stream is not None
        self.stream._receive(LineState(1, State.LIVE, "", pairs=frozenset(f"T.{symbol}" for symbol in SYMBOLS)))
        self.model.up(self.clock.now)

    def line_down(self) -> None:
        assert self.stream is not None
        self.stream._receive(LineState(1, State.CONNECTING, "the connection broke"))
        self.model.down()

    def lose_frames(self) -> None:
        assert self.stream is not None
        self.stream._receive(Loss(1, 1))
        self.model.down()
        self.model.up(self.clock.now)

    def take(self, prints: list[Print]) -> None:
        """One frame comes."""
        stream = self.stream
        assert stream is not None
        stream._receive(Frame(1, json.dumps([one.event() for one in prints]).encode(), self.clock.now / 1000))
        stream._intake.close(stream._stream_now())
        hand_over(stream._intake, stream._flusher)
        stream._keep_evidence()
        self.model.take(prints, self.clock.now)

    def flush(self) -> None:
        """What waits is committed, however often the connection breaks meanwhile."""
        assert self.stream is not None
        epoch = self.writer.epoch
        assert self.stream._flusher.drain(None), self.stream._flusher.failure
        self.model.committed()
        self.cut = self.cut and self.writer.epoch == epoch  # a reconnect took a new one

    def cut_database(self) -> None:
        """The server ends the writer's session; the next statement fails."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (self.writer.connection.info.backend_pid,))
        self.cut = True

    def second_writer(self) -> None:
        """A rival starts: refused while this one holds its lock; with that lock gone it takes over, and this one's next write is refused."""
        rival = Writer(line_name(1, 1))
        if not self.cut:
            try:
                rival.acquire()
                raise AssertionError("two writers hold one line")
            except WriterBusyError:
                self.cut_database()
            finally:
                rival.close()
        rival.acquire_within(10)
        before = table()
        assert self.stream is not None
        self.stream._flusher.add(self.stream._intake.builder.moving(), [])  # something to write, whatever waits
        if self.stream._flusher._bars:
            assert not self.stream._flusher.drain(None)
            self.deposed += 1
        assert table() == before, "a deposed writer wrote"
        rival.close()
        self.crash()

    def crash(self) -> None:
        """The process dies: what was not committed is gone."""
        assert self.stream is not None
        self.stream._flusher.stop()
        self.stream._announcer.stop()
        self.stream = None

    def end(self) -> None:
        """The process ends as after SIGTERM."""
        assert self.stream is not None
        self.stream._end()
        self.model.committed()
        self.stream = None


def table() -> list[tuple[Any, ...]]:
    """Return all bars with all columns but the time of the change."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT symbol, timestamp, open, high, low, close, volume, source, source_version, revision, complete, is_final FROM ohlcv_1min "
            "ORDER BY symbol, timestamp"
        )
        return cursor.fetchall()


def play(machine: Machine, tape: list[Print], dice: random.Random) -> None:
    """Feed the tape through, with faults in between as the dice fall; what arrives while nobody listens is lost."""
    place, listening_from = 0, 0
    machine.clock.now = tape[0].arrives
    restart: Callable[[], None] | None = None
    while place < len(tape):
        count = dice.randint(1, 5)
        frame, place = tape[place : place + count], place + count
        arrives = max(one.arrives for one in frame)
        if arrives < listening_from:
            continue
        machine.clock.now = max(machine.clock.now, listening_from)
        if restart is not None:
            restart()
            restart = None
        machine.clock.now = max(machine.clock.now, arrives)
        machine.take(frame)
        roll = dice.random()
        if roll < 0.30:
            machine.flush()
        elif roll < 0.34:
            machine.cut_database()
        elif roll < 0.36:
            machine.lose_frames()
        elif roll < 0.40:
            machine.line_down()
            restart, listening_from = machine.line_up, machine.clock.now + dice.randrange(100, 4 * MINUTE)
        elif roll < 0.44:
            machine.crash()
            restart, listening_from = machine.begin, machine.clock.now + dice.randrange(100, 6 * MINUTE)
        elif roll < 0.46:
            machine.end()
            restart, listening_from = machine.begin, machine.clock.now + dice.randrange(100, 3 * MINUTE)
        elif roll < 0.47:
            machine.second_writer()
            restart, listening_from = machine.begin, machine.clock.now + dice.randrange(100, 2 * MINUTE)
    if restart is not None:
        restart()
    machine.end()
