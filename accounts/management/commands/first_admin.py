"""`first_admin`: the first user of a fresh stack."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

VARIABLE = "TICKSTOCK_ADMIN_PASSWORD"


class Command(BaseCommand):
    """Make the superuser `admin` unless a superuser exists."""

    help = f"Make the superuser `admin` with the password in {VARIABLE}, unless there is a superuser already. Never changes a user."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help='print {"created": true|false} on the last line')

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the user, or leave all as it is."""
        users = get_user_model().objects
        created = False
        if not users.filter(is_superuser=True).exists():
            password = settings.FIRST_ADMIN_PASSWORD
            if not password:
                raise CommandError(f"{VARIABLE} is not set; put the first password into it.")
            self._warn_of_a_weak_one(password)
            users.create_superuser("admin", "", password)
            created = True
        self.stdout.write(json.dumps({"created": created}) if options["json"] else ("created admin" if created else "an admin exists"))

    def _warn_of_a_weak_one(self, password: str) -> None:
        try:
            validate_password(password)
        except ValidationError as error:
            self.stderr.write(f"The password in {VARIABLE} is weak: {' '.join(error.messages)}")
