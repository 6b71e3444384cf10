"""`migrate`: Django's, which waits for no lock that the running parts need: a few seconds, then it lets them go first and tries again."""

import time
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError

TRIES = 10
PAUSE_SECONDS = 1.0


class Command(migrate.Command):
    """Migrate beside a running stream: each migration is a transaction of its own, so trying again goes on where it stopped."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, patiently. The lock timeout itself stands in the settings (MIGRATION_LOCK_SECONDS)."""
        for number in range(1, TRIES + 1):
            try:
                super().handle(*args, **options)
            except OperationalError as error:
                if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                    raise
                self.stderr.write(f"A running part holds a lock that the migration needs; try {number} of {TRIES}.")
                time.sleep(PAUSE_SECONDS)
            else:
                return
        raise CommandError(
            "The migration found a lock taken each time. Stop what holds it (a long import, an open transaction), then run it again."
        )
