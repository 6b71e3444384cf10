"""`remove_second_factor`: for the administrator who lost the phone and the recovery codes."""

from argparse import ArgumentParser
from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User


class Command(BaseCommand):
    """Let one user sign in with the password alone."""

    help = "Remove the second factor of one user, who then signs in with the password alone and may set up a new one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        removed, _ = Authenticator.objects.filter(user=user).delete()
        self.stdout.write(f"{user.username} signs in without a second factor." if removed else f"{user.username} had no second factor.")
