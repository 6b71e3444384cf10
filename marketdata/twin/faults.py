"""
What may go wrong with the feed, by name: read from texts, counted, and decided by seed. Pure: the time is an argument, in monotonic seconds.

Faults of a connection speak of real seconds; `reorder` and `late` move events in market time, as far as the market's clock runs.
"""

import random
from collections import Counter, deque
from typing import Any, NamedTuple

RATE_WINDOW_SECONDS = 60.0
POLICIES = ("evict_older", "refuse_newcomer", "random")
CLOSE_CODES = (1000, 1001, 1008, 1011)
FOREIGN_URL = "http://elsewhere.invalid"
_LATE_CHANCE = 0.1


class Range(NamedTuple):
    """Which numbers an argument may be, and the one where it is left out: None if it must be there."""

    name: str
    low: float
    high: float
    default: float | None = None


class Kind(NamedTuple):
    """One fault as it is written: a number, a word, a period, in this order, each if the fault has it."""

    about: str
    number: Range | None = None
    word: str = ""  # the name of the argument
    words: tuple[str, ...] = ()  # the first is the default; any text where none are listed
    every: bool = False


class Fault(NamedTuple):
    """One fault with its arguments; `every_seconds` is 0 for one that happens once."""

    name: str
    number: float = 0.0
    word: str = ""
    every_seconds: float = 0.0


class FaultError(ValueError):
    """There is no such fault, or its argument cannot be; the message lists the faults."""


KINDS = {
    "drop": Kind("cut the line without a close frame, once or every so often", every=True),
    "close": Kind("close the line with this code, once or every so often", Range("CODE", 1000, 1011), every=True),
    "half_open": Kind("say nothing more on the lines that are there, not even a pong", every=True),
    "silence": Kind("send no data for so long; pings are answered", Range("SECONDS", 0.001, 86_400, 3_600)),
    "duplicates": Kind("send so many of the frames twice", Range("PERCENT", 0, 100)),
    "reorder": Kind("hold each event back by up to so many seconds of market time", Range("SECONDS", 0.001, 3_600)),
    "late": Kind("hold one event in ten back by so many seconds of market time", Range("SECONDS", 0.001, 86_400, 120)),
    "max_connections": Kind("allow a key only so many lines", Range("LINES", 0, 1_000), word="POLICY", words=POLICIES),
    "slow_consumer": Kind("give up on a line whose unsent frames exceed so many bytes", Range("BYTES", 1, 1e9, 20_000)),
    "auth_failed": Kind("refuse every key"),
    "auth_timeout": Kind("never answer a key, and say so after so long", Range("SECONDS", 0.001, 3_600, 10)),
    "no_plan": Kind("tell every key that its plan has no WebSocket"),
    "not_authorized": Kind("refuse subscriptions of a topic", word="TOPIC"),
    "garbage": Kind("put nonsense into and beside so many of the frames; the good events stay", Range("PERCENT", 0, 100)),
    "big_frame": Kind("send one frame of this size, once or every so often", Range("MEGABYTES", 0.01, 100), every=True),
    "empty_frames": Kind("send an empty array in each round"),
    "no_ack": Kind("subscribe, but never acknowledge"),
    "status_in_data": Kind("send acknowledgements in the midst of data"),
    "rest_429": Kind("answer 429, with Retry-After if it is given", Range("RETRY_AFTER", 0, 86_400, 0)),
    "rest_500": Kind("answer 500 to so many of the requests", Range("PERCENT", 0, 100, 100)),
    "rest_slow": Kind("wait so long before each answer", Range("SECONDS", 0.001, 600)),
    "rest_empty": Kind("answer as if there were no data"),
    "rest_bad_json": Kind("cut each answer in its middle"),
    "rest_foreign_next_url": Kind("point next_url to another host", word="URL", words=()),
    "rest_rate": Kind("allow so many requests a minute, then answer 429", Range("PER_MINUTE", 1, 1e6, 5)),
}


def usage(name: str) -> str:
    """Return how a fault is written, as `close:CODE[:EVERY_SECONDS]`."""
    kind = KINDS[name]
    text = name
    if kind.number:
        text += f":{kind.number.name}" if kind.number.default is None else f"[:{kind.number.name}]"
    if kind.word:
        text += f"[:{kind.word}]" if kind.words or name == "rest_foreign_next_url" else f":{kind.word}"
    return text + ("[:EVERY_SECONDS]" if kind.every else "")


def parse(text: str) -> Fault:
    """Return the fault that a text names. FaultError otherwise."""
    name, colon, rest = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise FaultError(f"There is no fault {name!r}{_known()}")
    if name == "rest_foreign_next_url":
        return Fault(name, word=rest or FOREIGN_URL)
    given = deque(rest.split(":") if colon else ())
    number, word, every = 0.0, "", 0.0
    if kind.number:
        number = _number(text, kind.number, given.popleft() if given else "")
    if name == "close" and number not in CLOSE_CODES:
        raise FaultError(f"{text!r}: CODE must be one of {', '.join(map(str, CLOSE_CODES))}{_known()}")
    if kind.word:
        word = given.popleft() if given else (kind.words or ("",))[0]
        if not word or (kind.words and word not in kind.words):
            expected = f"one of {', '.join(kind.words)}" if kind.words else "given"
            raise FaultError(f"{text!r}: {kind.word} must be {expected}{_known()}")
    if kind.every and given:
        every = _number(text, Range("EVERY_SECONDS", 0.001, 86_400), given.popleft())
    if given:
        raise FaultError(f"{text!r} has too many arguments; it is written {usage(name)}{_known()}")
    return Fault(name, number, word, every)


def _number(text: str, allowed: Range, given: str) -> float:
    """Return a number inside its range. FaultError otherwise."""
    if not given and allowed.default is not None:
        return allowed.default
    try:
        number = float(given)
    except ValueError:
        number = float("nan")
    if not allowed.low <= number <= allowed.high:
        raise FaultError(f"{text!r}: {allowed.name} must be a number from {allowed.low:g} to {allowed.high:g}{_known()}")
    return number


def _known() -> str:
    """Return the end of a sentence that lists the faults."""
    return f"; the faults are {', '.join(usage(name) for name in KINDS)}."


class Faults:
    """The faults at work, one of a name, and how often each was felt. Not thread-safe."""

    def __init__(self, seed: int = 0, *faults: Fault) -> None:
        self.felt: Counter[str] = Counter()
        self._seed = seed
        self._active: dict[str, Fault] = {}
        self._since: dict[str, float] = {}
        self._requests: deque[float] = deque()
        self._dice: dict[str, random.Random] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Let a fault begin, anew if it is there already."""
        self.remove(fault.name)
        self._active[fault.name] = fault

    def remove(self, name: str) -> None:
        """Let a fault end, if it is there. FaultError where no fault has this name."""
        if name not in KINDS:
            raise FaultError(f"There is no fault {name!r}{_known()}")
        self._active.pop(name, None)
        self._since.pop(name, None)

    def clear(self) -> None:
        """Let all faults end."""
        for name in list(self._active):
            self.remove(name)

    def find(self, name: str) -> Fault | None:
        """Return a fault that is at work."""
        return self._active.get(name)

    def feel(self, name: str, times: int = 1) -> bool:
        """Count a fault that is at work; tell whether it is."""
        if name in self._active:
            self.felt[name] += times
            return True
        return False

    def chance(self, name: str) -> bool:
        """Throw the dice for a fault of so many percent; count it where it happens."""
        fault = self._active.get(name)
        return fault is not None and self.dice(name).random() * 100 < fault.number and self.feel(name)

    def dice(self, name: str) -> random.Random:
        """Return the dice of a fault: the same throws for the same seed."""
        return self._dice.setdefault(name, random.Random(f"{self._seed}/{name}"))  # noqa: S311 - reproducible, and nothing secret

    def strikes(self, name: str, now: float) -> Fault | None:
        """
        Return a fault whose moment has come: at once and once only, or each time its period is over.

        To be asked when there is somebody to feel it; the first time of asking begins the first period.
        """
        fault = self._active.get(name)
        if fault is None:
            return None
        since = self._since.setdefault(name, now)
        if now - since < fault.every_seconds:
            return None
        if fault.every_seconds:
            self._since[name] = now
        self.felt[name] += 1
        if not fault.every_seconds:
            self.remove(name)
        return fault

    def silent(self, now: float) -> bool:
        """Tell whether no data is sent; the first time of asking begins the silence, which ends by itself."""
        fault = self._active.get("silence")
        if fault is None:
            return False
        if now - self._since.setdefault("silence", now) >= fault.number:
            self.remove("silence")
            return False
        return self.feel("silence")

    def delay_ms(self) -> int:
        """Return by how many ms of market time the next event is held back."""
        delay = 0.0
        if reorder := self._active.get("reorder"):
            delay += self.dice("reorder").random() * reorder.number
            self.felt["reorder"] += 1
        if (late := self._active.get("late")) and self.dice("late").random() < _LATE_CHANCE:
            delay += late.number
            self.felt["late"] += 1
        return int(delay * 1000)

    def too_many_requests(self, now: float) -> bool:
        """Count one REST request against the limiter; tell whether it is one too many."""
        fault = self._active.get("rest_rate")
        if fault is None:
            return False
        while self._requests and now - self._requests[0] >= RATE_WINDOW_SECONDS:
            self._requests.popleft()
        if len(self._requests) >= fault.number:
            return self.feel("rest_rate")
        self._requests.append(now)
        return False

    def report(self) -> dict[str, Any]:
        """Return what is at work, what was felt, and what there is."""
        return {
            "active": [fault._asdict() for fault in self._active.values()],
            "felt": dict(self.felt),
            "known": {usage(name): kind.about for name, kind in KINDS.items()},
        }
