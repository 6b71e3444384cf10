"""
The peer of the survey: the same blocks by polars, written apart from the product. Frames in, lists of dictionaries out.

Left out, which only helps the peer: intraday tails, industries, changes of stage, sub-stages, stops, the regime and every sentence of a reason.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

Rows = list[dict[str, Any]]
SPANS = {"1w": 5, "1m": 21, "3m": 63, "6m": 126, "1y": 252}
QUARTERS = ((63, 0.4), (126, 0.2), (189, 0.2), (252, 0.2))
SIMPLE = {"sma20": 20, "sma50": 50, "sma200": 200}
RECURSIVE = 120
YEAR = 252
ROTATION_DAYS = 10 + 62 + 10 + 62 + 9  # smoothing, z-score, change over ten days, z-score, a tail of ten


@dataclass(frozen=True, slots=True)
class Market:
    """`days`: row, day, open, high, low, close, volume, by row and day. `today`: row, day, open, high, low, close, volume, sector; one a symbol."""

    days: pl.DataFrame
    today: pl.DataFrame
    spy: int
    part: float


def survey_by_polars(market: Market) -> dict[str, Any]:
    """Return rankings, averages, stages, rotation, sectors, breadth and stage counts."""
    prices = ["row", "day", "open", "high", "low", "close", "volume"]
    with_gaps = pl.concat([market.days.select(prices), market.today.select(prices)]).sort("row", "day")
    bars = with_gaps.filter(pl.col("close").is_not_null())
    history = _by_symbol(market.days)
    table = (
        market.today.rename({"close": "last"}).join(_with_today(with_gaps), on="row", how="left").join(history, on="row", how="left")
        .with_columns(
            change_day=_percent("before"), change_open=(pl.col("last") / pl.col("open") - 1) * 100,
            **{f"change_{name}": _percent(f"back_{back}") for name, back in SPANS.items()},
            rvol=pl.col("volume") / pl.col("mean_volume"), rvol_projected=pl.col("volume") / pl.col("mean_volume") / market.part,
            atr_sma50=(pl.col("last") - pl.col("sma50")) / pl.col("atr"),
            **{name: _places(name) for name in ("score", "score_day", "score_week")},
            # Divided by a column: by a scalar polars multiplies with its reciprocal, which is not always the quotient
            rating=1 + (98 * (pl.col("score").rank("average") - 1) / (pl.col("score") * 0 + pl.col("score").count() - 1)).round(),
        )
    )  # fmt: skip
    stages = _stages(bars, market)
    table = table.join(stages, on="row", how="left").sort("row")
    return {
        "rankings": _rankings(table), "averages": _averages(table), "stages": _staged(table), "rotation": _rotation(bars, market),
        "sectors": _sectors(table), "breadth": _breadth(table, market.days),
        "stage_counts": {row["stage"]: row["len"] for row in table.group_by(pl.col("stage").fill_null(0)).len().iter_rows(named=True)},
    }  # fmt: skip


def _percent(name: str) -> pl.Expr:
    return (pl.col("last") / pl.col(name) - 1) * 100


def _places(name: str) -> pl.Expr:
    return pl.col(name).rank("min", descending=True)


def _back(name: str, count: int) -> pl.Expr:
    """Return the value `count` bars before a symbol's newest."""
    return pl.col(name).get(-1 - count, null_on_oob=True)


def _score(back: int) -> pl.Expr:
    total = pl.lit(0.0)
    for days, weight in QUARTERS:
        total = total + weight * (_back("close", back) / _back("close", back + days) - 1)
    return total


def _recursive(values: pl.Expr, length: int, weight: float) -> pl.Expr:
    """Return the newest value of an average that begins with the mean of its first `length` values."""
    seeded = values.head(length).mean().append(values.slice(length))
    return pl.when((values.len() >= length) & values.last().is_not_null()).then(seeded.ewm_mean(alpha=weight, adjust=False).last())


def _mean(values: pl.Expr, count: int) -> pl.Expr:
    return pl.when((values.len() >= count) & values.last().is_not_null()).then(values.tail(count).mean())


def _with_today(bars: pl.DataFrame) -> pl.DataFrame:
    """Return what counts today's last price as a close; it is null where there is none."""
    close = pl.col("close")
    return bars.group_by("row", maintain_order=True).agg(
        before=_back("close", 1), score=_score(0), score_day=_score(1), score_week=_score(5),
        **{f"back_{back}": _back("close", back) for back in SPANS.values()},
        ema10=_recursive(close.tail(RECURSIVE), 10, 2 / 11),
        **{name: _mean(close, length) for name, length in SIMPLE.items()},
    )  # fmt: skip


def _by_symbol(days: pl.DataFrame) -> pl.DataFrame:
    """Return what knows complete days only."""
    before = pl.col("close").shift(1)
    ranges = (pl.max_horizontal("high", before) - pl.min_horizontal("low", before)).slice(1).tail(RECURSIVE)
    return days.group_by("row", maintain_order=True).agg(
        atr=_recursive(ranges, 14, 1 / 14), adr=_mean(pl.col("high") / pl.col("low") - 1, 20) * 100, mean_volume=_mean(pl.col("volume"), 20),
        top=pl.when(pl.len() >= YEAR).then(pl.col("high").tail(YEAR).max()),
        bottom=pl.when(pl.len() >= YEAR).then(pl.col("low").tail(YEAR).min()),
    )  # fmt: skip


def _rankings(table: pl.DataFrame) -> Rows:
    shifts = {f"rank_shift_{name}": pl.col(f"score_{name}").cast(pl.Int64) - pl.col("score").cast(pl.Int64) for name in ("day", "week")}
    changes = [f"change_{name}" for name in ("day", "open", *SPANS)]
    return table.sort("score", "row", nulls_last=True).select(
        "row", "sector", "last", "volume", "stage", pl.col("rating").alias("rs_rating"), pl.col("score").alias("rank"),
        *(pl.col(name).round(4) for name in (*changes, "adr", "atr_sma50", "rvol", "rvol_projected")), **shifts,
    ).to_dicts()  # fmt: skip


def _averages(table: pl.DataFrame) -> Rows:
    names = ("ema10", *SIMPLE)
    sets = {
        name: pl.struct(
            value=pl.col(name).round(6), percent=_percent(name).round(4), atr=((pl.col("last") - pl.col(name)) / pl.col("atr")).round(4)
        )
        for name in names
    }
    order = [pl.col(one) > pl.col(other) for one, other in zip(("last", *names), names, strict=False)]
    reverse = [pl.col(one) < pl.col(other) for one, other in zip(("last", *names), names, strict=False)]
    known = pl.all_horizontal(pl.col("last", *names).is_not_null())
    last, sma50 = pl.col("last"), pl.col("sma50")
    return table.select(
        "row", "sector", "last", pl.col("atr").round(6), **sets,
        alignment=pl.when(known).then(
            pl.when(pl.all_horizontal(order)).then(pl.lit("up")).when(pl.all_horizontal(reverse)).then(pl.lit("down")).otherwise(pl.lit("mixed"))
        ),
        bucket=pl.when(known).then(
            pl.when(pl.col("atr_sma50") >= 7).then(pl.lit("extended"))
            .when((last >= pl.col("ema10")) & (last >= pl.col("sma20")) & (last >= sma50)).then(pl.lit("hold"))
            .when(last >= sma50).then(pl.lit("pullback")).when(last >= pl.col("sma200")).then(pl.lit("broken")).otherwise(pl.lit("below"))
        ),
    ).to_dicts()  # fmt: skip


def _stages(bars: pl.DataFrame, market: Market) -> pl.DataFrame:
    """Return stage, average, slope and Mansfield's strength of each symbol that traded today."""
    weeks = (
        bars.lazy().group_by("row", (pl.col("day") - 1) // 7, maintain_order=True).agg(close=pl.col("close").last()).rename({"day": "week"})
        .with_columns(average=pl.col("close").rolling_mean(30).over("row"))
        .with_columns(slope=(pl.col("average") / pl.col("average").shift(4).over("row") - 1) * 100)
        .with_columns(
            forced=pl.when((pl.col("close") > pl.col("average")) & (pl.col("slope") > 0.5)).then(2)
            .when((pl.col("close") < pl.col("average")) & (pl.col("slope") < -0.5)).then(4),
        )
        .with_columns(trend=pl.col("forced").forward_fill().over("row"), run=pl.col("forced").is_not_null().cum_sum().over("row"))
        .with_columns(
            paused=pl.when(pl.col("trend") == 2).then(pl.col("slope") <= 0.5).when(pl.col("trend") == 4).then(pl.col("slope") >= -0.5)
        )
        .with_columns(paused=pl.col("paused").cum_max().over("row", "run"))
        .with_columns(
            stage=pl.when(~pl.col("paused")).then(pl.col("trend")).when(pl.col("trend") == 2).then(3).when(pl.col("trend") == 4).then(1)
        )
    )  # fmt: skip
    spy = weeks.filter(pl.col("row") == market.spy).select("week", spy="close")
    against = (
        weeks.join(spy, on="week", how="inner", maintain_order="left").group_by("row")
        .agg(_mean(pl.col("close") / pl.col("spy"), 52).alias("usual"), (pl.col("close") / pl.col("spy")).last().alias("now"))
        .select("row", mansfield=((pl.col("now") / pl.col("usual") - 1) * 100))
    )  # fmt: skip
    newest = weeks.group_by("row").last().select("row", "stage", "average", "slope")
    traded = market.today.lazy().filter(pl.col("close").is_not_null()).select("row")
    return traded.join(newest, on="row", how="left").join(against, on="row", how="left").collect()


def _staged(table: pl.DataFrame) -> Rows:
    distance = pl.col("last") - pl.col("average")
    return table.select(
        "row", "sector", "stage", pl.col("last").alias("close"), pl.col("average").round(6).alias("sma30w"), pl.col("slope").round(4),
        distance=((pl.col("last") / pl.col("average") - 1) * 100).round(4), distance_atr=(distance / pl.col("atr")).round(4),
        mansfield=pl.col("mansfield").round(4),
    ).to_dicts()  # fmt: skip


def _z_score(name: str) -> pl.Expr:
    value = pl.col(name)
    return 100 + (value - value.rolling_mean(63)) / value.rolling_std(63, ddof=0)


def _rotation(bars: pl.DataFrame, market: Market) -> Rows:
    """Return the newest ratio and momentum of each symbol."""
    spy = bars.filter(pl.col("row") == market.spy).select("day", spy="close")
    return (
        bars.lazy().filter(pl.col("day") > market.today["day"][0] - 2 * ROTATION_DAYS).join(spy.lazy(), on="day", maintain_order="left")
        .select("row", "day", strength=(pl.col("close") / pl.col("spy")).log())
        .with_columns(smooth=pl.col("strength").rolling_mean(10).over("row"))
        .with_columns(ratio=_z_score("smooth").over("row"))
        .with_columns(change=pl.col("ratio") - pl.col("ratio").shift(10).over("row"))
        .with_columns(momentum=_z_score("change").over("row"))
        .filter(pl.col("day") == market.today["day"][0])
        .with_columns(pl.col("momentum").fill_nan(None))  # what never moves
        .select("row", pl.when(pl.col("momentum").is_not_null()).then(pl.col("ratio").round(4)), pl.col("momentum").round(4))
        .collect().to_dicts()
    )  # fmt: skip


def _sectors(table: pl.DataFrame) -> Rows:
    def share(name: str) -> pl.Expr:
        return ((pl.col("last") > pl.col(name)).mean() * 100).round(4)

    return table.group_by("sector").agg(
        symbols=pl.col("last").count(), of=pl.len(), rs_rating=pl.col("rating").median(),
        **{f"change_{name}": pl.col(f"change_{name}").mean().round(4) for name in ("day", *SPANS)},
        advancers=(pl.col("change_day") > 0).sum(), decliners=(pl.col("change_day") < 0).sum(), unchanged=(pl.col("change_day") == 0).sum(),
        above_sma50=share("sma50"), above_sma200=share("sma200"),
        new_highs=(pl.col("high") >= pl.col("top")).sum(), new_lows=(pl.col("low") <= pl.col("bottom")).sum(),
        **{f"stage_{stage}": (pl.col("stage") == stage).sum() for stage in (1, 2, 3, 4)},
        rvol=(
            pl.col("volume").filter(pl.col("mean_volume") > 0).sum()
            / pl.col("mean_volume").filter(pl.col("volume").is_not_null() & (pl.col("mean_volume") > 0)).sum()
        ).round(4),
    ).sort("sector").to_dicts()  # fmt: skip


def _breadth(table: pl.DataFrame, days: pl.DataFrame) -> dict[str, Any]:
    up, down = pl.col("change_day") > 0, pl.col("change_day") < 0
    found = table.select(
        advancers=up.sum(), decliners=down.sum(), unchanged=(pl.col("change_day") == 0).sum(),
        up_volume=pl.col("volume").filter(up).sum(), down_volume=pl.col("volume").filter(down).sum(),
        new_highs=(pl.col("high") >= pl.col("top")).sum(), new_lows=(pl.col("low") <= pl.col("bottom")).sum(),
        **{f"above_{name}": ((pl.col("last") > pl.col(name)).mean() * 100).round(4) for name in ("ema10", *SIMPLE)},
        up_4_percent=(pl.col("change_day") >= 4).sum(), down_4_percent=(pl.col("change_day") <= -4).sum(),
    ).to_dicts()[0]  # fmt: skip
    before = pl.when(pl.col("row") == pl.col("row").shift(1)).then(pl.col("close").shift(1))
    earlier = (
        days.lazy().select("day", up=pl.col("close") > before, down=pl.col("close") < before)
        .filter(pl.col("up").is_not_null()).group_by("day").agg(pl.col("up", "down").sum().cast(pl.Int64)).sort("day").collect()
    )  # fmt: skip
    now = pl.DataFrame({"day": [10**7], "up": [found["advancers"]], "down": [found["decliners"]]}, schema=earlier.schema)
    nets = pl.concat([earlier, now]).with_columns(net=pl.col("up") - pl.col("down"), moved=pl.col("up") + pl.col("down"))
    ratio = nets.filter(pl.col("moved") > 0).select(ratio=1000 * pl.col("net") / pl.col("moved"))
    found["ad_line"] = nets["net"].sum()
    found["mcclellan"] = round(ratio.select(_slower("ratio", 0.10) - _slower("ratio", 0.05)).item(), 4)
    return found


def _slower(name: str, weight: float) -> pl.Expr:
    return pl.col(name).ewm_mean(alpha=weight, adjust=False).last()
