"""The recorded workflow: the same way as live frames, with the recording's largest event time as the only clock."""

import gzip
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from marketdata.announcer import Announcer
from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.flusher import Flusher, hand_over, settle_passed
from marketdata.intake import Intake, Report
from marketdata.writer import Writer

REPLAY_WAITING_BARS = 50_000


def recorded_frames(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the frames of recorded files, one a line; `.gz` is unpacked. OSError where one cannot be read."""
    for path in paths:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as lines:
            for line in lines:
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
            intake.take(frame)
            clock_ms = intake.builder.clock_ms
            if speed is not None and clock_ms:
                first_ms = first_ms or clock_ms
                _wait_until(began + (clock_ms - first_ms) / 1000 / speed, lambda: stopped() or flusher.failure is not None)
            intake.close(clock_ms)
            hand_over(intake, flusher)
            settled_to = settle_passed(intake.builder, flusher, settled_to)
            while flusher.waiting > REPLAY_WAITING_BARS and flusher.failure is None:
                time.sleep(0.005)
            if flusher.failure is not None or stopped():
                break
        if stopped():
            intake.abandon()
        else:
            intake.finish()
        hand_over(intake, flusher)
        flusher.drain(None)
        settle_passed(intake.builder, flusher, settled_to)
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
