"""
Find parts of the one-command stack that live and do nothing: stopped, hung, or deaf to their broker. Ends nothing itself, `up` does.

It asks /ready as anybody may: a part without a sign of life, while database and Redis are well, has that time to find its voice again.
A worker is asked itself before, for one that is only busy answers; beat is suspected only when the worker answers and nothing comes.
"""

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tickstock.health import SILENT

ASKED_EVERY = 5.0
ANSWER_SECONDS = 10.0
PATIENCE = {"web": 60.0, "feed": 30.0, "worker": 30.0, "beat": 180.0}  # seconds of silence, beyond what /ready itself allows
START_SECONDS = 60.0  # what was started anew may be silent for so long
PING_SECONDS = 10


class Suspicion:
    """Since when which part is silent. Pure: the caller brings the clock, in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def hear(self, silent: Collection[str], *, now: float) -> None:
        """Take in who is silent at the moment; everybody else has spoken."""
        self._since = {name: self._since.get(name, now) for name in silent}

    def is_lasting(self, name: str, *, now: float, seconds: float) -> bool:
        """Return whether the part has been silent for so long."""
        return name in self._since and now - self._since[name] >= seconds

    def excuse(self, name: str, *, until: float) -> None:
        """Let its silence count from that moment on only."""
        self._since[name] = until


def silent_parts(answer: Mapping[str, Any] | None) -> set[str]:
    """Return which of web, feed and worker say nothing, by the body of /ready; None is no answer. Nobody can speak without the servers."""
    if answer is None:
        return {"web"}
    parts = answer["parts"]
    if not all(parts[name]["ok"] for name in ("database", "redis") if name in parts):
        return set()
    return {name for name in ("feed", "worker") if name in parts and str(parts[name].get("reason", "")).startswith(SILENT)}


class Watch(threading.Thread):
    """Looks in the background; `suspects` gives the parts that want a new start, once each."""

    def __init__(self, url: str, ping: list[str], environment: Mapping[str, str], stopping: threading.Event) -> None:
        super().__init__(daemon=True, name="watch")
        self._url, self._ping, self._environment, self._stopping = url, ping, environment, stopping
        self._suspicion = Suspicion()
        self._suspects: set[str] = set()
        self._lock = threading.Lock()

    def suspects(self) -> set[str]:
        """Return the parts found since the last call."""
        with self._lock:
            found, self._suspects = self._suspects, set()
        return found

    def run(self) -> None:
        """Look until the stack stops."""
        while not self._stopping.wait(ASKED_EVERY):
            silent = silent_parts(_ready(self._url))
            self._suspicion.hear(silent | ({"beat"} if "worker" in silent else set()), now=time.monotonic())
            found = suspected(self._suspicion, self._worker_answers, now=time.monotonic())
            for name in found:
                self._suspicion.excuse(name, until=time.monotonic() + START_SECONDS)
            with self._lock:
                self._suspects |= found

    def _worker_answers(self) -> bool:
        try:
            done = subprocess.run(self._ping, env=dict(self._environment), capture_output=True, check=False, timeout=6 * PING_SECONDS)
        except subprocess.TimeoutExpired:
            return True  # a machine on which the question itself takes so long proves nothing
        return done.returncode == 0


def suspected(suspicion: Suspicion, worker_answers: Callable[[], bool], *, now: float) -> set[str]:
    """Return the parts that have been silent for too long."""
    found = {name for name in ("web", "feed") if suspicion.is_lasting(name, now=now, seconds=PATIENCE[name])}
    if suspicion.is_lasting("worker", now=now, seconds=PATIENCE["worker"]):
        if not worker_answers():
            found.add("worker")
        elif suspicion.is_lasting("beat", now=now, seconds=PATIENCE["beat"]):
            found |= {"worker", "beat"}  # whichever of them it is: the one sends nothing, or the other takes nothing
    return found


def _ready(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - our own address
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return None
    try:
        return dict(json.loads(body))
    except ValueError:
        return None
