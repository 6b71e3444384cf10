"""Stored bars of any scanned interval and what the ledger says of them, read as windows. Reads only."""

from patterns.windows.moments import LENGTH_MS, milliseconds_of, moment_of
from patterns.windows.reading import AFTER, BEFORE, NEVER, Key, Read, Span, bars_of, read_windows, sums_since_open
from patterns.windows.sessions import Sessions, session_before, sessions_around

__all__ = [
    "AFTER", "BEFORE", "LENGTH_MS", "NEVER", "Key", "Read", "Sessions", "Span", "bars_of", "milliseconds_of", "moment_of", "read_windows",
    "session_before", "sessions_around", "sums_since_open",
]  # fmt: skip
