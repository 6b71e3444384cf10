"""
The live workflow: frames → events → bars → rows → announcements. Owns the clock, the threads, the queue and the end.

Lines read, this thread folds, the flusher writes, the announcer tells.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from marketdata.announcer import Announcer
from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.caretaker import Caretaker
from marketdata.connection import Frame, Item, LineState, Loss, SignOfLife
from marketdata.feed.partition import parted
from marketdata.feed.protocol import State
from marketdata.flusher import SHUTDOWN_SECONDS, Flusher, StreamFailedError, hand_over, moment, settle_passed
from marketdata.history import RestHistory
from marketdata.intake import Intake, Report
from marketdata.jobs import BarJobs
from marketdata.lines import Lines
from marketdata.rate import Rate
from marketdata.spans import Span
from marketdata.writer import Writer

log = logging.getLogger(__name__)

QUEUE_FRAMES = 50_000
MOVING_SECONDS = 0.05  # what moves after a pause goes out at once
SHARE_SECONDS = 0.1
QUOTE_SECONDS = 0.25
STATUS_SECONDS = 2.0
SILENT_SECONDS = 15.0
SILENT_SECONDS_QUIET_FEED = 150.0
BUSY_SYMBOLS = 10  # of a line: in regular hours one of so many trades at least every few seconds
DELAYED_SECONDS = (870.0, 1_200.0)  # a plan without real-time data is 15 minutes behind, on a healthy line
DELAYED_FRAMES = 50  # a few late trades may look like a delayed feed, so many frames do not
AHEAD_MS = 5_000
CLOCK_BEHIND_SECONDS = 2.0
MISSING_NAMED = 5
LINE_SECONDS = 2.0  # for the lines to end


class LiveStream:
    """
    The live line of one shard: `run` until `stop`.

    Its clock is the largest event time, moved on by signs of life: while one of the lines is silent, no minute is taken for finished.
    The symbols of a line that falls move to the others, and back when it is up again.
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
        priority: Collection[str] = (),
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
        parts = parted(symbols, connections=connections, priority=priority)
        reserved = 0 if len(parts) > 1 and set(priority) & set(parts[0]) else None
        self._lines = Lines(parts, kinds, url=ws_url, key=key, into=self._queue, reserved=reserved)
        self._announcer = Announcer()
        self._flusher = Flusher(writer, self._announcer, batch_size=batch_size, flush_seconds=flush_seconds)
        self._event_at = (0, time.monotonic())  # largest event time, and when it came
        self._outage_seconds = 0.0  # since that event
        self._counts_as_delayed = False
        self._resumed_at = time.monotonic()
        self._interrupted = True  # nothing is whole before every symbol is on a live line
        self._delays: deque[float] = deque(maxlen=500)
        self._frame_minutes: deque[tuple[float, int]] = deque(maxlen=40)
        self._state = ("connecting", datetime.now(UTC))
        self._settled_to = 0
        self._span: Span | None = None
        rate = Rate(requests_per_second)  # one for all who ask: the plan counts them together
        self._caretaker = history and Caretaker(
            history,
            symbols=symbols,
            now=self._market_now,
            announce=self._announcer.closed,
            calendar=self._renew_calendar,
            pause=rate.wait,
        )
        self._jobs = history and BarJobs(history, now=self._market_now, announce=self._announcer.closed, pause=rate.wait)

    def _renew_calendar(self, sessions: SessionTable) -> None:
        self._sessions = self._intake.builder.sessions = sessions

    def stop(self) -> None:
        """Ask for the end; `run` returns when all is stored."""
        self._stop.set()

    def run(self) -> Report:
        """Stream until `stop`. StreamFailedError where it cannot go on."""
        self._lines.start()
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
        next_moving = next_quotes = next_share = next_status = 0.0
        while not self._stop.is_set() and self._flusher.failure is None:
            self._drain_queue()
            self._intake.close(self._stream_now())
            hand_over(self._intake, self._flusher)
            now = time.monotonic()
            if now >= next_share:
                next_share = now + SHARE_SECONDS
                self._lines.share_out(now)
            if now >= next_moving and (moving := self._intake.builder.moving()):
                next_moving = now + MOVING_SECONDS
                self._announcer.moving(moving)
            if now >= next_quotes and (quotes := self._intake.take_quotes()):
                next_quotes = now + QUOTE_SECONDS
                self._announcer.quotes(quotes)
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
            self._lines.hear(item.line, item.received)
        elif isinstance(item, Loss):
            self._interrupt(f"{item.frames} frames were dropped")
            self._resume()
        else:
            self._line_changed(item)

    def _take(self, frame: Frame) -> None:
        newest = self._intake.take(frame.data)
        self._lines.hear(frame.line, frame.received, data=bool(newest))
        if newest:
            self._delays.append(time.time() * 1000 - newest)
        clock_ms = self._intake.builder.clock_ms  # an absurd time has not moved it
        if clock_ms > self._event_at[0]:
            self._event_at, self._outage_seconds = (clock_ms, frame.received), 0.0
        if newest:
            self._learn_beginning(clock_ms, frame.received)

    def _learn_beginning(self, clock_ms: int, received: float) -> None:
        """
        Let no minute pass for whole that had begun before the line was up.

        The first event of a new connection may be minutes old, a late trade say. An event of time t that comes s seconds after the line came up tells
        that it came up at t − s or later; the wall clock tells it too, unless the feed is known to be a delayed one, by many of its events. A feed that
        runs ahead of the wall clock (the twin, faster than time) is its own clock.
        """
        wall_ms = int(time.time() * 1000)
        if self._interrupted or clock_ms > wall_ms + AHEAD_MS:
            return
        lag_ms, since_ms = wall_ms - clock_ms, int((received - self._resumed_at) * 1000)
        if self._is_surely_delayed and not self._counts_as_delayed:  # what was held back until it is known need be held back no more
            self._counts_as_delayed = True
            self._interrupt("the feed is a delayed one")
            self._resume()
            return
        may_be_wrong = lag_ms > DELAYED_SECONDS[1] * 1000  # no plan is so late: the wall clock is not set
        bound = clock_ms if self._counts_as_delayed or may_be_wrong else wall_ms
        self._intake.builder.not_whole_before(bound - since_ms)
        if self._span is not None and self._intake.builder.whole_from is not None:
            self._span.began_ms = max(self._span.began_ms, self._intake.builder.whole_from)

    def _line_changed(self, change: LineState) -> None:
        self._lines.change(change)
        if change.state is not State.LIVE:
            self._interrupt(change.reason)
        elif self._span is not None and not self._lines.heard().issuperset(self._span.symbols):
            self._interrupt("topics were taken from us")
        self._resume()
        self._report_status()

    def _interrupt(self, reason: str) -> None:
        self._interrupted = True
        self._intake.builder.interrupt()
        self._end_evidence(reason)

    def _resume(self) -> None:
        """Where every symbol is on a live line, let minutes count as whole again, from the next one of the feed's own time on."""
        if not self._interrupted or not self._lines.covered:
            return
        self._interrupted = False
        event_ms, came_at = self._event_at
        now = self._resumed_at = time.monotonic()
        self._intake.builder.resume(event_ms + int((now - came_at + self._outage_seconds) * 1000) if event_ms else 0)
        if event_ms:
            self._event_at = (event_ms, now)  # the time of the outage is no time of the stream
            self._outage_seconds += now - came_at

    def _stream_now(self) -> int:
        """Return the stream's time in Unix ms: up to when all that was sent is known to have arrived, on every line that is up."""
        event_ms, came_at = self._event_at
        alive_at, data_at = self._lines.alive_at(), self._lines.data_at()
        if not event_ms or alive_at is None or data_at is None:
            return event_ms
        alive_ms = event_ms + int((alive_at - came_at) * 1000)
        if not self._is_busy or not self._sessions.is_regular(alive_ms):
            return alive_ms
        # A socket that only answers pings proves nothing where data must come: the watchdog will break these minutes
        return event_ms + int((data_at - came_at) * 1000)

    def _keep_evidence(self) -> None:
        """
        Let the ledger know from when to when the line was up; it is written after the bars that it vouches for.

        The beginning is told at once: from then on bars are expected, even if this process dies before it can vouch for any.
        """
        began = self._intake.builder.whole_from
        if began is None:
            return
        if self._span is None:
            heard = self._lines.heard()
            symbols = [symbol for symbol in self._symbols if symbol in heard]
            if not symbols:
                return
            self._span = Span(self._writer.name, began_ms=began, symbols=symbols, kinds=self._kinds)
            self._flusher.afterwards(f"span {began}", self._span.store)
        if self._span.grow(self._stream_now()):
            self._flusher.afterwards(f"span {began}", self._span.store)

    def _end_evidence(self, reason: str) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.end(reason)
            self._flusher.afterwards(f"span {span.began_ms}", span.store)

    @property
    def _is_busy(self) -> bool:
        return len(self._symbols) >= BUSY_SYMBOLS * len(self._lines) and bool({"A", "T"} & set(self._kinds))

    def _watch_for_silence(self, now: float) -> None:
        """A socket that is open but silent in regular hours gets a new connection; at night silence is normal."""
        if not self._sessions.is_regular(int(time.time() * 1000)):
            self._lines.watch_from(now)
            return
        self._lines.end_silent(now, limit=SILENT_SECONDS if self._is_busy else SILENT_SECONDS_QUIET_FEED)

    # -- what is said of it -------------------------------------------------------------------------------------------------------------

    def _line_state(self) -> tuple[str, str]:
        """Return the state of the whole in one word, and what is wrong in words; a fallen line whose symbols moved is no fall of the whole."""
        down = self._lines.down()
        if down is None or self._lines.covered:
            return ("delayed" if self._is_delayed else "live"), f"line {down.line}: {down.reason}" if down else ""
        words = {State.REFUSED: "refused", State.CROWDED: "cooling"}
        return words.get(down.state, "down" if down.reason != "connecting" else "connecting"), down.reason

    @property
    def _delay_seconds(self) -> float | None:
        return median(self._delays) / 1000 if self._delays else None

    @property
    def _is_delayed(self) -> bool:
        return DELAYED_SECONDS[0] < (self._delay_seconds or 0.0) < DELAYED_SECONDS[1]

    @property
    def _is_surely_delayed(self) -> bool:
        return len(self._delays) >= DELAYED_FRAMES and self._is_delayed

    def _notices(self) -> list[str]:
        """Return what a person should know although bars come."""
        notices = []
        if self._is_delayed:
            notices.append(f"The feed is {round((self._delay_seconds or 0) / 60)} minutes behind: the plan has no real-time data.")
        if self._feed == "massive" and (self._delay_seconds or 0.0) < -CLOCK_BEHIND_SECONDS:
            notices.append(f"This machine's clock is {-(self._delay_seconds or 0.0):.0f} s behind the feed's events; set it (NTP).")
        if missing := self._lines.missing():
            named = ", ".join(missing[:MISSING_NAMED]) + (" …" if len(missing) > MISSING_NAMED else "")
            notices.append(f"{len(missing)} topics were never acknowledged ({named}): the plan does not include them.")
        down = self._lines.down()
        if down is not None and self._lines.covered:
            notices.append(f"Line {down.line} is down ({down.reason}); its symbols moved to the others.")
        return notices

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
            "notices": self._notices(),
            "delay_seconds": None if self._delay_seconds is None else round(self._delay_seconds, 3),
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
            "reconnects": self._lines.reconnects,
            "dropped_frames": self._lines.dropped,
            "largest_frame": self._lines.largest_frame,
            "missing_topics": len(self._lines.missing()),
            "lines": self._lines.detail(),
        }

    # -- the end -----------------------------------------------------------------------------------------------------------------------------

    def _market_now(self) -> datetime:
        """Return the feed's present: the twin may run faster than the wall clock, and a delayed feed lags behind it."""
        if self._is_delayed:
            return datetime.fromtimestamp(self._stream_now() / 1000, UTC)
        return datetime.fromtimestamp(max(time.time() * 1000, self._intake.builder.clock_ms) / 1000, UTC)

    def _end(self) -> None:
        """Stop reading, fold what has come, store it, tell it."""
        self._lines.stop(LINE_SECONDS)
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
