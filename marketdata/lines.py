"""
The connections of one live stream: which carries which symbols, who takes over from one that has fallen, which of them are silent.

Not thread-safe: the folding thread owns it. The connections themselves read on threads of their own (connection.py).
"""

import queue
import time
from collections.abc import Sequence
from typing import Any

from marketdata.connection import Item, Line, LineState
from marketdata.feed.partition import carried
from marketdata.feed.protocol import State

MOVE_SECONDS = 3.0  # most lines are back at once; only then do their symbols move
BAR_KINDS = frozenset({"AM", "A", "T"})


class Lines:
    """All lines of a stream, by number from 1 on; `parts` are each one's own symbols."""

    def __init__(
        self,
        parts: Sequence[Sequence[str]],
        kinds: Sequence[str],
        *,
        url: str,
        key: str,
        into: "queue.Queue[Item]",
        reserved: int | None = None,
    ) -> None:
        self._parts = [list(part) for part in parts]
        self._kinds = tuple(kinds)
        self._reserved = reserved  # the place of the line that priority symbols have for themselves
        self._all = len({symbol for part in parts for symbol in part})
        self._lines = [Line(place + 1, url=url, key=key, pairs=self._pairs(part), into=into) for place, part in enumerate(parts)]
        now = time.monotonic()
        self.states = {line.number: LineState(line.number, State.CONNECTING, "connecting") for line in self._lines}
        self._load = [list(part) for part in parts]
        self._down_since = dict.fromkeys(self.states, now)
        self._alive_at = dict.fromkeys(self.states, now)  # by line: all that was sent until then has arrived
        self._data_at = dict(self._alive_at)
        self._watched_from = dict(self._alive_at)

    def __len__(self) -> int:
        return len(self._lines)

    def _pairs(self, symbols: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{kind}.{symbol}" for kind in self._kinds for symbol in symbols)

    def start(self) -> None:
        """Begin to connect."""
        for line in self._lines:
            line.start()

    def stop(self, seconds: float) -> None:
        """Ask for the end and wait for it so long; a line that is busy connecting is not waited for."""
        for line in self._lines:
            line.stop()
        end = time.monotonic() + seconds
        for line in self._lines:
            line.join(max(0.0, end - time.monotonic()))

    # -- what they say ------------------------------------------------------------------------------------------------------------

    def hear(self, line: int, received: float, *, data: bool = False) -> None:
        """Note that a line was heard of; `data`: with an event of the market."""
        self._alive_at[line] = max(self._alive_at[line], received)
        if data:
            self._data_at[line] = max(self._data_at[line], received)

    def change(self, change: LineState) -> None:
        """Note a line's new state."""
        now = time.monotonic()
        before = self.states[change.line].state
        self.states[change.line] = change
        if change.state is State.LIVE and before is not State.LIVE:
            self._alive_at[change.line] = self._data_at[change.line] = now
        elif change.state is not State.LIVE and before is State.LIVE:
            self._down_since[change.line] = now

    @property
    def live(self) -> list[int]:
        """Return the numbers of the lines that are up."""
        return [line for line, state in self.states.items() if state.state is State.LIVE]

    def alive_at(self) -> float | None:
        """Return up to when all that was sent is known to have arrived on every line that is up; None where none is."""
        return min((self._alive_at[line] for line in self.live), default=None)

    def data_at(self) -> float | None:
        """Return when the last event of the market came on the quietest line that is up; None where none is."""
        return min((self._data_at[line] for line in self.live), default=None)

    # -- who carries what -----------------------------------------------------------------------------------------------------------

    def share_out(self, now: float) -> None:
        """Give the symbols of lines that have been down for a while to the others, and back once their own line is up again."""
        live = {line - 1 for line in self.live}
        fallen = {line - 1 for line, since in self._down_since.items() if line - 1 not in live and now - since >= MOVE_SECONDS}
        load = carried(self._parts, live=live, fallen=fallen, reserved=self._reserved)
        for place, symbols in enumerate(load):
            if symbols != self._load[place]:
                self._load[place] = symbols
                self._lines[place].want(self._pairs(symbols))

    @property
    def covered(self) -> bool:
        """Whether every symbol has been asked for, and answered, on a line that is up."""
        asked = {pair.partition(".")[2] for line in self.live for pair in self.states[line].pairs}
        return len(asked) >= self._all

    def heard(self) -> frozenset[str]:
        """Return the symbols of which a kind that makes bars is acknowledged: of the others the line proves nothing."""
        held = (pair.partition(".") for line in self.live for pair in self.states[line].pairs - set(self.states[line].missing))
        return frozenset(symbol for kind, _, symbol in held if kind in BAR_KINDS)

    def missing(self) -> list[str]:
        """Return the pairs that the feed did not acknowledge."""
        return sorted({pair for line in self.live for pair in self.states[line].missing})

    # -- silence --------------------------------------------------------------------------------------------------------------------

    def watch_from(self, now: float) -> None:
        """Count no silence before now: it was a time in which silence is normal."""
        self._watched_from = dict.fromkeys(self._watched_from, now)

    def end_silent(self, now: float, *, limit: float) -> None:
        """Ask each line that is up and brought no event for `limit` seconds for a new connection."""
        for line in self._lines:
            since = max(self._data_at[line.number], self._watched_from[line.number])
            if self.states[line.number].state is State.LIVE and now - since > limit:
                self._watched_from[line.number] = now
                line.kick(f"the connection is open but was silent for {limit:g} s")

    # -- what is said of them ---------------------------------------------------------------------------------------------------------

    @property
    def reconnects(self) -> int:
        """How often a line had to connect again."""
        return sum(line.reconnects for line in self._lines)

    @property
    def dropped(self) -> int:
        """How many frames were dropped here."""
        return sum(line.dropped for line in self._lines)

    @property
    def largest_frame(self) -> int:
        """Bytes of the largest frame."""
        return max(line.largest_frame for line in self._lines)

    def down(self) -> LineState | None:
        """Return the first line that is not up, None where all are."""
        return next((state for state in self.states.values() if state.state is not State.LIVE), None)

    def detail(self) -> list[dict[str, Any]]:
        """Return one line of words and numbers for each."""
        return [
            {
                "line": state.line,
                "state": state.state.value,
                "reason": state.reason,
                "symbols": len(self._load[state.line - 1]) if state.state is State.LIVE else 0,
                "own_symbols": len(self._parts[state.line - 1]),
                "missing_topics": len(state.missing),
                "retry_seconds": round(state.retry_seconds, 1),
            }
            for state in self.states.values()
        ]
