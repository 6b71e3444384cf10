"""
Files of past bars as blocks of columns: Massive's flat files, plain CSV (both also gzipped), Parquet. Reads; stores nothing.

Never more than a block is in memory.
"""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl

from marketdata.bars.columns import Header, HeaderError, joined_moments, parse, read_header

BLOCK_BYTES = 4 << 20  # some 75,000 lines: a commit has its price
PARQUET_ROWS = 80_000


class FileError(RuntimeError):
    """The file cannot be read as a whole, or no further; the message says why."""


class BarFile:
    """One file of bars, opened anew for each pass. FileError where it is none."""

    def __init__(self, path: Path, *, flat: bool, one_symbol: bool = False) -> None:
        self.path = path
        self.flat = flat
        self._one_symbol = one_symbol
        try:
            self.size = path.stat().st_size
            self.modified_seconds = int(path.stat().st_mtime)
            with path.open("rb") as raw:
                self._magic = raw.read(4)
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}.") from None
        if not self.size:
            raise FileError(f"{path} is empty.")

    def digest(self) -> str:
        """Return the SHA-256 of the content."""
        with self.path.open("rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()

    def blocks(self) -> Iterator[tuple[pl.DataFrame, float]]:
        """
        Yield the rows, block by block, and how much of the file is read then, 0 to 1. The same file gives the same blocks each time.

        FileError where it ends too early, or is no table at all.
        """
        if self._magic == b"PAR1":
            yield from self._parquet()
            return
        with self.path.open("rb") as raw:
            try:
                yield from self._text(raw)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise FileError(f"{self.path} is damaged or incomplete ({error}); what was read is stored. Fetch it again.") from None
            except HeaderError as error:
                raise FileError(f"{self.path}: {error}.") from None

    def _text(self, raw: BinaryIO) -> Iterator[tuple[pl.DataFrame, float]]:
        stream = gzip.GzipFile(fileobj=raw) if self._magic[:2] == b"\x1f\x8b" else raw
        header: Header | None = None
        rest = b""
        while block := stream.read(BLOCK_BYTES):
            whole, newline, tail = (rest + block).rpartition(b"\n")
            rest = tail
            if not newline:
                if len(rest) > BLOCK_BYTES:
                    raise FileError(f"{self.path} is no text table: a line has more than {BLOCK_BYTES:,} bytes.")
                continue
            if header is None:
                first, _, whole = whole.partition(b"\n")
                header = self._header(first)
            if whole:
                yield parse(whole, header), raw.tell() / self.size
        if header is None:
            header, rest = self._header(rest), b""
        if rest.strip():
            yield parse(rest, header), 1.0

    def _header(self, line: bytes) -> Header:
        return read_header(line.decode("utf-8", "replace"), flat=self.flat, one_symbol=self._one_symbol)

    def _parquet(self) -> Iterator[tuple[pl.DataFrame, float]]:
        try:
            table = pl.scan_parquet(self.path)
            names = table.collect_schema().names()
            total = table.select(pl.len()).collect().item()
            header = read_header(",".join(names), flat=self.flat, one_symbol=self._one_symbol)
            chosen = {name: meaning for name, meaning in zip(names, header.meanings, strict=True) if meaning}
            done = 0
            for batch in table.select(list(chosen)).rename(chosen).collect_batches(chunk_size=PARQUET_ROWS, maintain_order=True, lazy=True):
                for start in range(0, batch.height, PARQUET_ROWS):
                    part = batch.slice(start, PARQUET_ROWS)
                    done += part.height
                    yield joined_moments(part.with_columns(whole=pl.lit(value=True))), done / total
        except HeaderError as error:
            raise FileError(f"{self.path}: {error}.") from None
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FileError(f"{self.path} cannot be read as Parquet ({str(error).splitlines()[0][:200]}).") from None


def text_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the lines of a small CSV (plain or gzipped) under the lower-case names of its header. FileError where it cannot be read."""
    try:
        with path.open("rb") as raw:
            stream = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
            reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline=""))
            for row in reader:
                yield {(name or "").strip().lower(): (value or "").strip() for name, value in row.items() if isinstance(value, str)}
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise FileError(f"{path} cannot be read: {error}.") from None
