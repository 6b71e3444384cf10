"""
The live workflow: frames → events → bars → rows → announcements. Owns the clock, the threads, the queue and the end.

Lines read, this thread folds, the flusher writes, the announcer tells.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from marketdata.announcer import Announcer
from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.caretaker import Caretaker
from marketdata.connection import Frame, Item, Line, LineState, Loss, SignOfLife
from marketdata.feed.protocol import State
from marketdata.flusher import SHUTDOWN_SECONDS, Flusher, StreamFailedError, hand_over, moment, settle_passed
from marketdata.history import RestHistory
from marketdata.intake import Intake, Report
from marketdata.jobs import BarJobs
from marketdata.spans import Span
from marketdata.writer import Writer

log = logging.getLogger(__name__)

QUEUE_FRAMES = 50_000
MOVING_SECONDS = 0.1
STATUS_SECONDS = 2.0
SILENT_SECONDS = 15.0
SILENT_SECONDS_QUIET_FEED = 150.0
BUSY_SYMBOLS = 10  # of a line: in regular hours one of so many trades at least every few seconds
LINE_SECONDS = 2.0  # for the lines to end; one that is busy connecting is not waited for


class LiveStream:
    """
    The live line of one shard: `run` until `stop`.

    Its clock is the largest event time, moved on by signs of life: while one of the lines is silent, no minute is taken for finished.
    """

    def __init__(
        self,
        writer: Writer,
        sessions: SessionTable,
        *,
        feed: str,
        ws_url: str,
        key: str,
        symbols: Sequence[str],
        kinds: Sequence[str],
        connections: int,
        batch_size: int,
        flush_seconds: float,
        history: Callable[[], RestHistory] | None,
        requests_per_second: float = 50.0,
    ) -> None:
        self._writer = writer
        self._sessions = sessions
        self._feed = feed
        self._symbols = list(symbols)
        self._kinds = tuple(kinds)
        self._stop = threading.Event()
        self._started_at = datetime.now(UTC)
        builder = BarBuilder(sessions, now_ms=int(time.time() * 1000))
        if "AM" in kinds:
            builder.expect_minute_aggregates(alone=not {"A", "T"} & set(kinds))
        self._intake = Intake(builder, symbols=frozenset(symbols), kinds=frozenset(kinds))
        self._queue: queue.Queue[Item] = queue.Queue(QUEUE_FRAMES)
        self._lines = [
            Line(number + 1, url=ws_url, key=key, pairs=self._pairs(part), into=self._queue)
            for number, part in enumerate(self._partitions(connections))
        ]
        self._states = {line.number: LineState(line.number, State.CONNECTING, "connecting") for line in self._lines}
        self._announcer = Announcer()
        self._flusher = Flusher(writer, self._announcer, batch_size=batch_size, flush_seconds=flush_seconds)
        self._event_at = (0, time.monotonic())  # largest event time, and when it came
        self._outage_seconds = 0.0  # since that event
        self._alive_at = dict.fromkeys(self._states, time.monotonic())  # by line: all that was sent until then has arrived
        self._data_at = dict(self._alive_at)
        self._watched_from = dict(self._alive_at)
        self._delays: deque[float] = deque(maxlen=500)
        self._frame_minutes: deque[tuple[float, int]] = deque(maxlen=40)
        self._state = ("connecting", datetime.now(UTC))
        self._settled_to = 0
        self._span: Span | None = None
        self._caretaker = history and Caretaker(
            history, symbols=symbols, now=self._market_now, announce=self._announcer.closed, requests_per_second=requests_per_second
        )
        self._jobs = history and BarJobs(
            history, now=self._market_now, announce=self._announcer.closed, requests_per_second=requests_per_second
        )

    def _partitions(self, connections: int) -> list[list[str]]:
        parts = [self._symbols[start::connections] for start in range(connections)]
        return [part for part in parts if part]

    def _pairs(self, symbols: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{kind}.{symbol}" for kind in self._kinds for symbol in symbols)

    def stop(self) -> None:
        """Ask for the end; `run` returns when all is stored."""
        self._stop.set()

    def run(self) -> Report:
        """Stream until `stop`. StreamFailedError where it cannot go on."""
        for line in self._lines:
            line.start()
        if self._caretaker is not None and self._jobs is not None:
            self._caretaker.start()
            self._jobs.start()
        try:
            self._loop()
        finally:
            if self._caretaker is not None and self._jobs is not None:
                self._caretaker.stop()
                self._jobs.stop()
            self._end()
        if self._flusher.failure is not None:
            raise self._flusher.failure
        self._intake.report.changed = self._flusher.changed
        return self._intake.report

    # -- the folding thread -----------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        began = time.monotonic()
        next_moving = next_status = 0.0
        while not self._stop.is_set() and self._flusher.failure is None:
            self._drain_queue()
            self._intake.close(self._stream_now())
            hand_over(self._intake, self._flusher)
            now = time.monotonic()
            if now >= next_moving:
                next_moving = now + MOVING_SECONDS
                if moving := self._intake.builder.moving():
                    self._announcer.moving(moving)
            if now >= next_status:
                next_status = now + STATUS_SECONDS
                self._settled_to = settle_passed(self._intake.builder, self._flusher, self._settled_to)
                self._keep_evidence()
                self._report_status()
                self._watch_for_silence(now)
            self._intake.report.seconds = round(now - began, 3)

    def _drain_queue(self) -> None:
        """Take what has come, waiting a moment for the first; come back often enough to close minutes on time."""
        try:
            item = self._queue.get(timeout=0.02)
        except queue.Empty:
            return
        end = time.monotonic() + 0.02
        while True:
            self._receive(item)
            if time.monotonic() > end:
                return
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return

    def _receive(self, item: Item) -> None:
        if isinstance(item, Frame):
            self._take(item)
        elif isinstance(item, SignOfLife):
            self._alive_at[item.line] = max(self._alive_at[item.line], item.received)
        elif isinstance(item, Loss):
            self._intake.builder.interrupt()
            self._end_evidence(f"{item.frames} frames were dropped")
            self._resume()
        else:
            self._line_changed(item)

    def _take(self, frame: Frame) -> None:
        self._alive_at[frame.line] = max(self._alive_at[frame.line], frame.received)
        newest = self._intake.take(frame.data)
        if newest:
            self._data_at[frame.line] = frame.received
            self._delays.append(time.time() * 1000 - newest)
        clock_ms = self._intake.builder.clock_ms  # an absurd time has not moved it
        if clock_ms > self._event_at[0]:
            self._event_at, self._outage_seconds = (clock_ms, frame.received), 0.0

    def _line_changed(self, change: LineState) -> None:
        self._states[change.line] = change
        if change.state is State.LIVE:
            self._alive_at[change.line] = self._data_at[change.line] = time.monotonic()
            self._resume()
        else:
            self._intake.builder.interrupt()
            self._end_evidence(change.reason)
        self._report_status()

    def _resume(self) -> None:
        """Where all lines are up, let minutes count as whole again, from the next one of the feed's own time on."""
        if any(state.state is not State.LIVE for state in self._states.values()):
            return
        event_ms, came_at = self._event_at
        now = time.monotonic()
        self._intake.builder.resume(event_ms + int((now - came_at + self._outage_seconds) * 1000) if event_ms else 0)
        if event_ms:
            self._event_at = (event_ms, now)  # the time of the outage is no time of the stream
            self._outage_seconds += now - came_at

    def _stream_now(self) -> int:
        """Return the stream's time in Unix ms: up to when all that was sent is known to have arrived, on every line that is up."""
        event_ms, came_at = self._event_at
        lines = [line for line, state in self._states.items() if state.state is State.LIVE]
        if not event_ms or not lines:
            return event_ms
        alive_ms = event_ms + int((min(self._alive_at[line] for line in lines) - came_at) * 1000)
        if not self._is_busy or not self._sessions.is_regular(alive_ms):
            return alive_ms
        # A socket that only answers pings proves nothing where data must come: the watchdog will break these minutes
        return event_ms + int((min(self._data_at[line] for line in lines) - came_at) * 1000)

    def _keep_evidence(self) -> None:
        """Let the ledger know up to when the line was up; it is written after the bars that it vouches for."""
        began = self._intake.builder.whole_from
        if began is None:
            return
        if self._span is None:
            self._span = Span(self._writer.name, began_ms=began, symbols=self._symbols, kinds=self._kinds)
        if self._span.grow(self._stream_now()):
            self._flusher.afterwards(f"span {began}", self._span.store)

    def _end_evidence(self, reason: str) -> None:
        span, self._span = self._span, None
        if span is not None and span.alive_until_ms > span.began_ms:
            span.end(reason)
            self._flusher.afterwards(f"span {span.began_ms}", span.store)

    @property
    def _is_busy(self) -> bool:
        return len(self._symbols) >= BUSY_SYMBOLS * len(self._lines) and bool({"A", "T"} & set(self._kinds))

    def _watch_for_silence(self, now: float) -> None:
        """A socket that is open but silent in regular hours gets a new connection; at night silence is normal."""
        if not self._sessions.is_regular(int(time.time() * 1000)):
            self._watched_from = dict.fromkeys(self._watched_from, now)
            return
        limit = SILENT_SECONDS if self._is_busy else SILENT_SECONDS_QUIET_FEED
        for line in self._lines:
            since = max(self._data_at[line.number], self._watched_from[line.number])
            if self._states[line.number].state is State.LIVE and now - since > limit:
                self._watched_from[line.number] = now
                line.kick(f"the connection is open but was silent for {limit:.0f} s")

    # -- what is said of it -------------------------------------------------------------------------------------------------------------

    def _line_state(self) -> tuple[str, str]:
        """Return the state of the whole in one word, and why where it is not live."""
        worst = next((state for state in self._states.values() if state.state is not State.LIVE), None)
        if worst is None:
            delay = median(self._delays) / 1000 if self._delays else 0.0
            return ("delayed" if 600 < delay < 1_200 else "live"), ""
        words = {State.REFUSED: "refused", State.CROWDED: "cooling"}
        return words.get(worst.state, "down" if worst.reason != "connecting" else "connecting"), worst.reason

    def _report_status(self) -> None:
        state, reason = self._line_state()
        if state != self._state[0]:
            self._state = (state, datetime.now(UTC))
        detail = self._detail(state, reason)
        self._announcer.status(detail)
        self._flusher.beat(state, detail, self._started_at)

    def _detail(self, state: str, reason: str) -> dict[str, Any]:
        report, counts = self._intake.report, self._intake.counts
        now = time.monotonic()
        self._frame_minutes.append((now, report.frames))
        past, frames = next(((at, count) for at, count in self._frame_minutes if at > now - 60), (now, report.frames))
        return {
            "shard": self._writer.name,
            "feed": self._feed,
            "state": state,
            "reason": reason,
            "since": self._state[1].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "delay_seconds": round(median(self._delays) / 1000, 3) if self._delays else None,
            "frames": report.frames,
            "frames_per_minute": round((report.frames - frames) * 60 / (now - past)) if now - past > 1 else 0,
            "events": report.events,
            "bars": report.bars,
            "late_events": report.late_events,
            "rejected_events": report.rejected_events,
            "counts": dict(counts),
            "last_event_at": moment(self._intake.last_event_ms).isoformat().replace("+00:00", "Z") if self._intake.last_event_ms else None,
            "symbols": len(self._symbols),
            "topics": list(self._kinds),
            "waiting_bars": self._flusher.waiting,
            "waiting_frames": self._queue.qsize(),
            "database_away_seconds": round(self._flusher.away_seconds, 1),
            "reconnects": sum(line.reconnects for line in self._lines),
            "dropped_frames": sum(line.dropped for line in self._lines),
            "largest_frame": max(line.largest_frame for line in self._lines),
            "lines": [
                {
                    "line": state.line,
                    "state": state.state.value,
                    "reason": state.reason,
                    "missing_topics": len(state.missing),
                    "retry_seconds": round(state.retry_seconds, 1),
                }
                for state in self._states.values()
            ],
        }

    # -- the end -----------------------------------------------------------------------------------------------------------------------------

    def _market_now(self) -> datetime:
        """Return the feed's present: the twin may run faster than the wall clock."""
        return datetime.fromtimestamp(max(time.time() * 1000, self._intake.builder.clock_ms) / 1000, UTC)

    def _end(self) -> None:
        """Stop reading, fold what has come, store it, tell it."""
        for line in self._lines:
            line.stop()
        end = time.monotonic() + LINE_SECONDS
        for line in self._lines:
            line.join(max(0.0, end - time.monotonic()))
        while not self._queue.empty():
            self._receive(self._queue.get_nowait())
        self._intake.close(self._stream_now())
        self._intake.abandon()
        hand_over(self._intake, self._flusher)
        self._keep_evidence()
        self._end_evidence("the stream was stopped")
        self._state = ("stopped", datetime.now(UTC))
        self._flusher.beat("stopped", self._detail("stopped", "the stream was stopped"), self._started_at)
        stored = self._flusher.drain(SHUTDOWN_SECONDS) or not self._flusher.waiting  # a last word may be lost, a bar never unseen
        waiting = self._flusher.waiting
        self._flusher.stop()
        self._announcer.stop()
        if not stored and self._flusher.failure is None:
            self._flusher.failure = StreamFailedError(
                f"{waiting} bars could not be stored: the database was away at the end. They are asked from REST at the next start."
            )
