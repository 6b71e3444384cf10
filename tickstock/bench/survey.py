"""The state of a whole market: computed beside polars, and read, computed and stored from a database that holds its bars."""

import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from io import BytesIO
from statistics import median, quantiles
from typing import Any

import numpy as np
import polars as pl
from django.db import connection

from accounts.models import ApiToken, User
from marketdata.feed.listing import BENCHMARK, SECTORS, with_references
from marketdata.models import Membership, Session, Source, Symbol, Universe
from patterns import survey
from patterns.market.blocks import Facts
from patterns.market.blocks import survey as blocks_of
from patterns.market.panel import Panel, Today
from patterns.market.state import HalfHours, state
from patterns.models import MarketSurvey
from tickstock.bench.asking import paced
from tickstock.bench.peer_polars import Market, survey_by_polars
from tickstock.bench.rows import Place, Row, alternate, growth_row, time_row
from tickstock.bench.serving import daphne

DAY = date(2026, 11, 20)
MINUTES = 390
YEARS_OF_DAYS = 504
KEY = "bench"
SIZES = (70, 1_000, 4_000)
PART = 0.75  # of the session, so that a projection differs from what it projects
COMPUTE_SECONDS, WARM_SECONDS, COLD_SECONDS, ANSWER_SECONDS = 1.0, 3.0, 20.0, 0.1
WARM_SURVEYS = 7


def rows(place: Place) -> Iterator[Row]:
    """Yield the rows of the survey."""
    points = []
    for count in SIZES:
        made = make(count)
        ours, peer = partial(_compute, made), partial(survey_by_polars, made.for_polars())
        differing = differences(made, ours(), peer())
        if differing:
            raise RuntimeError(f"{len(differing)} numbers differ from polars, the first: {differing[0]}")
        mine, theirs = alternate(place.repeats, ours, peer, clock=time.process_time)
        points.append((count, mine))
    name = f"survey of {SIZES[-1]:,} symbols"
    yield time_row(
        name, "polars, the same numbers checked equal", ours=mine, peer=theirs, goal=1.0, note="CPU seconds; polars makes fewer blocks"
    )
    yield growth_row("survey", points)
    yield time_row(f"{name}, computed", "1 s", ours=mine, peer=COMPUTE_SECONDS, goal=1.0)
    yield from _stored(made)


# ---- a market -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """A made-up market: its daily bars before the day, the day so far, and each symbol's sector."""

    panel: Panel
    today: Today
    sector: list[str]

    def for_polars(self) -> Market:
        """Return it as frames."""
        row, column = np.nonzero(self.panel.day)
        prices = dict(zip(("open", "high", "low", "close", "volume"), (prices[row, column] for prices in self.panel.prices()), strict=True))
        days = pl.DataFrame({"row": row, "day": self.panel.day[row, column], **prices})
        now = self.today
        columns = {"open": now.open, "high": now.high, "low": now.low, "close": now.last, "volume": now.volume}
        day = np.full(len(self.sector), now.day)
        today = pl.DataFrame({"row": np.arange(len(self.sector)), "day": day, **columns, "sector": self.sector}).fill_nan(None)
        return Market(days, today, self.panel.symbols.index(BENCHMARK), now.part)


def make(count: int) -> Made:
    """Return a market of random walks around one that all share; some have a short history, some no price today."""
    chance = np.random.default_rng(11)
    first = DAY.toordinal() - YEARS_OF_DAYS * 7 // 5
    days = np.array([day for day in range(first, DAY.toordinal()) if date.fromordinal(day).weekday() < 5][-YEARS_OF_DAYS:])
    steps = chance.normal(0.0002, 0.02, (count, len(days) + 1)) + chance.normal(0, 0.01, len(days) + 1)
    close = np.round(50 * np.exp(np.cumsum(steps, axis=1)), 2)
    open_ = np.round(close * (1 + chance.normal(0, 0.005, close.shape)), 2)
    high = np.round(np.maximum(open_, close) * (1 + np.abs(chance.normal(0, 0.005, close.shape))), 2)
    low = np.round(np.minimum(open_, close) * (1 - np.abs(chance.normal(0, 0.005, close.shape))), 2)
    volume = np.round(chance.lognormal(13, 0.5, close.shape))
    symbols = tuple(with_references([f"M{number:04d}" for number in range(count)])[-count:])
    missing = np.zeros(count, dtype=np.int64)
    young = np.arange(count) % 10 == 3
    missing[young] = chance.integers(1, len(days), int(young.sum()))
    missing[-12:] = 0  # SPY and the sector funds
    before = np.arange(len(days)) < missing[:, None]
    day = np.where(before, 0, days)
    prices = [np.where(before, np.nan, column[:, :-1]) for column in (open_, high, low, close, volume)]
    now_open, now_high, now_low, last, so_far = (column[:, -1].copy() for column in (open_, high, low, close, volume * PART))
    for column in (now_open, now_high, now_low, last, so_far):
        column[:-12:100] = np.nan
    at = np.full(count, round(datetime(2026, 11, 20, 19, tzinfo=UTC).timestamp() * 1000))
    sector = ["" if number % 12 == 11 else SECTORS[number % 12] for number in range(count)]
    return Made(Panel(symbols, day, *prices), Today(DAY.toordinal(), False, PART, now_open, now_high, now_low, last, so_far, at), sector)


def _compute(made: Made) -> dict[str, Any]:
    count = len(made.sector)
    facts = Facts(list(made.panel.symbols), made.sector, [""] * count, ["CS"] * count, [None] * count)
    nothing = HalfHours(np.zeros(0, dtype=np.int64), np.empty((count, 0)), np.zeros(0, dtype=np.int64))
    return blocks_of(state(made.panel, made.today, nothing), facts, np.arange(count), close_ms=None)


# ---- the same numbers ---------------------------------------------------------------------------------------------------------------------


def differences(made: Made, ours: dict[str, Any], peer: dict[str, Any]) -> list[tuple[object, ...]]:
    """Return (block, what, ours, theirs) of each number of polars that ours does not have, beyond the last place of rounding."""
    found: list[tuple[object, ...]] = []
    for block in ("rankings", "averages", "stages", "rotation"):
        mine = {row["symbol"]: row for row in ours[block]}
        for row in peer[block]:
            symbol = made.panel.symbols[row.pop("row")]
            found += [(block, symbol, *difference) for difference in _different(mine[symbol], row)]
    by_sector = {row["sector"]: row | {f"stage_{stage}": count for stage, count in row["stages"].items()} for row in ours["sectors"]}
    for row in peer["sectors"]:
        found += [("sectors", row["sector"], *difference) for difference in _different(by_sector[row["sector"]], row)]
    found += [("breadth", *difference) for difference in _different(ours["breadth"], peer["breadth"])]
    counts = {("unknown" if stage == 0 else str(stage)): count for stage, count in peer["stage_counts"].items()}
    return found + [("stage_counts", *difference) for difference in _different(ours["stage_counts"], counts)]


def _different(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, value in theirs.items():
        own = mine[name]
        if isinstance(value, dict):
            yield from _different(own, value)
        elif value is None or own is None or isinstance(value, str):
            if value != own:
                yield name, own, value
        elif abs(own - value) > 1.01e-4 + 1e-9 * abs(value):
            yield name, own, value


# ---- read, computed, stored -----------------------------------------------------------------------------------------------------------------


def _stored(made: Made) -> Iterator[Row]:
    """Yield the rows of a worker that has nothing in memory, and of one that surveyed the minute before."""
    fill(made)
    open_ = Session.objects.get(date=DAY).open
    survey.held = survey.Held()
    first = open_ + timedelta(minutes=MINUTES - WARM_SURVEYS)
    cold = surveyed(first)
    taken = [surveyed(first + timedelta(minutes=minute)) for minute in range(1, WARM_SURVEYS + 1)]
    count = len(made.sector)
    name, what = f"survey of {count:,} symbols", f"{YEARS_OF_DAYS} daily bars and {MINUTES} minutes each, read, computed and stored"
    yield time_row(f"{name}, cold", "20 s", ours=cold, peer=COLD_SECONDS, goal=1.0, note=what)
    slowest = f"median of {len(taken)}, the slowest {max(taken):.2f} s"
    yield time_row(f"{name}, each minute", "3 s", ours=median(taken), peer=WARM_SECONDS, goal=1.0, note=slowest)

    yield from _answered(count)


def _answered(count: int) -> Iterator[Row]:
    """Yield the row of who asks for the whole list, every tenth time as the first after a new survey."""
    user = User.objects.create_user(username="bench market", password=None)
    _, secret = ApiToken.objects.issue(user, scopes=["read:market"], expires_at=datetime.now(UTC) + timedelta(hours=1), name="bench")
    asked, hits = 0, 0
    try:
        with daphne(API_REQUESTS_PER_USER="10000000", API_REQUESTS_PER_ADDRESS="10000000") as (port, _):
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

            def ask() -> None:
                nonlocal asked, hits
                if asked % 10 == 0:
                    MarketSurvey.objects.filter(universe=KEY).update(made_at=datetime.now(UTC))
                line.request("GET", f"/api/market/rankings/?universe={KEY}", headers={"Authorization": f"Bearer {secret}"})
                answer = line.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"/api/market/rankings answers {answer.status}: {body[:200]!r}")
                asked, hits = asked + 1, hits + (answer.headers["Cache-Status"] == "surveys; hit")

            for _ in range(20):
                ask()
            taken = paced(ask)
            line.close()
    finally:
        user.delete()
    first = median(taken[::10]) * 1000
    note = (
        f"p95 at 10 a second, p50 {median(taken) * 1000:.0f} ms, first after a new survey {first:.0f} ms; {hits} of {asked} from the cache"
    )
    p95 = quantiles(taken, n=20)[-1]
    yield time_row(f"/api/market/rankings of {count:,} symbols", "100 ms", ours=p95, peer=ANSWER_SECONDS, goal=1.0, note=note)


def surveyed(moment: datetime) -> float:
    """Survey the market at a moment and store what it says; return the seconds."""
    began = time.perf_counter()
    assert survey.store(survey.look(moment, [KEY], now=moment), now=moment) == 1
    return time.perf_counter() - began


def fill(made: Made) -> None:
    """Store a market: its symbols, its daily bars, and the minutes of the day."""
    symbols = made.panel.symbols
    universe = Universe.objects.create(key=KEY, name="Bench")
    Symbol.objects.bulk_create(
        [
            Symbol(symbol=symbol, name=f"{symbol} Inc.", type="CS", sector=sector)
            for symbol, sector in zip(symbols, made.sector, strict=True)
        ],
        ignore_conflicts=True,
    )
    Membership.objects.bulk_create(
        [Membership(universe=universe, symbol_id=symbol, position=place) for place, symbol in enumerate(symbols)]
    )
    names = pl.DataFrame({"row": np.arange(len(symbols)), "symbol": symbols})
    prices = pl.col("open", "high", "low", "close", "volume")
    day = pl.lit(date(1, 1, 1)) + pl.duration(days=pl.col("day") - 1)
    days = made.for_polars().days.join(names, on="row", maintain_order="left")
    rank = {"source": pl.lit(Source.FLATFILE.value), "source_version": pl.lit(1)}
    _copy(days.select("symbol", prices, date=day, updated_at=pl.lit("2026-11-20T10:00:00Z"), **rank), "ohlcv_daily")
    minutes = _minutes(made).join(names, on="row", maintain_order="left")
    stored_at = (pl.col("at") + timedelta(seconds=1)).dt.to_string("iso:strict") + "Z"
    _copy(minutes.select(
        "symbol", prices, timestamp=(pl.col("at") - timedelta(minutes=1)).dt.to_string("iso:strict") + "Z", revision=pl.lit(0),
        complete=pl.lit(value=True), is_final=pl.lit(value=False), writer_epoch=pl.lit(1), valued_at=stored_at, updated_at=stored_at, **rank,
    ), "ohlcv_1min")  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _minutes(made: Made) -> pl.DataFrame:
    """Return row, at (its end), open, high, low, close, volume of each minute of those that trade, in the order in which a feed brings them."""
    chance = np.random.default_rng(12)
    row = np.flatnonzero(np.isfinite(made.today.open))
    steps = np.exp(np.cumsum(chance.normal(0, 0.001, (MINUTES + 1, len(row))), axis=0))
    price = np.round(made.today.open[row] * steps, 2)
    open_, close = price[:-1].ravel(), price[1:].ravel()
    end = (round(Session.objects.get(date=DAY).open.timestamp()) + 60 * np.arange(1, MINUTES + 1)).astype(np.int64)
    return pl.DataFrame(
        {
            "row": np.tile(row, MINUTES), "at": np.repeat(end, len(row)), "open": open_, "high": np.maximum(open_, close) + 0.01,
            "low": np.minimum(open_, close) - 0.01, "close": close, "volume": np.round(chance.lognormal(7, 0.5, len(open_))),
        }
    ).with_columns(pl.col("low").clip(lower_bound=0.01), pl.from_epoch("at"))  # fmt: skip


def _copy(rows: pl.DataFrame, table: str) -> None:
    text = BytesIO()
    rows.write_csv(text, include_header=False, float_precision=2)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(rows.columns)}) FROM STDIN (FORMAT CSV)") as copy:
        copy.write(text.getbuffer())
