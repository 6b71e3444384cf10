"""How fast REST may be asked."""

import threading
import time
from collections.abc import Callable


class Rate:
    """Spaces calls of `wait` so that no more than `per_second` happen, of however many threads."""

    def __init__(
        self, per_second: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._spacing = 1.0 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may go out."""
        with self._lock:
            now = self._clock()
            mine = max(self._next, now)
            self._next = mine + self._spacing
        if mine > now:
            self._sleep(mine - now)
