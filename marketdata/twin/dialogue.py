"""
Massive's side of the WebSocket dialogue, as a value machine: a text comes in, actions go out. Pure: no socket, no clock.

Where Massive's own words are unknown (`auth_required`, `slow_consumer`, a text that is no request) the words are ours.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from marketdata.twin.faults import Faults
from marketdata.twin.schedule import WILDCARD

AUTH_SECONDS = 10
_TOPICS = frozenset({"A", "AM", "T", "Q", "LULD"})
_NOT_ENTITLED = frozenset({"NOI", "FMV", "LV"})
_POLICY_VIOLATION = 1008
_NO_PLAN = "Your plan doesn't include websocket access."
_TOO_MANY = (
    "Maximum number of websocket connections exceeded. You have reached the connection limit for your account. "
    "Please contact support at https://polygon.io/contact to increase your limit."
)


class Send(NamedTuple):
    """One frame to send."""

    text: str


class Drop(NamedTuple):
    """Cut the line without a close frame, after what was sent before."""


class Close(NamedTuple):
    """Close the WebSocket with a close frame."""

    code: int
    reason: str


Action = Send | Drop | Close


class Dialogue:
    """The state of one connection: whether it is signed in, and what it is subscribed to. `faults` bend what is said."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.authenticated = False
        self.key = ""
        self._faults = faults or Faults()
        self.subscriptions: dict[str, set[str]] = {}

    def greet(self) -> list[Action]:
        """Return what is said before anything is asked."""
        return [_status("connected", "Connected Successfully")]

    def receive(self, text: str | bytes) -> list[Action]:
        """Return the answer to one message; no answer is one, too."""
        try:
            request = msgspec.json.decode(text, type=_Request)
        except msgspec.DecodeError:
            return [_status("error", 'A request is a JSON object like {"action":"subscribe","params":"AM.*"}.')]
        if request.action == "auth":
            return self._sign_in(request.params)
        if not self.authenticated:
            return [_status("auth_required", "authentication required")]
        if request.action == "subscribe":
            return self._subscribe(request.params)
        if request.action == "unsubscribe":
            return self._unsubscribe(request.params)
        return [_status("error", "The actions are auth, subscribe and unsubscribe.")]

    def auth_time_over(self) -> list[Action]:
        """Return what happens when the time for signing in has passed."""
        if self.authenticated:
            return []
        return [_status("auth_timeout", "No authentication request received."), Close(_POLICY_VIOLATION, "auth timeout")]

    def buffer_full(self) -> list[Action]:
        """Return what happens to a client that reads too slowly."""
        return [_status("slow_consumer", "The client reads too slowly; its buffer is full."), Close(_POLICY_VIOLATION, "slow consumer")]

    def over_quota(self) -> list[Action]:
        """Return what happens to the line that is one too many for its key."""
        return [_status("max_connections", _TOO_MANY), Close(_POLICY_VIOLATION, "max connections")]

    def wants(self, topic: str, symbol: str) -> bool:
        """Tell whether an event goes to this connection: once, however many subscriptions match."""
        names = self.subscriptions.get(topic)
        return names is not None and (symbol in names or WILDCARD in names)

    def _sign_in(self, key: str) -> list[Action]:
        """Answer a key; those that begin with `bad` and `noplan` act as their names say, all others are good."""
        if self._faults.feel("auth_timeout"):
            return []
        refusal = self._refusal() or refused_key(key)
        if refusal:
            return [_status("auth_failed", refusal), Drop()]
        self.authenticated, self.key = True, key
        return [_status("auth_success", "authenticated")]

    def _refusal(self) -> str:
        """Return why a fault refuses every key, or an empty text."""
        if self._faults.feel("no_plan"):
            return _NO_PLAN
        return "authentication failed" if self._faults.feel("auth_failed") else ""

    def _lacks(self, topic: str) -> bool:
        """Tell whether the plan lacks a topic."""
        fault = self._faults.find("not_authorized")
        return topic in _NOT_ENTITLED or (fault is not None and fault.word == topic and self._faults.feel("not_authorized"))

    def _subscribe(self, params: str) -> list[Action]:
        """Answer a list of pairs: one refusal for all that the plan lacks, then one acknowledgement for each new pair."""
        refused, accepted = False, []
        for topic, symbol in _pairs(params):
            if self._lacks(topic):
                refused = True
            elif topic in _TOPICS and symbol not in self.subscriptions.setdefault(topic, set()):
                self.subscriptions[topic].add(symbol)
                accepted.append(("success", f"subscribed to: {topic}.{symbol}"))
        if accepted and self._faults.feel("no_ack"):
            accepted = []
        return _statuses(([("error", "not authorized")] if refused else []) + accepted)

    def _unsubscribe(self, params: str) -> list[Action]:
        """Answer a list of pairs: one acknowledgement for each that was held."""
        gone = []
        for topic, symbol in _pairs(params):
            if symbol in self.subscriptions.get(topic, set()):
                self.subscriptions[topic].remove(symbol)
                gone.append(("success", f"unsubscribed to: {topic}.{symbol}"))
        return _statuses(gone)


def refused_key(key: str) -> str:
    """Return why the WebSocket refuses a key, or an empty text."""
    if not key or key.startswith("bad"):
        return "authentication failed"
    if key.startswith("noplan"):
        return _NO_PLAN
    return ""


def demand(dialogues: Iterable[Dialogue]) -> dict[str, set[str]]:
    """Return what any of the connections wants: symbols, or the wildcard, by topic."""
    wanted: dict[str, set[str]] = {}
    for dialogue in dialogues:
        for topic, symbols in dialogue.subscriptions.items():
            if symbols:
                wanted.setdefault(topic, set()).update(symbols)
    return wanted


class _Request(msgspec.Struct):
    """What a client sends."""

    action: str
    params: str = ""


def _pairs(params: str) -> list[tuple[str, str]]:
    """Return topics and symbols of a list, split at the first dot: symbols may hold dots."""
    parts = (pair.strip().partition(".") for pair in params.split(","))
    return [(topic, symbol) for topic, dot, symbol in parts if dot and symbol]


def _statuses(statuses: list[tuple[str, str]]) -> list[Action]:
    """Return one frame with several status messages, or nothing."""
    if not statuses:
        return []
    return [Send(msgspec.json.encode([{"ev": "status", "status": status, "message": message} for status, message in statuses]).decode())]


def _status(status: str, message: str) -> Action:
    """Return a frame with one status message."""
    return _statuses([(status, message)])[0]
