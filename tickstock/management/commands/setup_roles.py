"""`setup_roles`: make the database roles and give each its rights. A thin door to roles.py."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tickstock.roles import ROLES, RolesError, make_roles, statements


class Command(BaseCommand):
    """Make app_stream, app_worker, app_web and app_readonly, and grant each what it needs."""

    help = (
        "Make the roles app_stream, app_worker, app_web and app_readonly and give each its rights; run it as the owner of the tables, again after "
        "each migrate (`up` and DATABASE_ROLES=1 do). Passwords are taken from APP_STREAM_PASSWORD and so on where set."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--print", dest="only_print", action="store_true", help="print the statements for an administrator; change nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, or print it."""
        try:
            if options["only_print"]:
                self.stdout.write("".join(f"{statement};\n" for statement in ("BEGIN", *statements(), "COMMIT")))
                return
            make_roles(settings.DATABASE_ROLE_PASSWORDS)
        except RolesError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{', '.join(ROLES)} have their rights.")
