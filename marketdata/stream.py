"""
The live workflow: frames → events → bars → rows → announcements. Owns the clock, the threads, the queues and the end.

One path for live and replay; they differ in where frames come from and in what time it is. Four threads at most: lines read, this one
folds, the flusher writes, the announcer tells. Only the flusher touches the database.
"""

import gzip
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import msgspec
import psycopg

from marketdata.backfill import import_minutes
from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import MINUTE_MS, BarChange, BarSnapshot
from marketdata.connection import Frame, Item, Line, LineState, SignOfLife
from marketdata.feed.decode import RAW_KEPT, Rejection, decode, readable
from marketdata.feed.events import LimitBand, MinuteAggregate, Quote, SecondAggregate, StatusMessage, Trade
from marketdata.feed.protocol import State
from marketdata.history import HistoryError, RestHistory
from marketdata.models import Cause
from marketdata.signals import bars_closed, bars_moving, feed_changed
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

log = logging.getLogger(__name__)

QUEUE_FRAMES = 50_000
MOVING_SECONDS = 0.1
STATUS_SECONDS = 2.0
FIRST_EVENTS_LOGGED = 10
MOST_WAITING_BARS = 500_000
REPLAY_WAITING_BARS = 50_000
SHUTDOWN_SECONDS = 20.0
SILENT_SECONDS = 15.0
SILENT_SECONDS_QUIET_FEED = 150.0
FILL_MINUTES = 120
FILL_WAIT_SECONDS = 120.0  # an import may hold the line `past`
LOOK_BACK_MS = 24 * 60 * MINUTE_MS


class Report(msgspec.Struct):
    """What a run did. `seconds`: first frame read → last commit."""

    frames: int = 0
    events: int = 0
    bars: int = 0
    changed: int = 0
    late_events: int = 0
    rejected_events: int = 0
    seconds: float = 0.0


class StreamFailedError(RuntimeError):
    """The stream cannot go on; the message says why and what to do."""


class Intake:
    """Frames in, closed bars and rejections out: the part of the way that knows no thread and no database."""

    def __init__(self, builder: BarBuilder, *, symbols: frozenset[str] | None, kinds: frozenset[str] | None) -> None:
        self.builder = builder
        self.counts: Counter[str] = Counter()
        self.report = Report()
        self.bars: list[BarSnapshot] = []
        self.rejections: list[Rejection] = []
        self.halted: dict[str, tuple[int, ...]] = {}
        self.last_event_ms = 0
        self._symbols = symbols
        self._kinds = kinds
        self._minutes_seen: set[tuple[str, int]] = set()

    def take(self, frame: bytes) -> int:
        """Fold one frame in; return the largest event time in it (Unix ms), 0 without any."""
        decoded = decode(frame)
        report = self.report
        report.frames += 1
        newest = 0
        builder = self.builder
        for event in decoded.events:
            kind = type(event)
            if kind is StatusMessage:
                self.counts["status"] += 1
                continue
            report.events += 1
            if report.events <= FIRST_EVENTS_LOGGED:
                log.info("Event %s: %s", report.events, event)
            if isinstance(event, Trade | SecondAggregate):
                name = _KIND_NAMES[kind]
                self.counts[name] += 1
                if (self._symbols is not None and event.sym not in self._symbols) or (self._kinds is not None and name not in self._kinds):
                    continue
                builder.add(event)
                newest = max(newest, event.t if isinstance(event, Trade) else event.e)
            elif isinstance(event, Quote | LimitBand):
                self.counts["Q" if isinstance(event, Quote) else "LULD"] += 1
        if decoded.rejections:
            report.events += sum(1 for rejection in decoded.rejections if rejection.kind)
            self._reject(decoded.rejections)
        if builder.refused:
            self._reject_refused()
        self.last_event_ms = max(self.last_event_ms, newest)
        return newest

    def _reject(self, rejections: list[Rejection]) -> None:
        for rejection in rejections:
            self.counts["rejected " + rejection.reason] += 1
        self.report.rejected_events += sum(1 for rejection in rejections if rejection.reason != "late")
        self.rejections += rejections

    def _reject_refused(self) -> None:
        refused, self.builder.refused = self.builder.refused, []
        self._reject(
            [
                Rejection(
                    reason=item.reason,
                    detail=item.detail,
                    kind=_KIND_NAMES[type(item.event)],
                    symbol=readable(getattr(item.event, "sym", ""))[:40],
                    raw=readable(msgspec.json.encode(item.event))[:RAW_KEPT],
                )
                for item in refused
            ]
        )

    def close(self, now_ms: int) -> None:
        """Move bars that are closed at stream time `now_ms` into `bars`."""
        self._collect(self.builder.closed(now_ms))

    def finish(self) -> None:
        """A recording has ended: its last minutes are whole."""
        self._collect(self.builder.finish())

    def abandon(self) -> None:
        """The line stops here: forming minutes are partial."""
        self._collect(self.builder.abandon())

    def _collect(self, bars: list[BarSnapshot]) -> None:
        self.report.late_events = self.builder.late_events
        if self.builder.refused:
            self._reject_refused()
        if not bars:
            return
        self.bars += bars
        seen = self._minutes_seen
        before = len(seen)
        seen.update((bar.symbol, bar.opened_at_ms) for bar in bars)
        self.report.bars += len(seen) - before
        if len(seen) > 4 * MOST_WAITING_BARS:  # revisions come within minutes; older keys only cost memory
            seen.clear()


_KIND_NAMES: dict[type, str] = {Trade: "T", SecondAggregate: "A", MinuteAggregate: "AM", Quote: "Q", LimitBand: "LULD"}


class Announcer:
    """Tells receivers on a thread of its own, conflated: a slow broker delays news, never bars."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._closed: dict[tuple[str, int], BarChange] = {}
        self._moving: dict[tuple[str, int], BarSnapshot] = {}
        self._status: dict[str, Any] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def closed(self, changes: list[BarChange]) -> None:
        """Announce committed bars; of two changes of one bar the newer is told."""
        with self._wake:
            for change in changes:
                key = (change.bar.symbol, change.bar.opened_at_ms)
                known = self._closed.get(key)
                inserted = change.inserted or (known is not None and known.inserted)
                self._closed[key] = msgspec.structs.replace(change, inserted=inserted)
                self._moving.pop(key, None)
            self._wake.notify()

    def moving(self, bars: list[BarSnapshot]) -> None:
        """Announce forming bars."""
        with self._wake:
            for bar in bars:
                self._moving[bar.symbol, bar.opened_at_ms] = bar
            self._wake.notify()

    def status(self, status: dict[str, Any]) -> None:
        """Announce the line's state; only the newest is told."""
        with self._wake:
            self._status = status
            self._wake.notify()

    def stop(self) -> None:
        """Tell what waits, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(SHUTDOWN_SECONDS)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._moving or self._status or self._stopping):
                    self._wake.wait()
                closed, self._closed = list(self._closed.values()), {}
                moving, self._moving = list(self._moving.values()), {}
                status, self._status = self._status, None
                stopping = self._stopping
            if closed:
                _send(bars_closed, bars=closed)
            if moving:
                _send(bars_moving, bars=moving)
            if status is not None:
                _send(feed_changed, status=status)
            if stopping and not closed and not moving:
                return


def _send(signal: Any, **payload: Any) -> None:
    for receiver, answer in signal.send_robust(sender=None, **payload):
        if isinstance(answer, Exception):
            log.error("A receiver of bars failed (%s): %s", getattr(receiver, "__name__", receiver), answer)


class Flusher:
    """
    Writes on a thread of its own: begins as soon as a closed bar waits and takes all that wait, so batches grow only while it is busy.

    The database may go away: what waits is kept and written when it is back.
    """

    def __init__(self, writer: Writer, announcer: Announcer, *, batch_size: int, flush_seconds: float, cause: Cause = Cause.LATE) -> None:
        self.failure: Exception | None = None
        self.committed = 0
        self.changed = 0
        self.last_commit = 0.0
        self.flushes = 0
        self._writer = writer
        self._announcer = announcer
        self._batch_size = batch_size
        self._flush_seconds = flush_seconds
        self._cause = cause
        self._wake = threading.Condition()
        self._bars: dict[tuple[str, int], BarSnapshot] = {}
        self._rejections: list[Rejection] = []
        self._settle: tuple[int, int] | None = None
        self._beat: tuple[str, dict[str, Any], datetime] | None = None
        self._stopping = False
        self._busy = False
        self._away_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
        self._thread.start()

    # -- called by the folding thread -------------------------------------------------------------------------------------------------

    def add(self, bars: list[BarSnapshot], rejections: list[Rejection]) -> None:
        """Hand over; of two snapshots of one key the one of higher rank and version stays."""
        with self._wake:
            for bar in bars:
                key = (bar.symbol, bar.opened_at_ms)
                known = self._bars.get(key)
                if known is None or (bar.source, bar.version) >= (known.source, known.version):
                    self._bars[key] = bar
            self._rejections += rejections
            if len(self._bars) > MOST_WAITING_BARS:
                self.failure = StreamFailedError(
                    f"More than {MOST_WAITING_BARS:,} bars wait for a database that is away; the stream stops rather than lose some unseen. "
                    "Start the database; missing minutes are asked from REST at the next start."
                )
            self._wake.notify()

    def settle(self, first_ms: int, last_ms: int) -> None:
        """Mark complete bars of [first, last) final."""
        with self._wake:
            known = self._settle
            self._settle = (min(first_ms, known[0]), max(last_ms, known[1])) if known else (first_ms, last_ms)
            self._wake.notify()

    def beat(self, state: str, detail: dict[str, Any], started_at: datetime) -> None:
        """Leave a sign of life at the next turn."""
        with self._wake:
            self._beat = (state, detail, started_at)
            self._wake.notify()

    @property
    def waiting(self) -> int:
        """How many bars wait."""
        return len(self._bars)

    @property
    def away_seconds(self) -> float:
        """For how long the database has been away; 0 when it is there."""
        return time.monotonic() - self._away_since if self._away_since is not None else 0.0

    def drain(self, seconds: float | None) -> bool:
        """Wait until all that waits is committed; return whether it is."""
        end = None if seconds is None else time.monotonic() + seconds
        with self._wake:
            while (self._bars or self._rejections or self._settle or self._busy) and self.failure is None:
                if end is not None and time.monotonic() > end:
                    return False
                self._wake.wait(0.05)
        return self.failure is None

    def stop(self) -> None:
        """End the thread; what still waits stays unwritten, so `drain` first."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(SHUTDOWN_SECONDS)
        self._writer.close()

    # -- the thread -----------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except WriterDeposedError as error:
            self.failure = StreamFailedError(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was must stop the process, not silently end this thread
            log.exception("The writing thread failed")
            self.failure = error
        with self._wake:
            self._busy = False
            self._wake.notify_all()

    def _turn(self) -> bool:
        with self._wake:
            while not (self._bars or self._rejections or self._settle or self._beat or self._stopping):
                self._wake.wait()
            if self._stopping:
                return False
            self._linger()
            bars, self._bars = self._bars, {}
            rejections, self._rejections = self._rejections, []
            settle, self._settle = self._settle, None
            beat, self._beat = self._beat, None
            self._busy = True
        try:
            self._flush(list(bars.values()), rejections, settle, beat)
            self._away_since = None
        except psycopg.OperationalError as error:
            self._put_back(bars, rejections, settle)
            self._wait_for_database(error)
        finally:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
        return True

    def _linger(self) -> None:
        """At a minute's edge bars come within milliseconds of each other: let a batch gather, never past its bounds."""
        end = time.monotonic() + min(0.01, self._flush_seconds)
        while self._bars and len(self._bars) < self._batch_size and not self._stopping:
            left = end - time.monotonic()
            if left <= 0 or not self._wake.wait(left):
                return

    def _flush(
        self,
        bars: list[BarSnapshot],
        rejections: list[Rejection],
        settle: tuple[int, int] | None,
        beat: tuple[str, dict[str, Any], datetime] | None,
    ) -> None:
        if bars:
            changes, refused = self._writer.write(bars, cause=self._cause)
            rejections = [*rejections, *refused]
            self.committed += len(bars)
            self.changed += len(changes)
            self.flushes += 1
            self.last_commit = time.monotonic()
            if changes:
                self._announcer.closed(changes)
        if rejections:
            self._writer.reject(rejections)
        if settle is not None:
            self._writer.settle(_moment(settle[0]), _moment(settle[1]))
        if beat is not None:
            state, detail, started_at = beat
            self._writer.beat(state, detail, started_at=started_at)

    def _put_back(self, bars: dict[tuple[str, int], BarSnapshot], rejections: list[Rejection], settle: tuple[int, int] | None) -> None:
        """Keep what was not committed; writing the committed part again changes nothing."""
        with self._wake:
            newer, self._bars = self._bars, bars
            for key, bar in newer.items():
                known = self._bars.get(key)
                if known is None or (bar.source, bar.version) >= (known.source, known.version):
                    self._bars[key] = bar
            self._rejections = rejections + self._rejections
        if settle is not None:
            self.settle(*settle)

    def _wait_for_database(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.error("The database is away (%s); bars wait in memory.", str(error).strip().splitlines()[0] if str(error).strip() else error)
        while not self._stopping and self.failure is None:
            try:
                self._writer.reconnect()
            except psycopg.OperationalError:
                time.sleep(0.5)
            else:
                log.warning("The database is back after %.1f s; %s bars wait.", self.away_seconds, len(self._bars))
                return


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


# ---- replay ------------------------------------------------------------------------------------------------------------------------------


def recorded_frames(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the frames of recorded files, one a line; `.gz` is unpacked. OSError where one cannot be read."""
    for path in paths:
        opened: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
        with opened as lines:
            file: BinaryIO = lines
            for line in file:
                if frame := line.strip():
                    yield frame


def replay(
    paths: Sequence[Path],
    writer: Writer,
    sessions: SessionTable,
    *,
    speed: float | None,
    symbols: frozenset[str] | None,
    kinds: frozenset[str] | None,
    batch_size: int,
    flush_seconds: float,
    stopped: Callable[[], bool],
) -> Report:
    """
    Run recorded frames through the same way as live ones; their largest event time is the only clock. `speed` None: as fast as it goes.

    StreamFailedError where bars could not be stored.
    """
    intake = Intake(BarBuilder(sessions, unbroken=True), symbols=symbols, kinds=kinds)
    announcer = Announcer()
    flusher = Flusher(writer, announcer, batch_size=batch_size, flush_seconds=flush_seconds)
    began: float | None = None
    first_ms = 0
    settled_to = 0
    try:
        for frame in recorded_frames(paths):
            if began is None:
                began = time.monotonic()
            newest = intake.take(frame)
            if speed is not None and newest:
                first_ms = first_ms or newest
                _wait_until(began + (newest - first_ms) / 1000 / speed, stopped)
            intake.close(intake.builder.clock_ms)
            _hand_over(intake, flusher)
            settled_to = _settle_passed(intake.builder, flusher, settled_to)
            while flusher.waiting > REPLAY_WAITING_BARS and flusher.failure is None:
                time.sleep(0.005)
            if flusher.failure is not None or stopped():
                break
        if stopped():
            intake.abandon()
        else:
            intake.finish()
        _hand_over(intake, flusher)
        flusher.drain(None)
        _settle_passed(intake.builder, flusher, settled_to)
        flusher.drain(None)
        if flusher.failure is not None:
            raise flusher.failure
    finally:
        flusher.stop()
        announcer.stop()
    report = intake.report
    report.changed = flusher.changed
    report.seconds = round(max(0.0, (flusher.last_commit or time.monotonic()) - began), 3) if began is not None else 0.0
    return report


def _wait_until(moment: float, stopped: Callable[[], bool]) -> None:
    while not stopped():
        left = moment - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.2))


def _hand_over(intake: Intake, flusher: Flusher) -> None:
    if intake.bars or intake.rejections:
        flusher.add(intake.bars, intake.rejections)
        intake.bars, intake.rejections = [], []


def _settle_passed(builder: BarBuilder, flusher: Flusher, settled_to: int) -> int:
    """Have the minutes whose late window has passed marked final; return up to where."""
    passed = builder.settled_before_ms
    if passed is None or passed <= settled_to:
        return settled_to
    flusher.settle(settled_to or passed - LOOK_BACK_MS, passed)
    return passed


# ---- live ----------------------------------------------------------------------------------------------------------------------------------


class LiveStream:
    """
    The live line of one shard: `run` until `stop`.

    Its clock is the largest event time, moved on by signs of life of the line: while the line is silent, no minute is taken for finished.
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
    ) -> None:
        self._writer = writer
        self._sessions = sessions
        self._feed = feed
        self._symbols = list(symbols)
        self._kinds = tuple(kinds)
        self._history = history
        self._stop = threading.Event()
        self._started_at = datetime.now(UTC)
        builder = BarBuilder(sessions, now_ms=int(time.time() * 1000))
        if "AM" in kinds:
            builder.expect_minute_aggregates()
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
        self._alive_at = time.monotonic()
        self._data_at = time.monotonic()
        self._delays: deque[float] = deque(maxlen=500)
        self._frame_minutes: deque[tuple[float, int]] = deque(maxlen=40)
        self._state = ("connecting", datetime.now(UTC))
        self._settled_to = 0

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
        filler = threading.Thread(target=self._fill_windows, name="window-filler", daemon=True)
        filler.start()
        try:
            self._loop()
        finally:
            self._end()
        filler.join(1.0)
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
            _hand_over(self._intake, self._flusher)
            now = time.monotonic()
            if now >= next_moving:
                next_moving = now + MOVING_SECONDS
                if moving := self._intake.builder.moving():
                    self._announcer.moving(moving)
            if now >= next_status:
                next_status = now + STATUS_SECONDS
                self._settled_to = _settle_passed(self._intake.builder, self._flusher, self._settled_to)
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
            self._alive_at = max(self._alive_at, item.received)
            newest = self._intake.take(item.data)
            if newest:
                self._data_at = item.received
                self._delays.append(time.time() * 1000 - newest)
            if newest > self._event_at[0] and self._intake.builder.clock_ms >= newest:
                self._event_at = (newest, item.received)
        elif isinstance(item, SignOfLife):
            self._alive_at = max(self._alive_at, item.received)
        else:
            self._line_changed(item)

    def _line_changed(self, change: LineState) -> None:
        self._states[change.line] = change
        if all(state.state is State.LIVE for state in self._states.values()):
            self._data_at = self._alive_at = time.monotonic()
            if self._event_at[0]:
                self._event_at = (self._event_at[0], self._alive_at)  # the time of the outage is no time of the stream
            self._intake.builder.resume()
        elif change.state is not State.LIVE:
            self._intake.builder.interrupt()
        self._report_status()

    def _stream_now(self) -> int:
        """Return the stream's time in Unix ms: what is known to have arrived."""
        event_ms, came_at = self._event_at
        return event_ms + max(0, int((self._alive_at - came_at) * 1000)) if event_ms else 0

    def _watch_for_silence(self, now: float) -> None:
        """A socket that is open but silent in regular hours gets a new connection; at night silence is normal."""
        if self._state[0] not in ("live", "delayed") or not self._sessions.is_regular(int(time.time() * 1000)):
            self._data_at = max(self._data_at, now - 1)
            return
        busy = len(self._symbols) >= 10 and bool({"A", "T"} & set(self._kinds))
        limit = SILENT_SECONDS if busy else SILENT_SECONDS_QUIET_FEED
        if now - self._data_at > limit:
            self._data_at = now
            for line in self._lines:
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
            "last_event_at": _moment(self._intake.last_event_ms).isoformat().replace("+00:00", "Z") if self._intake.last_event_ms else None,
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

    # -- windows and the end ----------------------------------------------------------------------------------------------------------------

    def _fill_windows(self) -> None:
        """Ask REST for the last two hours, so that the first live bars are scanned on full windows."""
        if self._history is None:
            return
        writer = Writer(PAST)
        try:
            history = self._history()
            writer.acquire_within(FILL_WAIT_SECONDS, stopped=self._stop.is_set)
            now = self._market_now()
            report = import_minutes(
                history,
                writer,
                self._symbols,
                first=datetime.fromtimestamp(now.timestamp() - FILL_MINUTES * 60, UTC),
                last=now,
                now=self._market_now,
                announce=self._announcer.closed,
                stopped=self._stop.is_set,
            )
            log.info("Filled the windows of %s symbols from REST: %s bars, %s new.", report.symbols, report.read, report.changed)
        except (HistoryError, WriterBusyError, psycopg.OperationalError) as error:
            log.warning("The last %s minutes were not asked from REST: %s", FILL_MINUTES, error)
        finally:
            writer.close()

    def _market_now(self) -> datetime:
        """Return the feed's present: the twin may run faster than the wall clock."""
        return datetime.fromtimestamp(max(time.time() * 1000, self._intake.builder.clock_ms) / 1000, UTC)

    def _end(self) -> None:
        """Stop reading, fold what has come, store it, tell it."""
        for line in self._lines:
            line.stop()
        while not self._queue.empty():
            self._receive(self._queue.get_nowait())
        self._intake.close(self._stream_now())
        self._intake.abandon()
        _hand_over(self._intake, self._flusher)
        self._state = ("stopped", datetime.now(UTC))
        self._flusher.beat("stopped", self._detail("stopped", "the stream was stopped"), self._started_at)
        stored = self._flusher.drain(SHUTDOWN_SECONDS)
        self._flusher.stop()
        self._announcer.stop()
        if not stored and self._flusher.failure is None:
            self._flusher.failure = StreamFailedError(
                f"{self._flusher.waiting} bars could not be stored: the database was away at the end. They are asked from REST at the next start."
            )
