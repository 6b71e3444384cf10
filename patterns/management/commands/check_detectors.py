"""manage.py check_detectors"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.bars.interval import INTRADAY, Candle
from marketdata.bars.window import BarWindow
from marketdata.files import FileError, text_rows
from marketdata.intervals import candles
from marketdata.models import Bar, DailyBar, Symbol
from patterns.detectors import DETECTORS, SHAPES, base_rates
from patterns.detectors.trials import DRAWINGS, SEED, WALK_BARS, WALKS, Ground, Trial, ground, try_candlesticks, try_shape

STORED_SYMBOLS = 8
STORED_BARS = 1_500
_DRIFT = 0.05  # a kept base rate may differ by this share, and by this many a thousand
Series = dict[str, list[tuple[float, ...]]]


class Command(BaseCommand):
    """Hold detectors against what they must be."""

    help = (
        "Tries each detector on random walks, on stored bars (or those of --bars) and on planted patterns: answers that the future changes, shapes "
        "without their like on mirrored prices, parity with TA-Lib, recall of 100 planted patterns, detections per 1,000 bars of a random walk. "
        "Exit status 1 where something is wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what can be asked."""
        parser.add_argument("--pattern", action="append", metavar="NAME", help="only this pattern; may be repeated (default: all)")
        parser.add_argument(
            "--bars", action="append", default=[], metavar="FILE", help="real bars: a flat file (CSV, gzip) of Massive's columns"
        )
        parser.add_argument("--seed", type=int, default=SEED, help="of the random walks and the planted patterns (default: %(default)s)")
        parser.add_argument("--drawings", type=int, default=DRAWINGS, help="planted patterns of each kind (default: %(default)s)")
        parser.add_argument("--walks", type=int, default=WALKS, help=f"random walks of {WALK_BARS:,} bars (default: %(default)s)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object instead of the table")
        parser.add_argument("--write-base-rates", action="store_true", help="keep the measured rates in patterns/detectors/base_rates.py")

    def handle(self, *args: Any, **options: Any) -> None:
        """Try them."""
        wanted = _wanted(options["pattern"])
        if options["drawings"] < 1 or options["walks"] < 1:
            raise CommandError("--drawings and --walks must be 1 or more.")
        usual = (options["seed"], options["walks"]) == (SEED, WALKS)
        if options["write_base_rates"] and not (usual and options["pattern"] is None):
            raise CommandError(
                "--write-base-rates measures all patterns with the usual seed and walks: leave --pattern, --seed and --walks away."
            )
        real = [_from_file(Path(name)) for name in options["bars"]] or list(_stored())
        on = ground(seed=options["seed"], drawings=options["drawings"], walks=options["walks"], real=real)
        show = not options["as_json"]
        if show:
            self.stdout.write(
                f"{len(on.bars):,} bars for what must hold anywhere, {sum(len(window) for window in real):,} of them real; "
                f"{len(on.walks):,} bars of random walks; {options['drawings']} drawings of each pattern."
            )
            self.stdout.write(_HEAD)
        trials = []
        for trial in _trials(wanted, on):
            trials.append(trial)
            if show:
                self.stdout.write(_line(trial))
        if options["write_base_rates"]:
            _write({trial.pattern_type: trial.rate for trial in trials})
        faults = [f"{trial.pattern_type}: {fault}." for trial in trials for fault in trial.faults]
        if usual and not options["write_base_rates"]:
            faults += [f"{trial.pattern_type}: {_STALE.format(rate=trial.rate)}" for trial in trials if _is_stale(trial)]
        if options["as_json"]:
            rows = [asdict(trial) | {"kept_rate": base_rates.BASE_RATES.get(trial.pattern_type)} for trial in trials]
            self.stdout.write(json.dumps({"patterns": rows, "faults": faults}))
        if faults:
            raise CommandError("\n".join(faults))
        if show:
            self.stdout.write(f"{len(trials)} detectors, nothing wrong.")


_HEAD = f"{'pattern':28}{'found':>8}{'prefix':>8}{'mirror':>8}{'parity':>8}{'recall':>8}{'walk/1000':>11}{'kept':>8}"
_STALE = "its kept base rate is not the {rate:.2f} measured now: run check_detectors --write-base-rates"


def _line(trial: Trial) -> str:
    kept = base_rates.BASE_RATES.get(trial.pattern_type)
    cells = [_or_dash(trial.prefix), _or_dash(trial.mirror), _or_dash(trial.parity)]
    cells.append("-" if trial.recall is None else f"{trial.recall:.0%}")
    return (
        f"{trial.pattern_type:28}{trial.found:>8,}"
        + "".join(f"{cell:>8}" for cell in cells)
        + f"{trial.rate:>11.2f}"
        + (f"{kept:>8.2f}" if kept is not None else f"{'-':>8}")
        + ("   WRONG" if trial.faults else "")
    )


def _or_dash(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _wanted(names: list[str] | None) -> set[str]:
    known = set(SHAPES) | set(DETECTORS)
    if unknown := sorted(set(names or ()) - known):
        raise CommandError(
            f"No pattern is called {', '.join(unknown)}. The tables in patterns/detectors/__init__.py list those that are known."
        )
    return set(names) if names else known


def _trials(wanted: set[str], on: Ground) -> Iterator[Trial]:
    for pattern_type, detector in SHAPES.items():
        if pattern_type in wanted:
            yield try_shape(detector, SHAPES, on)
    if wanted & set(DETECTORS):
        yield from (trial for trial in try_candlesticks(on) if trial.pattern_type in wanted)


def _is_stale(trial: Trial) -> bool:
    kept = base_rates.BASE_RATES.get(trial.pattern_type)
    return kept is not None and abs(kept - trial.rate) > _DRIFT + _DRIFT * trial.rate


def _write(rates: dict[str, float]) -> None:
    lines = [f'    "{name}": {rate:.2f},' for name, rate in rates.items()]
    opening = f'"""\n{str(base_rates.__doc__).strip()}\n"""\n\nBASE_RATES: dict[str, float] = {{\n'
    Path(str(base_rates.__file__)).write_text(opening + "\n".join(lines) + "\n}\n", encoding="utf-8")


# ---- Real bars --------------------------------------------------------------------------------------------------------------------------


def _stored() -> Iterator[BarWindow]:
    """Yield the newest stored bars of a few symbols on the intervals that chart patterns are looked for on."""
    now = datetime.now(UTC)
    intervals = {interval for detector in SHAPES.values() for interval in detector.intervals}
    for interval in sorted(intervals):
        stored = Bar.objects if interval in INTRADAY else DailyBar.objects
        series: Series = {}
        for symbol in (
            Symbol.objects.filter(pk__in=stored.values("symbol").distinct()).order_by("pk").values_list("pk", flat=True)[:STORED_SYMBOLS]
        ):
            newest = candles(symbol, interval, start=None, end=None, forward=False, limit=STORED_BARS, now=now)
            series[f"{symbol} {interval}"] = [_row(candle) for candle in reversed(newest)]
        if series:
            yield _window(series)


def _row(candle: Candle) -> tuple[float, ...]:
    prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return (candle.start.timestamp() * 1_000, *(float(value) for value in prices))


def _from_file(path: Path) -> BarWindow:
    series: Series = {}
    try:
        for row in text_rows(path):
            values = tuple(float(row[name]) for name in ("open", "high", "low", "close", "volume"))
            series.setdefault(row["ticker"], []).append((int(row["window_start"]) / 1_000_000, *values))
    except FileError as error:
        raise CommandError(str(error)) from None
    except (KeyError, ValueError) as error:
        raise CommandError(
            f"{path} is no flat file of bars ({error}). Its columns must be ticker,volume,open,close,high,low,window_start."
        ) from None
    if not series:
        raise CommandError(f"{path} holds no bars.")
    return _window({symbol: sorted(rows) for symbol, rows in series.items()})


def _window(series: Series) -> BarWindow:
    table = np.array([row for rows in series.values() for row in rows], dtype=np.float64)
    return BarWindow(
        symbols=tuple(series),
        starts=np.cumsum([0, *(len(rows) for rows in series.values())]),
        opened_at_ms=table[:, 0].astype(np.int64),
        open=table[:, 1].copy(),
        high=table[:, 2].copy(),
        low=table[:, 3].copy(),
        close=table[:, 4].copy(),
        volume=table[:, 5].copy(),
        vwap=np.full(len(table), np.nan),
    )
