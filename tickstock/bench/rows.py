"""A row of the table, and how a time is taken."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import linear_regression, median
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run finds what it needs: real recordings, a Python with the peers, a folder for what it writes, and how often to repeat."""

    recordings: Path
    peers: Path | None
    scratch: Path
    repeats: int


@dataclass(frozen=True, slots=True)
class Row:
    """
    One measured ratio. `ours` and `peer` are in `unit`; `goal` is what the ratio must reach (`at_least`) or must not pass.

    `ratio` None: not measured, `note` says why.
    """

    name: str
    against: str
    unit: str
    ours: float | None
    peer: float | None
    ratio: float | None
    goal: float
    at_least: bool
    note: str = ""

    @property
    def reached(self) -> bool:
        """Return whether the ratio is where it must be."""
        return self.ratio is not None and (self.ratio >= self.goal if self.at_least else self.ratio <= self.goal)

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {**asdict(self), "reached": self.reached}


def rate_row(name: str, against: str, *, count: int, ours: float, peer: float, goal: float, note: str = "") -> Row:
    """Return a row of rates, things a second; `ours` and `peer` are seconds for `count` things, the ratio says how near we come."""
    return Row(name, against, "1/s", count / ours, count / peer, peer / ours, goal, at_least=True, note=note)


def time_row(name: str, against: str, *, ours: float, peer: float, goal: float, note: str = "") -> Row:
    """Return a row of seconds; the ratio says how much longer we take."""
    return Row(name, against, "s", ours, peer, ours / peer, goal, at_least=False, note=note)


def growth_row(name: str, points: Sequence[tuple[int, float]]) -> Row:
    """Return a row that says with which power of the symbols the seconds grow: the slope of a line through the logarithms of `points`."""
    sizes, seconds = [log(size) for size, _ in points], [log(taken) for _, taken in points]
    exponent = linear_regression(sizes, seconds).slope
    among = ", ".join(f"{size:,}" for size, _ in points)
    return Row(f"growth: {name}", f"linear, among {among} symbols", "", exponent, 1.0, exponent, 1.1, at_least=False)


def not_measured(name: str, against: str, goal: float, why: str, *, at_least: bool = True) -> Row:
    """Return a row that says why it has no figure."""
    return Row(name, against, "", None, None, None, goal, at_least, note=why)


def alternate(repeats: int, *ways: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """
    Return the median seconds of each way, measured in turns so that what else the machine does meets all alike.

    With `time.process_time` as clock, other processes on a shared machine count little: for work of one core.
    """
    taken: Sequence[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, times in zip(ways, taken, strict=True):
            gc.collect()
            began = clock()
            way()
            times.append(clock() - began)
    return [median(times) for times in taken]
