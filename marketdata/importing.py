"""
Files on their way into the tables: blocks → checks → writer, with a report, and a mark after each commit so that it can go on.

Not the REST line: that is backfill.py. Both write under the lock `past`.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from marketdata.bars.columns import REASONS, Checked, Wanted, check, looks_daily
from marketdata.bars.session import Hours
from marketdata.bars.tally import SessionTally
from marketdata.feed.decode import Rejection
from marketdata.files import BarFile, FileError
from marketdata.models import ImportedFile, Session, Source
from marketdata.writer import Writer

REJECTIONS_KEPT = 1_000  # rows of one file; beyond it one row per block and reason counts the rest
ROW_BITS = 31  # of a version: the file's second in front, the row behind, so that of two rows of one key the later one wins every time
OPERATOR_FILES = "csv "

Item = TypeVar("Item")
Progress = Callable[[float, int], None]
"""Gets how much of the file is read, 0 to 1, and the rows so far."""


class FileReport(msgspec.Struct):
    """
    What became of a file's rows: rows = inserted + changed + unchanged + rejected + duplicates + test_tickers + skipped.

    `unchanged`: the table has them already, or something of a higher rank. `absent`: regular minutes, by day, that symbols of the file lack.
    `error` says why the file could not be read to its end.
    """

    file: str
    rows: int = 0
    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    reasons: dict[str, int] = {}
    duplicates: int = 0
    test_tickers: int = 0
    skipped: int = 0
    outside_sessions: int = 0
    absent: dict[str, int] = {}
    absent_truncated: bool = False
    resumed_at: int = 0
    seconds: float = 0.0
    error: str = ""


def import_file(
    path: Path,
    writer: Writer,
    wanted: Wanted,
    *,
    source: Source,
    now: datetime,
    progress: Progress = lambda part, rows: None,
) -> FileReport:
    """
    Store a file's bars; an interrupted import of the same file with the same options goes on after its last committed block.

    FileError where it is no file of bars. A file that breaks off later is stored up to there, and `error` says so.
    """
    began = time.monotonic()
    one = next(iter(wanted.symbols)) if wanted.symbols is not None and len(wanted.symbols) == 1 else None
    file = BarFile(path, flat=wanted.flat, one_symbol=one is not None)
    blocks = file.blocks()
    first = next(blocks, None)  # a file that is none shows here, before anything is noted of it
    mark, version = _mark(file, wanted, source, now)
    report = FileReport(file=str(path), resumed_at=mark.rows_done)
    report.inserted, report.changed = mark.report.get("inserted", 0), mark.report.get("changed", 0)
    tally = SessionTally([] if wanted.days else _sessions())
    reasons: Counter[str] = Counter()
    try:
        for checked, height, part in _ahead(_checked(_chain(first, blocks), wanted, one)):
            if not report.rows:
                _ensure_timespan(checked, wanted, path)
            report.rows += height
            _count(report, reasons, tally, checked, wanted)
            if report.rows > mark.rows_done:
                refused = _store(checked, writer, wanted, source=source, version=version, report=report)
                reasons.update(rejection.reason for rejection in refused)
                writer.reject([*_rejections(checked, path.name, room=REJECTIONS_KEPT - report.rejected), *refused])
                _note(mark, report, rows_done=report.rows)
            report.rejected = sum(reasons.values())
            progress(part, report.rows)
    except FileError as error:
        report.error = str(error)
    report.reasons = dict(reasons.most_common())
    left = report.rejected + report.duplicates + report.test_tickers + report.skipped
    report.unchanged = report.rows - left - report.inserted - report.changed
    report.outside_sessions, report.absent, report.absent_truncated = tally.outside, tally.absent(), tally.truncated
    report.seconds = round(time.monotonic() - began, 3)
    if report.error and not report.rows:
        raise FileError(report.error)
    if not report.error:
        mark.finished_at = now
        _note(mark, report, rows_done=report.rows)
    return report


def _sessions() -> list[tuple[date, Hours]]:
    rows = Session.objects.values_list("date", "pre_open", "open", "close", "post_close")
    return [(day, Hours(*(int(moment.timestamp()) * 1000 for moment in moments))) for day, *moments in rows.iterator()]


def _ensure_timespan(checked: Checked, wanted: Wanted, path: Path) -> None:
    """Refuse days given as minutes and minutes given as days: each would be stored as what it is not."""
    off = checked.bad.filter(reason="off_day").height + checked.duplicates
    if wanted.days and off > checked.good.height:
        raise FileError(f"{path} does not hold daily bars; import it with --timespan minute.")
    if not wanted.days and looks_daily(checked.good):
        raise FileError(f"{path} holds daily bars; import it with --timespan day.")


def _chain(first: tuple[pl.DataFrame, float] | None, rest: Iterator[tuple[pl.DataFrame, float]]) -> Iterator[tuple[pl.DataFrame, float]]:
    if first is not None:
        yield first
        yield from rest


def _checked(blocks: Iterator[tuple[pl.DataFrame, float]], wanted: Wanted, one: str | None) -> Iterator[tuple[Checked, int, float]]:
    """Yield each block's rows sorted into good and bad, how many it has, and how much of the file is read then."""
    rows = 0
    for frame, part in blocks:
        named = frame if one is None or "symbol" in frame.columns else frame.with_columns(symbol=pl.lit(one))
        yield check(named, wanted, first_row=rows), frame.height, part
        rows += frame.height


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, the next one being made while the caller is busy with the last: the database stores, we read on."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item


def _mark(file: BarFile, wanted: Wanted, source: Source, now: datetime) -> tuple[ImportedFile, int]:
    """
    Return how far this file came, with the options that change its meaning, and the version of its rows.

    A flat file's version is its time of publication (the file's own time): one published again wins. An operator's is the time of its
    import; the newest import of an operator keeps its version when it is repeated, so that it changes nothing then.
    """
    options = (file.digest(), source.value, wanted.days, wanted.zone, sorted(wanted.symbols or ()), wanted.first_ms, wanted.last_ms)
    kind = OPERATOR_FILES if source is Source.OPERATOR else "flat "
    digest = hashlib.sha256(repr(options).encode()).hexdigest()
    newest = ImportedFile.objects.filter(name__startswith=kind).order_by("-updated_at").first()
    mark = ImportedFile.objects.filter(digest=digest).first() or ImportedFile(digest=digest, name=f"{kind}{file.path.name}"[:300])
    going_on = mark.rows_done > 0 and mark.finished_at is None
    seconds = file.modified_seconds
    if source is Source.OPERATOR:
        repeated = going_on or (newest is not None and newest.digest == digest)
        seconds = mark.report.get("version_seconds", 0) if repeated else 0
        seconds = seconds or int(now.timestamp())
    if not going_on:
        mark.rows_done, mark.finished_at, mark.report = 0, None, {}
    mark.report = {**mark.report, "version_seconds": seconds}
    return mark, seconds << ROW_BITS


def _note(mark: ImportedFile, report: FileReport, *, rows_done: int) -> None:
    mark.rows_done = rows_done
    mark.report = {**msgspec.to_builtins(report), "version_seconds": mark.report["version_seconds"]}
    mark.save()


def _count(report: FileReport, reasons: Counter[str], tally: SessionTally, checked: Checked, wanted: Wanted) -> None:
    report.duplicates += checked.duplicates
    report.test_tickers += checked.test_tickers
    report.skipped += checked.skipped
    for reason, count in checked.bad.group_by("reason").len().iter_rows():
        reasons[reason] += count
    if not wanted.days:
        tally.add(checked.good["symbol"], checked.good["at"])


def _store(checked: Checked, writer: Writer, wanted: Wanted, *, source: Source, version: int, report: FileReport) -> list[Rejection]:
    good = checked.good
    if not good.height:
        return []
    if not wanted.days:  # each moment is put into words once: symbols share them
        moments = good.select(pl.col("at").unique()).with_columns(
            text=pl.from_epoch("at", time_unit="ms").dt.to_string("%Y-%m-%d %H:%M:%S+00")
        )
        good = good.join(moments, on="at", how="left", maintain_order="left")
    is_final = pl.lit("t" if source >= Source.SETTLED else "f").alias("is_final")
    lines = good.select(
        "symbol", "at" if wanted.days else "text", "open", "high", "low", "close", "volume", "vwap", "trades", pl.lit(int(source)).alias("source"),
        (pl.col("row") + version).alias("version"), *([] if wanted.days else [pl.lit("t"), is_final]),
    )  # fmt: skip
    text = lines.write_csv(include_header=False, separator="\t", null_value="\\N", quote_style="never")
    symbols = good["symbol"].unique().to_list()
    if wanted.days:
        stored, refused = writer.copy_days(text, symbols=symbols)
    else:
        first_ms, last_ms = checked.good.select(first=pl.col("at").min(), last=pl.col("at").max()).row(0)
        stored, refused = writer.copy_bars(text, first_ms=first_ms, last_ms=last_ms, symbols=symbols)
    report.inserted += stored.inserted
    report.changed += stored.changed
    return refused


def _rejections(checked: Checked, name: str, *, room: int) -> list[Rejection]:
    """Keep bad rows while there is room for the file, then one per reason with the count."""
    kept = [
        Rejection(reason, f"{name}, row {row + 1}: {REASONS[reason]}", "row", symbol, raw)
        for row, symbol, reason, raw in checked.bad.head(max(room, 0)).iter_rows()
    ]
    rest = checked.bad.slice(max(room, 0)).group_by("reason").agg(pl.len(), pl.first("row", "symbol", "raw"))
    return kept + [
        Rejection(reason, f"{name}, from row {row + 1} on: {REASONS[reason]}", "row", symbol, raw, count)
        for reason, count, row, symbol, raw in rest.iter_rows()
    ]
