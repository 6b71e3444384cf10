"""`import_details`: what symbols are, from REST. A thin door to listings.py."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from marketdata.feed.listing import with_references
from marketdata.history import MANY_RETRIES, HistoryError, RestHistory
from marketdata.listings import import_details, stale_symbols
from marketdata.models import Universe, UnknownUniverseError
from marketdata.rate import Rate


class Command(BaseCommand):
    """Ask REST what symbols are."""

    help = (
        "Ask REST for type, exchange, SIC code, sector and market cap of symbols. The stream does this by itself, once a week for each of its "
        "symbols; this command does it now."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--universe", metavar="KEY", help=f"universe names joined by ':' (default {settings.SYMBOL_UNIVERSE_KEY})")
        parser.add_argument("--all", action="store_true", help="also those that were asked for within the last week")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, store, report."""

        def now() -> datetime:
            return datetime.now(UTC)

        try:
            symbols = with_references(Universe.objects.symbols_of(options["universe"] or settings.SYMBOL_UNIVERSE_KEY))
            history = RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY, retries=MANY_RETRIES)
            asked = symbols if options["all"] else stale_symbols(symbols, now=now())
            report = import_details(history, asked, now=now, pause=Rate(settings.MASSIVE_REQUESTS_PER_SECOND).wait)
        except (UnknownUniverseError, HistoryError) as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(msgspec.json.encode(report).decode())
        else:
            self.stdout.write(f"{report.asked} symbols asked for, {report.changed} changed, {report.unknown} unknown to REST")
