"""What a file's minutes say of the sessions: which lie outside, and how many expected ones are absent. Pure: no clock, no I/O, no Django."""

from collections import Counter
from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from marketdata.bars.session import Hours
from marketdata.bars.snapshot import MINUTE_MS

SYMBOL_DAYS = 300_000  # memory is bounded: beyond it symbols' days are no longer looked at, and `truncated` says so


class SessionTally:
    """
    Count minutes outside of any session, and regular minutes that are absent on the days that a symbol has any minute of.

    A minute without a trade is absent as well: the number bounds what may be missing, it does not prove a gap.
    """

    def __init__(self, sessions: Sequence[tuple[date, Hours]]) -> None:
        ordered = sorted(sessions, key=lambda session: session[1])
        self._days = [day for day, _ in ordered]
        self._hours = np.array([(h.pre_open, h.open, h.close, h.post_close) for _, h in ordered], dtype=np.int64).reshape(-1, 4)
        self._regular: Counter[tuple[str, int]] = Counter()
        self.outside = 0
        self.truncated = False

    def add(self, symbols: pl.Series, at_ms: pl.Series) -> None:
        """Count these minutes; each key must come once."""
        at = at_ms.to_numpy()
        if not len(self._days):
            self.outside += len(at)
            return
        place = np.searchsorted(self._hours[:, 0], at, side="right") - 1
        hours = self._hours[np.maximum(place, 0)]
        inside = (place >= 0) & (at < hours[:, 3])
        self.outside += int(len(at) - inside.sum())
        regular = (at >= hours[:, 1]) & (at < hours[:, 2])
        frame = pl.DataFrame({"symbol": symbols, "day": place, "inside": inside, "regular": regular}).filter("inside")
        for symbol, day, count in frame.group_by("symbol", "day").agg(pl.col("regular").sum()).iter_rows():
            key = (symbol, day)
            if key not in self._regular and len(self._regular) >= SYMBOL_DAYS:
                self.truncated = True
                continue
            self._regular[key] += count

    def absent(self) -> dict[str, int]:
        """Return for each day how many regular minutes of its symbols are not there; days without any are left out."""
        expected = (self._hours[:, 2] - self._hours[:, 1]) // MINUTE_MS
        missing: Counter[int] = Counter()
        for (_, day), count in self._regular.items():
            missing[day] += max(int(expected[day]) - count, 0)
        return {self._days[day].isoformat(): count for day, count in sorted(missing.items()) if count}
