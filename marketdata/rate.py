"""How fast REST may be asked."""

import time
from collections.abc import Callable


class Rate:
    """Spaces calls of `wait` so that no more than `per_second` happen; one thread owns it."""

    def __init__(
        self, per_second: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._spacing = 1.0 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    def wait(self) -> None:
        """Return when the next request may go out."""
        now = self._clock()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(self._next, now) + self._spacing
