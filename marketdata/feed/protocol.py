"""
Our side of Massive's dialogue as a value machine, and when to knock again. Sans-I/O: status messages in, texts to send out; no socket, no clock.

Source of the texts: Massive, WebSocket quickstart, and what observers measured. The server says nothing on unknown topics and on pairs already held,
so acknowledgements are counted: silence proves nothing.
"""

import json
from collections.abc import Sequence
from enum import StrEnum

from marketdata.feed.decode import readable
from marketdata.feed.events import StatusMessage

PAIRS_PER_REQUEST = 1_000
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
COOL_DOWN_SECONDS = 60.0
# When another connection takes our place, and when it does so again: of two programs on one key each gets it back once in ten minutes
CROWDED_SECONDS = (60.0, 600.0)
UNDISPUTED_SECONDS = 900.0  # so long in our place, and the next quarrel is a new one
HEALTHY_SECONDS = 60.0
REFUSALS_BEFORE_COOL_DOWN = 3


class State(StrEnum):
    """Where the dialogue stands."""

    CONNECTING = "connecting"
    SIGNING_IN = "signing in"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    REFUSED = "refused"  # the key is not accepted
    CROWDED = "crowded"  # another connection of the account took our place
    DROPPED = "dropped"  # the server gave up on us: slow_consumer, force_disconnect, auth_timeout


class Dialogue:
    """
    One connection's login and subscriptions.

    Feed it each status message with `receive`; send what it returns. `missing` are the pairs not acknowledged yet.
    """

    def __init__(self, key: str, pairs: tuple[str, ...]) -> None:
        self._key = key
        self.pairs = pairs
        self.missing: set[str] = set(pairs)
        self.not_authorized = 0
        self.state = State.CONNECTING
        self.reason = ""

    def receive(self, message: StatusMessage) -> list[str]:
        """Return the texts to send in answer to one status message."""
        match message.status:
            case "connected":
                return self._sign_in()
            case "auth_success":
                return self._subscribe()
            case "success":
                self._acknowledge(message.message)
            case "error" | "auth_required":
                self.not_authorized += 1
                self.reason = readable(message.message or message.status)
            case "auth_failed":
                self._end(State.REFUSED, message)
            case "max_connections":
                self._end(State.CROWDED, message)
            case "auth_timeout" | "slow_consumer" | "force_disconnect":
                self._end(State.DROPPED, message)
        return []

    def _sign_in(self) -> list[str]:
        if self.state is not State.CONNECTING:
            return []
        self.state = State.SIGNING_IN
        return [json.dumps({"action": "auth", "params": self._key})]

    def _subscribe(self) -> list[str]:
        if self.state is not State.SIGNING_IN:
            return []
        self.state = State.SUBSCRIBING
        return _requests("subscribe", self.pairs)

    def turn_to(self, pairs: tuple[str, ...]) -> list[str]:
        """Return the texts that change the subscriptions of a live line to `pairs`; what is new is missing until it is acknowledged."""
        new = [pair for pair in pairs if pair not in set(self.pairs)]
        gone = [pair for pair in self.pairs if pair not in set(pairs)]
        self.pairs = pairs
        self.missing = (self.missing - set(gone)) | set(new)
        return _requests("subscribe", new) + _requests("unsubscribe", gone)

    def _acknowledge(self, words: str) -> None:
        head, _, pair = words.partition(": ")
        if head == "subscribed to":
            self.missing.discard(pair.strip())
            if not self.missing and self.state is State.SUBSCRIBING:
                self.state = State.LIVE

    def settle(self) -> None:
        """Go live with what was acknowledged: no more answers are to be expected. Without any acknowledgement, stay."""
        if self.state is State.SUBSCRIBING and len(self.missing) < len(self.pairs):
            self.state = State.LIVE

    def _end(self, state: State, message: StatusMessage) -> None:
        self.state = state
        self.reason = readable(message.message or message.status)

    @property
    def ended(self) -> bool:
        """Whether the server has told us to go."""
        return self.state in (State.REFUSED, State.CROWDED, State.DROPPED)


def _requests(action: str, pairs: Sequence[str]) -> list[str]:
    chunks = [pairs[start : start + PAIRS_PER_REQUEST] for start in range(0, len(pairs), PAIRS_PER_REQUEST)]
    return [json.dumps({"action": action, "params": ",".join(chunk)}) for chunk in chunks]


class Backoff:
    """
    How long to wait before the next attempt: at once first, then 1, 2, 4 … 60 s with full jitter; a minute at least after the third refused
    key and the first time that another connection took our place, five and ten when that happens again.

    `jitter` is a random number in [0, 1), drawn by the caller.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._refusals = 0
        self._quarrels = 0

    def after(self, state: State, *, healthy_seconds: float, jitter: float) -> float:
        """Return the seconds to wait after a connection that ended in `state` and was live for `healthy_seconds`."""
        if healthy_seconds >= HEALTHY_SECONDS:
            self._failures = self._refusals = 0
        if healthy_seconds >= UNDISPUTED_SECONDS:
            self._quarrels = 0
        self._failures += 1
        if state is State.CROWDED:
            self._quarrels += 1
            return CROWDED_SECONDS[min(self._quarrels, len(CROWDED_SECONDS)) - 1] * (1 + jitter)
        if state is State.REFUSED:
            self._refusals += 1
            if self._refusals >= REFUSALS_BEFORE_COOL_DOWN:
                return COOL_DOWN_SECONDS * (1 + jitter)
        if self._failures == 1:
            return 0.0
        longest: float = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(self._failures - 2, 10))
        return longest * (0.5 + jitter / 2)
