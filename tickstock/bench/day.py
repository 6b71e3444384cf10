"""A day of the stream's own core, frames → bars, in a process of its own. Prints its memory: growth in MB, and MB an hour after the first hour."""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import linear_regression

import numpy as np

from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import Hours, SessionTable
from marketdata.intake import Intake

OPEN_MS = 1_795_185_000_000
MINUTES = 390
FRAME = 100
HOUR = 60


def frames_of(kind: str, symbols: int, minute: int) -> Iterator[bytes]:
    """Yield the frames of one minute, each made when it is asked for; of trades some twenty a symbol, with a price of their own each."""
    chance = np.random.default_rng(minute)
    start = OPEN_MS + minute * 60_000
    count = 20 * symbols if kind == "T" else symbols
    for first in range(0, count, FRAME):
        places = range(first, min(first + FRAME, count))
        prices, sizes = np.round(50 + 10 * chance.random(FRAME), 2).tolist(), chance.integers(1, 900, FRAME).tolist()
        if kind == "T":
            events = [
                {"ev": "T", "sym": f"S{place % symbols:05d}", "x": 4, "i": str(minute * count + place), "z": 3, "p": price, "s": size,
                 "c": [14, 41], "t": start + place * 60_000 // count, "q": minute * count + place}
                for place, price, size in zip(places, prices, sizes, strict=False)
            ]  # fmt: skip
        else:
            events = [
                {"ev": "AM", "sym": f"S{place:05d}", "v": size, "av": 1_000 + minute * 900, "op": 49.9, "vw": price, "o": price, "c": price,
                 "h": price + 0.25, "l": price, "a": 49.8, "z": 100, "s": start, "e": start + 60_000}
                for place, price, size in zip(places, prices, sizes, strict=False)
            ]  # fmt: skip
        yield json.dumps(events, separators=(",", ":")).encode()


def resident_mb(process: int | str = "self") -> float:
    """Return the memory that a process holds, in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Run the day."""
    kind, symbols = sys.argv[1], int(sys.argv[2])
    sessions = SessionTable([Hours(OPEN_MS, OPEN_MS, OPEN_MS + MINUTES * 60_000, OPEN_MS + MINUTES * 60_000)])
    intake = Intake(BarBuilder(sessions, unbroken=True), symbols=None, kinds=None)
    bars = 0
    next(frames_of(kind, symbols, 0))  # what makes them is loaded now, and is none of ours
    held = [resident_mb()]
    for minute in range(MINUTES):
        for place, frame in enumerate(frames_of(kind, symbols, minute)):
            intake.take(frame)
            if place % 10 == 0:
                intake.builder.moving()
            intake.close(intake.builder.clock_ms)
            bars += len(intake.bars)
            intake.bars.clear()
        held.append(resident_mb())
    intake.finish()
    assert bars + len(intake.bars) == intake.report.bars == symbols * MINUTES, intake.report
    hours = [minute / HOUR for minute in range(len(held))]
    print(json.dumps({"growth": max(held) - held[0], "slope": linear_regression(hours[HOUR:], held[HOUR:]).slope}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
