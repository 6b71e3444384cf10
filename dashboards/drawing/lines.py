"""Lines, bands, areas and mirrored bars as SVG paths. Gaps in data are gaps in lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, isfinite, log10

Value = float | None


def place(value: float) -> str:
    """Return a coordinate as SVG takes it: one decimal, none where it is whole."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


@dataclass(frozen=True)
class Scale:
    """A straight map of [low, high] onto [start, end]; in SVG the y axis points down, so `start` may lie past `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the coordinate of a value; the middle where the range is a point."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def span_of(values: Iterable[Value], *, include: Iterable[float] = ()) -> tuple[float, float] | None:
    """Return the least and the greatest known value, widened to hold `include`; None where nothing is known."""
    known = [value for value in values if value is not None and isfinite(value)]
    if not known:
        return None
    known.extend(include)
    return min(known), max(known)


def ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Return round values inside [low, high], some `about` of them: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10 ** floor(log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first = -floor(-low / step)
    return [round(number * step, 10) for number in range(first, floor(high / step) + 1)]


def runs(points: Sequence[tuple[float, Value]]) -> list[list[tuple[float, float]]]:
    """Return the unbroken runs of known points."""
    found = []
    for known, group in groupby(points, key=lambda point: point[1] is not None):
        if known:
            found.append([(x, y) for x, y in group if y is not None])
    return found


def path(points: Sequence[tuple[float, Value]]) -> str:
    """Return one path through the points, cut where a value is missing; a lone point becomes a dot of no length."""
    parts = []
    for run in runs(points):
        drawn = "L".join(f"{place(x)} {place(y)}" for x, y in run)
        parts.append(f"M{drawn}" if len(run) > 1 else f"M{drawn}h0")
    return "".join(parts)


def band(lower: Sequence[tuple[float, Value]], upper: Sequence[tuple[float, Value]]) -> str:
    """Return the closed areas between two lines over the same xs; cut where either value is missing."""
    both = [(x, (low, high) if low is not None and high is not None else None) for (x, low), (_, high) in zip(lower, upper, strict=True)]
    parts = []
    for known, group in groupby(both, key=lambda point: point[1] is not None):
        if known:
            pairs = [(x, *ends) for x, ends in group if ends is not None]
            there = "L".join(f"{place(x)} {place(high)}" for x, _, high in pairs)
            back = "L".join(f"{place(x)} {place(low)}" for x, low, _ in reversed(pairs))
            parts.append(f"M{there}L{back}Z")
    return "".join(parts)


@dataclass(frozen=True)
class Spark:
    """A small line: its path, its end dot, the height of its dashed base, and which side of the base it ends on."""

    path: str
    x: str
    y: str
    base: str | None
    tone: str
    width: int
    height: int


def spark(values: Sequence[Value], *, width: int, height: int, base: float | None = None, of: int = 0) -> Spark | None:
    """
    Return a small line through values that stand one step apart.

    With `of` the box is as long as `of` steps, so that the length of an intraday line tells the time. None for fewer than two known values.
    """
    ends = span_of(values, include=[] if base is None else [base])
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    if ends is None or len(known) < 2:
        return None
    across = Scale(0, max(of, len(values)) - 1, 2, width - 3)
    up = Scale(*ends, height - 2.5, 2.5)
    last, end = known[-1]
    side = "quiet" if base is None or end == base else "up" if end > base else "down"
    return Spark(
        path=path([(across.at(index), None if value is None else up.at(value)) for index, value in enumerate(values)]),
        x=place(across.at(last)), y=place(up.at(end)), base=None if base is None else place(up.at(base)), tone=side, width=width, height=height,
    )  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A horizontal or vertical line of the grid with its label; `strong` is the zero line or the middle."""

    at: str
    label: str
    strong: bool = False


@dataclass(frozen=True)
class Chart:
    """A line chart: its path, where it ends, rules in both directions, the band of what is usual, and mirrored bars."""

    width: int
    height: int
    path: str = ""
    x: str = ""
    y: str = ""
    last: float | None = None
    rows: tuple[Rule, ...] = ()
    columns: tuple[Rule, ...] = ()
    band: str = ""
    rising: str = ""
    falling: str = ""


def rules(scale: Scale, values: Iterable[float], *, strong: float | None = None, unit: str = "") -> tuple[Rule, ...]:
    """Return the horizontal rules of a chart at these values."""
    return tuple(Rule(place(scale.at(value)), f"{said(value)}{unit}", value == strong) for value in values)


def said(value: float) -> str:
    """Return a tick's label: a true minus, no trailing zeros, thousands in K."""
    text = f"{abs(value) / 1000:g}K" if abs(value) >= 10_000 else f"{abs(value):g}"
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def line_chart(
    points: Sequence[tuple[float, Value]],
    *,
    width: int,
    height: int,
    span: tuple[float, float],
    include: Iterable[float] = (),
    strong: float | None = None,
    columns: Sequence[tuple[float, str]] = (),
    usual: Sequence[tuple[float, float, float]] = (),
    at_rules: Sequence[float] = (),
) -> Chart | None:
    """
    Return a line through (x, value) points on an x axis over `span`; None where no value is known.

    `include` are values that the y axis must hold, `strong` the value of the strong rule, `columns` the (x, label) of vertical rules,
    `usual` the (x, lower, upper) of the band behind the line, `at_rules` fixed rules in place of round ones.
    """
    ends = span_of([value for _, value in points], include=[*include, *(edge for _, *edges in usual for edge in edges)])
    if ends is None:
        return None
    pad = (ends[1] - ends[0]) * 0.06 or 1.0
    across, up = Scale(*span, 0, width), Scale(ends[0] - pad, ends[1] + pad, height, 0)
    last, value = next((x, value) for x, value in reversed(points) if value is not None)
    return Chart(
        width=width, height=height, last=value, x=place(across.at(last)), y=place(up.at(value)),
        path=path([(across.at(x), None if value is None else up.at(value)) for x, value in points]),
        rows=rules(up, [value for value in at_rules or ticks(*ends) if up.low <= value <= up.high], strong=strong),
        columns=tuple(Rule(place(across.at(x)), label) for x, label in columns),
        band=band(
            [(across.at(x), up.at(low)) for x, low, _ in usual], [(across.at(x), up.at(high)) for x, _, high in usual]
        ) if usual else "",
    )  # fmt: skip


def mirrored_bars(
    points: Sequence[tuple[float, Value, Value]],
    *,
    width: int,
    height: int,
    span: tuple[float, float],
    columns: Sequence[tuple[float, str]] = (),
) -> Chart | None:
    """
    Return bars up and down from one zero line: (x, upwards, downwards), both counted positive.

    Each side is one path of vertical strokes. None where nothing is known.
    """
    known = [(x, up or 0.0, down or 0.0) for x, up, down in points if up is not None or down is not None]
    if not known:
        return None
    high, low = max(up for _, up, _ in known), max(down for _, _, down in known)
    across, scale = Scale(*span, 1, width - 1), Scale(-(low or 1) * 1.05, (high or 1) * 1.05, height, 0)
    zero = scale.at(0)
    return Chart(
        width=width, height=height, last=known[-1][1] - known[-1][2],
        rising="".join(f"M{place(across.at(x))} {place(zero)}V{place(scale.at(up))}" for x, up, _ in known if up),
        falling="".join(f"M{place(across.at(x))} {place(zero)}V{place(scale.at(-down))}" for x, _, down in known if down),
        rows=rules(scale, [value for value in ticks(-low, high, about=3) if value == int(value)], strong=0),
        columns=tuple(Rule(place(across.at(x)), label) for x, label in columns),
    )  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One area of a stack: its surface, its outer edge, and where its label stands."""

    key: str
    area: str
    edge: str
    label: str
    value: float


def stacked(
    columns: Sequence[tuple[float, dict[str, float]]],
    *,
    above: Sequence[str],
    below: Sequence[str],
    width: int,
    height: int,
    span: tuple[float, float],
) -> tuple[list[Layer], tuple[Rule, ...]] | None:
    """
    Return areas stacked away from one line: `above` it and `below` it, the nearest first; None for fewer than two columns.

    `columns` are (x, {key: count}).
    """
    if len(columns) < 2:
        return None
    high = max(sum(counts.get(key, 0) for key in above) for _, counts in columns)
    low = max(sum(counts.get(key, 0) for key in below) for _, counts in columns)
    across, up = Scale(*span, 0, width), Scale(-(low or 1) * 1.04, (high or 1) * 1.04, height, 0)
    layers = []
    for sign, keys in ((1, above), (-1, below)):
        inner = [0.0] * len(columns)
        for key in keys:
            outer = [base + counts.get(key, 0) for base, (_, counts) in zip(inner, columns, strict=True)]
            edge = [(across.at(x), up.at(sign * value)) for (x, _), value in zip(columns, outer, strict=True)]
            floor_ = [(across.at(x), up.at(sign * value)) for (x, _), value in zip(columns, inner, strict=True)]
            middle = up.at(sign * (outer[-1] + inner[-1]) / 2)
            layers.append(Layer(key, band(floor_, edge), path(edge), place(middle), outer[-1] - inner[-1]))
            inner = outer
    marks = [value for value in ticks(-low, high, about=5) if value == int(value)]
    return layers, tuple(Rule(place(up.at(value)), said(abs(value)), value == 0) for value in marks)
