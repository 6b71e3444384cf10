import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from talib.abstract import Function

from marketdata.bars.window import BarWindow
from patterns.detectors import DETECTORS
from patterns.detectors.candlesticks import CANDLESTICKS, find_candlesticks
from patterns.detectors.quality import CONTEXT_BARS, judge
from tests.patterns.market import random_bars, real_bars, window_of


def grades_of(window: BarWindow, ends: np.ndarray) -> np.ndarray:
    matches = find_candlesticks(window, ends)
    grades = np.zeros((len(window), len(CANDLESTICKS)), dtype=int)
    grades[matches.end, matches.detector] = matches.grade
    return grades


def talib_alone(window: BarWindow) -> np.ndarray:
    """TA-Lib itself, symbol by symbol over the whole run."""
    grades = np.zeros((len(window), len(CANDLESTICKS)), dtype=int)
    for first, end in zip(window.starts, window.starts[1:], strict=False):
        prices = [getattr(window, name)[first:end].copy() for name in ("open", "high", "low", "close")]
        for column, detector in enumerate(CANDLESTICKS):
            grades[first:end, column] = detector.function(*prices)
    return grades


def test_the_table_holds_all_61_of_talib_with_their_look_back():
    known = {name for name in talib.get_functions() if name.startswith("CDL")}

    assert {detector.function.__name__ for detector in CANDLESTICKS} == known
    assert len(DETECTORS) == 61
    for detector in CANDLESTICKS:
        assert detector.function.__name__ == f"CDL{detector.pattern_type.upper()}"
        assert detector.look_back == Function(detector.function.__name__).lookback, detector.name


def test_one_pass_over_real_bars_equals_talib_symbol_by_symbol(recordings):
    window = window_of(real_bars(recordings))

    grades = grades_of(window, np.arange(len(window)))

    assert np.count_nonzero(grades) > 10_000
    np.testing.assert_array_equal(grades, talib_alone(window))


def test_the_newest_bar_alone_is_judged_as_in_the_whole_history(recordings):
    """Future bars never change a past detection, and neither does how much of the past is read."""
    runs = real_bars(recordings)
    whole = talib_alone(window_of(runs))
    starts = window_of(runs).starts
    for length in (1, 3, 12, 15, 40, 200):
        cut = [run[: min(length, len(run))] for run in runs]
        window = window_of(cut)

        newest = grades_of(window, window.starts[1:] - 1)[window.starts[1:] - 1]

        expected = whole[starts[:-1] + np.array([len(run) for run in cut]) - 1]
        np.testing.assert_array_equal(newest, expected)


market_of_penny_and_giant = st.lists(
    st.tuples(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([0.05, 0.9, 3.0, 48.0, 400.0, 650_000.0])), min_size=1, max_size=8
)


@given(market_of_penny_and_giant)
@settings(max_examples=80, deadline=None)
def test_one_pass_over_any_market_equals_talib_symbol_by_symbol(recipe):
    runs = [
        random_bars(f"S{place}", count, seed=seed, price=price, tick=0.0001 if price < 1 else 0.01)
        for place, (seed, count, price) in enumerate(recipe)
    ]
    window = window_of(runs)

    np.testing.assert_array_equal(grades_of(window, np.arange(len(window))), talib_alone(window))


@given(market_of_penny_and_giant, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_wild_neighbour_changes_nothing(recipe, seed):
    """Prices of one symbol jump between a cent and millions; the others' grades stay what they are."""
    dice = np.random.default_rng(seed)
    calm = [random_bars(f"S{place}", count, seed=one, price=price) for place, (one, count, price) in enumerate(recipe)]
    wild = window_of([random_bars("WILD", 30, seed=1)])
    for name in ("open", "high", "low", "close"):
        getattr(wild, name)[:] = 10 ** dice.uniform(-2, 6.9, 30)
    wild.high[:] = np.maximum.reduce([wild.open, wild.high, wild.low, wild.close])
    wild.low[:] = np.minimum.reduce([wild.open, wild.low, wild.close])
    alone = window_of(calm)
    joined = BarWindow(
        ("WILD", *alone.symbols),
        np.concatenate(([0], alone.starts + 30)),
        *(
            np.concatenate([getattr(wild, name), getattr(alone, name)])
            for name in ("opened_at_ms", "open", "high", "low", "close", "volume", "vwap")
        ),
    )

    grades = grades_of(joined, np.arange(len(joined)))

    np.testing.assert_array_equal(grades[30:], grades_of(alone, np.arange(len(alone))))


def test_a_pattern_speaks_as_soon_as_its_own_look_back_is_there(recordings):
    window = window_of([run[:15] for run in real_bars(recordings)])
    matches = find_candlesticks(window, np.arange(len(window)))

    position = window.position[matches.end]
    needed = np.array([CANDLESTICKS[place].look_back for place in matches.detector])

    assert (position >= needed).all()
    assert position.min() < 5  # engulfing, three outside


def test_a_bar_that_signs_both_ways_points_nowhere(recordings):
    """TA-Lib gives a spinning top the colour of its candle; it is neither bullish nor bearish."""
    window = window_of(real_bars(recordings))
    matches = find_candlesticks(window, np.arange(len(window)))
    quality = judge(window, matches, CANDLESTICKS)
    names = np.array([detector.pattern_type for detector in CANDLESTICKS])[matches.detector]

    for neutral in ("doji", "longleggeddoji", "rickshawman", "spinningtop", "highwave", "shortline"):
        assert set(quality.sign[names == neutral]) == {0}
    assert set(quality.sign[names == "gravestonedoji"]) == {-1}
    assert set(quality.sign[names == "dragonflydoji"]) == {1}
    assert set(quality.sign[names == "engulfing"]) == {-1, 1}
    assert set(quality.sign[names == "shootingstar"]) == {-1}


def test_confidence_is_a_measure_and_not_a_constant(recordings):
    window = window_of(real_bars(recordings))
    quality = judge(window, find_candlesticks(window, np.arange(len(window))), CANDLESTICKS)

    assert ((quality.confidence >= 0) & (quality.confidence <= 1)).all()
    assert np.percentile(quality.confidence, 95) - np.percentile(quality.confidence, 5) > 0.4
    assert len(np.unique(quality.confidence)) > len(quality.confidence) / 2


def test_confidence_depends_on_no_bar_further_back_than_stated(recordings):
    (run, *_) = [run for run in real_bars(recordings) if len(run) > 300]
    whole, tail = window_of([run[:300]]), window_of([run[300 - CONTEXT_BARS - 1 : 300]])

    of_whole = judge(whole, find_candlesticks(whole, np.array([299])), CANDLESTICKS)
    of_tail = judge(tail, find_candlesticks(tail, np.array([len(tail) - 1])), CANDLESTICKS)

    assert len(of_whole.confidence) > 0
    assert of_whole.confidence.tobytes() == of_tail.confidence.tobytes()


def test_a_reversal_against_the_trend_is_worth_more_than_one_along_with_it():
    falling = random_bars("FALL", 30, seed=5)
    shapes = []
    for direction in (-1, 1):
        window = window_of([falling])
        drift = 100 + direction * 0.3 * np.arange(30)
        window.open[:] = drift + 0.1 * direction
        window.close[:] = drift
        window.open[-2:], window.close[-2:] = [drift[-2], drift[-2] - 0.3], [drift[-2] - 0.2, drift[-2] + 0.3]  # bullish engulfing
        window.high[:] = np.maximum(window.open, window.close) + 0.01
        window.low[:] = np.minimum(window.open, window.close) - 0.01
        matches = find_candlesticks(window, np.array([29]))
        quality = judge(window, matches, CANDLESTICKS)
        place = [CANDLESTICKS[one].pattern_type for one in matches.detector].index("engulfing")
        shapes.append((quality.trend(place), quality.confidence[place]))

    (down, against), (up, along) = shapes
    assert (down, up) == ("down", "up")
    assert against > along + 0.1


def test_no_bar_to_judge_is_no_match():
    window = window_of([random_bars("AAA", 20, seed=1)])

    assert len(find_candlesticks(window, np.array([], dtype=np.int64))) == 0


def test_a_window_refuses_arrays_that_do_not_fit():
    window = window_of([random_bars("AAA", 20, seed=1)])

    with pytest.raises(ValueError, match="volume"):
        BarWindow(
            window.symbols,
            window.starts,
            window.opened_at_ms,
            window.open,
            window.high,
            window.low,
            window.close,
            window.volume[:3],
            window.vwap,
        )
