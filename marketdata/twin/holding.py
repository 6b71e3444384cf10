"""Events that a fault holds back, until their time has come. Pure: market time is an argument."""

from collections.abc import Iterable
from heapq import heappop, heappush

from marketdata.twin.faults import Faults
from marketdata.twin.schedule import Due


class Holding:
    """What waits, by the moment at which it leaves. Without the faults `reorder` and `late` nothing ever does."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._waiting: list[tuple[int, int, Due]] = []
        self._number = 0

    def pass_on(self, events: Iterable[Due], now_ms: int) -> list[Due]:
        """Take events that fall due by `now_ms`; return those whose time, with what holds them back, has come, in its order."""
        if not (self._waiting or self._faults.find("reorder") or self._faults.find("late")):
            return list(events)
        for event in events:
            self._number += 1  # equal moments keep their order
            heappush(self._waiting, (event.at_ms + self._faults.delay_ms(), self._number, event))
        leaving = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            leaving.append(heappop(self._waiting)[2])
        return leaving
