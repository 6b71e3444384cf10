"""Measures of whole markets: against independent computations on real bars, and the laws that they keep."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patterns.market import stages
from patterns.market.blocks import Facts, survey
from patterns.market.breadth import mcclellan
from patterns.market.panel import Panel, Today
from patterns.market.state import HalfHours, state
from patterns.market.strength import places, rating

REAL = ("AAPL", "BAC", "IBM", "IWM", "QQQ", "SPY")
NO_HALF_HOURS = HalfHours(np.zeros(0, dtype=np.int64), np.empty((len(REAL), 0)), np.zeros(0, dtype=np.int64))
FACTS = Facts(list(REAL), ["Technology", "Financials", "Technology", "", "", ""], [""] * 6, ["CS"] * 6, [None] * 6)


def real_days(folder: Path) -> pl.DataFrame:
    """Return the real daily bars: symbol, day, open, high, low, close, volume, oldest first."""
    frames = [pl.read_csv(folder / f"{symbol}-day-aggs.csv.gz") for symbol in REAL]
    day = pl.from_epoch("window_start", time_unit="ns").dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York").dt.date()
    return pl.concat(frames).select(
        symbol="ticker", day=day, **{name: pl.col(name).cast(pl.Float64) for name in ("open", "high", "low", "close", "volume")}
    ).sort("symbol", "day")  # fmt: skip


def panel_of(days: pl.DataFrame) -> Panel:
    """Return daily bars as the survey holds them."""
    groups = {symbol: days.filter(pl.col("symbol") == symbol) for symbol in REAL}
    width = max(group.height for group in groups.values())

    def column(name: str) -> np.ndarray:
        return np.stack([np.concatenate([np.full(width - group.height, np.nan), group[name].to_numpy()]) for group in groups.values()])

    ordinal = [[0] * (width - group.height) + [day.toordinal() for day in group["day"].to_list()] for group in groups.values()]
    return Panel(REAL, np.array(ordinal, dtype=np.int64), *(column(name) for name in ("open", "high", "low", "close", "volume")))


def close_of(panel: Panel, day: int) -> Today:
    """Return a day as its daily bars tell it."""
    place = panel.day == day

    def chosen(column: np.ndarray) -> np.ndarray:
        return np.where(place.any(axis=1), column[np.arange(len(REAL)), place.argmax(axis=1)], np.nan)

    open_, high, low, close, volume = (chosen(column) for column in panel.prices())
    return Today(day, True, 1.0, open_, high, low, close, volume, np.zeros(len(REAL), dtype=np.int64))


def surveyed(panel: Panel, today: Today) -> dict:
    return survey(state(panel, today, NO_HALF_HOURS), FACTS, np.arange(len(REAL)), close_ms=0)


@pytest.fixture(scope="module")
def real(recordings) -> tuple[pl.DataFrame, Panel]:
    days = real_days(recordings)
    return days, panel_of(days)


def some_days(panel: Panel, count: int, *, last: str = "2021-03-01") -> list[int]:
    """Return the last so many days on which SPY traded."""
    row = panel.day[REAL.index("SPY")]
    return row[(row > 0) & (row <= date.fromisoformat(last).toordinal())][-count:].tolist()


def test_a_survey_never_knows_the_next_day(real):
    days, _ = real
    whole = panel_of(days.filter(pl.col("day") >= date(2018, 6, 1)))
    assert (whole.day == whole.day[0]).all(), "one column is one day of all"

    for day in some_days(whole, 500):
        over = int(np.searchsorted(whole.day[0], day, side="right"))
        known = Panel(whole.symbols, *(column[:, :over] for column in (whole.day, *whole.prices())))
        changed = [column.copy() for column in (whole.day, *whole.prices())]
        for column in changed[1:]:
            column[:, over:] = 1e6  # a future that would show in every number
        assert surveyed(Panel(whole.symbols, *changed), close_of(whole, day)) == surveyed(known, close_of(known, day)), date.fromordinal(
            day
        )


def test_strength_averages_extremes_and_advances_are_what_polars_makes_of_the_same_files(real):
    days, panel = real
    roc = {back: pl.col("close") / pl.col("close").shift(back) - 1 for back in (63, 126, 189, 252)}
    table = days.with_columns(
        score=(0.4 * roc[63] + 0.2 * roc[126] + 0.2 * roc[189] + 0.2 * roc[252]).over("symbol"),
        before=pl.col("close").shift(1).over("symbol"),
        **{f"sma{length}": pl.col("close").rolling_mean(length).over("symbol") for length in (20, 50, 200)},
        ema10=pl.col("close").ewm_mean(span=10, adjust=False, min_samples=10).over("symbol"),
        top=pl.col("high").rolling_max(252).shift(1).over("symbol"),
        bottom=pl.col("low").rolling_min(252).shift(1).over("symbol"),
    )
    rated = pl.col("score").count().over("day")
    table = table.with_columns(
        rating=pl.when(rated > 1).then(
            1 + (98 * (pl.col("score").rank("average").over("day") - 1) / (rated - 1)).round(mode="half_to_even")
        )
    )
    above = {f"above_{name}": (pl.col("close") > pl.col(name)).mean() * 100 for name in ("ema10", "sma20", "sma50", "sma200")}
    expected = table.group_by("day").agg(
        advancers=(pl.col("close") > pl.col("before")).sum(), decliners=(pl.col("close") < pl.col("before")).sum(),
        new_highs=(pl.col("high") >= pl.col("top")).sum(), new_lows=(pl.col("low") <= pl.col("bottom")).sum(), **above,
    ).sort("day").with_columns(ad_line=(pl.col("advancers").cast(pl.Int64) - pl.col("decliners").cast(pl.Int64)).cum_sum())  # fmt: skip
    by_day = {row["day"]: row for row in expected.iter_rows(named=True)}
    ratings = {(row["symbol"], row["day"]): row["rating"] for row in table.iter_rows(named=True)}

    differ = []
    for day in some_days(panel, 5000)[300::47]:
        found, at = surveyed(panel, close_of(panel, day)), date.fromordinal(day)
        shown = {name: value for name, value in by_day[at].items() if name != "day"}
        differ += [
            (at, name) for name, value in shown.items() if value is not None and found["breadth"][name] != pytest.approx(value, abs=1e-4)
        ]
        differ += [(at, row["symbol"]) for row in found["rankings"] if row["rs_rating"] != ratings.get((row["symbol"], at))]
    assert differ == []


def test_the_stages_of_spy_are_those_that_the_years_are_known_for(real):
    _, panel = real
    spy = panel.chosen(np.array([REAL.index("SPY")]))
    last = int(spy.day[0, -1])
    today = Today(last, True, 1.0, *(spy.close[:, -1] for _ in range(5)), np.zeros(1, dtype=np.int64))

    way = stages.walk(stages.weeks_of(spy.before(last), today))
    by_week = {date.fromordinal(int(day)): int(stage) for day, stage in zip(way.weeks.day[0], way.stage[0], strict=True) if day == day}
    changes = [(date.fromordinal(change.day), change.before, change.after) for change in stages.changes(way, weeks=10_000)]

    assert {stage for day, stage in by_week.items() if date(2008, 1, 1) <= day <= date(2009, 3, 31)} == {4}
    assert {stage for day, stage in by_week.items() if day.year in (2013, 2017)} == {2}
    assert len(changes) == 82
    assert [change for change in changes if 2007 <= change[0].year <= 2009][::-1] == [
        (date(2007, 8, 17), 2, 3), (date(2007, 9, 28), 3, 2), (date(2007, 11, 16), 2, 3), (date(2008, 1, 4), 3, 4), (date(2009, 5, 29), 4, 1),
        (date(2009, 6, 19), 1, 2), (date(2009, 7, 17), 2, 3), (date(2009, 7, 24), 3, 2),
    ]  # fmt: skip
    told = [
        f"{date.fromordinal(change.day)} {change.before} → {change.after} {change.reason}" for change in stages.changes(way, weeks=10_000)
    ]
    documented = (Path(__file__).parents[2] / "docs" / "market.md").read_text().split("## SPY's stages")[1].split("```")[1]
    assert told[::-1] == documented.strip().splitlines()


@pytest.mark.parametrize(("factor", "price"), [(1, "114.28"), (10, "1,142.80"), (0.001, "0.1143")])
def test_a_reason_writes_prices_as_the_pages_do(real, factor, price):
    _, panel = real
    spy = panel.chosen(np.array([REAL.index("SPY")]))
    last = int(spy.day[0, -1])
    weeks = stages.weeks_of(spy.before(last), Today(last, True, 1.0, *(spy.close[:, -1] for _ in range(5)), np.zeros(1, dtype=np.int64)))

    oldest = stages.changes(stages.walk(stages.Weeks(weeks.close * factor, weeks.day)), weeks=10_000)[-1]

    assert oldest.reason.startswith(f"{price} is ")


@given(st.lists(st.one_of(st.just(np.nan), st.integers(-3, 3).map(float)), max_size=40))
def test_ratings_follow_the_order_of_scores_and_equal_scores_are_rated_alike(scores):
    values = np.array(scores, dtype=float)
    found, place = rating(values), places(values)

    known = np.flatnonzero(np.isfinite(values))
    assert np.isfinite(found).tolist() == [bool(len(known) > 1 and np.isfinite(value)) for value in values]
    for one in known if len(known) > 1 else ():
        assert 1 <= found[one] <= 99
        assert place[one] == 1 + (values[known] > values[one]).sum()
        for other in known:
            assert (found[one] >= found[other]) or values[one] < values[other]
            assert (found[one] == found[other]) or values[one] != values[other]


def test_two_members_are_rated_one_and_ninety_nine_and_one_alone_is_not():
    assert rating(np.array([0.5, np.nan, 0.1])).tolist()[::2] == [99, 1]
    assert np.isnan(rating(np.array([0.5, np.nan]))).all()


def test_the_oscillator_is_the_difference_of_two_averages_of_adjusted_net_advances():
    # 1000·(3 − 1)/4 = 500, then 1000·(1 − 3)/4 = −500: EMA 19 500 − 0.10·1000 = 400, EMA 39 500 − 0.05·1000 = 450
    assert mcclellan(np.array([3, 0, 1]), np.array([1, 0, 3])) == pytest.approx(-50.0)
    assert mcclellan(np.array([0]), np.array([0])) is None
