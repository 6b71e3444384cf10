"""Frames in, closed bars and rejections out: the part of the way that knows no thread and no database."""

import logging
from collections import Counter
from typing import NamedTuple

import msgspec

from marketdata.bars.builder import SYMBOL, BarBuilder
from marketdata.bars.snapshot import BarSnapshot
from marketdata.feed.decode import FrameDecoder, Rejection, readable, texts
from marketdata.feed.events import PAUSED, Event, LimitBand, MinuteAggregate, Quote, SecondAggregate, StatusMessage, Trade, milliseconds

log = logging.getLogger(__name__)

FIRST_EVENTS_LOGGED = 10
MOST_LATE_QUOTE_MS = 60_000  # further behind than this: the one known had an absurd time, which must not silence the symbol


class Report(msgspec.Struct):
    """What a run did. `seconds`: first frame read → last commit."""

    frames: int = 0
    events: int = 0
    bars: int = 0
    changed: int = 0
    late_events: int = 0
    rejected_events: int = 0
    seconds: float = 0.0


class Pause(NamedTuple):
    """That a symbol was paused, or trades again, at a moment in Unix ms."""

    symbol: str
    at_ms: int
    paused: bool


class Intake:
    """Counts, folds and sorts what one line says."""

    def __init__(self, builder: BarBuilder, *, symbols: frozenset[str] | None, kinds: frozenset[str] | None) -> None:
        self.builder = builder
        self._decoder = FrameDecoder()
        self.counts: Counter[str] = Counter()
        self.report = Report()
        self.bars: list[BarSnapshot] = []
        self.rejections: list[Rejection] = []
        self.pauses: list[Pause] = []
        self._quotes: dict[str, Quote] = {}  # of each symbol the newest: an older one that comes later must not pass for news
        self._quotes_moved: dict[str, Quote] = {}  # those of them that nobody took yet
        self.last_event_ms = 0
        self._paused: dict[str, bool] = {}
        self._symbols = symbols
        self._kinds = kinds

    def take(self, frame: bytes) -> int:
        """Fold one frame in; return the largest event time in it (Unix ms), 0 without any."""
        decoded = self._decoder.decode(frame)
        report = self.report
        report.frames += 1
        builder = self.builder
        kind = self._count(decoded.events, decoded.kind)
        newest, others = builder.add_all(decoded.events, self._admits, frame, kind)
        for event in others:
            if isinstance(event, LimitBand):
                self._note_band(event)
            elif isinstance(event, Quote):
                self._note_quote(event)
        if decoded.rejections:
            report.events += sum(1 for rejection in decoded.rejections if rejection.kind)
            self._reject(decoded.rejections)
        if builder.refused:
            self._reject_refused(frame)
        self.last_event_ms = builder.clock_ms
        return newest

    def _count(self, events: list[Event], kind: type[Event] | None) -> type[Event] | None:
        """Count the events by kind; return the kind of all of them, where it is one: `kind` where that is known already."""
        report, before = self.report, self.report.events
        if kind is None:
            types = list(map(type, events))
            kind = types[0] if types and types.count(types[0]) == len(types) else None  # counting by kind is slower
        for each, number in ((kind, len(events)),) if kind is not None else Counter(types).items():
            self.counts[_KIND_NAMES[each]] += number
            if each is not StatusMessage:
                report.events += number
        if before < FIRST_EVENTS_LOGGED:
            told = [event for event in events if not isinstance(event, StatusMessage)]
            for place, event in enumerate(told[: FIRST_EVENTS_LOGGED - before], before + 1):
                log.info("Event %s: %s", place, event)
        return kind

    def _note_quote(self, quote: Quote) -> None:
        known = self._quotes.get(quote.sym)
        if (known is None or not known.t - MOST_LATE_QUOTE_MS <= quote.t < known.t) and SYMBOL.fullmatch(quote.sym) and self._admits(quote):
            self._quotes[quote.sym] = self._quotes_moved[quote.sym] = quote

    def take_quotes(self) -> dict[str, Quote]:
        """Return of each symbol that has a new quote since the last call the newest."""
        moved, self._quotes_moved = self._quotes_moved, {}
        return moved

    def _admits(self, event: Trade | SecondAggregate | Quote) -> bool:
        return (self._symbols is None or event.sym in self._symbols) and (self._kinds is None or _KIND_NAMES[type(event)] in self._kinds)

    def _note_band(self, band: LimitBand) -> None:
        """Keep what changes between trading and pause; of a symbol's first band also that it trades: an earlier run may have seen it pause."""
        if self._symbols is not None and band.ticker not in self._symbols:
            return
        at_ms, paused = milliseconds(band.t), PAUSED in band.i
        if at_ms is not None and SYMBOL.fullmatch(band.ticker) and self._paused.get(band.ticker) is not paused:
            self._paused[band.ticker] = paused
            self.pauses.append(Pause(band.ticker, at_ms, paused))

    def _reject(self, rejections: list[Rejection]) -> None:
        for rejection in rejections:
            self.counts["rejected " + rejection.reason] += 1
        self.report.rejected_events += sum(1 for rejection in rejections if rejection.reason != "late")
        self.rejections += rejections

    def _reject_refused(self, frame: bytes | str = b"") -> None:
        refused, self.builder.refused = self.builder.refused, []
        came = texts(frame, [item.event for item in refused])
        self.report.late_events = self.builder.late_events
        rejections = [
            Rejection(
                reason=item.reason,
                detail=item.detail,
                kind=_KIND_NAMES[type(item.event)],
                symbol=readable(getattr(item.event, "sym", ""))[:40],
                raw=came[item.event].pop() if came[item.event] else readable(msgspec.json.encode(item.event)),
            )
            for item in reversed(refused)  # of equal events those that came first may have gone in
        ]
        self._reject(rejections[::-1])

    def close(self, now_ms: int) -> None:
        """Move bars that are closed at stream time `now_ms` into `bars`."""
        bars = self.builder.closed(now_ms)
        if bars or self.builder.refused:
            self._collect(bars)

    def finish(self) -> None:
        """A recording has ended: its last minutes are whole."""
        self._collect(self.builder.finish())

    def abandon(self) -> None:
        """The line stops here: forming minutes are partial."""
        self._collect(self.builder.abandon())

    def _collect(self, bars: list[BarSnapshot]) -> None:
        if self.builder.refused:
            self._reject_refused()
        self.report.bars = self.builder.bars_given
        self.bars += bars


_KIND_NAMES: dict[type, str] = {
    Trade: "T",
    SecondAggregate: "A",
    MinuteAggregate: "AM",
    Quote: "Q",
    LimitBand: "LULD",
    StatusMessage: "status",
}
