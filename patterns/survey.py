"""
Stored bars → the market's state: read panel and minutes, measure, cut out universes, store, announce.

One survey sees every universe at once. Asked again for the same moment over the same bars it gives the same rows.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection, transaction

from marketdata.bars.window import Integers
from marketdata.feed.listing import SECTOR_FUNDS, with_references
from marketdata.models import Session, Symbol, Universe, UnknownUniverseError
from patterns import panels
from patterns.market.blocks import TAILS_UP_TO, Facts, survey
from patterns.market.state import state
from patterns.models import MarketSurvey, SurveyKind
from patterns.panels import DayBook, HeldDays
from patterns.signals import market_surveyed

log = logging.getLogger(__name__)

BLOCKS = (
    "coverage", "breadth", "regime", "stage_counts", "rankings", "sectors", "industries", "rotation", "stages", "stage_changes", "averages",
)  # fmt: skip
MINUTE = timedelta(minutes=1)
RECENT = timedelta(days=1)
LOCK_CLASS, LOCK_MINUTE, LOCK_CLOSE = 0x73757276, 1, 2  # "surv"; a year of closes to be made up for must not cost the running minutes

Survey = dict[str, Any]
"""One row: universe, as_of, kind and the blocks."""


class NoSessionError(ValueError):
    """There is nothing to survey; the message says why."""


class Held:
    """What this process keeps between surveys: daily bars as arrays, and the running day's minutes folded."""

    def __init__(self) -> None:
        self.days = HeldDays()
        self.book: DayBook | None = None

    def book_of(self, session: Session, symbols: Sequence[str], *, keep: bool) -> DayBook:
        """Return the minutes of a session; with `keep` they stand for the next survey."""
        known = self.book
        if known is not None and known.session.hours() == session.hours() and known.symbols == tuple(symbols):
            return known
        book = DayBook(session, symbols)
        if keep:
            self.book = book
        return book


held = Held()


def kept_keys() -> list[str]:
    """Return the universe keys of which surveys are kept: every universe, and the joined one that is streamed."""
    keys = list(Universe.objects.values_list("key", flat=True))
    try:
        Universe.objects.symbols_of(settings.SYMBOL_UNIVERSE_KEY)
    except UnknownUniverseError:
        return keys
    return list(dict.fromkeys([settings.SYMBOL_UNIVERSE_KEY, *keys]))


def look(moment: datetime, keys: Sequence[str], *, now: datetime) -> list[Survey]:
    """
    Return the survey of each universe key at a moment; nothing is stored.

    NoSessionError before the first session of the calendar, UnknownUniverseError for an unknown key.
    """
    session = Session.objects.filter(open__lt=moment).order_by("-open").first()  # a market that never rests opens as it closes
    if session is None:
        raise NoSessionError(f"The calendar has no session that had begun at {moment:%Y-%m-%d %H:%M} UTC.")
    members = {key: Universe.objects.symbols_of(key) for key in keys}
    symbols = sorted(with_references([symbol for some in members.values() for symbol in some]))
    with panels.lock:
        return _look(moment, session, members, symbols, now=now)


def _look(moment: datetime, session: Session, members: dict[str, list[str]], symbols: list[str], *, now: datetime) -> list[Survey]:
    end = min(moment, session.close).replace(second=0, microsecond=0)
    is_over = moment >= session.close
    bars = held.days.panel(symbols, session.date)
    folded = held.book_of(session, symbols, keep=session.close + timedelta(hours=1) > now).until(end, now=now)
    newest = int(folded.bar_at_ms.max(initial=-1))
    as_of = session.close if is_over else end if newest < 0 else datetime.fromtimestamp(newest / 1000, UTC) + MINUTE
    today = panels.day_from_minutes(folded, session, moment=as_of)
    if is_over:
        today = panels.day_from_bars(bars, today)
    places = {symbol: row for row, symbol in enumerate(symbols)}
    rows = {key: np.array([places[symbol] for symbol in some], dtype=np.int64) for key, some in members.items()}
    half_hours = panels.half_hours_of(folded, session, moment=as_of, rows=_rows_with_tails(rows, places))
    market = state(bars, today, half_hours)
    facts = _facts(symbols)
    close_ms = round(session.close.timestamp() * 1000) if is_over else None
    head = {"as_of": as_of, "kind": SurveyKind.CLOSE if is_over else SurveyKind.INTRADAY}
    return [{"universe": key, **head, **survey(market, facts, some, close_ms=close_ms)} for key, some in rows.items()]


def _rows_with_tails(rows: dict[str, Integers], places: dict[str, int]) -> Integers:
    small = [some for some in rows.values() if len(some) <= TAILS_UP_TO]
    return np.unique(np.concatenate([np.array([places[fund] for fund in SECTOR_FUNDS], dtype=np.int64), *small]))


def _facts(symbols: Sequence[str]) -> Facts:
    fields = ("name", "sector", "industry", "type", "market_cap")
    known = {symbol: values for symbol, *values in Symbol.objects.filter(pk__in=symbols).values_list("symbol", *fields)}
    rows = [known.get(symbol, ["", "", "", "", None]) for symbol in symbols]
    name, sector, industry, kind, cap = (list(column) for column in zip(*rows, strict=True))
    return Facts(name, sector, industry, kind, [None if value is None else float(value) for value in cap])


# ---- storing ------------------------------------------------------------------------------------------------------------------------------

_STORE = f"""
INSERT INTO market_surveys AS kept (universe, as_of, kind, made_at, {", ".join(BLOCKS)})
VALUES (%(universe)s, %(as_of)s, %(kind)s, %(made_at)s, {", ".join(f"%({name})s" for name in BLOCKS)})
ON CONFLICT (universe, as_of) DO UPDATE SET
    kind = excluded.kind, made_at = excluded.made_at, {", ".join(f"{name} = excluded.{name}" for name in BLOCKS)}
WHERE NOT (kept.kind = 'close' AND excluded.kind = 'intraday')
  AND (kept.kind, {", ".join(f"kept.{name}" for name in BLOCKS)})
      IS DISTINCT FROM (excluded.kind, {", ".join(f"excluded.{name}" for name in BLOCKS)})
"""  # noqa: S608 - made of this module's own names

_LOOKED = "UPDATE market_surveys SET made_at = %(made_at)s WHERE universe = %(universe)s AND as_of = %(as_of)s AND kind = %(kind)s"


def store(surveys: Sequence[Survey], *, now: datetime) -> int:
    """
    Store surveys; return how many are new or differ. A close is never replaced by a minute.

    Those of the last day are announced after the commit; older ones are history that nobody watches.
    """
    fields: dict[str, Any] = {name: MarketSurvey._meta.get_field(name) for name in BLOCKS}
    total, news = 0, []
    with transaction.atomic(), connection.cursor() as cursor:
        for one in surveys:
            parameters = {name: field.get_db_prep_save(one[name], connection) for name, field in fields.items()}
            parameters |= {"universe": one["universe"], "as_of": one["as_of"], "kind": str(one["kind"]), "made_at": now}
            cursor.execute(_STORE, parameters)
            if cursor.rowcount:
                total += 1
                if one["as_of"] > now - RECENT:
                    news.append({name: one[name] for name in ("universe", "as_of", "coverage")} | {"kind": str(one["kind"])})
            else:
                cursor.execute(_LOOKED, parameters)  # so that nobody takes it for older than the bars that it has seen
        if news:
            transaction.on_commit(lambda: market_surveyed.send_robust(sender=store, surveys=news))
    return total


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did: moments surveyed, rows that are new or differ, seconds."""

    moments: int = 0
    changed: int = 0
    seconds: float = 0.0


def _alone(what: int) -> bool:
    """Take the right to survey the minute, or a close, until the transaction ends; False where another process has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCK_CLASS, what])
        row = cursor.fetchone()
    return bool(row and row[0])


def survey_minute(*, now: datetime, only_missing: bool) -> Report:
    """
    Survey the newest whole minute of the running session; nothing outside of one, before its first minute, or while another process does.

    With `only_missing` nothing where that minute is stored already.
    """
    began = time.monotonic()
    session = Session.objects.filter(open__lt=now, close__gt=now).first()
    if session is None:
        return Report()
    newest = _newest_minute(session)
    if newest is None:
        return Report()
    with transaction.atomic():
        if not _alone(LOCK_MINUTE):
            return Report()
        if only_missing and MarketSurvey.objects.filter(as_of=newest + MINUTE).exists():
            return Report()
        changed = store(look(newest + MINUTE, kept_keys(), now=now), now=now)
    return Report(1, changed, time.monotonic() - began)


_NEWEST = """
SELECT timestamp FROM ohlcv_1min WHERE timestamp >= %s AND timestamp < %s AND (complete OR is_final) ORDER BY timestamp DESC LIMIT 1
"""


def _newest_minute(session: Session) -> datetime | None:
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, [session.open, session.close])
        row = cursor.fetchone()
    return row[0] if row else None


# A close is due where it is missing, or older than a daily bar of its day. A day without daily bars counts only while it is the last one
_DUE = """
SELECT session.close FROM sessions session
LEFT JOIN LATERAL (SELECT max(updated_at) AS changed FROM ohlcv_daily WHERE date = session.date) AS bars ON true
LEFT JOIN LATERAL (
    SELECT min(made_at) AS made, count(*) AS made_count FROM market_surveys
    WHERE as_of = session.close AND kind = 'close' AND universe = ANY(%(keys)s::text[])
) AS survey ON true
WHERE session.date IN (SELECT date FROM sessions WHERE close <= %(now)s ORDER BY date DESC LIMIT %(sessions)s)
  AND (bars.changed IS NOT NULL OR EXISTS (
      SELECT 1 FROM ohlcv_1min WHERE session.close > %(now)s - interval '2 days' AND timestamp >= session.open AND timestamp < session.close))
  AND (survey.made_count < cardinality(%(keys)s::text[]) OR survey.made < bars.changed)
ORDER BY session.close DESC
"""
CLOSES = 252
QUIET = timedelta(seconds=20)


def survey_closes(*, now: datetime, seconds: float) -> Report:
    """
    Survey the closes of the last 252 sessions that are missing or older than their daily bars, newest first, for some seconds.

    While daily bars stream in (an import), only the newest close is looked at: the others would soon be due again.
    """
    began = time.monotonic()
    keys = kept_keys()
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"now": now, "keys": keys, "sessions": CLOSES})
        due = [close for (close,) in cursor.fetchall()]
    newest = panels.days_version()[0]
    if newest is not None and now - newest < QUIET:
        due = due[:1]
    moments = changed = 0
    for close in due:
        if moments and time.monotonic() - began > seconds:
            break
        with transaction.atomic():
            if not _alone(LOCK_CLOSE):
                break
            changed += store(look(close, keys, now=now), now=now)
        moments += 1
    if moments:
        log.info("Surveyed %d closes, %d are still due.", moments, len(due) - moments)
    return Report(moments, changed, time.monotonic() - began)


MINUTES_KEPT = timedelta(days=5)
_THIN = """
DELETE FROM market_surveys WHERE ctid IN (
    SELECT old.ctid FROM market_surveys AS old
    WHERE kind = 'intraday' AND as_of < %(before)s AND EXISTS (
        SELECT 1 FROM market_surveys AS later
        WHERE later.universe = old.universe AND later.as_of > old.as_of
          AND later.as_of <= date_bin('30 minutes', old.as_of - interval '1 microsecond', 'epoch') + interval '30 minutes')
    LIMIT 5000)
"""


def thin(*, now: datetime) -> int:
    """Keep of what is older than five days only the last survey of each half hour, and the closes; return how many rows went."""
    total = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_THIN, {"before": now - MINUTES_KEPT})
            gone: int = cursor.rowcount
            if gone < 1:
                return total
            total += gone
