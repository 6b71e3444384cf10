import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.bars.window import last_bars
from patterns.indicators.averages import trailing_mean
from patterns.indicators.catalogue import ALL_NAMES, ON_DEMAND, PIVOT_NAMES, SESSION_NAMES, STORED, names_of, window_values
from patterns.indicators.momentum import relative_strength_index
from patterns.indicators.pivots import classic_pivots, fibonacci_pivots
from patterns.indicators.volume import SessionSums, no_sums, relative_volume, session_sums, traded_prices
from tests.patterns.market import random_bars, real_bars, real_days, window_of

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
    "adx_14": lambda b: talib.ADX(b.high, b.low, b.close, 14),
    "stoch_k": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3)[0],
    "stoch_d": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3)[1],
    "sma_100": lambda b: talib.SMA(b.close, 100),
    "sma_200": lambda b: talib.SMA(b.close, 200),
    "ema_100": lambda b: talib.EMA(b.close, 100),
    "ema_200": lambda b: talib.EMA(b.close, 200),
    "obv": lambda b: talib.OBV(b.close, b.volume),
}
OF_WINDOWS = {timeframe: (*STORED[timeframe], *ON_DEMAND.get(timeframe, ())) for timeframe in STORED}


def test_every_indicator_of_a_window_but_one_has_its_counterpart_in_talib():
    assert {name for chosen in OF_WINDOWS.values() for name in names_of(chosen)} - set(TALIB) == {"rvol_20"}
    assert set(ALL_NAMES) - set(TALIB) == {"rvol_20", "rs_spy", *SESSION_NAMES, *PIVOT_NAMES} - {"obv"}


def assert_parity(runs, timeframe, *, every=1):
    """Hold each value against TA-Lib on the bars that it is a function of, alone."""
    window = window_of(runs)
    ends = np.flatnonzero(np.arange(len(window)) % every == 0)
    values = window_values(window, ends, OF_WINDOWS[timeframe])
    lengths = {name: indicator.length for indicator in OF_WINDOWS[timeframe] for name in indicator.names}
    for place, end in enumerate(ends.tolist()):
        run = runs[window.run[end]]
        last = int(window.position[end]) + 1
        for name, length in lengths.items():
            if name == "rvol_20":
                continue
            alone = window_of([run[max(last - length, 0) : last]])
            expected = TALIB[name](alone)[-1]
            got = values[name][place]
            if name == "rsi_14" and expected == 0 and np.ptp(alone.close) == 0:
                assert got == 50  # the one exception
                continue
            # What TA-Lib keeps as running sums has the rounding of what went through them
            noise = 1e-9 * (0 if np.isnan(expected) else {"macd": 1e-3, "stoc": 1e-2}.get(name[:4], 0) * alone.close[-1])
            np.testing.assert_allclose(
                got, expected, rtol=1e-9, atol=max(noise, 1e-13), err_msg=f"{name} {timeframe} {run[0].symbol} {last}"
            )


@pytest.mark.parametrize("timeframe", ["1m", "5m"])
def test_values_on_real_minutes_equal_talib(recordings, timeframe):
    assert_parity([run[:420] for run in real_bars(recordings)][:14], timeframe, every=41)


def test_values_on_real_days_equal_talib(recordings):
    assert_parity([run[-1300:] for run in real_days(recordings)], "1d", every=97)


@given(
    seed=st.integers(0, 2**32), bars=st.integers(1, 260), tick=st.sampled_from([0.01, 0.0001, 5.0]), timeframe=st.sampled_from(["1m", "1h"])
)
@settings(max_examples=60, deadline=None)
def test_values_on_random_series_equal_talib(seed, bars, tick, timeframe):
    run = random_bars("AAA", bars, seed=seed, price=7.5 if tick < 1 else 4_000.0, tick=tick)
    assert_parity([run], timeframe, every=max(bars - 1, 1))


@pytest.mark.parametrize("bars", [1, 5, 14, 15, 16, 27, 28, 33, 34, 35, 60, 119, 120, 121, 400])
def test_values_equal_talib_on_the_last_120_bars_whatever_is_stored(bars):
    runs = [random_bars("AAA", bars, seed=1, price=7.5), random_bars("BBB", bars, seed=2, price=412.0)]
    ends = np.array([bars - 1, 2 * bars - 1])

    values = window_values(window_of(runs), ends, STORED["1m"])

    for place, run in enumerate(runs):
        alone = window_of([run[-120:]])
        for name in set(values) - {"rvol_20"}:
            counterpart = TALIB[name]
            expected = counterpart(alone)[-1]
            scale = 1 if np.isnan(expected) else max(abs(expected), alone.close[-1] * 1e-3 if name.startswith("macd") else 0)
            np.testing.assert_allclose(values[name][place], expected, rtol=1e-9, atol=1e-9 * scale, err_msg=f"{name} on {bars} bars")


@given(seed=st.integers(0, 2**32), bars=st.integers(1, 200), others=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_value_is_the_same_bits_alone_and_among_others(seed, bars, others):
    mine = random_bars("MINE", bars, seed=seed)
    beside = [random_bars(f"X{number}", 1 + (seed + number) % 150, seed=number, price=10.0 ** (number + 1)) for number in range(others)]

    alone = window_values(window_of([mine]), np.array([bars - 1]), STORED["5m"])
    together = window_values(window_of([mine, *beside]), np.array([bars - 1, *range(bars, bars + others)]), STORED["5m"])

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


def sums_of(bars, session, *, begin=0, before=None, close=np.nan):
    window = window_of([bars])
    held = no_sums(1, value=0.0) if before is None else before
    return session_sums(
        window, session, price=traded_prices(window), volume=window.volume, begin=np.array([begin]), before=held, close_before=np.array([close])
    )  # fmt: skip


def test_session_sums_begin_anew_at_each_open_and_skip_what_lies_outside():
    bars = random_bars("AAA", 6, seed=3)
    window = window_of([bars])
    price = (window.high + window.low + window.close) / 3

    sums = sums_of(bars, np.array([-1, 0, 0, -1, 7, 7]))

    for column in sums.columns():
        assert np.isnan(column[[0, 3]]).all()
    assert sums.volume[[1, 2, 4, 5]].tolist() == [window.volume[1], window.volume[1:3].sum(), window.volume[4], window.volume[4:6].sum()]
    assert sums.turnover[2] == price[1] * window.volume[1] + price[2] * window.volume[2]
    assert sums.balance[4] == window.volume[4]


def test_the_bands_are_standard_deviations_by_volume_and_the_balance_is_talibs():
    bars = random_bars("AAA", 90, seed=11, price=4000.0)
    window = window_of([bars])
    price = traded_prices(window)

    sums = sums_of(bars, np.zeros(90, dtype=np.int64))

    for end in (1, 2, 30, 90):
        mean = np.average(price[:end], weights=window.volume[:end])
        deviation = np.sqrt(np.average((price[:end] - mean) ** 2, weights=window.volume[:end]))
        assert sums.average()[end - 1] == pytest.approx(mean, rel=1e-12)
        assert sums.deviation()[end - 1] == pytest.approx(deviation, rel=1e-9, abs=1e-9)
    np.testing.assert_array_equal(sums.balance, talib.OBV(window.close, window.volume))


@given(seed=st.integers(0, 2**32), cut=st.integers(1, 99))
@settings(max_examples=40, deadline=None)
def test_a_session_summed_in_pieces_equals_the_session_summed_at_once(seed, cut):
    bars = random_bars("AAA", 100, seed=seed)
    session = np.zeros(100, dtype=np.int64)
    whole = sums_of(bars, session)

    rest = sums_of(bars, session, begin=cut, before=whole.at(np.array([cut - 1])), close=bars[cut - 1].close)

    for all_of_it, piece in zip(whole.columns(), rest.columns(), strict=True):
        assert all_of_it[cut:].tobytes() == piece[cut:].tobytes()


def test_sums_of_many_symbols_are_those_of_each():
    runs = [random_bars(f"S{number}", length, seed=number) for number, length in enumerate((3, 50, 1, 17))]
    window = window_of(runs)
    session = np.where(np.arange(len(window)) % 11 == 5, -1, np.arange(len(window)) // 23)

    together = session_sums(
        window, session, price=traded_prices(window), volume=window.volume, begin=window.starts[:-1], before=no_sums(4, value=0.0),
        close_before=np.full(4, np.nan),
    )  # fmt: skip

    for run, start, end in zip(runs, window.starts, window.starts[1:], strict=False):
        alone = sums_of(run, session[start:end])
        for mine, ours in zip(alone.columns(), together.columns(), strict=True):
            assert mine.tobytes() == ours[start:end].tobytes()


def test_a_bar_counts_in_the_vwap_with_its_own_average_where_that_is_possible():
    window = window_of([random_bars("AAA", 2, seed=3)])
    window.vwap[:] = [window.low[0], window.high[1] + 1]  # the second one lies outside of its bar

    assert traded_prices(window).tolist() == [window.low[0], (window.high[1] + window.low[1] + window.close[1]) / 3]


def test_pivots_are_the_floor_traders():
    high, low, close = (np.array([price]) for price in (110.0, 100.0, 108.0))

    assert [round(float(level[0]), 6) for level in classic_pivots(high, low, close)] == [106, 112, 116, 122, 102, 96, 92]
    assert [round(float(level[0]), 6) for level in fibonacci_pivots(high, low, close)] == [109.82, 112.18, 116, 102.18, 99.82, 96]


def test_a_session_without_trades_has_no_average():
    nothing = SessionSums(*(np.zeros(1) for _ in range(4)))

    assert np.isnan(nothing.average()[0])
    assert np.isnan(nothing.deviation()[0])
    assert np.isnan(trailing_mean(np.ones(3), length=4)).all()
