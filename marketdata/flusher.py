"""
Closed bars on their way into the table, on a thread of its own that alone touches the database.

It begins as soon as a bar waits and takes all that wait, so batches grow only while it is busy. The database may go away: what waits is kept.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg

from marketdata.announcer import Announcer
from marketdata.bars.builder import BarBuilder
from marketdata.bars.snapshot import BarSnapshot
from marketdata.feed.decode import Rejection
from marketdata.intake import Intake, Pause
from marketdata.models import Cause
from marketdata.writer import Writer, WriterDeposedError, condensed

log = logging.getLogger(__name__)

MOST_WAITING_BARS = 500_000
MOST_WAITING_REJECTIONS = 10_000  # each may be 2,000 characters; beyond, only their number is kept
RETRY_SECONDS = 0.5
LOOK_BACK_MS = 5 * 24 * 60 * 60_000  # the first time: over a long weekend, what an earlier run left provisional
SHUTDOWN_SECONDS = 8.0  # lines, flusher and announcer together stay below what `up` grants
THREAD_SECONDS = 2.0


class StreamFailedError(RuntimeError):
    """The stream cannot go on; the message says why and what to do."""


class Flusher:
    """Writes what the folding thread hands over, and tells the announcer what changed."""

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
        self._afterwards: dict[str, Callable[[Writer], None]] = {}
        self._stopping = False
        self._busy = False
        self._writing = 0
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
            if len(self._rejections) > 2 * MOST_WAITING_REJECTIONS:
                self._rejections = condensed(self._rejections, keep=MOST_WAITING_REJECTIONS)
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

    def afterwards(self, key: str, action: Callable[[Writer], None]) -> None:
        """Do this once the bars handed over before it are committed; of two with one key only the later is done."""
        with self._wake:
            self._afterwards.pop(key, None)
            self._afterwards[key] = action
            self._wake.notify()

    def beat(self, state: str, detail: dict[str, Any], started_at: datetime) -> None:
        """Leave a sign of life at the next turn."""
        with self._wake:
            self._beat = (state, detail, started_at)
            self._wake.notify()

    @property
    def waiting(self) -> int:
        """How many bars wait, those that are being written included."""
        return len(self._bars) + self._writing

    @property
    def away_seconds(self) -> float:
        """For how long the database has been away; 0 when it is there."""
        return time.monotonic() - self._away_since if self._away_since is not None else 0.0

    def drain(self, seconds: float | None) -> bool:
        """Wait until all that waits is committed; return whether it is."""
        end = None if seconds is None else time.monotonic() + seconds
        with self._wake:
            while (self._bars or self._rejections or self._settle or self._beat or self._afterwards or self._busy) and self.failure is None:
                if end is not None and time.monotonic() > end:
                    return False
                self._wake.wait(0.05)
        return self.failure is None

    def stop(self) -> None:
        """End the thread; what still waits stays unwritten, so `drain` first."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(THREAD_SECONDS)
        self._writer.close()

    # -- the thread -----------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except WriterDeposedError as error:
            self.failure = StreamFailedError(str(error))
        except Exception as error:
            log.exception("The writing thread failed")
            self.failure = error
        with self._wake:
            self._busy = False
            self._wake.notify_all()

    def _turn(self) -> bool:
        with self._wake:
            while not (self._bars or self._rejections or self._settle or self._beat or self._afterwards or self._stopping):
                self._wake.wait()
            if self._stopping:
                return False
            self._linger()
            bars, self._bars = self._bars, {}
            rejections, self._rejections = self._rejections, []
            settle, self._settle = self._settle, None
            beat, self._beat = self._beat, None
            afterwards, self._afterwards = self._afterwards, {}
            self._busy, self._writing = True, len(bars)
        try:
            self._flush(list(bars.values()), rejections, settle, beat)
            if self._away_since is not None:
                log.warning("The database is back after %.1f s; %s bars wait.", self.away_seconds, len(self._bars))
                self._away_since = None
            self._finish(afterwards)
        except psycopg.OperationalError as error:
            self._put_back(bars, rejections, settle)
            with self._wake:
                self._afterwards = afterwards | self._afterwards
            self._writing = 0
            self._wait_for_database(error)
        finally:
            with self._wake:
                self._busy, self._writing = False, 0
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
            self._writer.settle(moment(settle[0]), moment(settle[1]))
        if beat is not None:
            state, detail, started_at = beat
            self._writer.beat(state, detail, started_at=started_at)

    def _finish(self, afterwards: dict[str, Callable[[Writer], None]]) -> None:
        """Do what had to wait for the bars; what was done is taken out, for the rest is tried again after a failure."""
        for key in list(afterwards):
            afterwards[key](self._writer)
            del afterwards[key]

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
            log.error(
                "The database is away (%s); bars wait in memory.", str(error).strip().splitlines()[0] if str(error).strip() else error
            )
        else:
            time.sleep(RETRY_SECONDS)  # it answers and refuses: a full disk, a lock that somebody holds
        while not self._stopping and self.failure is None:
            try:
                self._writer.reconnect()
            except psycopg.OperationalError:
                time.sleep(RETRY_SECONDS)
            else:
                return


def moment(milliseconds: int) -> datetime:
    """Return Unix ms as a moment in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def hand_over(intake: Intake, flusher: Flusher) -> None:
    """Give the flusher what the intake has ready."""
    if intake.bars or intake.rejections:
        flusher.add(intake.bars, intake.rejections)
        intake.bars, intake.rejections = [], []
    for pause in intake.pauses:
        flusher.afterwards(f"pause {pause}", partial(_keep_pause, pause))
    intake.pauses = []


def _keep_pause(pause: Pause, writer: Writer) -> None:
    writer.keep_pause(pause.symbol, moment(pause.at_ms), paused=pause.paused)


def settle_passed(builder: BarBuilder, flusher: Flusher, settled_to: int) -> int:
    """Have the minutes whose late window has passed marked final; return up to where."""
    passed = builder.settled_before_ms
    if passed is None or passed <= settled_to:
        return settled_to
    flusher.settle(settled_to or passed - LOOK_BACK_MS, passed)
    return passed
