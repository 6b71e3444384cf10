"""Ranges of minutes: laws, against plain sets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from marketdata.bars.coverage import expected, joined, minutes_in, whole_minutes, without
from marketdata.bars.session import Hours, SessionTable
from tests.factories import at, make_sessions

M = 60_000
ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0] * M, (pair[0] + pair[1]) * M)), max_size=12)


def as_set(some):
    return {minute for first, last in some for minute in range(first, last + 1, M)}


@given(ranges)
def test_joined_is_the_union_in_order_and_apart(some):
    union = joined(some)
    assert as_set(union) == as_set(some)
    assert all(left[1] + M < right[0] for left, right in pairwise(union))
    assert minutes_in(union) == len(as_set(some))


@given(ranges, ranges)
def test_without_is_the_difference(some, taken):
    rest = without(joined(some), joined(taken))
    assert as_set(rest) == as_set(some) - as_set(taken)
    assert all(first <= last for first, last in rest)


@given(st.integers(0, 10 * M), st.integers(0, 10 * M))
def test_whole_minutes_lie_wholly_inside(began, until):
    span = whole_minutes(began, until)
    assert as_set([span] if span else []) == {minute for minute in range(0, 12 * M, M) if minute >= began and minute + M <= until}


def test_expected_minutes_are_those_of_the_sessions():
    sessions = make_sessions()
    assert minutes_in(expected(sessions, at("00:00"), at("23:59"))) == 14 * 60 + 59
    assert minutes_in(expected(sessions, at("14:30:30"), at("14:33"))) == 2
    assert expected(sessions, at("02:00"), at("08:59")) == []
    assert expected(SessionTable([]), 0, 10**15) == []


def test_sessions_around_the_clock_join():
    day = 24 * 60 * M
    twin = SessionTable([Hours(number * day, number * day, (number + 1) * day, (number + 1) * day) for number in range(3)])
    assert expected(twin, 0, 3 * day) == [(0, 3 * day - M)]
