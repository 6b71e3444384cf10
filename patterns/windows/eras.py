"""
Splits inside a window: each bar is judged with the bars before it as they would have been after the splits up to its own day. Reads only.

A symbol that was split has a run for each era between its splits, with the bars of the eras before adjusted to it; only the bars of the era
itself are judged there. So a split is no gap, no later split changes what was said before it, and prices are those of the bar's own day.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.interval import exchange_day, midnight
from marketdata.bars.window import Integers
from marketdata.models import Split
from patterns.windows.moments import milliseconds_of, moment_of

PRICES, VOLUMES = ("open", "high", "low", "close", "vwap"), ("volume", "part_volume")


def by_era(symbols: tuple[str, ...], rows: np.ndarray[Any, Any]) -> tuple[tuple[str, ...], np.ndarray[Any, Any], NDArray[np.bool_]]:
    """Return (symbols, rows, mine) with a run for each era of a split symbol; `mine` are the rows that belong to their run's era."""
    everything = np.ones(len(rows), dtype=np.bool_)
    splits = _splits_inside(symbols, rows)
    if not splits:
        return symbols, rows, everything
    run = {symbol: number for number, symbol in enumerate(symbols)}
    names, kept = list(symbols), everything.copy()
    later: list[np.ndarray[Any, Any]] = []
    own: list[NDArray[np.bool_]] = []
    for symbol, edges in splits.items():
        mine = rows["run"] == run[symbol]
        kept &= ~mine | (rows["opened_at_ms"] < edges[0][0])
        for era in range(1, len(edges) + 1):
            inside = mine if era == len(edges) else mine & (rows["opened_at_ms"] < edges[era][0])
            bars = _adjusted(rows[inside], edges[:era])
            bars["run"] = len(names)
            names.append(symbol)
            later.append(bars)
            own.append(bars["opened_at_ms"] >= edges[era - 1][0])
    return tuple(names), np.concatenate([rows[kept], *later]), np.concatenate([everything[kept], *own])


def _splits_inside(symbols: Sequence[str], rows: np.ndarray[Any, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return for each symbol split inside its rows (start of the day in Unix ms, old shares over new ones), oldest first."""
    if not len(rows):
        return {}
    opened: Integers = rows["opened_at_ms"]
    first, last = (exchange_day(moment_of(int(moment))) for moment in (opened.min(), opened.max()))
    found = Split.objects.filter(symbol__in=symbols, execution_date__gt=first, execution_date__lte=last + timedelta(days=1))
    splits: dict[str, list[tuple[int, float]]] = {}
    place = {symbol: run for run, symbol in enumerate(symbols)}
    for symbol, day, old, new in found.order_by("execution_date").values_list("symbol", "execution_date", "split_from", "split_to"):
        start = milliseconds_of(midnight(day))
        mine = opened[rows["run"] == place[symbol]]
        if len(mine) and mine[0] < start <= mine[-1]:
            splits.setdefault(symbol, []).append((start, float(old / new)))
    return splits


def _adjusted(bars: np.ndarray[Any, Any], splits: Sequence[tuple[int, float]]) -> np.ndarray[Any, Any]:
    """Return the bars as they would have been after these splits."""
    adjusted = bars.copy()
    for start, factor in splits:
        before = adjusted["opened_at_ms"] < start
        for name in PRICES:
            adjusted[name][before] *= factor
        for name in VOLUMES:
            adjusted[name][before] /= factor
    return adjusted
