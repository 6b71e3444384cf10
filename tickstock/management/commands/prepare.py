"""`prepare`: what must be true before the parts run, in one process: the newest schema and a first admin."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Migrate, then make the first admin where there is none."""

    help = "Migrate, then make the superuser `admin` where there is none; prints what first_admin --json prints."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Do both."""
        call_command("migrate", verbosity=0, skip_checks=True)
        call_command("first_admin", "--json", stdout=self.stdout, stderr=self.stderr)
