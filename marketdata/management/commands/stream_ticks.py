"""`stream_ticks`: the live line, or a recorded one. A thin door to stream.py."""

import gc
import json
import re
import signal
import sys
import threading
import time
import zlib
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError, connections

from marketdata.backfill import refresh_sessions
from marketdata.bars.builder import SYMBOL
from marketdata.feed.events import KINDS
from marketdata.feed.listing import with_references
from marketdata.flusher import StreamFailedError
from marketdata.history import HistoryError, RestHistory
from marketdata.intake import Report
from marketdata.models import Session, Universe, UnknownUniverseError
from marketdata.replay import replay
from marketdata.stream import LiveStream
from marketdata.writer import Writer, WriterBusyError, WriterDeposedError, line_name

SIGNAL_SECONDS = 0.05  # between two looks for a signal


class Command(BaseCommand):
    """Stream Massive into one-minute bars, or replay recorded frames through the same code."""

    help = (
        "Stream Massive into one-minute bars until SIGTERM or Ctrl-C (exit status 0, all bars stored). With --replay: run recorded frames "
        "through the same code; the recording is the only clock."
    )

    requires_system_checks = []  # the line must not wait for the web's URLs to load

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--universe", metavar="KEY", help=f"universe names joined by ':' (default {settings.SYMBOL_UNIVERSE_KEY})")
        parser.add_argument("--symbols", metavar="A,B", help="these symbols instead of a universe; with --replay: only these")
        parser.add_argument("--events", metavar="AM,A,T,Q", help=f"event kinds (default {','.join(settings.MASSIVE_EVENTS)}; replay: all)")
        parser.add_argument("--connections", type=int, metavar="N", help=f"connections, 1 to 3 (default {settings.STREAM_CONNECTIONS})")
        parser.add_argument("--priority", metavar="A,B", help="symbols that have the first of several connections for themselves")
        parser.add_argument("--shard", default="1/1", metavar="I/N", help="this process's part of the symbols (default 1/1: all)")
        parser.add_argument("--replay", nargs="+", metavar="FILE", help="recorded frames, one a line (.jsonl, .jsonl.gz)")
        parser.add_argument("--speed", default="max", metavar="max|N", help="replay at N times the recorded time (default max)")
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until the end; every refusal is one sentence and exit status 1."""
        stop = _stop_on_signals()
        shard, shards = _shard(options["shard"])
        gc.collect()
        gc.freeze()  # what is loaded now stays: the collector, which many bars wake, need not look through it each time
        try:
            report = self._replay(options, stop, shard, shards) if options["replay"] else self._live(options, stop, shard, shards)
        except (ProgrammingError, psycopg.errors.UndefinedTable):
            raise CommandError("The database has no tables yet, or those of another version. Run `manage.py migrate` first.") from None
        except (OperationalError, psycopg.OperationalError) as error:
            raise CommandError(f"The database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.") from None
        except (UnknownUniverseError, WriterBusyError, WriterDeposedError, HistoryError, StreamFailedError) as error:
            raise CommandError(str(error)) from None
        self._print(report, as_json=options["json"])
        if options["replay"] and report.rejected_events and not report.events:
            raise CommandError(
                "No line of it is a frame of Massive's; a recording holds one WebSocket frame a line, as JSON (.jsonl, .jsonl.gz)."
            )

    def _replay(self, options: dict[str, Any], stop: threading.Event, shard: int, shards: int) -> Report:
        paths = [Path(name) for name in options["replay"]]
        for path in paths:
            if not path.is_file():
                raise CommandError(f"There is no file {path}.")
        speed = _speed(options["speed"])
        kinds = None if options["events"] is None else frozenset(_kinds(options["events"].split(",")))
        symbols = None if options["symbols"] is None else frozenset(_names(options["symbols"]))
        writer = Writer(line_name(shard, shards))
        writer.acquire()
        try:
            return replay(
                paths,
                writer,
                Session.objects.table(),
                speed=speed,
                symbols=symbols,
                kinds=kinds,
                batch_size=settings.DB_BATCH_SIZE,
                flush_seconds=settings.DB_FLUSH_INTERVAL,
                stopped=stop.is_set,
            )
        except (OSError, EOFError, zlib.error) as error:
            raise CommandError(f"A recording cannot be read: {error}") from None
        finally:
            writer.close()

    def _live(self, options: dict[str, Any], stop: threading.Event, shard: int, shards: int) -> Report:
        if not settings.MASSIVE_API_KEY:
            raise CommandError(
                "MASSIVE_API_KEY is not set. Put your key into it, or stream the twin: `manage.py simulate_massive`, then MASSIVE_API_KEY=twin "
                "USE_SYNTHETIC_DATA=1 MASSIVE_WS_URL=ws://127.0.0.1:8765/stocks MASSIVE_REST_URL=http://127.0.0.1:8765 (`make run` does all that)."
            )
        if not re.match(r"^wss?://[^/]+", settings.MASSIVE_WS_URL):
            raise CommandError(f"MASSIVE_WS_URL={settings.MASSIVE_WS_URL!r} is not a WebSocket address; it begins with wss:// or ws://.")
        kinds = _kinds(settings.MASSIVE_EVENTS if options["events"] is None else options["events"].split(","))
        key = options["universe"] or settings.SYMBOL_UNIVERSE_KEY
        wanted = with_references(Universe.objects.symbols_of(key)) if options["symbols"] is None else _names(options["symbols"])
        symbols = wanted[shard - 1 :: shards]
        if not symbols:
            raise CommandError(f"Shard {shard}/{shards} has no symbols: there are only {len(wanted)}.")
        count = settings.STREAM_CONNECTIONS if options["connections"] is None else options["connections"]
        if not 1 <= count <= 3:
            raise CommandError(f"--connections must lie between 1 and 3, not {count}.")
        writer = Writer(line_name(shard, shards))
        writer.acquire()
        try:
            writer.claim_origin(settings.FEED_NAME)
            self._renew_sessions()
            stream = LiveStream(
                writer,
                Session.objects.table(),
                feed=settings.FEED_NAME,
                ws_url=settings.MASSIVE_WS_URL,
                key=settings.MASSIVE_API_KEY,
                symbols=symbols,
                kinds=kinds,
                connections=count,
                priority=settings.STREAM_PRIORITY_SYMBOLS if options["priority"] is None else _names(options["priority"]),
                batch_size=settings.DB_BATCH_SIZE,
                flush_seconds=settings.DB_FLUSH_INTERVAL,
                history=_rest,
                requests_per_second=settings.MASSIVE_REQUESTS_PER_SECOND,
            )
            connections.close_all()  # from here on only the writer speaks to the database
            _when(stop, stream.stop)
            return stream.run()
        except RuntimeError as error:
            raise CommandError(str(error)) from None
        finally:
            writer.close()

    def _renew_sessions(self) -> None:
        """Bring the calendar up to date; without REST the stored rows serve."""
        try:
            refresh_sessions(settings.FEED_NAME, _rest(), now=datetime.now(UTC))
        except HistoryError as error:
            self.stderr.write(f"The sessions were not renewed: {error}")

    def _print(self, report: Report, *, as_json: bool) -> None:
        figures = {name: getattr(report, name) for name in report.__struct_fields__}
        if as_json:
            self.stdout.write(json.dumps(figures))
        else:
            self.stdout.write(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in figures.items()))
        sys.stdout.flush()


def _rest() -> RestHistory:
    return RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY)


def _stop_on_signals() -> threading.Event:
    """
    Return an event that SIGTERM and SIGINT set.

    The handler only leaves a mark: to set an event takes its lock, and of two signals that come at once the second would wait for the first for ever.
    """
    event = threading.Event()
    asked: list[int] = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _: asked.append(number))

    def watch() -> None:
        while not asked:
            time.sleep(SIGNAL_SECONDS)
        event.set()

    threading.Thread(target=watch, name="signal-watch", daemon=True).start()
    return event


def _when(event: threading.Event, act: Any) -> None:
    """Call `act` once the event is set."""

    def wait() -> None:
        event.wait()
        act()

    threading.Thread(target=wait, name="stop-watch", daemon=True).start()


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise CommandError(f"--shard {text!r} is not I/N with 1 ≤ I ≤ N, for example 1/2.")
    return int(match[1]), int(match[2])


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise CommandError(f"--speed {text!r} is neither max nor a number above 0.")
    return speed


def _kinds(words: Sequence[str]) -> list[str]:
    kinds = list(dict.fromkeys(word.strip().upper() for word in words if word.strip()))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise CommandError(f"Unknown event kind {', '.join(unknown) or '(none)'}; known are {', '.join(KINDS)}.")
    return kinds


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if not SYMBOL.fullmatch(name)]
    if wrong or not names:
        raise CommandError(
            f"--symbols {text!r} names {wrong[0]!r}, which is no symbol." if wrong else f"--symbols {text!r} names no symbol."
        )
    return names
