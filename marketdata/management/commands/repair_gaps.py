"""`repair_gaps`: find what no evidence covers, ask REST for it, now. A thin door to gaps.py."""

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

from marketdata.gaps import RepairReport, find_gaps, repair
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory
from marketdata.models import Gap, GapState, Session
from marketdata.rate import Rate
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

LOCK_SECONDS = 120.0


class Command(BaseCommand):
    """Find gaps and repair them from REST."""

    help = (
        "Find minutes that no evidence covers and ask REST for them, the newest first. Without --from: back to each symbol's first live minute, "
        "five sessions at most. The stream does the same by itself."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--from", dest="first", metavar="DATE", help="first exchange day, also before the first live minute")
        parser.add_argument("--to", dest="last", metavar="DATE", help="last exchange day (default: today)")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find, ask, store, report; exit status 1 where gaps stay open because REST failed."""
        began = time.monotonic()
        first, last = _begin(options["first"], "--from"), _begin(options["last"], "--to")
        last = last + timedelta(days=1) if last else None
        writer = Writer(PAST)
        try:
            history = RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY)
            writer.acquire_within(LOCK_SECONDS)
            writer.claim_origin(settings.FEED_NAME)
            opened = find_gaps(Session.objects.table(), now=datetime.now(UTC), first=first, last=last)
            rate = Rate(settings.MASSIVE_REQUESTS_PER_SECOND)
            report = repair(history, writer, now=lambda: datetime.now(UTC), pause=rate.wait, eager=True)
        except (OperationalError, psycopg.OperationalError) as error:
            raise CommandError(f"The database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.") from None
        except (WriterBusyError, WriterDeposedError, HistoryError, RuntimeError) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; repaired gaps stay repaired, run the same command again to go on.", returncode=130) from None
        finally:
            writer.close()
        report.opened_minutes = opened
        report.seconds = round(time.monotonic() - began, 3)
        self._print(report, as_json=options["json"])
        if report.failed:
            newest = Gap.objects.filter(state=GapState.OPEN).exclude(last_error="").order_by("-asked_at").first()
            raise CommandError(f"{report.failed} gaps could not be asked for: {newest.last_error if newest else 'see the gap ledger'}")

    def _print(self, report: RepairReport, *, as_json: bool) -> None:
        figures = {name: getattr(report, name) for name in report.__struct_fields__}
        if as_json:
            self.stdout.write(json.dumps(figures))
        else:
            self.stdout.write(
                f"{report.opened_minutes:,} minutes newly found missing; {report.gaps:,} gaps asked: {report.repaired:,} repaired with "
                f"{report.bars:,} bars, {report.empty:,} without any trade, {report.failed:,} failed; {report.still_open:,} still open."
            )
        sys.stdout.flush()


def _begin(text: str | None, option: str) -> datetime | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} {text!r} is not a date like 2026-11-20.") from None
    return datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_ZONE)
