"""
Log records as JSON lines, and the table of errors. Loaded before Django's apps, so it knows no models.

The table has a thread and a connection of its own: whoever logs never waits for the database, and repeats of one error are one row.
"""

import hashlib
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from django.db import connections

MOST_WAITING = 200  # different errors; more at once are told by the console alone
SECONDS_BETWEEN_WRITES = 1.0
SECONDS_AFTER_FAILURE = 5.0
SECONDS_AT_EXIT = 2.0
TRACE_CHARACTERS = 4_000


class JsonLines(logging.Formatter):
    """One JSON object a record: at, level, logger, part, message, and trace where there is one."""

    def __init__(self, *, part: str = "") -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a line break in a message stays inside its string."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "part": self._part,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class LoggedRecord(msgspec.Struct):
    """Repeats of one error since the last write."""

    level: str
    logger: str
    message: str
    trace: str
    count: int
    first_at: datetime
    last_at: datetime


_UPSERT = """
INSERT INTO logged_errors AS kept (fingerprint, level, logger, part, message, trace, count, first_at, last_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (fingerprint) DO UPDATE SET count = kept.count + excluded.count, message = excluded.message,
    trace = CASE excluded.trace WHEN '' THEN kept.trace ELSE excluded.trace END, last_at = greatest(kept.last_at, excluded.last_at)
"""


class ErrorTable(logging.Handler):
    """Bring records into `logged_errors`, later, conflated and bounded."""

    def __init__(self, *, part: str = "") -> None:
        super().__init__()
        self._part = part
        self._complained = False
        self._ending = False
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """A child of a fork has no thread, and a lock that somebody may have held; what waited is the parent's to write."""
        self._wake = threading.Condition()
        self._waiting: dict[str, LoggedRecord] = {}
        self._writing = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Note the record and return at once."""
        fingerprint, fresh = _condensed(record)
        with self._wake:
            known = self._waiting.get(fingerprint)
            if known is not None:
                known.count, known.last_at, known.message = known.count + 1, fresh.last_at, fresh.message
            elif len(self._waiting) < MOST_WAITING:
                self._waiting[fingerprint] = fresh
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="error-table", daemon=True)
                self._thread.start()
            self._wake.notify()

    def flush(self) -> None:
        """Wait a moment for what is noted; logging asks for it as the process ends."""
        end = time.monotonic() + SECONDS_AT_EXIT
        with self._wake:
            self._ending = True
            self._wake.notify_all()
            while (self._waiting or self._writing) and not self._complained and time.monotonic() < end:
                self._wake.wait(0.05)
            self._ending = False

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    self._wake.wait()
                batch, self._waiting, self._writing = self._waiting, {}, True
            is_written = self._write(batch)
            pause = SECONDS_BETWEEN_WRITES if is_written else SECONDS_AFTER_FAILURE
            with self._wake:
                if not is_written:
                    self._put_back(batch)
                self._writing = False
                self._wake.notify_all()
                end = time.monotonic() + pause
                while not self._ending and time.monotonic() < end:
                    self._wake.wait(end - time.monotonic())

    def _put_back(self, batch: dict[str, LoggedRecord]) -> None:
        newer, self._waiting = self._waiting, batch
        for fingerprint, one in newer.items():
            known = batch.get(fingerprint)
            if known is not None:
                known.count, known.last_at, known.message = known.count + one.count, one.last_at, one.message
            elif len(batch) < MOST_WAITING:
                batch[fingerprint] = one

    def _write(self, batch: dict[str, LoggedRecord]) -> bool:
        try:
            given = connections["default"].get_connection_params()
            parameters = {key: value for key, value in given.items() if key not in {"cursor_factory", "context", "prepare_threshold"}}
            with psycopg.connect(**parameters, application_name="tickstock errors") as connection, connection.cursor() as cursor:
                for fingerprint, one in sorted(batch.items()):
                    cursor.execute(
                        _UPSERT,
                        (fingerprint, one.level, one.logger, self._part, one.message, one.trace, one.count, one.first_at, one.last_at),
                    )
        except psycopg.errors.UndefinedTable:
            return True  # before the first migration there is nowhere to keep it
        except psycopg.Error as error:
            if not self._complained:
                self._complained = True
                sys.stderr.write(f"The table of errors cannot be written, what waits is kept: {str(error).strip().splitlines()[0]}\n")
            return False
        self._complained = False
        return True


def _condensed(record: logging.LogRecord) -> tuple[str, LoggedRecord]:
    """Return the record and what its repeats have in common: where and with which words it was logged, and where it was raised."""
    at = datetime.fromtimestamp(record.created, UTC)
    trace, place = "", ""
    if record.exc_info and record.exc_info[2] is not None:
        trace = logging.Formatter().formatException(record.exc_info)[-TRACE_CHARACTERS:]
        last: Any = record.exc_info[2]
        while last.tb_next is not None:
            last = last.tb_next
        place = f"{record.exc_info[0]} {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    same = f"{record.levelname}\n{record.name}\n{record.msg}\n{place}"
    fingerprint = hashlib.sha256(same.encode("utf-8", "replace")).hexdigest()[:40]
    message = record.getMessage().replace("\0", "")[:500]
    return fingerprint, LoggedRecord(record.levelname, record.name[:100], message, trace.replace("\0", ""), 1, at, at)
