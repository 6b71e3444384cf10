"""`bench`: one table, each row a ratio against a limit or a peer measured in the same run. A thin door to tickstock.bench."""

import json
import logging
import os
import platform
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketdata.models import Bar
from tickstock.bench import SUBJECTS, Place, Row
from tickstock.bench.chart import chart


class Command(BaseCommand):
    """Measure how near the product comes to what the machine can do."""

    help = (
        "Measures each part against a limit or a peer in the same run and prints the ratios. `make bench` runs it beside a TimescaleDB of its "
        "own; it writes bars, so it refuses a database that holds any. Exit status 1 where a row misses its goal."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"only these: {', '.join(SUBJECTS)} (default: all)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object as the last line")
        parser.add_argument("--repeats", type=int, default=5, help="how often each thing is measured; the median counts (default 5)")
        parser.add_argument("--chart", type=Path, metavar="PATH", help="draw the table as an SVG file")
        parser.add_argument(
            "--recordings", type=Path, default=Path("../shared/data"), help="folder of the real recordings (default ../shared/data)"
        )
        parser.add_argument(
            "--peers", type=Path, help="a Python that has nautilus_trader (default: that row says that it was not measured)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure, print."""
        unknown = [name for name in options["subjects"] if name not in SUBJECTS]
        if unknown:
            raise CommandError(f"There is no subject {', '.join(unknown)}; there are {', '.join(SUBJECTS)}.")
        if options["repeats"] < 1:
            raise CommandError("--repeats must be 1 or more.")
        if Bar.objects.exists():
            raise CommandError("This database holds bars, and the benchmark writes its own: run `make bench`, which brings a database.")
        logging.disable(logging.INFO)  # what a stream says at its start would stand between the rows
        measured: list[Row] = []
        with tempfile.TemporaryDirectory(prefix="tickstock-bench-") as scratch:
            place = Place(options["recordings"], options["peers"], Path(scratch), options["repeats"])
            for name in options["subjects"] or SUBJECTS:
                for row in SUBJECTS[name](place):
                    measured.append(row)
                    self.stdout.write(_line(row))
        if options["as_json"]:
            self.stdout.write(json.dumps({"rows": [row.as_dict() for row in measured]}))
        if options["chart"]:
            title = f"TickStock against limits and peers, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
            options["chart"].write_text(chart(measured, title=title))
        missed = [row.name for row in measured if not row.reached]
        if missed:
            raise CommandError(f"{len(missed)} of {len(measured)} rows miss their goal or have no figure: {'; '.join(missed)}")


def _line(row: Row) -> str:
    goal = f"{'at least' if row.at_least else 'at most'} {row.goal:.2f}"
    if row.ratio is None:
        return f"–        –  {goal:14}  {row.name}: not measured, {row.note}"
    values = f"{row.ours:,.4g} against {row.peer:,.4g} {row.unit}" if row.peer is not None else f"{row.ours:,.4g} {row.unit}"
    note = f" ({row.note})" if row.note else ""
    return f"{'ok ' if row.reached else 'NO '} {row.ratio:6.2f}  {goal:14}  {row.name} | {row.against} | {values}{note}"
