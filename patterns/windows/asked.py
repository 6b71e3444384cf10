"""Values that are not stored, computed for whoever asks. Reads only."""

from datetime import datetime
from decimal import Decimal

import numpy as np

from patterns.indicators.catalogue import ON_DEMAND, names_of, window_values
from patterns.models import IndicatorValue
from patterns.windows.missed import newest_minutes
from patterns.windows.moments import moment_of
from patterns.windows.reading import BEFORE, read_windows


def computed_values(
    symbol: str, timeframe: str, names: list[str], *, start: datetime | None, end: datetime | None, limit: int, now: datetime
) -> list[IndicatorValue]:
    """
    Return rows as the table would have them, of the newest `limit` bars that start in [start, end), newest first; none of them is saved.

    Only of what is not stored on the interval: of minutes the long averages, of other intervals nothing.

    They are a function of the bars before, as the stored ones are.
    """
    chosen = [indicator for indicator in ON_DEMAND.get(timeframe, ()) if set(indicator.names) & set(names)]
    opened = newest_minutes(symbol, start, end, limit=limit) if chosen else []
    if not opened:
        return []
    longest = max(indicator.length for indicator in chosen)
    read = read_windows(timeframe, [(symbol, opened[-1], opened[0])], now=now, before=max(longest - 1, BEFORE[timeframe]))
    bars = np.flatnonzero(np.isin(read.window.opened_at_ms, opened) & read.scannable)
    values = window_values(read.window, bars, chosen)
    rows = [
        IndicatorValue(
            symbol_id=symbol, indicator_name=name, timeframe=timeframe, timestamp=moment_of(int(read.window.opened_at_ms[bar])),
            calculation_timestamp=now, value=Decimal(f"{values[name][place]:.15g}"), bar_revision=int(read.revision[bar]),
        )
        for place, bar in enumerate(bars.tolist()) for name in names_of(chosen) if name in names and not np.isnan(values[name][place])
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row.timestamp, row.indicator_name), reverse=True)
