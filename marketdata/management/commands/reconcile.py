"""`reconcile DATE`: hold a day against REST and mend it. A thin door to reconciliation.py."""

import json
import sys
from argparse import ArgumentParser
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from marketdata.history import HistoryError, RestHistory
from marketdata.models import Universe, UnknownUniverseError
from marketdata.rate import Rate
from marketdata.reconciliation import NoSessionError, match_percent, reconcile
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

LOCK_SECONDS = 120.0


class Command(BaseCommand):
    """Compare one day's stored minutes with REST and repair what differs."""

    help = "Compare the stored minutes of an exchange day with REST: match %, what differed; differences are repaired through revisions."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("date", help="exchange day, like 2026-11-19")
        parser.add_argument("--symbols", metavar="A,B", help=f"these symbols (default: the universe {settings.SYMBOL_UNIVERSE_KEY})")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare, mend, report."""
        try:
            day = date.fromisoformat(options["date"])
        except ValueError:
            raise CommandError(f"{options['date']!r} is not a date like 2026-11-20.") from None
        writer = Writer(PAST)
        try:
            names = [name.strip() for name in (options["symbols"] or "").split(",") if name.strip()]
            symbols = names or Universe.objects.symbols_of(settings.SYMBOL_UNIVERSE_KEY)
            history = RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY)
            writer.acquire_within(LOCK_SECONDS)
            writer.claim_origin(settings.FEED_NAME)
            rate = Rate(settings.MASSIVE_REQUESTS_PER_SECOND)
            report = reconcile(day, symbols, history, writer, now=lambda: datetime.now(UTC), pause=rate.wait)
        except (OperationalError, psycopg.OperationalError) as error:
            raise CommandError(f"The database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.") from None
        except (NoSessionError, UnknownUniverseError, WriterBusyError, WriterDeposedError, HistoryError, RuntimeError) as error:
            raise CommandError(str(error)) from None
        finally:
            writer.close()
        percent = match_percent(report)
        names_shown = ("symbols", "compared", "matched", "differing", "missing_here", "missing_there", "repaired", "fields")
        figures = {"date": day.isoformat(), "match_percent": percent} | {name: getattr(report, name) for name in names_shown}
        if options["json"]:
            self.stdout.write(json.dumps(figures))
        else:
            shown = "no minute on either side" if percent is None else f"{percent} % of the minutes agree"
            self.stdout.write(
                f"{day}: {shown}; {report.differing:,} differ, {report.missing_here:,} were missing here, {report.missing_there:,} are unknown "
                f"to REST; {report.repaired:,} repaired."
            )
        sys.stdout.flush()
