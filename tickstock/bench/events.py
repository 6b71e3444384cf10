"""Frames → one-minute bars, on one core: against the typed decoder alone, and against two peers on a real day of trades."""

import gc
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.feed.events import Milliseconds, Price, SecondAggregate, Size, SizeText, Ticker, Trade
from marketdata.intake import Intake
from tickstock.bench.rows import Place, Row, alternate, growth_row, not_measured, rate_row

TRADES = "2013-10-08-trades-AIG-BAC-IBM.jsonl.gz"
FRAME = 100
SECONDS = 600
DECODE = "typed decode of the same frames"
PEER = Path(__file__).with_name("peer_nautilus.py")


class WholeTrade(msgspec.Struct, tag_field="ev", tag="T", frozen=True, gc=False, kw_only=True):
    """A trade with what the product skips as well: venue, its own number, facility."""

    sym: Ticker
    x: int = 0
    i: str | int = ""
    p: Price
    s: Size = 0
    ds: SizeText | None = None
    c: tuple[int, ...] = ()
    t: Milliseconds
    q: int
    trfi: int | None = None


class WholeSecond(msgspec.Struct, tag_field="ev", tag="A", frozen=True, gc=False, kw_only=True):
    """A second with what the product skips as well: mean size, end, market."""

    sym: Ticker
    v: Size = 0
    dv: SizeText | None = None
    av: Size = 0
    vw: float | None = None
    o: Price
    c: Price
    h: Price
    l: Price  # noqa: E741 - Massive's name
    z: float | None = None
    s: Milliseconds
    e: Milliseconds
    otc: bool = False


_whole_seconds = msgspec.json.Decoder(list[WholeSecond])
_whole_trades = msgspec.json.Decoder(list[WholeTrade])
_seconds = msgspec.json.Decoder(list[SecondAggregate])
_trades = msgspec.json.Decoder(list[Trade])


def rows(place: Place) -> Iterator[Row]:
    """Yield the rows of decoding and folding."""
    gc.collect()
    gc.freeze()  # as stream_ticks does
    frames = second_frames(symbols=70, seconds=SECONDS)
    count = 70 * SECONDS
    bare, part, ours = alternate(
        place.repeats, lambda: _decode(_whole_seconds, frames), lambda: _decode(_seconds, frames), lambda: fold(frames),
        clock=time.process_time,
    )  # fmt: skip
    yield rate_row("decode + fold, A", DECODE, count=count, ours=ours, peer=bare, goal=0.45, note=_read_alone(part, ours))
    points = [(70, ours / SECONDS)]
    for symbols in (1_000, 11_000):
        seconds = max(60, 200_000 // symbols)  # whole minutes, as a feed has them
        many = second_frames(symbols=symbols, seconds=seconds)
        number = symbols * seconds
        bare, more = alternate(place.repeats, partial(_decode, _whole_seconds, many), partial(fold, many), clock=time.process_time)
        yield rate_row(f"decode + fold, A, {symbols:,} symbols", "the same", count=number, ours=more, peer=bare, goal=0.45)
        points.append((symbols, more / seconds))
    yield growth_row("decode + fold, A", points)
    yield _trades_growth(place)
    recording = place.recordings / TRADES
    if not recording.exists():
        for name, goal in (
            ("decode + eligibility + fold, T", 0.40),
            ("real trades → bars", 2.0),
            ("real trades → bars (polars)", 0.5),
            ("a real day replayed", 0.5),
        ):
            yield not_measured(name, "a real day", goal, f"the recording {TRADES} is not beside the checkout")
        return
    yield from _real_trades(place, recording)


def _real_trades(place: Place, recording: Path) -> Iterator[Row]:
    with gzip.open(recording) as lines:
        events = [event for line in lines for event in json.loads(line)]
    frames = framed(events)
    count = len(events)
    del events  # 200,000 dictionaries through which the collector would look while the side that makes objects is measured

    def by_polars() -> None:
        _bars_by_polars(_trades_of(frames))

    bare, part, ours, polars = alternate(
        place.repeats, lambda: _decode(_whole_trades, frames), lambda: _decode(_trades, frames), lambda: fold(frames), by_polars,
        clock=time.process_time,
    )  # fmt: skip
    yield rate_row("decode + eligibility + fold, T", DECODE, count=count, ours=ours, peer=bare, goal=0.40, note=_read_alone(part, ours))
    yield _against_nautilus(place, frames, count, ours)
    yield rate_row(
        "real trades → bars", "polars: typed decode, columns, group_by", count=count, ours=ours, peer=polars, goal=0.5,
        note="CPU seconds, both cores of polars counted",
    )  # fmt: skip
    yield _replayed(recording)


def _trades_growth(place: Place) -> Row:
    points = []
    for symbols in (70, 1_000, 11_000):
        seconds = max(120, 200_000 // symbols)  # more than the first minute, in which every symbol is new
        [taken] = alternate(place.repeats, partial(fold, trade_frames(symbols=symbols, seconds=seconds)), clock=time.process_time)
        points.append((symbols, taken / seconds))
    return growth_row("decode + eligibility + fold, T", points)


def _replayed(recording: Path) -> Row:
    """Return the row of the whole command: its own count of events and seconds, database and announcements included."""
    name, against = "a real day replayed, whole command", "gunzip + json.loads of the same file"
    began = time.perf_counter()
    with gzip.open(recording) as lines:
        events = sum(len(json.loads(line)) for line in lines)
    bare = time.perf_counter() - began
    command = [sys.executable, "manage.py", "stream_ticks", "--replay", str(recording), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return not_measured(name, against, 0.5, f"it failed: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["events"] == events
    note = f"{told['bars']:,} bars stored"
    return rate_row(name, against, count=events, ours=told["seconds"], peer=bare, goal=0.5, note=note)


def second_frames(*, symbols: int, seconds: int) -> list[bytes]:
    """Return frames of 100 second aggregates, every symbol each second."""
    first = 1_795_185_000_000
    events = []
    for second in range(seconds):
        for number in range(symbols):
            price = round(50 + number % 400 * 0.37 + second % 7 * 0.01, 2)
            events.append(
                {
                    "ev": "A", "sym": f"S{number:05d}", "v": 200 + number % 90, "dv": f"{200 + number % 90}.0", "av": 100_000 + second * 200,
                    "op": 49.9, "vw": round(price + 0.0021, 4), "o": price, "c": round(price + 0.01, 2), "h": round(price + 0.02, 2),
                    "l": price, "a": 49.8, "z": 100, "s": first + second * 1000, "e": first + second * 1000 + 1000,
                }
            )  # fmt: skip
    return framed(events)


def trade_frames(*, symbols: int, seconds: int) -> list[bytes]:
    """Return frames of 100 trades, every symbol each second, most of them odd lots."""
    first = 1_795_185_000_000
    conditions: tuple[list[int], ...] = ([14, 37, 41], [37], [], [14, 41], [14, 37, 41])

    def trade(number: int, second: int) -> dict[str, object]:
        size = 1 + (number * 7 + second * 13) % 300
        return {
            "ev": "T", "sym": f"S{number:05d}", "x": 4, "i": str(second), "z": 3, "p": round(50 + number % 400 * 0.37 + second % 7 * 0.01, 2),
            "s": size, "ds": f"{size}.0", "c": conditions[(number + second) % 5], "t": first + second * 1000 + number % 1000, "q": second + 1,
            "trfi": 202,
        }  # fmt: skip

    return framed(trade(number, second) for second in range(seconds) for number in range(symbols))


def framed(events: Iterable[dict[str, object]]) -> list[bytes]:
    """Return the events as frames of 100."""
    rest = iter(events)
    return [json.dumps(frame, separators=(",", ":")).encode() for frame in iter(lambda: list(islice(rest, FRAME)), [])]


def fold(frames: list[bytes]) -> int:
    """Run frames through the product's way; return how many bars came."""
    intake = Intake(BarBuilder(SessionTable([]), unbroken=True), symbols=None, kinds=None)
    bars = 0
    for frame in frames:
        intake.take(frame)
        intake.close(intake.builder.clock_ms)
        bars += len(intake.bars)
        intake.bars.clear()
    intake.finish()
    return bars + len(intake.bars)


def _read_alone(part: float, ours: float) -> str:
    return f"{part / ours:.2f} of a decode of the fields alone that are read here"


def _decode(decoder: msgspec.json.Decoder[Any], frames: list[bytes]) -> None:
    for frame in frames:
        decoder.decode(frame)


def _trades_of(frames: list[bytes]) -> list[Trade]:
    return [trade for frame in frames for trade in _trades.decode(frame)]


def _bars_by_polars(trades: list[Trade]) -> pl.DataFrame:
    """Return open, high, low, close, volume by minute; without the rules of eligibility, which would cost it more."""
    columns = pl.DataFrame(
        {
            "symbol": [trade.sym for trade in trades],
            "price": [trade.p for trade in trades],
            "size": [trade.s for trade in trades],
            "at": [trade.t for trade in trades],
        }
    )
    return columns.group_by("symbol", pl.col("at") // 60_000, maintain_order=True).agg(
        open=pl.col("price").first(),
        high=pl.col("price").max(),
        low=pl.col("price").min(),
        close=pl.col("price").last(),
        volume=pl.col("size").sum(),
    )


def _against_nautilus(place: Place, frames: list[bytes], count: int, ours: float) -> Row:
    name, against = "real trades → bars", "nautilus_trader: typed decode, TradeTick, time-bar aggregator"
    if place.peers is None:
        return not_measured(name, against, 2.0, "its environment is not there: `make bench` makes it")
    path = place.scratch / "trades.jsonl"
    path.write_bytes(b"\n".join(frames))
    done = subprocess.run([str(place.peers), str(PEER), str(path), str(place.repeats)], capture_output=True, text=True, check=False)
    if done.returncode:
        return not_measured(
            name, against, 2.0, f"it failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
        )
    return rate_row(name, against, count=count, ours=ours, peer=float(done.stdout.split()[-1]), goal=2.0, note="CPU seconds")
