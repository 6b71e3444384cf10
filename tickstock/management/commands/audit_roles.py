"""`audit_roles`: try every statement as every role and say which the server refused. A thin door to roles.py."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tickstock.roles import ATTEMPTS, ROLES, Audit, RolesError, audit

LETTERS = dict(zip(ATTEMPTS, "SIUDT", strict=True))


class Command(BaseCommand):
    """Attempt each statement on each table, hypertable and chunk as each role."""

    help = (
        "Attempt SELECT, INSERT, UPDATE, DELETE and TRUNCATE on each table and chunk, and what lies beyond tables, as each role; all is rolled "
        "back. Prints the matrix; exit status 1 where a cell is not as it should be."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Try, print, judge."""
        try:
            found = audit()
        except RolesError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            figures = {"tried": found.tried, "refused": found.refused, "chunks": found.chunks, "wrong": found.wrong}
            self.stdout.write(json.dumps(figures))
        else:
            self._print(found)
        if found.wrong:
            raise CommandError(f"{len(found.wrong)} cells are wrong; run `manage.py setup_roles` as the owner. First: {found.wrong[0]}.")

    def _print(self, found: Audit) -> None:
        objects = sorted({what for _, what in found.seen}, key=lambda name: ("." in name, name))
        width = max(map(len, objects), default=10)
        self.stdout.write(" ".join([f"{'':{width}}", *(f"{role:12}" for role in ROLES)]))
        for what in objects:
            cells = [self._cell(found.seen.get((role, what), [])) for role in ROLES]
            self.stdout.write(" ".join([f"{what:{width}}", *(f"{cell:12}" for cell in cells)]))
        self.stdout.write(
            f"{found.tried:,} attempts, {found.refused:,} refused, {len(found.wrong)} wrong; {found.chunks} chunks of hypertables among them. "
            "S select, I insert, U update, D delete, T truncate."
        )

    def _cell(self, actions: list[str]) -> str:
        if all(action in LETTERS for action in actions):
            return "".join(letter if action in actions else "·" for action, letter in LETTERS.items())
        return ",".join(actions).lower()
