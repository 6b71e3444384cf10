"""
The gap ledger: evidence of the line → minutes that nothing proves → REST → bars, or the knowledge that there was no trade.

Each expected minute of a streamed symbol is a bar, proven empty (the line was up, or REST was asked), or an open gap; never none of these.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from marketdata.bars.coverage import Range, expected, joined, minutes_in, whole_minutes, without
from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import MINUTE_MS, BarChange
from marketdata.history import HistoryError, RestHistory
from marketdata.models import Bar, Cause, FeedSpan, Gap, GapCause, GapState, Halt, Session
from marketdata.writer import Writer

log = logging.getLogger(__name__)

SESSIONS_BACK = 5
SETTLE_MS = 90_000  # evidence lags a minute behind, see stream.py
BARS_A_WRITE = 5_000
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 600.0
MOST_ASKED = 9  # times, of a minute that the line saw in part and REST does not have: some twenty minutes
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(milliseconds: int) -> datetime:
    """Return Unix ms as a moment."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def ms(moment: datetime) -> int:
    """Return a moment as Unix ms."""
    return round(moment.timestamp() * 1000)


# ---- evidence → gaps ------------------------------------------------------------------------------------------------------------------


def find_gaps(sessions: SessionTable, *, now: datetime, first: datetime | None = None, last: datetime | None = None) -> int:
    """
    Open a gap for every expected minute that neither a span of the line, nor a whole bar, nor an earlier gap covers, and for every partial bar;
    return how many minutes.

    Looks back to each symbol's first live minute, five sessions at most; `first` (then even before the first live minute) and `last` move
    the bounds. Safe to repeat.
    """
    end_ms = min(ms(last) if last else ms(now), ms(now)) - SETTLE_MS
    floor_ms = ms(first) if first else _sessions_back(sessions, ms(now))
    opened = 0
    for symbols, spans, until_ms in _symbols_by_evidence(floor_ms):
        begin_ms = floor_ms if first else max(floor_ms, min(ms(span.began_at) for span in spans) // MINUTE_MS * MINUTE_MS)
        proven = joined(span for span in (whole_minutes(ms(s.began_at), ms(s.alive_until)) for s in spans) if span is not None)
        unproven = without(expected(sessions, begin_ms, min(end_ms, until_ms or end_ms)), proven)
        if unproven:
            opened += _open(symbols, unproven, spans, now=now)
    return opened + _open_partial(floor_ms, end_ms, now=now)


def _open_partial(floor_ms: int, end_ms: int, *, now: datetime) -> int:
    """
    Open a gap for each bar that was seen in part and that no gap covers: evidence of its minute does not make it whole.

    Such are a late trade that a new process met first, and what was seen before the line had been up for a whole minute. Where REST was asked
    before it had such a minute, the closed gap opens again, to be asked later each time, until a late window is surely over.
    """
    seen = Bar.objects.partial().filter(symbol=OuterRef("symbol"), timestamp__range=(OuterRef("first_minute"), OuterRef("last_minute")))
    too_early = Gap.objects.exclude(state=GapState.OPEN).filter(Exists(seen), last_minute__gte=at(floor_ms), attempts__lt=MOST_ASKED)
    again = too_early.update(state=GapState.OPEN, closed_at=None)
    asked = Gap.objects.filter(symbol=OuterRef("symbol"), first_minute__lte=OuterRef("timestamp"), last_minute__gte=OuterRef("timestamp"))
    bars = Bar.objects.partial().filter(timestamp__gte=at(floor_ms), timestamp__lte=at(end_ms - MINUTE_MS)).exclude(Exists(asked))
    fresh = [
        Gap(symbol_id=symbol, first_minute=minute, last_minute=minute, cause=GapCause.PARTIAL, opened_at=now)
        for symbol, minute in bars.values_list("symbol_id", "timestamp")
    ]
    Gap.objects.bulk_create(fresh, ignore_conflicts=True, batch_size=5_000)
    return again + len(fresh)


def _sessions_back(sessions: SessionTable, now_ms: int) -> int:
    moment = now_ms
    for _ in range(SESSIONS_BACK):
        session = sessions.before(moment)
        if session is None:
            break
        moment = session.pre_open
    return moment


class Evidence(NamedTuple):
    """Symbols with the same spans, oldest first, and until when (Unix ms) they were streamed; None: they still are."""

    symbols: tuple[str, ...]
    spans: list[FeedSpan]
    until_ms: int | None


def _symbols_by_evidence(floor_ms: int) -> list[Evidence]:
    """Return the streamed symbols, those with the same spans together."""
    spans = list(FeedSpan.objects.filter(alive_until__gte=at(floor_ms)).order_by("began_at", "id"))
    for line in FeedSpan.objects.values_list("line", flat=True).distinct():  # who was streamed when the bound begins
        earlier = FeedSpan.objects.filter(line=line, alive_until__lt=at(floor_ms)).order_by("-alive_until").first()
        spans[:0] = [earlier] if earlier else []
    by_symbol: dict[str, list[int]] = defaultdict(list)
    for place, span in enumerate(spans):
        for symbol in span.symbols:
            by_symbol[symbol].append(place)
    groups: dict[tuple[tuple[int, ...], int | None], list[str]] = defaultdict(list)
    for symbol, places in by_symbol.items():
        last = spans[places[-1]]
        # A later span of the same line without the symbol: it was taken out of the universe, nothing is expected of it any more
        later = [span for span in spans[places[-1] + 1 :] if span.line == last.line]
        groups[tuple(places), ms(later[0].began_at) if later else None].append(symbol)
    return [Evidence(tuple(symbols), [spans[place] for place in places], until) for (places, until), symbols in groups.items()]


def _open(symbols: Sequence[str], unproven: list[Range], spans: Sequence[FeedSpan], *, now: datetime) -> int:
    first, last = at(unproven[0][0]), at(unproven[-1][1])
    known: dict[str, list[Range]] = defaultdict(list)
    growing: dict[tuple[str, int], Gap] = {}
    for gap in Gap.objects.filter(symbol_id__in=symbols, last_minute__gte=first - timedelta(minutes=1), first_minute__lte=last):
        known[gap.symbol_id].append((ms(gap.first_minute), ms(gap.last_minute)))
        if gap.state == GapState.OPEN and not gap.attempts:
            growing[gap.symbol_id, ms(gap.last_minute) + MINUTE_MS] = gap
    partial: dict[str, set[int]] = defaultdict(set)
    rows = Bar.objects.filter(symbol_id__in=symbols, timestamp__gte=first, timestamp__lte=last).values_list(
        "symbol_id", "timestamp", "complete", "is_final"
    )
    for symbol, timestamp, complete, is_final in rows.iterator():
        if complete or is_final:
            known[symbol].append((ms(timestamp), ms(timestamp)))
        else:
            partial[symbol].add(ms(timestamp))
    fresh: list[Gap] = []
    longer: list[Gap] = []
    minutes = 0
    for symbol in symbols:
        for begin, end in without(unproven, joined(known[symbol])):
            minutes += minutes_in([(begin, end)])
            known_gap = growing.get((symbol, begin))
            if known_gap is not None:
                known_gap.last_minute = at(end)
                longer.append(known_gap)
                continue
            cause = _cause(begin, end, partial[symbol], spans)
            fresh.append(Gap(symbol_id=symbol, first_minute=at(begin), last_minute=at(end), cause=cause, opened_at=now))
    with transaction.atomic():
        Gap.objects.bulk_create(fresh, ignore_conflicts=True, batch_size=5_000)
        Gap.objects.bulk_update(longer, ["last_minute"], batch_size=5_000)
    return minutes


def _cause(begin: int, end: int, partial: set[int], spans: Sequence[FeedSpan]) -> GapCause:
    if begin == end and (begin in partial or any(ms(span.began_at) < end + MINUTE_MS and ms(span.alive_until) > begin for span in spans)):
        return GapCause.PARTIAL
    before = [span for span in spans if ms(span.alive_until) <= end + MINUTE_MS]
    return GapCause.FEED_DOWN if before and before[-1].ended else GapCause.UNKNOWN


# ---- gaps → bars ------------------------------------------------------------------------------------------------------------------------


class RepairReport(msgspec.Struct):
    """What a round of repair did."""

    opened_minutes: int = 0
    gaps: int = 0
    repaired: int = 0
    empty: int = 0
    failed: int = 0
    bars: int = 0
    changed: int = 0
    still_open: int = 0
    seconds: float = 0.0


def repair(
    history: RestHistory,
    writer: Writer,
    *,
    now: Callable[[], datetime],
    pause: Callable[[], None] = lambda: None,
    announce: Callable[[list[BarChange]], None] = lambda changes: None,
    stopped: Callable[[], bool] = lambda: False,
    eager: bool = False,
    within: tuple[datetime, datetime] | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, of, symbol: None,
) -> RepairReport:
    """
    Ask REST for every open gap, the newest first, and store what it answers; `pause` is called before each request and keeps the rate.

    A gap closes when REST was asked for all of it, with bars or without. One that failed waits longer each time; `eager` asks at once.
    `within` [first, last) and `only` these symbols narrow the choice.
    """
    report = RepairReport()
    gaps = due_gaps(now(), eager=eager, within=within, only=only)
    for place, gap in enumerate(gaps):
        progress(place, len(gaps), gap.symbol_id)
        if stopped():
            break
        pause()
        report.gaps += 1
        try:
            found, changed = _fill(gap, history, writer, now=now, announce=announce)
        except HistoryError as error:
            report.failed += 1
            Gap.objects.filter(pk=gap.pk).update(attempts=F("attempts") + 1, asked_at=now(), last_error=str(error)[:300])
            continue
        report.bars += found
        report.changed += changed
        state = GapState.REPAIRED if found else GapState.EMPTY
        if found:
            report.repaired += 1
        else:
            report.empty += 1
        moment = now()
        Gap.objects.filter(pk=gap.pk, last_minute=gap.last_minute).update(
            state=state, asked_at=moment, closed_at=moment, attempts=F("attempts") + 1, bars_found=found, last_error=""
        )
    report.still_open = Gap.objects.filter(state=GapState.OPEN).count()
    return report


def due_gaps(
    now: datetime, *, eager: bool = False, within: tuple[datetime, datetime] | None = None, only: Sequence[str] | None = None
) -> list[Gap]:
    """Return the open gaps whose time has come, the newest first; `eager`: all open ones."""
    chosen = Gap.objects.filter(state=GapState.OPEN)
    if within is not None:
        chosen = chosen.filter(last_minute__gte=within[0], first_minute__lt=within[1])
    if only is not None:
        chosen = chosen.filter(symbol_id__in=only)
    gaps = list(chosen.order_by("-last_minute", "symbol_id"))
    if eager:
        return gaps
    return [gap for gap in gaps if gap.asked_at is None or (now - gap.asked_at).total_seconds() >= retry_seconds(gap.attempts)]


def retry_seconds(attempts: int) -> float:
    """Return how long a gap waits after so many failed attempts."""
    wait: float = FIRST_RETRY_SECONDS * 2.0 ** min(max(attempts - 1, 0), 10)
    return min(LONGEST_RETRY_SECONDS, wait)


def _fill(
    gap: Gap, history: RestHistory, writer: Writer, *, now: Callable[[], datetime], announce: Callable[[list[BarChange]], None]
) -> tuple[int, int]:
    found = changed = 0
    bars = []
    for bar in history.minutes(gap.symbol_id, gap.first_minute, gap.last_minute, asked_at=now()):
        if not ms(gap.first_minute) <= bar.opened_at_ms <= ms(gap.last_minute):
            continue  # REST's windows snap outward
        bars.append(bar)
        found += 1
        if len(bars) >= BARS_A_WRITE:
            changed += _store(bars, writer, announce)
            bars = []
    changed += _store(bars, writer, announce)
    rejections, history.rejections = history.rejections, []
    writer.reject(rejections)
    return found, changed


def _store(bars: list, writer: Writer, announce: Callable[[list[BarChange]], None]) -> int:  # type: ignore[type-arg]
    changes, rejections = writer.write(bars, cause=Cause.BACKFILL)
    writer.reject(rejections)
    if changes:
        announce(changes)
    return len(changes)


# ---- what is covered ---------------------------------------------------------------------------------------------------------------------


class Coverage(msgspec.Struct):
    """
    One symbol's day in minutes: `expected` = `bars` + `no_trade` + `open` + `unproven`.

    `no_trade`: the line was up, or REST was asked, and there was none; of these `halted` lie in a pause that the feed announced.
    `open`: gaps that wait for REST. `unproven`: no evidence at all (before the first live minute, or still to come into the ledger).
    """

    symbol: str
    date: str
    expected: int
    bars: int
    no_trade: int
    halted: int
    open: int
    unproven: int
    repaired: int
    revised: int


def coverage(symbols: Iterable[str], session: Session, *, now: datetime) -> list[Coverage]:
    """Return each symbol's coverage of one session up to now."""
    wanted = list(symbols)
    begin, end = session.pre_open, min(session.post_close, now)
    table = SessionTable([session.hours()])
    minutes = expected(table, ms(begin), ms(end))
    bars: dict[str, list[Range]] = defaultdict(list)
    revised: dict[str, int] = defaultdict(int)
    rows = Bar.objects.filter(symbol_id__in=wanted, timestamp__gte=begin, timestamp__lt=end).values_list(
        "symbol_id", "timestamp", "revision"
    )
    for symbol, timestamp, revision in rows.iterator():
        bars[symbol].append((ms(timestamp), ms(timestamp)))
        revised[symbol] += revision > 0
    proven: dict[str, list[Range]] = defaultdict(list)
    for span in FeedSpan.objects.filter(alive_until__gte=begin, began_at__lte=end):
        whole = whole_minutes(ms(span.began_at), ms(span.alive_until))
        for symbol in span.symbols if whole else ():
            proven[symbol].append(whole)  # type: ignore[arg-type]
    opened: dict[str, list[Range]] = defaultdict(list)
    asked: dict[str, list[Range]] = defaultdict(list)
    repaired: dict[str, int] = defaultdict(int)
    for gap in Gap.objects.filter(Q(symbol_id__in=wanted), last_minute__gte=begin, first_minute__lt=end):
        (opened if gap.state == GapState.OPEN else asked)[gap.symbol_id].append((ms(gap.first_minute), ms(gap.last_minute)))
        repaired[gap.symbol_id] += gap.bars_found
    halted: dict[str, list[Range]] = defaultdict(list)
    for halt in Halt.objects.filter(Q(ended_at__gt=begin) | Q(ended_at=None), symbol_id__in=wanted, began_at__lt=end):
        halted[halt.symbol_id].append((ms(halt.began_at) // MINUTE_MS * MINUTE_MS, ms(halt.ended_at or end) // MINUTE_MS * MINUTE_MS))
    answers = []
    for symbol in wanted:
        rest = without(minutes, joined(bars[symbol]))
        waiting = minutes_in(rest) - minutes_in(without(rest, joined(opened[symbol])))
        settled = without(rest, joined(opened[symbol]))
        unknown = without(settled, joined(proven[symbol] + asked[symbol]))
        unproven = minutes_in(unknown)
        without_trade = without(settled, unknown)
        answers.append(
            Coverage(
                symbol=symbol,
                date=session.date.isoformat(),
                expected=minutes_in(minutes),
                bars=minutes_in(minutes) - minutes_in(rest),
                no_trade=minutes_in(settled) - unproven,
                halted=minutes_in(without_trade) - minutes_in(without(without_trade, joined(halted[symbol]))),
                open=waiting,
                unproven=unproven,
                repaired=repaired[symbol],
                revised=revised[symbol],
            )
        )
    return answers
