import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.bars.window import last_bars
from patterns.indicators.minute import NAMES, minute_values
from patterns.indicators.momentum import relative_strength_index
from patterns.indicators.volume import relative_volume, session_sums
from tests.patterns.market import random_bars, window_of

TALIB = {
    "sma_5": lambda b: talib.SMA(b.close, 5),
    "sma_10": lambda b: talib.SMA(b.close, 10),
    "sma_20": lambda b: talib.SMA(b.close, 20),
    "sma_50": lambda b: talib.SMA(b.close, 50),
    "ema_5": lambda b: talib.EMA(b.close, 5),
    "ema_10": lambda b: talib.EMA(b.close, 10),
    "ema_20": lambda b: talib.EMA(b.close, 20),
    "ema_50": lambda b: talib.EMA(b.close, 50),
    "rsi_14": lambda b: talib.RSI(b.close, 14),
    "macd": lambda b: talib.MACD(b.close, 12, 26, 9)[0],
    "macd_signal": lambda b: talib.MACD(b.close, 12, 26, 9)[1],
    "macd_hist": lambda b: talib.MACD(b.close, 12, 26, 9)[2],
    "bb_upper": lambda b: talib.BBANDS(b.close, 20, 2, 2)[0],
    "bb_middle": lambda b: talib.BBANDS(b.close, 20, 2, 2)[1],
    "bb_lower": lambda b: talib.BBANDS(b.close, 20, 2, 2)[2],
    "atr_14": lambda b: talib.ATR(b.high, b.low, b.close, 14),
}


def test_every_stored_indicator_but_two_has_its_counterpart_in_talib():
    assert set(NAMES) - set(TALIB) == {"vwap", "rvol_20"}


@pytest.mark.parametrize("bars", [1, 5, 14, 15, 33, 34, 35, 60, 119, 120, 121, 400])
def test_values_equal_talib_on_the_last_120_bars_whatever_is_stored(bars):
    runs = [random_bars("AAA", bars, seed=1, price=7.5), random_bars("BBB", bars, seed=2, price=412.0)]
    ends = np.array([bars - 1, 2 * bars - 1])

    values = minute_values(window_of(runs), ends)

    for place, run in enumerate(runs):
        alone = window_of([run[-120:]])
        for name, counterpart in TALIB.items():
            expected = counterpart(alone)[-1]
            scale = 1 if np.isnan(expected) else max(abs(expected), alone.close[-1] * 1e-3 if name.startswith("macd") else 0)
            np.testing.assert_allclose(values[name][place], expected, rtol=1e-9, atol=1e-9 * scale, err_msg=f"{name} on {bars} bars")


@given(seed=st.integers(0, 2**32), bars=st.integers(1, 200), others=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_value_is_the_same_bits_alone_and_among_others(seed, bars, others):
    mine = random_bars("MINE", bars, seed=seed)
    beside = [random_bars(f"X{number}", 1 + (seed + number) % 150, seed=number, price=10.0 ** (number + 1)) for number in range(others)]

    alone = minute_values(window_of([mine]), np.array([bars - 1]))
    together = minute_values(window_of([mine, *beside]), np.array([bars - 1, *range(bars, bars + others)]))

    for name, value in alone.items():
        assert value[0].tobytes() == together[name][0].tobytes(), name


def test_a_flat_series_is_neither_strong_nor_weak():
    assert relative_strength_index(np.full(40, 12.5), length=14)[-1] == 50


def test_relative_volume_is_the_quotient_to_the_mean_of_the_bars_before():
    volume = np.array([*[100.0] * 20, 250.0])

    assert relative_volume(volume, length=20)[-1] == 2.5
    assert np.isnan(relative_volume(volume, length=20)[:-1]).all()


def test_relative_volume_of_an_untraded_past_is_no_value():
    assert np.isnan(relative_volume(np.array([*[0.0] * 20, 250.0]), length=20)).all()


def test_the_last_bars_never_reach_into_another_symbol():
    window = window_of([random_bars("AAA", 3, seed=1), random_bars("BBB", 5, seed=2)])

    index, count = last_bars(window, np.array([2, 3, 7]), length=4)

    assert count.tolist() == [3, 1, 4]
    assert index.T.tolist() == [[0, 1, 2, 2], [3, 3, 3, 3], [4, 5, 6, 7]]


def test_session_sums_begin_anew_at_each_open_and_skip_what_lies_outside():
    window = window_of([random_bars("AAA", 6, seed=3)])
    session = np.array([-1, 0, 0, -1, 7, 7])
    price = (window.high + window.low + window.close) / 3

    turnover, volume = session_sums(window, session, begin=np.array([0]), turnover=np.zeros(1), volume=np.zeros(1))

    assert np.isnan(turnover[[0, 3]]).all()
    assert volume[[1, 2, 4, 5]].tolist() == [window.volume[1], window.volume[1:3].sum(), window.volume[4], window.volume[4:6].sum()]
    assert turnover[2] == price[1] * window.volume[1] + price[2] * window.volume[2]


@given(seed=st.integers(0, 2**32), cut=st.integers(1, 99))
@settings(max_examples=40, deadline=None)
def test_a_session_summed_in_pieces_equals_the_session_summed_at_once(seed, cut):
    bars = random_bars("AAA", 100, seed=seed)
    session = np.zeros(100, dtype=np.int64)
    nothing = np.zeros(1)
    whole = session_sums(window_of([bars]), session, begin=np.array([0]), turnover=nothing, volume=nothing)

    rest = session_sums(window_of([bars]), session, begin=np.array([cut]), turnover=whole[0][[cut - 1]], volume=whole[1][[cut - 1]])

    assert whole[0][cut:].tobytes() == rest[0][cut:].tobytes()
    assert whole[1][cut:].tobytes() == rest[1][cut:].tobytes()


def test_a_bar_counts_in_the_vwap_with_its_own_average_where_that_is_possible():
    window = window_of([random_bars("AAA", 2, seed=3)])
    window.vwap[:] = [window.low[0], window.high[1] + 1]  # the second one lies outside of its bar

    turnover, _ = session_sums(window, np.zeros(2, dtype=np.int64), begin=np.array([0]), turnover=np.zeros(1), volume=np.zeros(1))

    typical = (window.high[1] + window.low[1] + window.close[1]) / 3
    assert turnover[1] == window.low[0] * window.volume[0] + typical * window.volume[1]
