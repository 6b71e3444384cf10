"""`backup`: a dump with its counts and checksums. A thin door to backups.py."""

import json
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from tickstock.backups import BackupError, backup


class Command(BaseCommand):
    """Dump the database while everything runs on."""

    help = (
        "Dump the database (pg_dump's custom format) and, from the same snapshot, each table's count and checksum beside it. Everything may run on. "
        "Default: a file named by the moment under TICKSTOCK_DATA_DIR/backups."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("path", nargs="?", metavar="FILE", type=Path)
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dump, report."""
        began = time.monotonic()
        name = f"{connection.settings_dict['NAME']}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
        path = (options["path"] or settings.DATA_DIR / "backups" / name).expanduser().resolve()
        if path.exists():
            raise CommandError(f"{path} is there already; name another file.")
        try:
            manifest = backup(path)
        except psycopg.OperationalError as error:
            raise CommandError(f"The database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.") from None
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from None
        size, seconds = path.stat().st_size, round(time.monotonic() - began, 1)
        if options["json"]:
            figures = {"file": str(path), "bytes": size, "tables": len(manifest.tables), "rows": manifest.rows, "seconds": seconds}
            self.stdout.write(json.dumps(figures))
        else:
            self.stdout.write(f"{path}: {len(manifest.tables)} tables, {manifest.rows:,} rows, {size / 1e6:,.1f} MB in {seconds} s")
