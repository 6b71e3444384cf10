"""Chart patterns: found where they are planted, rare where they are not, and blind to the future."""

import csv
import gzip
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.bars.window import BarWindow
from marketdata.twin.market import Market
from marketdata.twin.plants import OUTLINES, SUDDEN, drawing, random_walk
from patterns.detectors import DETECTORS, SHAPES, name_of
from patterns.detectors.base_rates import BASE_RATES
from patterns.detectors.matches import Geometry, Nature, Point, Shape, ShapeDetector
from patterns.detectors.once import once
from patterns.detectors.paths import paths
from patterns.detectors.trials import MOST_FALSE, cut, ground, joined, mirrored, recall, try_shape
from tests.patterns.market import random_bars, window_of


@pytest.fixture(scope="module")
def few():
    """A small ground: 20 drawings of each pattern, 8,000 bars of random walks."""
    return ground(seed=2, drawings=20, walks=4)


@pytest.fixture(scope="module")
def daily(recordings) -> BarWindow:
    """Real daily bars of SPY and AAPL."""
    windows = []
    for symbol in ("SPY", "AAPL"):
        with gzip.open(recordings / f"{symbol}-day-aggs.csv.gz", "rt") as lines:
            rows = list(csv.DictReader(lines))[:3_000]
        columns = {name: np.array([float(row[name]) for row in rows]) for name in ("open", "high", "low", "close", "volume")}
        opened = np.array([int(row["window_start"]) // 10**6 for row in rows])
        windows.append(BarWindow((symbol,), np.array([0, len(rows)]), opened, **columns, vwap=np.full(len(rows), np.nan)))
    return joined(windows)


@pytest.fixture(scope="module")
def found(daily) -> dict[str, list[Shape]]:
    """Everything that the real daily bars confirm."""
    every = np.arange(len(daily))
    return {name: detector.find(daily, every) for name, detector in SHAPES.items()}


# --- tables -----------------------------------------------------------------------------------------------------------------------


def test_each_pattern_names_a_mirror_that_names_it_back():
    for name, detector in SHAPES.items():
        assert detector.pattern_type == name
        assert SHAPES[detector.mirror].mirror == name
        assert SHAPES[detector.mirror].look_back == detector.look_back
        assert detector.intervals == ("5m", "15m", "1d")
    assert len(SHAPES) == 23
    assert not set(SHAPES) & set(DETECTORS)


def test_every_detector_has_a_human_name():
    assert name_of("cup_and_handle") == "Cup and handle"
    assert name_of("3inside") == "Three inside"
    assert name_of("gap_fill") is None


def test_every_detector_has_a_base_rate_and_no_shape_is_frequent_in_random_walks():
    assert set(BASE_RATES) == set(SHAPES) | set(DETECTORS)
    for name, detector in SHAPES.items():
        assert detector.fact or BASE_RATES[name] <= MOST_FALSE, name


def test_every_pattern_can_be_planted():
    assert set(SHAPES) == set(OUTLINES) | set(SUDDEN)


# --- recall and base rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SHAPES))
def test_planted_patterns_are_found_and_random_walks_are_not_full_of_them(few, name):
    trial = try_shape(SHAPES[name], SHAPES, few)

    assert trial.recall >= 0.9
    assert (trial.prefix, trial.mirror) == (0, 0)
    assert trial.fact or trial.rate <= 3  # 8,000 bars: two in a thousand, and the luck of a few


def test_drawings_of_equal_arguments_are_equal_and_of_others_are_not():
    one, same, other = (drawing("bull_flag", seed=3, number=number) for number in (4, 4, 5))

    np.testing.assert_array_equal(one.window.close, same.window.close)
    assert one.window.close.tobytes() != other.window.close.tobytes()
    assert one.first < one.breaks < one.end < len(one.window)


def test_a_detector_that_finds_nothing_has_no_recall(few):
    blind = replace(SHAPES["double_top"], find=lambda window, ends: [])

    assert recall(blind, few) == 0
    assert any("planted" in fault for fault in try_shape(blind, SHAPES | {"double_bottom": blind}, few).faults)


def test_patterns_that_the_live_market_plants_are_found_on_its_five_minute_bars():
    market = Market(seed=1, tickers=31, scenario_name="patterns")
    hits = []
    for place in range(0, 31, 5):
        security = market.securities[place]
        for day in range(1_300, 1_308):
            plant = market.plant(security, day)
            if plant is None or plant.pattern == "range_breakout":  # calm against its own hour, which may be a wild one
                continue
            opened, minutes = market.minutes(security, day - 1, day + 1)
            first = np.arange(0, len(opened), 5)
            five = minutes.fold(first)
            prices = {name: getattr(five, name) / security.scale for name in ("open", "high", "low", "close")}
            window = BarWindow((security.symbol,), np.array([0, len(first)]), opened[first], **prices, volume=five.volume / 1_000.0,
                               vwap=np.full(len(first), np.nan))  # fmt: skip
            near = (plant.last_ms - plant.first_ms) / 6
            shapes = SHAPES[plant.pattern].find(window, np.arange(len(window)))
            hits.append(any(abs(window.opened_at_ms[shape.end] - plant.breaks_ms) <= near for shape in shapes))

    assert len(hits) > 20
    assert np.mean(hits) > 0.85


# --- prefix and mirror ------------------------------------------------------------------------------------------------------------

coarse_market = st.lists(
    st.tuples(st.integers(0, 2**32), st.integers(1, 320), st.sampled_from([0.3, 3.0, 50.0, 900.0])), min_size=1, max_size=3
)


def coarse(recipe) -> BarWindow:
    """Random bars in few ticks: equal prices everywhere, so that ties are decided all the time."""
    return window_of([random_bars(f"S{place}", count, seed=seed, price=price) for place, (seed, count, price) in enumerate(recipe)])


@given(coarse_market, st.data())
@settings(max_examples=8, deadline=None)
def test_what_comes_later_never_changes_a_shape(recipe, data):
    window = coarse(recipe)
    ends = np.array(sorted(data.draw(st.sets(st.integers(0, len(window) - 1), min_size=1, max_size=60))))

    for detector in SHAPES.values():
        whole = {shape.end: replace(shape, end=0) for shape in detector.find(window, np.arange(len(window)))}
        part = cut(window, ends, before=detector.look_back)
        last = part.starts[1:] - 1
        alone = {int(ends[np.searchsorted(last, shape.end)]): replace(shape, end=0) for shape in detector.find(part, last)}

        assert alone == {end: shape for end, shape in whole.items() if end in set(ends.tolist())}


@given(coarse_market)
@settings(max_examples=8, deadline=None)
def test_a_market_upside_down_has_every_pattern_upside_down(recipe):
    window = coarse(recipe)
    every = np.arange(len(window))

    for detector in SHAPES.values():
        here = [(shape.end, shape.direction) for shape in detector.find(window, every)]
        there = [(shape.end, -shape.direction) for shape in SHAPES[detector.mirror].find(mirrored(window), every)]

        assert here == there, detector.name


def test_a_shape_waits_for_its_look_back_and_no_longer(daily, found):
    for name, shapes in found.items():
        reach = SHAPES[name].look_back if SHAPES[name].fact else SHAPES[name].look_back // 2
        for shape in shapes[:5]:
            enough = cut(daily, np.array([shape.end]), before=reach)
            short = cut(daily, np.array([shape.end]), before=reach - 1)

            assert len(SHAPES[name].find(enough, np.array([len(enough) - 1]))) == 1
            assert SHAPES[name].find(short, np.array([len(short) - 1])) == []


# --- once -------------------------------------------------------------------------------------------------------------------------


def at_place(window: BarWindow, end: int, *places: int, direction: int = 1) -> Shape:
    """A shape that the bar `end` confirms, with turning points at these bars."""
    points = tuple(Point(int(window.opened_at_ms[place]), 1.0, "turn") for place in places)
    return Shape(end, direction, 0.5, (), Geometry(points, (), None))


def told(*shapes: Shape) -> tuple[list[int], list[int]]:
    """Which ends a detector that finds these says once: asked for all bars at once, and for each bar alone."""
    window = random_walk(100, seed=1, number=0)
    raw = ShapeDetector("x", "X", Nature.REVERSAL, ("5m",), 20, lambda _, ends: [shape for shape in shapes if shape.end in ends.tolist()])
    find = once(raw).find
    at_once = [shape.end for shape in find(window, np.arange(100))]
    return at_once, [shape.end for end in range(100) for shape in find(window, np.array([end]))]


def test_a_formation_is_confirmed_by_the_bar_that_breaks_it_and_not_again():
    window = random_walk(100, seed=1, number=0)

    def turns(end: int, *places: int, direction: int = 1) -> Shape:
        return at_place(window, end, *places, direction=direction)

    assert told(turns(50, 30, 40, 45), turns(53, 30, 40, 45)) == ([50], [50])
    assert told(turns(50, 30, 40, 45), turns(53, 28, 41, 46)) == ([50], [50]), "seen a little wider"
    assert told(turns(50, 30, 45), turns(53, 30, 45), turns(55, 30, 45)) == ([50], [50])
    assert told(turns(50, 30, 45), turns(60, 30, 45, 55)) == ([50, 60], [50, 60]), "it turned once more since"
    assert told(turns(50, 30, 45), turns(53, 30, 45, direction=-1)) == ([50, 53], [50, 53])
    assert told(turns(50, 30, 40), turns(53, 44, 46)) == ([50, 53], [50, 53]), "nothing in common"


def test_no_formation_of_real_days_or_walks_is_confirmed_twice(daily, few):
    for window in (daily, few.walks):
        for name, detector in SHAPES.items():
            if detector.fact:
                continue
            standing: dict[int, list[tuple[int, int, int, int]]] = {}
            for shape in detector.find(window, np.arange(len(window))):
                moments = [point.at_ms for point in shape.geometry.points]
                first, last, confirmed = min(moments), max(moments), int(window.opened_at_ms[shape.end])
                before = standing.setdefault(int(window.run[shape.end]), [])
                again = [one for one in before if one[3] == shape.direction and one[1] >= first and one[0] <= last <= one[2]]
                assert not again, name
                before.append((first, last, confirmed, shape.direction))


# --- what a shape says ------------------------------------------------------------------------------------------------------------


def test_geometry_lies_on_real_turning_points(daily, found):
    column = {(daily.symbols[run], int(at_ms)): place for place, (run, at_ms) in enumerate(zip(daily.run, daily.opened_at_ms, strict=True))}
    seen = 0
    for name, shapes in found.items():
        for shape in shapes:
            symbol = daily.symbols[daily.run[shape.end]]
            for point in shape.geometry.points:
                place = column[symbol, point.at_ms]
                assert shape.end - SHAPES[name].look_back <= place <= shape.end
                if name == "volume_surge":
                    continue
                assert point.price in (daily.high[place], daily.low[place])
                if not SHAPES[name].fact and place < shape.end:
                    is_peak, near = point.price == daily.high[place], slice(place - 1, place + 2)
                    assert point.price == (daily.high[near].max() if is_peak else daily.low[near].min()), (name, point.label)
                    seen += 1
            for line in shape.geometry.lines:
                assert line.from_at_ms < line.to_at_ms <= daily.opened_at_ms[shape.end]
    assert seen > 150


def test_the_confirming_close_lies_beyond_the_level_that_is_drawn_to_it(daily, found):
    for name, shapes in found.items():
        if SHAPES[name].fact:
            continue
        for shape in shapes:
            beyond = shape.direction * (daily.close[shape.end] - shape.geometry.level)
            assert beyond > 0, name
            line = next((line for line in shape.geometry.lines if line.to_price == shape.geometry.level), None)
            assert line is None or line.to_at_ms == daily.opened_at_ms[shape.end]
    assert sum(len(shapes) for name, shapes in found.items() if not SHAPES[name].fact) > 40


def test_conditions_that_are_needed_are_passed_and_the_whole_becomes_json(found):
    for shapes in found.values():
        for shape in shapes:
            json.dumps(asdict(shape), allow_nan=False)
            failed = [one.name for one in shape.conditions if not one.passed]
            assert all("volume" in name or "body" in name or "range in usual" in name for name in failed), failed
            for one in shape.conditions:
                holds = {">=": "__ge__", "<=": "__le__", ">": "__gt__"}[one.relation]
                if one.measured is not None and abs(one.measured - one.threshold) > 1e-3 * abs(one.threshold):
                    assert getattr(one.measured, holds)(one.threshold) == one.passed


def test_confidence_is_a_measure_and_not_a_constant(found):
    for name, shapes in found.items():
        worth = np.array([shape.confidence for shape in shapes])
        assert ((worth >= 0) & (worth <= 1)).all()
        if len(worth) > 20:
            assert len(np.unique(worth)) > 0.9 * len(worth)
            assert np.percentile(worth, 90) - np.percentile(worth, 10) > 0.1, name


def test_a_planted_pattern_is_worth_more_than_its_like_in_a_random_walk(few):
    walks = np.arange(len(few.walks))
    for name in ("head_and_shoulders", "symmetrical_triangle", "bull_flag", "v_bottom"):
        detector = SHAPES[name]
        by_chance = [shape.confidence for shape in detector.find(few.walks, walks)]
        planted = []
        for number in range(10):
            drawn = drawing(name, seed=4, number=number)
            planted += [shape.confidence for shape in detector.find(drawn.window, np.arange(drawn.first, drawn.end))]

        assert np.median(planted) > np.median(by_chance) + 0.1


# --- poison -----------------------------------------------------------------------------------------------------------------------


def test_a_poisoned_symbol_neither_raises_nor_changes_its_neighbours():
    calm = drawing("head_and_shoulders", seed=1, number=0).window
    flat = random_walk(200, seed=1, number=0)
    for name in ("open", "high", "low", "close"):
        getattr(flat, name)[:] = 7.0
    silent = replace(random_walk(200, seed=1, number=1), volume=np.zeros(200))
    wild = random_walk(200, seed=1, number=2)
    for name in ("open", "high", "low", "close"):
        getattr(wild, name)[:] = 10 ** np.random.default_rng(0).uniform(-6, 9, 200)
    broken = random_walk(200, seed=1, number=3)
    broken.low[50], broken.high[120], broken.close[180] = 0.0, np.nan, -1.0
    lone = random_walk(1, seed=1, number=4)
    window = joined([flat, lone, silent, wild, broken, calm])

    for detector in SHAPES.values():
        shapes = detector.find(window, np.arange(len(window)))
        alone = detector.find(calm, np.arange(len(calm)))

        first = len(window) - len(calm)
        assert [replace(shape, end=shape.end - first) for shape in shapes if shape.end >= first] == alone
        assert not [shape for shape in shapes if shape.end < 200], "a flat market has no shape"
        assert all(0 <= shape.confidence <= 1 for shape in shapes)
        assert detector.find(window, np.array([], dtype=np.int64)) == []


def test_a_path_too_short_to_compare_volumes_is_refused():
    with pytest.raises(ValueError, match="20 bars"):
        list(paths(random_walk(50, seed=1, number=0), np.arange(50), look_back=10, side=1))
