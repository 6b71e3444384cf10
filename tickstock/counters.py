"""
What this process counts of itself, brought into one hash in Redis every two seconds, where `/metrics` finds the sum of all processes.

Adding costs a dictionary entry; nobody waits for Redis. What a dead Redis loses is a counter that starts anew, which Prometheus expects.
"""

import atexit
import json
import os
import socket
import threading
import time
from collections.abc import Callable

import redis
from django.conf import settings

KEY = "tickstock:counts"
GAUGES_KEY = "tickstock:gauges"
SECONDS_BETWEEN_WRITES = 2.0
GAUGE_SECONDS = 30.0  # an older gauge is of a process that is gone
MOST_SERIES = 5_000
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of a duration's buckets in seconds."""


class Counters:
    """Counts since the last write, by name and labels. Any thread may add."""

    def __init__(self) -> None:
        self._gauges: dict[str, Callable[[], float]] = {}
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)
        atexit.register(self.flush)

    def _begin_anew(self) -> None:
        """A child of a fork has no thread, and a lock that somebody may have held; what was counted is the parent's to bring."""
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        self._note({_field(name, labels): amount})

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to its histogram: the first bucket that holds it, the sum and the number."""
        bound = next((bound for bound in BOUNDS if seconds <= bound), None)
        bucket = _field(f"{name}:bucket", labels | {"le": "+Inf" if bound is None else f"{bound:g}"})
        self._note({bucket: 1.0, _field(f"{name}:sum", labels): seconds})

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Have a figure of this process read at each write."""
        with self._lock:
            self._gauges[name] = read
        self._note({})

    def _note(self, amounts: dict[str, float]) -> None:
        with self._lock:
            for field, amount in amounts.items():
                if field in self._counts or len(self._counts) < MOST_SERIES:
                    self._counts[field] = self._counts.get(field, 0.0) + amount
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="counters", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(SECONDS_BETWEEN_WRITES)
            self.flush()

    def flush(self) -> None:
        """Bring what was counted to Redis; keep it where Redis does not answer."""
        with self._lock:
            counts, self._counts = self._counts, {}
            gauges = {name: read() for name, read in self._gauges.items()}
        if not counts and not gauges:
            return
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
        try:
            pipeline = client.pipeline(transaction=True)
            for field, amount in counts.items():
                pipeline.hincrbyfloat(KEY, field, amount)
            for name, value in gauges.items():
                pipeline.hset(GAUGES_KEY, f"{name} {socket.gethostname()}:{os.getpid()}", json.dumps([value, time.time()]))
            pipeline.execute()
        except (redis.RedisError, OSError):
            with self._lock:
                for field, amount in counts.items():
                    self._counts[field] = self._counts.get(field, 0.0) + amount
        finally:
            client.close()


def _field(name: str, labels: dict[str, str]) -> str:
    return json.dumps([name, sorted(labels.items())])


counters = Counters()
"""Those of this process."""
