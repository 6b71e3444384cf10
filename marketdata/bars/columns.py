"""
Rows of a file as columns: from text of any form to rows that the table may take, all at once. Pure: no clock, no I/O, no Django.

Prices and volumes are checked as numbers but handed on as the file's own text, so that not a digit changes.
"""

import csv
import io
from dataclasses import dataclass

import polars as pl

from marketdata.feed.listing import TEST_TICKERS

FLAT_COLUMNS = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
NEEDED = ("at", "open", "high", "low", "close", "volume")
OPTIONAL = ("vwap", "trades")
NEW_YORK = "America/New_York"
LONGEST_MS = 4_102_444_800_000  # 2100: what lies beyond is no moment of a bar
EARLIEST_MS = -2_208_988_800_000  # 1900

_NAMES = {
    "symbol": ("symbol", "ticker", "sym"),
    "at": ("timestamp", "datetime", "window_start", "time", "date", "t", "ts"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "v", "vol"),
    "vwap": ("vwap", "vw"),
    "trades": ("trades", "transactions", "n"),
}
_OVERFLOW = "beyond the header"
_GUARD = b"-\n"  # a first line of ours: polars would unpack a block that happens to begin like a compressed file

REASONS = {
    "bad_columns": "it has more columns than the header",
    "bad_symbol": "the symbol is missing or is none",
    "bad_time": "the time cannot be read (flat files: nanoseconds; else ISO 8601, or seconds to nanoseconds since 1970)",
    "off_minute": "the time does not lie on a whole minute",
    "off_day": "a daily bar of a flat file starts at midnight in New York",
    "not_over": "the bar is not over yet",
    "bad_price": "a price is missing, not a number, not positive, or absurd",
    "bad_order": "open and close must lie between low and high",
    "bad_volume": "the volume is missing, not a number, negative, or absurd",
    "bad_trades": "vwap or the number of trades cannot be",
}


class HeaderError(ValueError):
    """The header does not name what a bar needs; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Header:
    """The file's first line: its separator, and for each column what it means here ("" for what is not needed)."""

    separator: str
    meanings: tuple[str, ...]


def read_header(line: str, *, flat: bool, one_symbol: bool) -> Header:
    """
    Return what the columns mean. `one_symbol`: the caller knows the symbol, the file need not name it.

    HeaderError where a needed column is missing or two mean the same.
    """
    text = line.lstrip("\ufeff").strip("\r\n")
    separator = max((",", ";", "\t"), key=text.count)
    given = [name.strip().strip('"').strip().lower() for name in text.split(separator)]
    if flat:
        missing = [name for name in FLAT_COLUMNS if name not in given]
        if missing:
            raise HeaderError(f"it is no flat file of aggregates: the header lacks {', '.join(missing)} (it begins {text[:80]!r})")
    return Header(separator, _meanings(given, one_symbol=one_symbol))


def _meanings(given: list[str], *, one_symbol: bool) -> tuple[str, ...]:
    meanings = [""] * len(given)
    if "date" in given and "time" in given:  # a day and a clock time, each in a column of its own
        meanings[given.index("date")], meanings[given.index("time")] = "day", "clock"
    for meaning, names in _NAMES.items():
        if meaning == "at" and "day" in meanings:
            continue
        found = [place for place, name in enumerate(given) if name in names]
        if len(found) > 1 and meaning != "at":
            raise HeaderError(f"two columns mean {meaning}: {', '.join(given[place] for place in found)}")
        if found:
            best = min(found, key=lambda place: names.index(given[place]))
            meanings[best] = meaning
    needed = [*(() if one_symbol else ("symbol",)), *(name for name in NEEDED if name != "at" or "day" not in meanings)]
    missing = [{"at": "timestamp"}.get(name, name) for name in needed if name not in meanings]
    if missing:
        raise HeaderError(f"the header lacks {', '.join(missing)}; it has {', '.join(given)[:200]}")
    return tuple(meanings)


def parse(block: bytes, header: Header) -> pl.DataFrame:
    """Return the lines of a block as text columns under their meanings; `whole` is false where a line is wider than the header."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b'"' in block:
        block = _unquoted(block, header.separator)
    names = [meaning or f"unused {place}" for place, meaning in enumerate(header.meanings)]
    frame = pl.read_csv(
        io.BytesIO(_GUARD + block),
        has_header=False,
        schema=dict.fromkeys([*names, _OVERFLOW], pl.String),
        separator=header.separator,
        quote_char=None,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        missing_columns="insert",
        raise_if_empty=False,
    )
    return joined_moments(frame.slice(1).with_columns(whole=pl.col(_OVERFLOW).is_null()).drop(_OVERFLOW))


def joined_moments(frame: pl.DataFrame) -> pl.DataFrame:
    """Put a day and a clock time that stand in two columns into one."""
    if "day" not in frame.columns:
        return frame
    return frame.with_columns(at=pl.concat_str([pl.col("day").cast(pl.String), pl.col("clock").cast(pl.String)], separator=" "))


def _unquoted(block: bytes, separator: str) -> bytes:
    """Take the quotes off, line by line: a stray quote must not swallow the lines after it. A separator inside quotes becomes nothing."""
    lines = []
    for line in block.decode("utf-8", "replace").splitlines():
        try:
            cells = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            cells = [line]
        lines.append(separator.join(cell.replace(separator, "").strip() for cell in cells))
    return "\n".join(lines).encode()


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """
    What became of a block's rows.

    `good` has symbol, at (Unix ms, or a date), the prices and volume as text, vwap and trades (null where absent), and `row`, its number in the
    file; `bad` has row, symbol, reason and raw. `skipped` counts blank lines and rows that nobody asked for.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    duplicates: int
    test_tickers: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are asked for, and how to read them: bars of a minute or a day, of these symbols (None: all), starting in [first, last)."""

    days: bool
    flat: bool
    zone: str
    now_ms: int
    symbols: frozenset[str] | None = None
    first_ms: int = EARLIEST_MS
    last_ms: int = LONGEST_MS


def check(frame: pl.DataFrame, wanted: Wanted, *, first_row: int) -> Checked:
    """Sort the rows into good and bad ones; of rows with one key in a block the last stays. Blank lines are nothing."""
    frame = frame.with_columns(row=pl.int_range(first_row, first_row + frame.height, dtype=pl.Int64))
    columns = [name for name in ("symbol", "at", *NEEDED[1:], *OPTIONAL) if name in frame.columns]
    blank = pl.all_horizontal(pl.col(name).cast(pl.String).str.strip_chars().fill_null("") == "" for name in columns)
    height, frame = frame.height, frame.filter(~blank)
    blanks = height - frame.height
    raw = pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in columns], separator=",")
    at_ms, off = _moments(frame["at"], wanted)
    frame = frame.with_columns(at_ms=at_ms, off=off)
    frame = frame.with_columns(pl.col(name).cast(pl.String).str.strip_chars() for name in columns if name != "at")
    for name in OPTIONAL:
        if name not in columns:
            frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name))
    frame = frame.with_columns(reason=_reason(wanted))
    bad = frame.filter(pl.col("reason").is_not_null()).with_columns(raw=raw)
    frame = frame.filter(pl.col("reason").is_null())
    tested = frame.filter(~pl.col("symbol").is_in(list(TEST_TICKERS)))
    asked = tested.filter(pl.col("at_ms").is_between(wanted.first_ms, wanted.last_ms, closed="left"))
    if wanted.symbols is not None:
        asked = asked.filter(pl.col("symbol").is_in(list(wanted.symbols)))
    once = asked.unique(["symbol", "at_ms"], keep="last", maintain_order=True)
    return Checked(
        good=_good(once, wanted),
        bad=bad.select("row", pl.col("symbol").fill_null(""), "reason", "raw"),
        duplicates=asked.height - once.height,
        test_tickers=frame.height - tested.height,
        skipped=blanks + tested.height - asked.height,
    )


def _good(frame: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    at = pl.from_epoch("at_ms", time_unit="ms").dt.date() if wanted.days else pl.col("at_ms")
    trades = pl.col("trades").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    return frame.select("symbol", at.alias("at"), "open", "high", "low", "close", "volume", pl.col("vwap").replace("", None), trades, "row")


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False)


def _reason(wanted: Wanted) -> pl.Expr:
    """Return the first thing that is wrong with each row, null where nothing is. A comparison with what is no number is null: not right."""

    def fails(right: pl.Expr) -> pl.Expr:
        return ~right.fill_null(value=False)

    prices = [_number(name) for name in ("open", "high", "low", "close")]
    low, high = _number("low"), _number("high")
    length_ms = 0 if wanted.days else 60_000
    optional = [
        (_number(name) >= 0) & (_number(name) < bound) | pl.col(name).is_null() | (pl.col(name) == "")
        for name, bound in (("vwap", 10**7), ("trades", 2**31))
    ]
    rules = [
        ("bad_columns", pl.col("whole")),
        ("bad_symbol", pl.col("symbol").str.contains(r"^[A-Za-z0-9.\-/]{1,20}$")),
        ("bad_time", pl.col("at_ms").is_between(EARLIEST_MS, LONGEST_MS)),
        ("off_day" if wanted.days else "off_minute", pl.lit(wanted.days and not wanted.flat) | ~pl.col("off")),
        ("not_over", pl.col("at_ms") + length_ms <= wanted.now_ms),
        ("bad_price", pl.all_horizontal((price > 0) & (price < 10**7) for price in prices)),
        ("bad_order", pl.all_horizontal((price >= low) & (price <= high) for price in prices)),
        ("bad_volume", (_number("volume") >= 0) & (_number("volume") < 10**15)),
        ("bad_trades", pl.all_horizontal(optional)),
    ]
    return pl.coalesce(pl.when(fails(right)).then(pl.lit(reason)) for reason, right in rules)


# ---- time in any notation -------------------------------------------------------------------------------------------------------------

_UNITS = ((10**17, 10**6, 1), (10**14, 10**3, 1), (10**11, 1, 1), (10**8, 1, 1_000))  # from this size on: divide, multiply, to get ms
_NANOSECONDS_FROM = 10**17
_DAY_MS = 86_400_000
_MIDNIGHT = r"^(\d{4}-\d{2}-\d{2})( 00:00(:00(\.0+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
_WITH_OFFSET = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_WITHOUT = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def _moments(at: pl.Series, wanted: Wanted) -> tuple[pl.Series, pl.Series]:
    """
    Return (Unix ms, whether it lies off the whole minute); null where it is no moment.

    Of a day the ms are those of its date at midnight UTC.
    """
    if at.dtype == pl.Date:
        ms = at.cast(pl.Datetime("ms")).to_physical()
        return ms, ms % 60_000 != 0
    if isinstance(at.dtype, pl.Datetime):
        aware = at if at.dtype.time_zone else at.dt.replace_time_zone(wanted.zone, ambiguous="earliest", non_existent="null")
        micros = aware.dt.convert_time_zone("UTC").dt.cast_time_unit("us").to_physical()
        ms, off = micros // 1_000, micros % 60_000_000 != 0
        return (_dates(ms) if wanted.days else ms), off
    text = at.cast(pl.String).str.strip_chars()
    ms, off = _epochs(text, flat=wanted.flat)
    if wanted.days:
        day_ms = _dates(ms)
        ms, off = day_ms, _midnights(day_ms) != ms
    if ms.null_count() and not wanted.flat:
        iso_ms, iso_off = _iso(text, wanted)
        absent = ms.is_null()
        ms, off = iso_ms.zip_with(absent, ms), iso_off.zip_with(absent, off)
    return ms, off


def _epochs(text: pl.Series, *, flat: bool) -> tuple[pl.Series, pl.Series]:
    """Read whole numbers: their size tells seconds, milliseconds, microseconds and nanoseconds apart (1973 to 2096)."""
    number = text.cast(pl.Int64, strict=False)
    if number.null_count() and not flat:
        number = number.fill_null(text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False))
    frame = pl.DataFrame({"number": number})
    value = pl.col("number")
    ms = off = pl.lit(None)
    for bound, divisor, factor in reversed(_UNITS[:1] if flat else _UNITS):
        fits = value >= bound
        ms = pl.when(fits).then(value.floordiv(divisor) * factor).otherwise(ms)
        off = pl.when(fits).then(value % (60_000 * divisor // factor) != 0).otherwise(off)
    done = frame.select(ms=ms.cast(pl.Int64), off=off.cast(pl.Boolean))
    return done["ms"], done["off"]


def _dates(ms: pl.Series) -> pl.Series:
    """Return for each moment the midnight UTC of its day: the date it is the midnight of in UTC, else the day in New York."""
    frame = pl.DataFrame({"ms": ms})
    local = pl.from_epoch("ms", time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone(NEW_YORK).dt.date()
    own = pl.col("ms") % _DAY_MS == 0
    return frame.select(pl.when(own).then("ms").otherwise(local.cast(pl.Datetime("ms")).to_physical()).alias("ms"))["ms"]


def _midnights(day_ms: pl.Series) -> pl.Series:
    """Return the moment at which each day, given by its midnight UTC, begins in New York."""
    frame = pl.DataFrame({"ms": day_ms})
    return frame.select(pl.from_epoch("ms", time_unit="ms").dt.replace_time_zone(NEW_YORK).dt.epoch("ms").alias("ms"))["ms"]


def looks_daily(good: pl.DataFrame) -> bool:
    """Return whether these minutes can only be days: three or more, and each at midnight, in New York or UTC."""
    if good.height < 3:
        return False
    local = pl.from_epoch("at", time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone(NEW_YORK)
    midnight = (local.dt.hour() == 0) & (local.dt.minute() == 0)
    return bool(good.select((midnight | (pl.col("at") % _DAY_MS == 0)).all()).item())


def _iso(text: pl.Series, wanted: Wanted) -> tuple[pl.Series, pl.Series]:
    plain = text.str.replace("T", " ", literal=True).str.replace_all("/", "-", literal=True).str.replace(r" ?Z$", "+00:00")
    plain = plain.str.replace(r"^(\d{4})(\d{2})(\d{2})\b", "$1-$2-$3")
    frame = pl.DataFrame({"text": plain})
    aware = [pl.col("text").str.to_datetime(form, time_unit="us", strict=False) for form in _WITH_OFFSET]
    naive = [
        pl.col("text").str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone(
            wanted.zone, ambiguous="earliest", non_existent="null"
        ).dt.convert_time_zone("UTC")
        for form in _WITHOUT
    ]  # fmt: skip
    micros = frame.select(pl.coalesce(*aware, *naive).to_physical().alias("micros"))["micros"]
    ms, off = micros // 1_000, micros % 60_000_000 != 0
    if wanted.days:
        stated = plain.str.extract(_MIDNIGHT, 1).str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms")).to_physical()
        ms = stated.fill_null(_dates(ms))
    return ms, off
