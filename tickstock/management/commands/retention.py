"""`retention`: let old minutes go. A thin door to retention.py."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tickstock.retention import Dropped, RetentionError, compress_old, drop_old


class Command(BaseCommand):
    """Drop one-minute bars that are older than BAR_DAYS."""

    help = "Drop one-minute bars and their revisions older than BAR_DAYS (0: keep all): whole chunks on TimescaleDB, rows elsewhere. Run it daily."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="say what would go; change nothing")
        parser.add_argument(
            "--compress", type=int, metavar="DAYS", help="compress chunks older than this (TimescaleDB with its own licence)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drop, compress, report."""
        now = datetime.now(UTC)
        try:
            dropped = drop_old(now=now, days=settings.BAR_DAYS, dry_run=options["dry_run"]) if settings.BAR_DAYS else Dropped()
            if options["compress"] is not None and not options["dry_run"]:
                dropped.compressed = compress_old(now=now, days=options["compress"])
        except RetentionError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(asdict(dropped)))
        else:
            verb = "would go" if options["dry_run"] else "went"
            kept = f"older than {settings.BAR_DAYS} days" if settings.BAR_DAYS else "none, BAR_DAYS is 0: all are kept"
            self.stdout.write(f"{dropped.chunks} chunks, {dropped.bars:,} bars, {dropped.revisions:,} revisions {verb} ({kept}).")
