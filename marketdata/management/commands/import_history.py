"""`import_history`: past bars through the same writer as live ones. A thin door to backfill.py."""

import json
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from marketdata.backfill import ImportReport, import_days, import_minutes
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory
from marketdata.models import Universe, UnknownUniverseError
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

YEARS = 2
MINUTE_DAYS = 5
LOCK_SECONDS = 120.0


class Command(BaseCommand):
    """Import past bars from Massive's REST (or the twin's: the same code)."""

    help = (
        "Import past bars of the universe from Massive's REST. Safe to repeat and to interrupt: a second run changes only what is missing."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("source", choices=["massive"], help="where bars come from: REST at MASSIVE_REST_URL")
        parser.add_argument("--timespan", choices=["minute", "day"], default="minute", help="bars of a minute or of a day (default minute)")
        parser.add_argument("--symbols", metavar="A,B", help=f"these symbols (default: the universe {settings.SYMBOL_UNIVERSE_KEY})")
        parser.add_argument(
            "--from", dest="first", metavar="DATE", help=f"first day (default: {YEARS} years back; minutes {MINUTE_DAYS} days)"
        )
        parser.add_argument("--to", dest="last", metavar="DATE", help="last day (default: today)")
        parser.add_argument("--missing", action="store_true", help="days only: begin after each symbol's newest stored day")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, store, report."""
        began = time.monotonic()
        today = datetime.now(UTC).astimezone(EXCHANGE_ZONE).date()
        days = options["timespan"] == "day"
        first = _day(options["first"], "--from") or today - timedelta(days=365 * YEARS if days else MINUTE_DAYS)
        last = _day(options["last"], "--to") or today
        if first > last:
            raise CommandError(f"--from {first} lies after --to {last}.")
        writer = Writer(PAST)
        try:
            symbols = _names(options["symbols"]) or Universe.objects.symbols_of(settings.SYMBOL_UNIVERSE_KEY)
            history = RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY)
            writer.acquire_within(LOCK_SECONDS)
            writer.claim_origin(settings.FEED_NAME)
            report = self._import(history, writer, symbols, first, last, days=days, only_missing=options["missing"])
            writer.analyze()
        except (OperationalError, psycopg.OperationalError) as error:
            raise CommandError(f"The database cannot be reached: {str(error).strip().splitlines()[0]} Check DATABASE_URL.") from None
        except (UnknownUniverseError, WriterBusyError, WriterDeposedError, HistoryError, RuntimeError) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; what was stored stays, run the same command again to go on.", returncode=130) from None
        finally:
            writer.close()
        report.seconds = round(time.monotonic() - began, 3)
        self._print(report, options)

    def _import(
        self, history: RestHistory, writer: Writer, symbols: list[str], first: date, last: date, *, days: bool, only_missing: bool
    ) -> ImportReport:
        def now() -> datetime:
            return datetime.now(UTC)

        if days:
            return import_days(
                history, writer, symbols, first=first, last=last, now=now, progress=self._progress, only_missing=only_missing
            )
        begin = datetime(first.year, first.month, first.day, tzinfo=EXCHANGE_ZONE)
        end = datetime(last.year, last.month, last.day, tzinfo=EXCHANGE_ZONE) + timedelta(days=1)
        return import_minutes(history, writer, symbols, first=begin, last=end, now=now, progress=self._progress)

    def _progress(self, done: int, of: int, symbol: str) -> None:
        """Show how far it is: in place on a terminal, now and then in a log."""
        if self.stderr.isatty():
            self.stderr.write(f"\r{done:>6} of {of} symbols  {symbol:<12}", ending="\n" if done == of else "")
        elif done == of or done % 25 == 0:
            self.stderr.write(f"{done} of {of} symbols, last {symbol}")

    def _print(self, report: ImportReport, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({name: getattr(report, name) for name in report.__struct_fields__}))
        else:
            self.stdout.write(
                f"{report.symbols} symbols: {report.read:,} {options['timespan']} bars read, {report.changed:,} new or changed, "
                f"{report.rejected:,} rejected, {report.seconds:.1f} s"
            )
        sys.stdout.flush()


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise CommandError(f"{option} {text!r} is not a date like 2026-11-20.") from None


def _names(text: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
