"""manage.py scan_patterns"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from marketdata.models import Bar, Symbol
from patterns.scan import Key, ScanReport, scan_apart
from patterns.windows import milliseconds_of

BATCH_BARS = 5_000
SECONDS_BETWEEN_SIGNS = 5.0


class Command(BaseCommand):
    """Scan stored bars in this process."""

    help = (
        "Looks for patterns on stored bars and computes their indicators, in this process and with the tasks' own code. Bars that were "
        "scanned before are judged again; where nothing differs, no row changes. Prints bars, detections, indicators and seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what can be asked."""
        parser.add_argument(
            "--from",
            dest="start",
            metavar="MOMENT",
            help="bars that start at it or later: ISO 8601, UTC unless an offset is given (default: all)",
        )
        parser.add_argument("--to", dest="end", metavar="MOMENT", help="bars that start before it (default: all)")
        parser.add_argument("--interval", default="1m", help="interval of the bars (default: 1m, the only one so far)")
        parser.add_argument("--symbols", metavar="A,B", help="tickers joined by commas, case kept (default: every symbol with bars)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Scan."""
        if options["interval"] != "1m":
            raise CommandError(f"Bars of {options['interval']} cannot be scanned yet; only --interval 1m can.")
        start, end = _moment("--from", options["start"]), _moment("--to", options["end"])
        if start and end and start >= end:
            raise CommandError("--from must lie before --to.")
        began = time.monotonic()
        report = self._scan(_keys(_symbols(options["symbols"]), start, end))
        figures: dict[str, float] = {"bars": report.bars, "detections": report.detections, "indicators": report.indicators}
        figures["seconds"] = round(time.monotonic() - began, 3)
        if options["as_json"]:
            self.stdout.write(json.dumps(figures))
        else:
            self.stdout.write("{bars:,} bars, {detections:,} detections, {indicators:,} indicator values in {seconds} s".format(**figures))
        if report.failed:
            raise CommandError(f"{report.failed:,} bars could not be scanned; the log and the table scan_failures say which and why.")

    def _scan(self, keys: Iterator[Key]) -> ScanReport:
        report, asked = ScanReport(), 0
        shown_at = time.monotonic()
        while batch := list(islice(keys, BATCH_BARS)):
            report += scan_apart(batch, now=datetime.now(UTC), again=True)
            asked += len(batch)
            if time.monotonic() - shown_at >= SECONDS_BETWEEN_SIGNS:
                shown_at = time.monotonic()
                self.stderr.write(
                    f"{asked:,} bars scanned, now at {batch[-1][0]} {datetime.fromtimestamp(batch[-1][1] / 1000, UTC):%Y-%m-%d %H:%M}"
                )
        return report


def _moment(option: str, text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} {text!r} is not a moment. Write ISO 8601: 2026-11-20 or 2026-11-20T14:30:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _symbols(text: str | None) -> list[str] | None:
    if not text:
        return None
    asked = sorted({symbol.strip() for symbol in text.split(",") if symbol.strip()})
    known = set(Symbol.objects.filter(pk__in=asked).values_list("pk", flat=True))
    unknown = [symbol for symbol in asked if symbol not in known]
    if unknown or not asked:
        raise CommandError(f"No symbol is called {', '.join(unknown) or 'nothing'}. `symbols` holds those that are known; case matters.")
    return asked


def _keys(symbols: list[str] | None, start: datetime | None, end: datetime | None) -> Iterator[Key]:
    """Yield the whole and final minutes of [start, end), symbol by symbol, oldest first."""
    bars = Bar.objects.filter(Q(complete=True) | Q(is_final=True))
    if start:
        bars = bars.filter(timestamp__gte=start)
    if end:
        bars = bars.filter(timestamp__lt=end)
    for symbol in symbols or Symbol.objects.order_by("pk").values_list("pk", flat=True):
        minutes = bars.filter(symbol=symbol).order_by("timestamp").values_list("timestamp", flat=True)
        for minute in minutes.iterator(chunk_size=BATCH_BARS):
            yield symbol, milliseconds_of(minute)
