"""Columns of events: sums that no order, size or cut can change."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marketdata.bars.blocks import FRACTION, sums, value_sums
from marketdata.bars.minute import SecondSet

minutes = st.lists(
    st.lists(st.tuples(st.floats(1e-6, 1e7, exclude_max=True), st.integers(0, 2**62)), min_size=1, max_size=20), min_size=1, max_size=8
)


def _columns(runs):
    rows = [row for run in runs for row in run]
    starts = np.cumsum([0, *map(len, runs[:-1])])
    return np.array([price for price, _ in rows]), np.array([size for _, size in rows], dtype=np.int64), starts


@given(minutes)
def test_minutes_summed_at_once_come_to_what_their_seconds_come_to_one_by_one(runs):
    prices, sizes, starts = _columns(runs)

    assert sums(sizes, starts) == [sum(size for _, size in run) for run in runs]
    assert value_sums(prices * sizes, starts) == [sum(round(price * size * FRACTION) for price, size in run) for run in runs]


@given(minutes, st.randoms())
def test_a_mean_price_does_not_know_the_order_of_its_seconds(runs, random):
    [seconds, *_] = [[(0.0, size, price, -price, price, price, price) for price, size in run] for run in runs]
    means = []
    for _ in range(2):
        minute = SecondSet()
        for number, part in enumerate(seconds):
            minute.fold(number, part)
        means.append(minute.vwap())
        random.shuffle(seconds)

    assert means[0] == means[1]
    if means[0] is not None:
        assert min(part[4] for part in seconds) - 1e-6 <= means[0] <= max(part[4] for part in seconds) + 1e-6


def test_a_billionth_of_a_share_has_its_own_price():
    minute = SecondSet()
    minute.fold(0, (0.0, 1, 50.37, -50.37, 50.37, 50.37, 50.37))

    assert minute.vwap() == 50.37


def test_a_minute_of_many_large_sizes_beside_one_of_few_is_summed_exactly():
    assert sums(np.array([1, *[2**61] * 4], dtype=np.int64), np.array([0, 1])) == [1, 2**63]


def test_a_second_is_rounded_to_the_nearest_fraction():
    minute = SecondSet()
    minute.fold(0, (0.0, 1, 1.0, -1.0, 1.0, 1.0, 0.7 / FRACTION))

    assert minute.value == 1
