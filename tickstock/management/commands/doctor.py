"""`doctor`: what is wrong, and the cure of each. A thin door to doctor.py and flow.py."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from tickstock import disk
from tickstock.doctor import FAIL, OK, Finding, examine
from tickstock.flow import Station, follow


class Command(BaseCommand):
    """Examine the installation, or the way of one symbol."""

    help = (
        "Examine database, Redis, clock, key, entitlement, feed, worker, roles, extension, calendar, disk and e-mail: ok, warn or fail, each with its "
        "cure; exit status 1 where something fails. --flow SYMBOL follows one symbol from the socket to the page."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--flow", metavar="SYMBOL", help="count one symbol's last quarter of an hour at each station, and say where the counts part"
        )
        parser.add_argument("--disk", action="store_true", help="show the size, growth and retention of each class of rows too")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, print, judge."""
        if options["flow"]:
            self._flow(options["flow"], as_json=options["json"])
            return
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self._print(finding)
        shares = [asdict(share) for share in disk.forecast().shares] if options["disk"] else []
        if options["json"]:
            self._json({"findings": [asdict(finding) for finding in findings]} | ({"disk": shares} if shares else {}))
        else:
            for share in shares:
                kept = "for ever" if share["kept_days"] is None else f"{share['kept_days']} days"
                size, growth = share["bytes"] / 1e6, share["bytes_a_day"] / 1e6
                self.stdout.write(f"      {share['name']:22} {size:10,.1f} MB {growth:10,.2f} MB a day, kept {kept}")
        failed = [finding.name for finding in findings if finding.verdict == FAIL]
        if failed:
            raise CommandError(f"{len(failed)} wrong: {', '.join(dict.fromkeys(failed))}.")

    def _print(self, finding: Finding) -> None:
        self.stdout.write(f"{finding.verdict:4}  {finding.name:12} {finding.words}")
        if finding.verdict != OK:
            self.stdout.write(f"{'':19}→ {finding.cure}")

    def _flow(self, symbol: str, *, as_json: bool) -> None:
        stations: list[Station] = []
        try:
            for station in follow(symbol, now=datetime.now(UTC)):
                stations.append(station)
                if not as_json:
                    count = "?" if station.count is None else f"{station.count:,}"
                    self.stdout.write(f"{station.name:14} {count:>10}  {station.words}")
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The database does not answer: {str(error).strip().splitlines()[0]} Start it, and check DATABASE_URL."
            ) from None
        parted = next((station for station in stations if station.wrong), None)
        if as_json:
            self._json(
                {"symbol": symbol, "stations": [asdict(station) for station in stations], "parts_at": parted.name if parted else None}
            )
        if parted is not None:
            raise CommandError(f"The counts part at “{parted.name}”: {parted.wrong}")
        if not as_json:
            self.stdout.write("The counts agree all the way.")

    def _json(self, answer: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(answer))
        sys.stdout.flush()
