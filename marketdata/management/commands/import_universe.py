"""`import_universe`: a universe from a CSV of its members. A thin door to listings.py."""

import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from marketdata.listings import ListingError, UniverseReport, import_universe, read_holdings
from marketdata.models import UniverseKind

SHOWN = 20


class Command(BaseCommand):
    """Make or replace a universe."""

    help = (
        "Make a universe of the symbols in a CSV with the columns symbol[,weight], or replace it by them; weights are percent. Says what was "
        "added, removed and reweighted. Safe to repeat: a second time changes nothing."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("key", metavar="KEY", help="name of the universe: letters, digits, - and _")
        parser.add_argument("file", metavar="FILE.csv", type=Path, help="CSV in UTF-8; its order is the order of the universe")
        parser.add_argument("--add", action="store_true", help="add to the universe and remove nobody (default: replace it)")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
        parser.add_argument("--kind", choices=list(UniverseKind.values), help="what it is a list of (default for a new one: list)")
        parser.add_argument("--name", help="what people read (default for a new one: KEY)")
        parser.add_argument("--description", help="a sentence about it")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read, compare, store, report."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", options["key"]):
            raise CommandError(f"{options['key'][:80]!r} cannot be the name of a universe: letters, digits, - and _, 60 at most.")
        details = {name: options[name] for name in ("kind", "name", "description") if options[name] is not None}
        try:
            holdings = read_holdings(options["file"])
            report = import_universe(options["key"], holdings, add=options["add"], dry_run=options["dry_run"], details=details)
        except ListingError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(msgspec.json.encode(report).decode() if options["json"] else _words(report))


def _words(report: UniverseReport) -> str:
    lines = [f"{report.universe}: {report.members} members{', a new universe' if report.created else ''}"]
    for words, symbols in (("added", report.added), ("removed", report.removed), ("reweighted", report.reweighted)):
        if symbols:
            more = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
            lines.append(f"  {words} {len(symbols)}: {', '.join(symbols[:SHOWN])}{more}")
    if report.new_symbols:
        lines.append(f"  {len(report.new_symbols)} symbols were unknown until now; `import_details` asks what they are")
    lines.append(f"  {report.unchanged} unchanged")
    return "\n".join([*lines, "Nothing was written: --dry-run."] if report.dry_run else lines)
