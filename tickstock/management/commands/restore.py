"""`restore`: bring a backup back and compare it with what it must hold. A thin door to backups.py."""

import json
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError

from tickstock.backups import BackupError, restore


class Command(BaseCommand):
    """Restore a backup into an empty database and prove it."""

    help = (
        "Bring a dump of `backup` back into the empty database of DATABASE_URL, or into a new one on its server (--into), then compare every table's "
        "count and checksum; exit status 1 where one differs. Rights come afterwards with `setup_roles`."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("path", metavar="FILE", type=Path)
        parser.add_argument("--into", default="", metavar="NAME", help="make this database and restore into it")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore, compare, report."""
        began = time.monotonic()
        try:
            wanted, differing = restore(options["path"].expanduser().resolve(), into=options["into"])
        except psycopg.OperationalError as error:
            raise CommandError(f"The database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.") from None
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from None
        seconds = round(time.monotonic() - began, 1)
        if options["json"]:
            figures = {"tables": len(wanted.tables), "rows": wanted.rows, "differing": differing, "seconds": seconds}
            self.stdout.write(json.dumps(figures))
        elif not differing:
            self.stdout.write(f"{len(wanted.tables)} tables, {wanted.rows:,} rows, all counts and checksums equal, in {seconds} s")
        if differing:
            raise CommandError(f"{len(differing)} tables differ from the backup: {differing[0]}")
