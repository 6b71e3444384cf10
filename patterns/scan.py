"""
Stored bars → detections and indicator values: the one workflow behind tasks, sweep and command, for bars of every interval.

It reads windows from the table and never believes a message, so a lost, late or repeated hint is harmless. A bar that is new or revised
changes the windows of the bars after it: those that were judged already are judged again as far as its influence reaches (what is said of a
bar depends on the BEFORE bars before it, and its session's sums on all of the session), so that the rows do not depend on the order in
which bars came.
"""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from billiard.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from numpy.typing import NDArray

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.combinations import evaluate_after
from patterns.detectors import SHAPES
from patterns.detectors.candlesticks import CANDLESTICKS, find_candlesticks
from patterns.detectors.detail import conditions_of, geometry_of, measure
from patterns.detectors.matches import Matches
from patterns.detectors.quality import CONTEXT_BARS, judge
from patterns.indicators.catalogue import CHANGE_DAYS, STORED, SessionBefore, pivot_values, session_values, window_values
from patterns.indicators.volume import SessionSums, no_sums, session_sums
from patterns.models import DetectorDefinition, Direction
from patterns.signals import bars_scanned, patterns_detected, patterns_retracted
from patterns.windows import BEFORE, NEVER, Key, Read, bars_of, moment_of, read_windows, session_before, sums_since_open
from patterns.writer import (
    Announcement,
    FoundPattern,
    JudgedBars,
    count_attempts,
    lock_symbols,
    store_detections,
    store_ledger,
    store_strength,
    store_values,
)

log = logging.getLogger(__name__)

DIRECTIONS = {1: Direction.BULLISH, -1: Direction.BEARISH, 0: Direction.NEUTRAL}

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScanReport:
    """How many bars were judged, detections stand on them, values were computed for them; `failed` bars could not be judged."""

    bars: int = 0
    detections: int = 0
    indicators: int = 0
    failed: int = 0
    seconds: float = 0.0

    def __add__(self, other: "ScanReport") -> "ScanReport":
        return ScanReport(
            self.bars + other.bars,
            self.detections + other.detections,
            self.indicators + other.indicators,
            self.failed + other.failed,
            self.seconds + other.seconds,
        )


# ---- Choosing ---------------------------------------------------------------------------------------------------------------------------


def _touched(read: Read, changed: Flags) -> tuple[Flags, Flags]:
    """
    Return which judged bars a changed bar before them reaches: (by the bars that their values depend on, by their session's sums only).

    A changed bar is one whose present revision was never judged.
    """
    index = np.arange(len(changed), dtype=np.int64)
    latest = np.maximum.accumulate(np.where(changed, index, NEVER))
    behind = (latest >= read.window.starts[read.window.run]) & ~changed & (read.scanned != NEVER) & read.scannable
    near = behind & (index - latest <= BEFORE[read.timeframe])
    same_session = (read.session_open_ms >= 0) & (read.session_open_ms[np.maximum(latest, 0)] == read.session_open_ms)
    return near, behind & ~near & same_session


# ---- Judging ----------------------------------------------------------------------------------------------------------------------------


def _sums(read: Read, due: Flags, *, now: datetime) -> SessionSums:
    """
    Return the sums of the session at each bar, NaN where they are not needed.

    They go on from the ledger's sums at the newest judged bar before the first that is due; without one the session's bars are read from
    its open on.
    """
    window, session_open_ms = read.window, read.session_open_ms
    begin = window.starts[1:].copy()
    before, close_before = no_sums(len(begin), value=0.0), np.full(len(begin), np.nan)
    missing: list[tuple[int, int]] = []
    needed = np.flatnonzero(due & (session_open_ms >= 0))
    runs, place = np.unique(window.run[needed], return_index=True)
    for run, first_due in zip(runs.tolist(), needed[place].tolist(), strict=True):
        start = int(window.starts[run])
        earlier = slice(start, first_due)
        mine = session_open_ms[earlier] == session_open_ms[first_due]
        trusted = np.flatnonzero(mine & (read.scanned[earlier] == read.revision[earlier]) & ~np.isnan(read.sums.balance[earlier]))
        if len(trusted):
            known = start + int(trusted[-1])
            begin[run], close_before[run] = known + 1, window.close[known]
            for column, kept in zip(before.columns(), read.sums.columns(), strict=True):
                column[run] = kept[known]
            continue
        begin[run] = start + int(np.argmax(mine)) if mine.any() else first_due
        if begin[run] == start and window.opened_at_ms[start] > session_open_ms[start]:
            missing.append((run, int(session_open_ms[start])))
    for run, (sums, close) in sums_since_open(read, missing, now=now).items():
        close_before[run] = close
        for column, value in zip(before.columns(), sums.columns(), strict=True):
            column[run] = value[0]
    return session_sums(
        window, session_open_ms, price=read.part_price, volume=read.part_volume, begin=begin, before=before, close_before=close_before
    )


def _change(window: BarWindow, bars: Integers, before: SessionBefore, timeframe: str) -> Floats:
    """Return the close of each bar over that of the session before, of days over that of 20 sessions before; NaN where there is none."""
    if timeframe != "1d":
        return window.close[bars] / before.close
    enough = window.position[bars] >= CHANGE_DAYS
    return np.where(enough, window.close[bars] / window.close[np.where(enough, bars - CHANGE_DAYS, bars)], np.nan)


def _find_candlesticks(window: BarWindow, ends: Integers, wanted: frozenset[str]) -> list[FoundPattern]:
    """Return the candlesticks on the bars `ends` with their confidence and what it was measured from."""
    all_of_them = find_candlesticks(window, ends)
    enabled = np.array([detector.pattern_type in wanted for detector in CANDLESTICKS])[all_of_them.detector]
    matches = Matches(all_of_them.end[enabled], all_of_them.detector[enabled], all_of_them.grade[enabled])
    quality = judge(window, matches, CANDLESTICKS)
    bars = np.searchsorted(ends, matches.end)
    measures = {"size": quality.size, "body": quality.body, "drift": quality.drift, "volume": quality.volume, "range": quality.usual_range}
    found = []
    for index in range(len(matches)):
        detector = CANDLESTICKS[matches.detector[index]]
        detail = {
            "conditions": conditions_of(quality.conditions(index, detector)),
            "geometry": None,
            "trend": quality.trend(index),
            "measures": {name: measure(values[index]) for name, values in measures.items()},
            "grade": int(matches.grade[index]),
            "bars": detector.look_back + 1,
            "candles": detector.candles,
        }
        direction = DIRECTIONS[int(quality.sign[index])]
        confidence = round(float(quality.confidence[index]), 4)
        found.append(FoundPattern(int(bars[index]), detector.pattern_type, confidence, direction, json.dumps(detail)))
    return found


def _find_shapes(window: BarWindow, ends: Integers, timeframe: str, wanted: frozenset[str]) -> list[FoundPattern]:
    """Return the chart patterns that the bars `ends` confirm."""
    found = []
    for kind, detector in SHAPES.items():
        if kind not in wanted or timeframe not in detector.intervals:
            continue
        for shape in detector.find(window, ends):
            detail = {
                "conditions": conditions_of(shape.conditions),
                "geometry": geometry_of(shape.geometry),
                "bars": detector.look_back + 1,
            }
            confidence = round(min(max(shape.confidence, 0.0), 1.0), 4)
            bar = int(np.searchsorted(ends, shape.end))
            found.append(FoundPattern(bar, kind, confidence, DIRECTIONS[shape.direction], json.dumps(detail)))
    return found


# ---- The workflow -----------------------------------------------------------------------------------------------------------------------


def scan(keys: Sequence[Key], *, now: datetime, timeframe: str = "1m", again: bool = False) -> ScanReport:
    """
    Judge these bars of an interval, and those already judged whose windows they change, in one transaction; announce after its commit.

    A bar that is not over, or has a minute that is neither whole nor final, is left for later; a bar whose present revision was judged is
    left alone unless `again`. Whatever runs twice changes nothing the second time.
    """
    started = time.monotonic()
    if not keys:
        return ScanReport()
    spans = _spans(keys)
    with transaction.atomic():
        lock_symbols(timeframe, [span[0] for span in spans])
        read = read_windows(timeframe, spans, now=now)
        asked = bars_of(read.window, keys) & read.scannable
        changed = asked & (read.scanned != read.revision)
        if not (changed.any() or (again and asked.any())):
            return ScanReport(seconds=time.monotonic() - started)
        near, far = _touched(read, changed)
        report, news, retracted = _judge_and_store(read, (changed | near | (asked & again)) & read.mine, far & read.mine, now=now)
        report += ScanReport(seconds=time.monotonic() - started)
        newest = moment_of(int(read.window.opened_at_ms[asked].max()))
        transaction.on_commit(lambda: _announce(timeframe, report, news, retracted, newest))
    return report


def detect(keys: Sequence[Key], *, now: datetime) -> ScanReport:
    """
    Store what candlesticks stand on these minutes and announce it, nothing else: of a whole market's minute the news, before its values.

    It reads as few bars before them as a candlestick looks at. The ledger does not know of it, so that a scan judges the same bars in any case,
    and takes back what a revision in between has made untrue.
    """
    started = time.monotonic()
    spans = _spans(keys)
    with transaction.atomic():
        lock_symbols("1m", [span[0] for span in spans], strength=False)
        read = read_windows("1m", spans, now=now, before=CONTEXT_BARS)
        due = bars_of(read.window, keys) & read.scannable & (read.scanned != read.revision) & read.mine
        ends = np.flatnonzero(due)
        if not len(ends):
            return ScanReport(seconds=time.monotonic() - started)
        wanted = DetectorDefinition.objects.looked_for("1m")
        found = _find_candlesticks(read.window, ends, wanted)
        detected, retracted = store_detections(_judged(read, ends), found, judgeable=wanted, now=now)
        transaction.on_commit(lambda: _tell(detected, retracted))
    return ScanReport(bars=len(ends), detections=len(found), seconds=time.monotonic() - started)


def _spans(keys: Iterable[Key]) -> list[tuple[str, int, int]]:
    """Return (symbol, first, last) of the keys of each symbol."""
    moments: dict[str, list[int]] = {}
    for symbol, opened_at_ms in keys:
        moments.setdefault(symbol, []).append(opened_at_ms)
    return [(symbol, min(of_symbol), max(of_symbol)) for symbol, of_symbol in sorted(moments.items())]


def _judge_and_store(read: Read, due: Flags, far: Flags, *, now: datetime) -> tuple[ScanReport, list[Announcement], list[Announcement]]:
    window, timeframe = read.window, read.timeframe
    ends = np.flatnonzero(due)
    bars = _judged(read, ends)
    wanted = DetectorDefinition.objects.looked_for(timeframe)
    found = _find_candlesticks(window, ends, wanted) + _find_shapes(window, ends, timeframe, wanted)
    detected, retracted = store_detections(bars, found, judgeable=wanted, now=now)
    sums = _sums(read, due | far, now=now)
    counted = _store_values(read, ends, sums, with_windows=True, now=now) + _store_values(
        read, np.flatnonzero(far), sums, with_windows=False, now=now
    )
    more, fewer, combined = evaluate_after(bars, now=now)
    return ScanReport(bars=len(ends), detections=len(found) + combined, indicators=counted), detected + more, retracted + fewer


def _store_values(read: Read, bars: Integers, sums: SessionSums, *, with_windows: bool, now: datetime) -> int:
    """Store the values of these bars and their ledger rows; without windows only what depends on the session. Return how many there are."""
    if not len(bars):
        return 0
    window, timeframe = read.window, read.timeframe
    judged = _judged(read, bars)
    before = session_before(window, bars, sessions=read.sessions, session_open_ms=read.session_open_ms, timeframe=timeframe)
    values = window_values(window, bars, STORED[timeframe]) | pivot_values(before) if with_windows else {}
    if timeframe != "1d":
        values |= session_values(sums.at(bars), before)
    counted = store_values(judged, values, now=now)
    store_ledger(judged, sums=sums.at(bars), close=window.close[bars], change=_change(window, bars, before, timeframe), now=now)
    return counted + store_strength(judged, now=now)


def _judged(read: Read, ends: Integers) -> JudgedBars:
    symbols = [read.window.symbols[run] for run in read.window.run[ends].tolist()]
    return JudgedBars(read.timeframe, symbols, read.window.opened_at_ms[ends], read.revision[ends], read.scanned[ends] != NEVER)


def _announce(timeframe: str, report: ScanReport, detected: list[Announcement], retracted: list[Announcement], newest: datetime) -> None:
    _tell(detected, retracted)
    summary = {
        "timeframe": timeframe,
        "bars": report.bars,
        "detections": report.detections,
        "indicators": report.indicators,
        "seconds": report.seconds,
        "newest": newest,
    }
    bars_scanned.send_robust(sender=scan, report=summary)


def _tell(detected: list[Announcement], retracted: list[Announcement]) -> None:
    if detected:
        patterns_detected.send_robust(sender=scan, detections=detected)
    if retracted:
        patterns_retracted.send_robust(sender=scan, detections=retracted)


def scan_apart(keys: Sequence[Key], *, now: datetime, timeframe: str = "1m", again: bool = False) -> ScanReport:
    """
    Scan, and where that fails scan the halves, down to single symbols: one symbol's defect does not stop the others.

    A symbol that cannot be scanned is logged, its bars are noted with the reason and counted as `failed`. A database that is away raises.
    """
    try:
        return scan(keys, now=now, timeframe=timeframe, again=again)
    except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
        raise  # nobody's defect
    except Exception as error:
        symbols = sorted({symbol for symbol, _ in keys})
        if len(symbols) == 1:
            log.error("%s cannot be scanned, %d bars of it are left out: %s", symbols[0], len(keys), _sentence(error), exc_info=error)
            count_attempts(sorted(set(keys)), now=now, timeframe=timeframe, error=_sentence(error))
            return ScanReport(failed=len(keys))
    half = set(symbols[: len(symbols) // 2])
    parts = [key for key in keys if key[0] in half], [key for key in keys if key[0] not in half]
    first, second = (scan_apart(part, now=now, timeframe=timeframe, again=again) for part in parts)
    return first + second


def _sentence(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, DatabaseError) else f"{type(error).__name__}: {text}"
