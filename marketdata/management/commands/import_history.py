"""`import_history`: past bars through the same writer as live ones, from REST and from files. A thin door to backfill.py, importing.py, corporate.py."""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from marketdata.backfill import ImportReport, import_days, import_minutes, request_mark
from marketdata.bars.columns import EARLIEST_MS, LONGEST_MS, Wanted
from marketdata.corporate import ActionsReport, csv_rows, import_actions
from marketdata.feed.listing import with_references
from marketdata.files import FileError
from marketdata.history import EXCHANGE_ZONE, MANY_RETRIES, HistoryError, RestHistory
from marketdata.importing import FileReport, import_file
from marketdata.models import Source, Universe, UnknownUniverseError
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

YEARS = 2
MINUTE_DAYS = 5
ACTION_DAYS_AHEAD = 60
LOCK_SECONDS = 120.0
LINE_SECONDS = 5.0  # between two lines of progress where no terminal shows them in place
SUFFIXES = (".csv", ".csv.gz", ".parquet")


class Command(BaseCommand):
    """Import past bars from Massive's REST (or the twin's: the same code), from its flat files, from CSV or Parquet."""

    help = (
        "Import past bars. massive: the universe's bars from REST. flatfile: Massive's flat files of aggregates (.csv, .csv.gz), rank 50. "
        "csv: plain CSV or Parquet of one's own, rank 60, above everything else. "
        "Safe to repeat, a second time changes nothing; after an interruption the same command goes on where it stopped."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "source", choices=["massive", "flatfile", "csv"], help="REST at MASSIVE_REST_URL, flat files, or plain CSV and Parquet"
        )
        parser.add_argument("paths", nargs="*", metavar="PATH", type=Path, help=f"files, or folders of them ({', '.join(SUFFIXES)})")
        parser.add_argument(
            "--timespan", choices=["minute", "day"], help="bars of a minute or of a day (default minute; flat files: as their name says)"
        )
        parser.add_argument(
            "--symbols",
            metavar="A,B",
            help=f"these symbols (default: the universe {settings.SYMBOL_UNIVERSE_KEY}, SPY and the sector funds; files: all that are in them)",
        )
        parser.add_argument(
            "--from",
            dest="first",
            metavar="DATE",
            help=f"first day in New York (default: {YEARS} years back; minutes {MINUTE_DAYS} days; files: all)",
        )
        parser.add_argument("--to", dest="last", metavar="DATE", help="last day in New York (default: today)")
        parser.add_argument("--missing", action="store_true", help="massive, days only: begin after each symbol's newest stored day")
        parser.add_argument("--corporate-actions", action="store_true", help="massive: splits and dividends as well")
        parser.add_argument(
            "--kind", choices=["bars", "splits", "dividends", "changes"], default="bars", help="what the rows of a CSV are (default bars)"
        )
        parser.add_argument("--zone", default="UTC", help="csv: zone of times without an offset, such as America/New_York (default UTC)")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask or read, store, report."""
        self._shown_at = self._began = time.monotonic()
        first, last = _day(options["first"], "--from"), _day(options["last"], "--to")
        if first and last and first > last:
            raise CommandError(f"--from {first} lies after --to {last}.")
        if (options["source"] == "massive") == bool(options["paths"]):
            raise CommandError("massive takes no PATH." if options["paths"] else f"{options['source']} needs at least one PATH.")
        writer = Writer(PAST)
        try:
            if options["kind"] != "bars":
                return self._actions_from_files(options)
            writer.acquire_within(LOCK_SECONDS)
            if options["source"] == "massive":
                self._from_rest(writer, first, last, options)
            else:
                self._from_files(writer, first, last, options)
        except (OperationalError, psycopg.OperationalError) as error:
            raise CommandError(f"The database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.") from None
        except (UnknownUniverseError, WriterBusyError, WriterDeposedError, HistoryError, FileError, RuntimeError) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; what was stored stays, run the same command again to go on.", returncode=130) from None
        finally:
            writer.close()

    # -- REST -----------------------------------------------------------------------------------------------------------------------------

    def _from_rest(self, writer: Writer, first: date | None, last: date | None, options: dict[str, Any]) -> None:
        today = datetime.now(UTC).astimezone(EXCHANGE_ZONE).date()
        days = options["timespan"] == "day"
        first = first or today - timedelta(days=365 * YEARS if days else MINUTE_DAYS)
        last = last or today
        symbols = _names(options["symbols"]) or with_references(Universe.objects.symbols_of(settings.SYMBOL_UNIVERSE_KEY))
        history = RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY, retries=MANY_RETRIES)
        writer.claim_origin(settings.FEED_NAME)
        report = self._ask(history, writer, symbols, first, last, days=days, only_missing=options["missing"])
        actions = []
        if options["corporate_actions"]:
            ahead = max(last, today + timedelta(days=ACTION_DAYS_AHEAD))
            actions = [
                import_actions("splits", history.splits(symbols, first, ahead)),
                import_actions("dividends", history.dividends(symbols, first, ahead)),
            ]
        writer.analyze()
        report.seconds = round(time.monotonic() - self._began, 3)
        if options["json"]:
            found = {"actions": msgspec.to_builtins(actions)} if actions else {}
            self._json({**{name: getattr(report, name) for name in report.__struct_fields__}, **found})
            return
        self.stdout.write(
            f"{report.symbols} symbols: {report.read:,} {'day' if days else 'minute'} bars read, {report.changed:,} new or changed, "
            f"{report.rejected:,} rejected, {report.seconds:.1f} s"
        )
        self._print_actions(actions)

    def _ask(
        self, history: RestHistory, writer: Writer, symbols: list[str], first: date, last: date, *, days: bool, only_missing: bool
    ) -> ImportReport:
        mark = request_mark(history, "day" if days else "minute", symbols, first, last)
        before = mark.rows_done
        if before:
            self.stderr.write(f"Going on after {before} of {len(symbols)} symbols.")

        def now() -> datetime:
            return datetime.now(UTC)

        def progress(done: int, of: int, symbol: str) -> None:
            mark.rows_done = before + done
            mark.finished_at = now() if done == of else None
            mark.save()
            seconds = max(time.monotonic() - self._began, 0.001)
            left = _clock(seconds * (of - done) / done) if done else "?"
            self._show(
                (before + done) / (before + of),
                f"{before + done} of {before + of} symbols, {done / seconds:.1f} a second, {left} left, last {symbol}",
            )

        rest = symbols[before:]
        if days:
            return import_days(history, writer, rest, first=first, last=last, now=now, progress=progress, only_missing=only_missing)
        begin, end = _midnight(first), _midnight(last + timedelta(days=1))
        return import_minutes(history, writer, rest, first=begin, last=end, now=now, progress=progress)

    # -- files ----------------------------------------------------------------------------------------------------------------------------

    def _from_files(self, writer: Writer, first: date | None, last: date | None, options: dict[str, Any]) -> None:
        reports = []
        for path in _files(options["paths"]):
            days = (options["timespan"] or ("day" if options["source"] == "flatfile" and "day" in path.name.lower() else "minute")) == "day"
            reports.append(self._one_file(writer, path, _wanted(first, last, options, days=days), flat=options["source"] == "flatfile"))
            if not options["json"]:
                self._print_file(reports[-1])
        writer.analyze()
        if options["json"]:
            total = {
                name: sum(getattr(report, name) for report in reports) for name in ("rows", "inserted", "changed", "unchanged", "rejected")
            }
            seconds = round(time.monotonic() - self._began, 3)
            self._json({**total, "files": msgspec.to_builtins(reports), "seconds": seconds})
        if broken := [report.error for report in reports if report.error]:
            raise CommandError(" ".join(broken))

    def _one_file(self, writer: Writer, path: Path, wanted: Wanted, *, flat: bool) -> FileReport:
        began = time.monotonic()

        def progress(part: float, rows: int) -> None:
            seconds = max(time.monotonic() - began, 0.001)
            left = seconds * (1 - part) / part if part else 0.0
            self._show(part, f"{path.name}: {rows:,} rows, {rows / seconds:,.0f} a second, {_clock(left)} left")

        source = Source.FLATFILE if flat else Source.OPERATOR
        try:
            return import_file(path, writer, wanted, source=source, now=datetime.now(UTC), progress=progress)
        except FileError as error:
            return FileReport(file=str(path), error=str(error))

    def _print_file(self, report: FileReport) -> None:
        write = self.stdout.write
        if not report.rows:
            return
        if report.resumed_at:
            write(f"{report.file}: went on after row {report.resumed_at:,}")
        write(
            f"{report.file}: {report.rows:,} rows read, {report.inserted:,} new, {report.changed:,} changed, {report.unchanged:,} unchanged, "
            f"{report.rejected:,} rejected, {report.duplicates:,} double, {report.test_tickers:,} of test tickers, {report.skipped:,} not asked "
            f"for, {report.seconds:.1f} s"
        )
        for reason, count in report.reasons.items():
            write(f"  rejected {count:,}: {reason}")
        if report.outside_sessions:
            write(f"  {report.outside_sessions:,} minutes lie outside any session of the calendar")
        if report.absent:
            worst = sorted(report.absent.items(), key=lambda item: -item[1])[:10]
            write(
                f"  {sum(report.absent.values()):,} regular minutes of {len(report.absent)} days have no row (no trade, or missing); the most:"
            )
            for day, count in worst:
                write(f"    {day}  {count:,}")

    # -- corporate actions ------------------------------------------------------------------------------------------------------------------

    def _actions_from_files(self, options: dict[str, Any]) -> None:
        if options["source"] != "csv":
            raise CommandError(f"--kind {options['kind']} is for csv; massive takes --corporate-actions.")
        reports = [import_actions(options["kind"], csv_rows(options["kind"], path)) for path in _files(options["paths"])]
        if options["json"]:
            self._json({"actions": msgspec.to_builtins(reports)})
        else:
            self._print_actions(reports)

    def _print_actions(self, reports: Iterable[ActionsReport]) -> None:
        for report in reports:
            self.stdout.write(
                f"{report.kind}: {report.read:,} read, {report.inserted:,} new, {report.changed:,} changed, {report.rejected:,} rejected"
            )
            for reason in report.reasons:
                self.stdout.write(f"  {reason}")

    # -- what a person sees ---------------------------------------------------------------------------------------------------------------

    def _show(self, part: float, text: str) -> None:
        """Show how far it is: in place on a terminal, now and then in a log."""
        if self.stderr.isatty():
            filled = round(part * 24)
            self.stderr.write(f"\r{'█' * filled}{'░' * (24 - filled)} {part:4.0%}  {text:<80.80}", ending="\n" if part >= 1 else "")
        elif part >= 1 or time.monotonic() - self._shown_at > LINE_SECONDS:
            self._shown_at = time.monotonic()
            self.stderr.write(f"{part:4.0%}  {text}")

    def _json(self, answer: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(answer))
        sys.stdout.flush()


def _wanted(first: date | None, last: date | None, options: dict[str, Any], *, days: bool) -> Wanted:
    """Return which rows of a file are asked for. A day stands for its midnight: UTC for daily bars, which are dates, else New York's."""
    try:
        ZoneInfo(options["zone"])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CommandError(f"--zone {options['zone']!r} is no time zone such as America/New_York.") from None

    def begin(day: date) -> int:
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) if days else _midnight(day)
        return round(moment.timestamp() * 1000)

    symbols = _names(options["symbols"])
    return Wanted(
        days=days,
        flat=options["source"] == "flatfile",
        zone=options["zone"],
        now_ms=round(time.time() * 1000),
        symbols=frozenset(symbols) if symbols else None,
        first_ms=begin(first) if first else EARLIEST_MS,
        last_ms=begin(last + timedelta(days=1)) if last else LONGEST_MS,
    )


def _files(paths: list[Path]) -> list[Path]:
    """Return the files, those of a folder in the order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
            if not inside:
                raise CommandError(f"{path} holds no {', '.join(SUFFIXES)}.")
            found += inside
        else:
            found.append(path)
    return found


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_ZONE)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise CommandError(f"{option} {text!r} is not a date like 2026-11-20.") from None


def _names(text: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
