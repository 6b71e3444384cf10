"""
Fold events into one-minute bars. Pure: no clock, no I/O, no Django.

Owns all forming minutes and says when they close; what a minute is stands in minute.py, how its events are taken in quickly in page.py. Trades and
seconds never meet in one bar; the feed's own minute aggregate stands above both.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from operator import length_hint
from typing import Any

import msgspec

from marketdata.bars.minute import SECOND_MS, VENDOR, Minute
from marketdata.bars.page import Page, seconds_of
from marketdata.bars.session import SessionTable
from marketdata.bars.sizes import BadSizeError, units
from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarSnapshot
from marketdata.feed.events import Event, MinuteAggregate, SecondAggregate, Trade
from marketdata.feed.listing import TEST_TICKERS

LATE_MS = 15 * MINUTE_MS
HOLD_TRADES_MS = 1_000
HOLD_SECONDS_MS = 3_000
HOLD_AWAITED_MS = 5_000
JUMP_MS = 10 * MINUTE_MS  # live, where a clock stands beside the stream; below LATE_MS, so that what is let pass makes no other late
RECORDED_JUMP_MS = 24 * 60 * MINUTE_MS  # a recorded thin symbol may be silent for hours
LONGEST_SILENCE_MS = 31 * 24 * 60 * MINUTE_MS  # a recorded thin symbol may trade once in a while
WAITING = 200_000  # summands of the mean prices that wait: they must not fill the memory

SYMBOL = re.compile(r"[A-Za-z0-9.\-/]{1,20}")

Admits = Callable[[Trade | SecondAggregate], bool]
"""Says whether an event is of a symbol and a kind that are asked for."""


class Refused(msgspec.Struct, frozen=True):
    """Why an event did not go in."""

    reason: str
    detail: str
    event: Event


class BarBuilder:
    """
    All forming minutes of all symbols, and the closed ones as long as they may be revised (15 minutes of stream time).

    Bounded by symbols and minutes, never by the number of ticks that a fault may bring twice. `clock_ms` is the largest event time seen.
    `unbroken`: every minute counts as seen whole (a recorded file); else only those that begin after `resume`. `now_ms` is the wall clock at
    the start of a live line, 0 for a recording, whose only clock is the largest event time.
    """

    def __init__(self, sessions: SessionTable, *, unbroken: bool = False, now_ms: int = 0) -> None:
        self.sessions = sessions  # may be replaced by a newer one at any time
        self._pages: dict[int, Page] = {}
        self._newest = Page(0, extended=True)
        self._waiting = 0  # values that wait in the minutes' sums, at most
        self._idle_until_ms = 0  # nothing closes before this moment of the stream, unless something is due
        self._due: dict[tuple[str, int], Minute] = {}
        self._symbols: dict[str, bool] = {}
        self.whole_from: int | None = 0 if unbroken else None  # first minute (Unix ms) that the line saw whole, None while it is down
        self._awaiting_first_event = False
        self._resumed_ms = 0
        self._suspect: Trade | SecondAggregate | None = None
        self._now_ms = now_ms
        self._jump_ms = JUMP_MS if now_ms else RECORDED_JUMP_MS
        self._closed_to_ms = 0
        self._minute_aggregates_seen: set[str] = set()
        self._expects_minute_aggregates = False
        self._only_minute_aggregates = False
        self.clock_ms = 0
        self.late_events = 0
        self.bars_given = 0  # minutes of which a bar was handed out
        self.test_ticker_events = 0
        self.refused: list[Refused] = []
        self.settled_before_ms: int | None = None

    # -- the line -----------------------------------------------------------------------------------------------------------------

    def expect_minute_aggregates(self, *, alone: bool = False) -> None:
        """Hold bars from seconds and trades back for the feed's own minute aggregate: it is subscribed, `alone` where nothing else is."""
        self._expects_minute_aggregates = True
        self._only_minute_aggregates = alone

    def resume(self, now_ms: int = 0) -> None:
        """
        The line is up: minutes that begin after the next event are seen whole.

        That event may be old, a minute sent again say, so nothing that begins before `now_ms`, the stream's time where it is known, is whole.
        """
        self._awaiting_first_event = True
        self._resumed_ms = now_ms
        self._ask_again()

    def not_whole_before(self, moment_ms: int) -> None:
        """What begins before `moment_ms` is not whole after all: a later event tells that the line came up no earlier than that."""
        if self.whole_from is None or moment_ms <= self.whole_from:
            return
        self.whole_from = -(-moment_ms // MINUTE_MS) * MINUTE_MS
        for start, page in self._pages.items():
            if start < self.whole_from:
                for minute in page.minutes.values():
                    minute.broken = minute.broken or not minute.closed

    def interrupt(self) -> None:
        """The line is down, or events were lost: no open minute is whole any more, and none is until `resume`."""
        self.whole_from = None
        self._awaiting_first_event = False
        self._ask_again()
        for page in self._pages.values():
            for minute in page.minutes.values():
                if not minute.closed:
                    minute.broken = True

    def _ask_again(self) -> None:
        """Look at the next event of each symbol closely."""
        self._newest.distrust_all()

    # -- events -------------------------------------------------------------------------------------------------------------------

    def add_all(self, events: list[Event], admits: Admits, frame: bytes | str, kind: type[Event] | None = None) -> tuple[int, list[Event]]:
        """
        Add the events of a frame that `admits` lets in; return the largest event time (Unix ms, 0 without any) and the events that are no bar's.

        The same as `add` for each. Where the symbol's newest minute is open, nothing about an event can be in question but its content, so the page
        takes it at once: that is nearly every event, and what a busy feed costs. `kind`: that of all of them, where it is one.
        """
        if kind is Trade:
            return self._add_trades(events, admits, frame, 0), []  # type: ignore[arg-type]
        if kind is SecondAggregate:
            return self._add_seconds(events, admits, frame, 0), []  # type: ignore[arg-type]
        largest, place = 0, 0
        others: list[Event] = []
        for each, run in groupby(events, type):
            alike: list[Any] = list(run)
            newest = 0
            if each is Trade:
                newest = self._add_trades(alike, admits, frame, place)
            elif each is SecondAggregate:
                newest = self._add_seconds(alike, admits, frame, place)
            elif each is MinuteAggregate:
                newest = self._add_each(alike, admits)
            else:
                others += alike
            largest = max(largest, newest)
            place += len(alike)
        return largest, others

    def _add_trades(self, trades: list[Trade], admits: Admits, frame: bytes | str, first: int) -> int:
        """Add trades, the first of them at the place `first` of the frame; return the largest time."""
        largest = begin = 0
        number = len(trades)
        ahead = iter(trades)
        while begin < number:
            page = self._newest
            newest, stopped = page.take_trades(ahead)
            taken = number - length_hint(ahead) - stopped
            if taken > begin:
                page.keep(frame, first + taken - 1, trades, begin, taken)
                self.clock_ms = max(self.clock_ms, newest)
                largest = max(largest, newest)
            if not stopped:
                break
            largest = max(largest, self._add_asked(page, trades[taken], admits, frame, first + taken))
            begin = taken + 1
        self._waiting += number
        return largest

    def _add_asked(self, page: Page, trade: Trade, admits: Admits, frame: bytes | str, place: int) -> int:
        """Add a trade about which the page asks: have the minute trusted, or go the long way. Return its time, 0 where it is not admitted."""
        if not page.trusts_trades(trade.sym) and self._welcome(page, trade, trade.t, admits) and not page.take_trades(iter((trade,)))[1]:
            page.keep(frame, place, [trade], 0, 1)
            self.clock_ms = max(self.clock_ms, trade.t)
        elif admits(trade):
            self.add(trade, frame, place)
        else:
            return 0
        return trade.t

    def _add_seconds(self, seconds: list[SecondAggregate], admits: Admits, frame: bytes | str, first: int) -> int:
        """Add seconds in the same way."""
        largest = 0
        tried: Page | None = None
        for place, second in enumerate(seconds):
            page = self._newest
            # The last is of one page only, so all of them are read once at most
            if page is not tried and page.start <= seconds[-1].s < page.start + MINUTE_MS:
                tried, rest = page, seconds[place:] if place else seconds
                source = partial(seconds_of, frame, first + place, first + len(seconds))
                newest = page.take_seconds(rest, source, len(frame))
                if not newest and self._open_for(page, rest, admits):
                    newest = page.take_seconds(rest, source, len(frame))
                if newest:
                    self.clock_ms = max(self.clock_ms, newest)
                    largest = max(largest, newest)
                    break
            if admits(second):
                self.add(second)
                largest = max(largest, _time_of(second))
        self._newest.gather(self._refuse)
        return largest

    def _add_each(self, aggregates: list[MinuteAggregate], admits: Admits) -> int:
        largest = 0
        for aggregate in aggregates:
            if admits(aggregate):
                self.add(aggregate)
                largest = max(largest, _time_of(aggregate))
        return largest

    def _open_for(self, page: Page, seconds: list[SecondAggregate], admits: Admits) -> bool:
        """Open the minutes that begin with these seconds; return whether the page may take all of them."""
        return all(page.trusts_seconds(second.sym) or self._welcome(page, second, second.s, admits) for second in seconds)

    def _welcome(self, page: Page, event: Trade | SecondAggregate, moment: int, admits: Admits) -> bool:
        """Have the page trust events like this one, if `_place` would; return whether it does now."""
        start, symbol = page.start, event.sym
        if self._awaiting_first_event or self._suspect is not None or not start <= moment < start + MINUTE_MS or self._is_late(start):
            return False
        if self._symbols.get(symbol) is not True or not admits(event):
            return False
        minute = page.minutes.get(symbol)
        if minute is None:
            minute = self._open(page, symbol)
        return not minute.closed and minute.vendor is None and page.trust(minute, event)

    def _open(self, page: Page, symbol: str) -> Minute:
        self._idle_until_ms = min(self._idle_until_ms, page.start + MINUTE_MS + HOLD_TRADES_MS)
        return page.open(symbol, whole=self.whole_from is not None and page.start >= self.whole_from)

    def _is_late(self, start: int) -> bool:
        return start + MINUTE_MS + LATE_MS < max(self.clock_ms, self._closed_to_ms)

    def add(self, event: Trade | SecondAggregate, frame: bytes | str | None = None, place: int = 0) -> None:
        """Add one event, at `place` of `frame` if one is named. A refused one stands in `refused`; a late one is counted and stands there too."""
        at = _time_of(event)
        if at > self.clock_ms:
            if at > max(self.clock_ms, self._now_ms) + self._jump_ms:
                self._jump(event, at)
                return
            self.clock_ms = at
        if self._suspect is not None:
            self._judge()
        self._place(event, at, frame, place)

    def _jump(self, event: Trade | SecondAggregate, at: int) -> None:
        """
        Let the clock leap far only when the next event is there too, or later: one absurd time must not make all others late.

        The first of the two waits, and goes in with the second.
        """
        suspect = self._suspect
        if suspect is None or not -self._jump_ms <= at - _time_of(suspect) <= LONGEST_SILENCE_MS:
            self._disown()
            self._suspect = event
            self._ask_again()
            return
        self._suspect = None
        self.clock_ms = _time_of(suspect)
        self._place(suspect, self.clock_ms)
        self.add(event)

    def _judge(self) -> None:
        """The stream went on from where it was: take the suspect in where it is not far ahead any more."""
        suspect = self._suspect
        if suspect is not None and _time_of(suspect) <= max(self.clock_ms, self._now_ms) + self._jump_ms:
            self._suspect = None
            self.clock_ms = max(self.clock_ms, _time_of(suspect))
            self._place(suspect, _time_of(suspect))
        else:
            self._disown()

    def _disown(self) -> None:
        if self._suspect is not None:
            self._refuse("time_ahead", "far ahead of the stream, and the next event does not agree", self._suspect)
            self._suspect = None

    def _place(self, event: Trade | SecondAggregate, at: int, frame: bytes | str | None = None, place: int = 0) -> None:
        if self._awaiting_first_event and (
            self._only_minute_aggregates or not isinstance(event, MinuteAggregate)
        ):  # one may come late, or again
            self._awaiting_first_event = False
            latest = max(at, self.clock_ms, self._resumed_ms)
            self.whole_from = latest - latest % MINUTE_MS + MINUTE_MS
        if self._is_late(self._newest.start):
            self._ask_again()
        symbol = event.sym
        known = self._symbols.get(symbol)
        if known is not True and not self._admit(symbol, known, event):
            return
        moment = event.t if isinstance(event, Trade) else event.s
        start = moment - moment % MINUTE_MS
        if self._is_late(start):
            self.late_events += 1
            self._refuse("late", "its minute ended more than 15 minutes before the stream's time", event)
            return
        page = self._pages.get(start)
        if page is None:
            page = self._pages[start] = Page(start, extended=not self.sessions.is_regular(start))
        minute = page.minutes.get(symbol)
        if minute is None:
            minute = self._open(page, symbol)
        if isinstance(event, MinuteAggregate):
            if self._fold_vendor(minute, event):
                self._due[symbol, start] = minute
        elif minute.closed or minute.vendor is not None:
            if page.add(minute, event, self._refuse):
                self._due[symbol, start] = minute
        else:
            if start > self._newest.start:
                if start == self._newest.start + MINUTE_MS and self.whole_from is not None:
                    page.follow(self._newest, whole=start >= self.whole_from)
                self._ask_again()
                self._newest = page
            if page is self._newest:
                page.trust(minute, event)
                if type(event) is SecondAggregate and page.take_seconds((event,), lambda read: (event,)):
                    return
                if frame is not None and isinstance(event, Trade) and not page.take_trades(iter((event,)))[1]:
                    page.keep(frame, place, [event], 0, 1)
                    return
            page.add(minute, event, self._refuse)

    def _admit(self, symbol: str, known: bool | None, event: Event) -> bool:
        """Look at a symbol once: exchange test tickers are dropped, what is no symbol is refused."""
        if known is None and symbol not in TEST_TICKERS:
            if SYMBOL.fullmatch(symbol):
                self._symbols[symbol] = True
                return True
            self._refuse("bad_symbol", f"{symbol!r} is not a symbol", event)
            return False
        self._symbols[symbol] = False
        self.test_ticker_events += 1
        return False

    def _fold_vendor(self, minute: Minute, aggregate: MinuteAggregate) -> bool:
        if not aggregate.l <= aggregate.o <= aggregate.h or not aggregate.l <= aggregate.c <= aggregate.h:
            self._refuse("bad_value", "open and close must lie between low and high", aggregate)
            return False
        try:
            return self._replace_vendor(minute, aggregate, units(aggregate.dv, aggregate.v))
        except BadSizeError as error:
            self._refuse("bad_value", str(error), aggregate)
            return False

    def _replace_vendor(self, minute: Minute, aggregate: MinuteAggregate, size: int) -> bool:
        """Sent again means replaced; of two versions the one with the larger accumulated volume is the newer, whatever order they came in."""
        if aggregate.s % MINUTE_MS:
            self._refuse("bad_value", "a minute aggregate must begin on the minute", aggregate)
            return False
        content = (aggregate.av, size)
        if minute.vendor is not None and content < minute.vendor_content:
            return False
        if minute.start == self._newest.start:
            self._newest.distrust(minute.symbol)
        minute.vendor_content = content
        minute.vendor = BarSnapshot(
            symbol=aggregate.sym,
            opened_at_ms=aggregate.s,
            open=aggregate.o,
            high=aggregate.h,
            low=aggregate.l,
            close=aggregate.c,
            volume=size,
            vwap=aggregate.vw if aggregate.vw is not None and 0 < aggregate.vw < 10**7 else None,
            trades=None,
            source=VENDOR,
            version=size // (SHARE // 1_000),  # comparable with REST's bar of the same minute: late trades only add
            complete=True,
        )
        self._minute_aggregates_seen.add(aggregate.sym)
        return True

    def _refuse(self, reason: str, detail: str, event: Event) -> None:
        self.refused.append(Refused(reason, detail, event))

    # -- bars ---------------------------------------------------------------------------------------------------------------------

    def closed(self, now_ms: int) -> list[BarSnapshot]:
        """
        Return the bars that closed or were revised since the last call, oldest first; `now_ms` is the stream's time.

        The feed's own minutes close on arrival, minutes from trades 1 s after their end, from seconds 3 s, and either 5 s where the feed's own is awaited.
        """
        self._now_ms = max(self._now_ms, now_ms)
        self._closed_to_ms = max(self._closed_to_ms, now_ms)
        if self._waiting > WAITING:
            self._settle()
        if now_ms < self._idle_until_ms and not self._due:
            return []
        due, self._due = self._due, {}
        bars = []
        forming = {start for start, page in self._pages.items() if page.forming}
        for key in sorted(forming.union([start for _, start in due])):
            page = self._pages[key]
            minutes = {symbol: minute for (symbol, start), minute in due.items() if start == key} if due else {}
            age_ms = now_ms - key - MINUTE_MS
            if minutes or age_ms >= HOLD_TRADES_MS:
                page.fold(self._refuse)
            if age_ms >= HOLD_AWAITED_MS:
                minutes |= page.forming
            elif age_ms >= HOLD_TRADES_MS:
                minutes |= {symbol: minute for symbol, minute in page.forming.items() if self._hold(minute) <= age_ms}
            bars += self._close(page, minutes)
        self._forget(now_ms)
        self._idle_until_ms = self._next_ms(now_ms)
        return bars

    def _next_ms(self, now_ms: int) -> int:
        """Return when a minute may close or be let go of next, if no event comes."""
        closing = min([start for start, page in self._pages.items() if page.forming], default=now_ms) + MINUTE_MS + HOLD_TRADES_MS
        leaving = min(self._pages, default=now_ms) + MINUTE_MS + LATE_MS
        return max(now_ms + 1, min(closing, leaving + 1))

    def _close(self, page: Page, minutes: dict[str, Minute]) -> list[BarSnapshot]:
        """Close these minutes, or look at closed ones again; return the bars that are news, by symbol."""
        if len(minutes) >= len(page.forming) and page.forming.keys() <= minutes.keys():
            page.forming.clear()
            if page is self._newest:
                self._ask_again()
        else:
            for symbol in minutes:
                page.forming.pop(symbol, None)
                if page is self._newest:
                    page.distrust(symbol)
        bars = []
        for _, minute in sorted(minutes.items()):
            minute.closed = True
            bar = minute.bar()
            if bar is not None and bar != minute.given:
                self.bars_given += minute.given is None
                minute.given = bar
                bars.append(bar)
        return bars

    def _hold(self, minute: Minute) -> int:
        if minute.vendor is not None:
            return 0
        if self._expects_minute_aggregates or minute.symbol in self._minute_aggregates_seen:
            return HOLD_AWAITED_MS
        return HOLD_TRADES_MS if minute.trades is not None and minute.trades.priced else HOLD_SECONDS_MS

    def _forget(self, now_ms: int) -> None:
        """Let go of minutes that no event may revise any more."""
        for start in [start for start in self._pages if start + MINUTE_MS + LATE_MS < now_ms]:
            del self._pages[start]
            self.settled_before_ms = max(start + MINUTE_MS, self.settled_before_ms or 0)

    def moving(self) -> list[BarSnapshot]:
        """Return the forming bars that moved since the last call."""
        self._waiting = 0  # whose sums have grown has them looked at now
        bars = []
        for page in self._pages.values():
            page.fold(self._refuse)
            bars += [bar for minute in page.forming.values() if (bar := minute.moving()) is not None]
        return bars

    def _settle(self) -> None:
        self._waiting = 0
        for page in self._pages.values():
            page.fold(self._refuse)
            page.settle()

    def finish(self) -> list[BarSnapshot]:
        """Return all that is left of an unbroken line that has ended: its last minutes are whole."""
        suspect, self._suspect = self._suspect, None
        if suspect is not None:  # nothing came to disagree with it
            self.clock_ms = _time_of(suspect)
            self._place(suspect, self.clock_ms)
        return self.closed(self.clock_ms + MINUTE_MS + LATE_MS + HOLD_AWAITED_MS)

    def abandon(self) -> list[BarSnapshot]:
        """Return what a line that stops now leaves: closed bars as they are, forming ones as partial."""
        self._disown()
        self.interrupt()
        return self.closed(self.clock_ms + MINUTE_MS + HOLD_AWAITED_MS)

    def __len__(self) -> int:
        return sum(len(page.minutes) for page in self._pages.values())


def _time_of(event: Trade | SecondAggregate) -> int:
    """Return the time at which the event was over; an aggregate's own word on its end is not asked, its length is known."""
    if isinstance(event, Trade):
        return event.t
    return event.s + (MINUTE_MS if isinstance(event, MinuteAggregate) else SECOND_MS)


def fold(events: Iterable[Trade | SecondAggregate], sessions: SessionTable) -> list[BarSnapshot]:
    """Return the final bars of a whole tape, by (minute, symbol)."""
    builder = BarBuilder(sessions, unbroken=True)
    bars: dict[tuple[int, str], BarSnapshot] = {}
    for event in events:
        builder.add(event)
    for bar in builder.finish():
        bars[bar.opened_at_ms, bar.symbol] = bar
    return [bars[key] for key in sorted(bars)]
