"""manage.py scan_patterns"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.models import Symbol
from patterns.indicators.catalogue import INTERVALS
from patterns.scan import ScanReport, scan_apart
from patterns.windows import Key
from patterns.windows.missed import stored_bars

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
        parser.add_argument("--interval", default="1m", help=f"interval of the bars: {', '.join(INTERVALS)} (default: 1m)")
        parser.add_argument("--symbols", metavar="A,B", help="tickers joined by commas, case kept (default: every symbol with bars)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Scan."""
        timeframe = options["interval"]
        if timeframe not in INTERVALS:
            raise CommandError(f"Bars of {timeframe} are not scanned; --interval is one of {', '.join(INTERVALS)}.")
        start, end = _moment("--from", options["start"]), _moment("--to", options["end"])
        if start and end and start >= end:
            raise CommandError("--from must lie before --to.")
        began = time.monotonic()
        report = self._scan(timeframe, _keys(timeframe, _symbols(options["symbols"]), start, end))
        figures: dict[str, float] = {"bars": report.bars, "detections": report.detections, "indicators": report.indicators}
        figures["seconds"] = round(time.monotonic() - began, 3)
        if options["as_json"]:
            self.stdout.write(json.dumps(figures))
        else:
            self.stdout.write("{bars:,} bars, {detections:,} detections, {indicators:,} indicator values in {seconds} s".format(**figures))
        if report.failed:
            raise CommandError(f"{report.failed:,} bars could not be scanned; the log and the table scan_failures say which and why.")

    def _scan(self, timeframe: str, keys: Iterator[Key]) -> ScanReport:
        report, asked = ScanReport(), 0
        shown_at = time.monotonic()
        while batch := list(islice(keys, BATCH_BARS)):
            report += scan_apart(batch, now=datetime.now(UTC), timeframe=timeframe, again=True)
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


def _keys(timeframe: str, symbols: list[str] | None, start: datetime | None, end: datetime | None) -> Iterator[Key]:
    """Yield the bars that start in [start, end), symbol by symbol, oldest first."""
    for symbol in symbols or Symbol.objects.order_by("pk").values_list("pk", flat=True):
        for opened_at_ms in stored_bars(timeframe, symbol, start, end):
            yield symbol, opened_at_ms
