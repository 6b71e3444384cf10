"""The twin's two clocks: the wall's, as many times as fast, and a recording's."""

import time


class Clock:
    """Market time: the wall clock from now on, `speed` times as fast."""

    def __init__(self, *, speed: float) -> None:
        self.speed = speed
        self._started_at = time.time()

    def now_ms(self) -> int:
        """Return the market's moment, Unix ms."""
        return int((self._started_at + self.speed * (time.time() - self._started_at)) * 1000)


class RecordedClock:
    """The newest event time of the frames that were played; before the first the wall's."""

    def __init__(self, *, speed: float) -> None:
        self.speed = speed
        self._newest_ms = 0
        self._first_ms = 0
        self._began_at = 0.0

    def now_ms(self) -> int:
        """Return the recording's moment, Unix ms."""
        return self._newest_ms or int(time.time() * 1000)

    def play(self, at_ms: int) -> float:
        """Move to a frame's time; return how many seconds to wait before it is sent."""
        if not self._newest_ms:
            self._first_ms, self._began_at = at_ms, time.monotonic()
        self._newest_ms = max(self._newest_ms, at_ms)
        return self._began_at + (self._newest_ms - self._first_ms) / 1000 / self.speed - time.monotonic()
