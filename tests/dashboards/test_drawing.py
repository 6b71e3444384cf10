"""Geometry of charts and the grid's laws: values in, values out."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.drawing import lines, quadrant
from dashboards.drawing.treemap import Box, squarify, treemap
from dashboards.grid import filters
from dashboards.ledes import market
from dashboards.templatetags.wording import gap_strips
from marketdata.models import Session
from tests.dashboards.surveys import breadth, ranked, sector

weights = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=60).map(lambda values: sorted(values, reverse=True))


@settings(max_examples=40, deadline=None)
@given(weights)
def test_the_maps_tiles_fill_their_box_and_each_has_the_area_of_its_weight(values):
    box = Box(0, 0, 700, 300)

    tiles = squarify(values, box)

    for tile, value in zip(tiles, values, strict=True):
        assert tile.width * tile.height == pytest.approx(value / sum(values) * 700 * 300, rel=1e-6, abs=1e-3)
        assert tile.x >= -1e-6
        assert tile.y >= -1e-6
        assert tile.x + tile.width <= 700 + 1e-3
        assert tile.y + tile.height <= 300 + 1e-3


def test_a_symbol_without_weight_has_no_place_and_the_largest_comes_first():
    groups = treemap([("A", [("small", 1.0), ("none", 0.0), ("large", 9.0)]), ("B", [("only", 100.0)])], width=400, height=200)

    assert [(group.name, [tile.key for tile in group.tiles]) for group in groups] == [("B", ["only"]), ("A", ["large", "small"])]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=40))
def test_a_line_is_cut_where_a_value_is_missing_and_holds_every_known_one(values):
    drawn = lines.path([(float(x), value) for x, value in enumerate(values)])

    numbers = len(re.findall(r"[ML]", drawn))
    assert numbers == sum(value is not None for value in values)
    assert drawn.count("M") == len(lines.runs(list(enumerate(values))))


@given(st.floats(-1e5, 1e5), st.floats(0.001, 1e5))
def test_ticks_are_round_few_and_inside(low, width):
    marks = lines.ticks(low, low + width)

    assert len(marks) <= 6
    assert all(low - width * 1e-6 <= mark <= low + width * (1 + 1e-6) for mark in marks)


def test_an_intraday_line_is_as_long_as_the_part_of_the_day_that_is_gone():
    half = lines.spark([1.0, 2.0, 3.0], width=105, height=20, base=1.5, of=5)
    whole = lines.spark([1.0, 2.0, 3.0, 2.0, 1.0], width=105, height=20, base=1.5, of=5)

    assert half
    assert whole
    assert (float(half.x), float(whole.x)) == (52, 102)
    assert (half.tone, whole.tone) == ("up", "down")
    assert lines.spark([None, 2.0], width=100, height=20) is None


def test_a_quadrant_belongs_to_its_signs_and_a_heading_goes_clockwise_from_up():
    assert [quadrant.quadrant(*point) for point in [(1, 1), (1, -1), (-1, 1), (-1, -1), (0, 0)]] == [
        "leading", "weakening", "improving", "lagging", "leading",
    ]  # fmt: skip
    assert [quadrant.heading([(0, 0), step]) for step in [(0, 1), (1, 0), (0, -1), (-1, 0)]] == [0, 90, 180, 270]
    assert quadrant.heading([(1, 1)]) is None


def test_names_of_heads_that_stand_together_do_not_cover_each_other():
    heads = [("Technology", 400.0, 200.0), ("Industrials", 404.0, 206.0), ("Financials", 410.0, 199.0)]

    spots = quadrant.place_labels(heads, width=900, height=500)

    assert len({(round(x), round(y), anchor) for x, y, anchor in spots}) == 3
    assert len({anchor for _, _, anchor in spots}) > 1


# ---- The grid ---------------------------------------------------------------------------------------------------------------------------

ROWS = [
    ranked("AAA", 1, rs_rating=99, stage=2, sector="Energy"),
    ranked("BBB", 2, rs_rating=50, stage=4, substage="confirmed", rvol=3.0),
    ranked("CCC", 3, rs_rating=None, stage=None, substage=None, sector="", change_day=None),
]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({}, "AAA BBB CCC"), ({"rs_min": "60"}, "AAA"), ({"rs_max": "60"}, "BBB"), ({"stage": "4"}, "BBB"), ({"stage": "4-confirmed"}, "BBB"),
        ({"sector": "unknown"}, "CCC"), ({"q": "bb"}, "BBB"), ({"rvol_min": "2"}, "BBB"), ({"day_min": "-99"}, "AAA BBB"), ({"stage": "4-early"}, ""),
    ],
)  # fmt: skip
def test_a_filter_leaves_the_rows_that_pass_and_never_one_without_the_value(asked, left):
    state = filters.read(asked)

    assert " ".join(row["symbol"] for row in ROWS if filters.matches(row, state)) == left


@pytest.mark.parametrize(
    ("sort", "order"),
    [("-rs_rating", "AAA BBB CCC"), ("rs_rating", "BBB AAA CCC"), ("symbol", "AAA BBB CCC"), ("-symbol", "CCC BBB AAA"), ("-change_day", "AAA BBB CCC"),
     ("change_day,-symbol", "BBB AAA CCC")],
)  # fmt: skip
def test_rows_without_the_value_come_last_whichever_way_and_a_second_key_settles_ties(sort, order):
    assert " ".join(row["symbol"] for row in filters.ordered(ROWS, filters.read({"sort": sort}).sort)) == order


def test_what_cannot_be_read_is_said_and_left_out():
    state = filters.read({"rs_min": "many", "stage": "9", "set": "best", "sort": "luck", "day_max": "nan"})

    assert len(state.faults) == 5
    assert not state.filtered
    assert state.sort == (("rs_rating", True),)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(["q", "sector", "stage", "rs_min", "rvol_min", "sort", "set", "type"]), st.text(max_size=80)))
def test_no_address_breaks_the_grid(asked):
    state = filters.read(asked)

    found = filters.ordered([row for row in ROWS if filters.matches(row, state)], state.sort)
    assert {row["symbol"] for row in found} <= {"AAA", "BBB", "CCC"}


# ---- Ledes ------------------------------------------------------------------------------------------------------------------------------


def test_a_broad_advance_needs_the_share_and_the_sectors():
    many = [sector(name, change) for name, change in zip("ABCDEFGHIJK", [1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1], strict=True)]
    few = [sector(name, change) for name, change in zip("ABCDEFGHIJK", [1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1], strict=True)]

    assert market.market_word(breadth(42, 27), many) == "Broad advance"
    assert market.market_word(breadth(42, 27), few) == "Narrow advance"
    assert market.market_word(breadth(35, 34), many) == "Mixed market"
    assert market.market_word(breadth(9, 60), few) == "Broad decline"


def test_the_ledes_say_what_the_values_say():
    told = market.overview(breadth(42, 27), [sector("Technology", 1.3), sector("Industrials", 0.2), sector("Energy", -1.1)])

    assert told.first == "Broad advance: 42 of 70 symbols up, led by Technology and Industrials."
    assert told.second == "Energy lags; volume confirms."
    assert market.stages({"2": 33, "1": 14, "3": 8, "4": 15}, {"2": 31, "1": 1, "3": 1, "4": 1}, []).first == (
        "33 of 70 symbols are in stage 2, 2 more than last week."
    )
    climbed = [ranked(f"S{n:02}", n, rank_shift_week=0) for n in range(1, 21)] + [ranked("OUT", 21, rank_shift_week=-3)]
    assert market.rankings(climbed).second == "OUT left the top 20 this week."
    assert market.breadth(breadth(0, 0, unchanged=0)).first == "No symbol has moved against its close before."


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-50, 50)), min_size=11, max_size=11), st.integers(0, 5000), st.integers(0, 5000))
def test_a_lede_has_two_clauses_at_most_and_no_hole(changes, up, down):
    rows = [sector(f"Sector {n}", change) for n, change in enumerate(changes)]

    for told in (market.overview(breadth(up, down), rows), market.sectors(rows), market.breadth(breadth(up, down))):
        assert told.first.endswith(".")
        assert "None " not in told.second
        assert "nan" not in told.first


def test_gaps_that_touch_are_one_piece_and_an_open_one_is_drawn_over_a_repaired_one():
    opened = datetime(2026, 11, 25, 9, tzinfo=UTC)
    session = Session(pre_open=opened, post_close=opened + timedelta(hours=16))

    def gap(first: int, last: int, state: str, symbols: int) -> dict[str, object]:
        return {
            "first_minute": opened + timedelta(minutes=first),
            "last_minute": opened + timedelta(minutes=last),
            "state": state,
            "symbols": symbols,
        }

    pieces = gap_strips([gap(240, 249, "open", 3), gap(250, 287, "open", 5), gap(240, 479, "repaired", 70)], session)

    assert [(piece["open"], piece["symbols"], piece["left"], piece["width"]) for piece in pieces] == [
        (False, 70, 25.0, 25.0),
        (True, 5, 25.0, 5.0),
    ]
