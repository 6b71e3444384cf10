"""The decoder: any bytes in, events and reasons out."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.feed.decode import MIXED, FrameDecoder, decode, texts
from marketdata.feed.events import LimitBand, MinuteAggregate, Quote, SecondAggregate, StatusMessage, Trade

GOOD = {"ev": "T", "sym": "ACME", "p": 50.0, "s": 100, "t": 1795185000120, "q": 1001}
MINUTE = {"ev": "AM", "sym": "ACME", "v": 10, "o": 1.5, "h": 1.5, "l": 1.5, "c": 1.5, "s": 1795185000000, "e": 1795185060000}


def test_every_kind_of_event_of_the_feed_is_read():
    frame = json.dumps(
        [
            GOOD | {"ds": "100.0", "c": [12, 14], "x": 4, "i": "77", "z": 3, "trfi": 202, "trft": 1},
            MINUTE,
            MINUTE | {"ev": "A", "z": 12.0, "otc": True, "newkey": {"x": 1}},
            {"ev": "Q", "sym": "THIN", "bx": 11, "bp": 9.8, "bs": 1, "c": 1, "t": 1795168812000, "q": 12, "z": 2},
            {"ev": "LULD", "T": "ACME", "h": 55.1, "l": 44.9, "i": [21], "z": 3, "t": 1795185000123456789, "q": 88},
            {"ev": "status", "status": "success", "message": "subscribed to: AM.*"},
        ]
    )

    decoded = decode(frame)

    assert [type(event) for event in decoded.events] == [Trade, MinuteAggregate, SecondAggregate, Quote, LimitBand, StatusMessage]
    assert decoded.rejections == []
    assert decoded.events[0].c == (12, 14)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"not json", "not_json"),
        (b'{"ev":"AM","sym":"ACME"}', "not_an_array"),
        (b"[1]", "not_an_object"),
        (b'[{"sym":"ACME"}]', "no_event_type"),
        (b'[{"ev":"ZZZ","sym":"ACME"}]', "unknown_event"),
        (b'[{"ev":["x"],"sym":"ACME"}]', "unknown_event"),
        (b'[{"ev":"AM","sym":"ACME","o":null,"v":null,"s":null}]', "bad_value"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 5000, "not_json"),
        (json.dumps([GOOD | {"p": None}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"p": float("nan")}]).encode(), "not_json"),
        (json.dumps([GOOD | {"p": float("inf")}]).encode(), "not_json"),
        (b'[{"ev":"T","sym":"ACME","p":1e999,"t":1795185000120,"q":1}]', "not_json"),
        (json.dumps([GOOD | {"p": -1}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"p": 0}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"p": 1e13}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"s": -5}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"t": 12}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"t": "now"}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"sym": ""}]).encode(), "bad_value"),
        (json.dumps([GOOD | {"sym": "X" * 21}]).encode(), "bad_value"),
        (json.dumps([{key: value for key, value in GOOD.items() if key != "p"}]).encode(), "bad_value"),
    ],
)
def test_what_is_no_event_is_refused_with_its_reason(frame, reason):
    decoded = decode(frame)

    assert decoded.events == []
    assert [rejection.reason for rejection in decoded.rejections] == [reason]
    assert decoded.rejections[0].detail


@pytest.mark.parametrize("bad", [b'{"ev":"T","sym":"X","p":NaN}', b'{"ev":"T","sym":"X","p":-Infinity}', rb'{"ev":"T","sym":"\ud800"}'])
def test_what_only_looks_like_json_takes_no_good_event_with_it(bad):
    decoded = decode(b"[" + json.dumps(GOOD).encode() + b"," + bad + b"]")

    assert [event.q for event in decoded.events] == [1001]
    assert [rejection.reason for rejection in decoded.rejections] == ["not_json"]


def test_a_refusal_holds_no_character_that_the_database_refuses():
    [rejection] = decode(rb'[{"ev":"\u0000X","sym":"A\u0000B"}]').rejections

    assert "\0" not in rejection.kind + rejection.symbol + rejection.detail + rejection.raw


def test_an_empty_array_is_nothing():
    assert decode(b"[]") == decode(b" [ ] ")
    assert decode(b"[]").events == decode(b"[]").rejections == []


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["ev", "sym", "p", "s", "t", "T", "q", "o", "c", "x"]) | st.text(), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.binary(max_size=300))
@settings(max_examples=500)
def test_no_bytes_raise(frame):
    decoded = decode(frame)
    assert decoded.events or decoded.rejections or decoded == decode(b"[]")


@given(bad=st.lists(json_values, max_size=5), place=st.integers(0, 5))
@settings(max_examples=500)
def test_a_good_event_survives_any_neighbours(bad, place):
    elements = [*bad[:place], GOOD, *bad[place:]]

    decoded = decode(json.dumps(elements))

    assert any(isinstance(event, Trade) and event.q == 1001 for event in decoded.events)
    assert len(decoded.events) + len(decoded.rejections) == len(elements)


NAMELESS = [{key: value for key, value in event.items() if key != "ev"} for event in (GOOD, MINUTE)]
pieces = st.lists(
    st.sampled_from(
        [GOOD, GOOD | {"q": 1002}, MINUTE, MINUTE | {"ev": "A"}, {"ev": "Q", "sym": "ACME", "t": MINUTE["s"]}, {"ev": "T"}, 1, *NAMELESS]
    )
)


@given(frames=st.lists(pieces | st.lists(st.just(GOOD), min_size=1), max_size=8), as_text=st.booleans())
def test_a_line_s_decoder_says_the_same_and_the_kind_of_all(frames, as_text):
    decoder = FrameDecoder()
    for elements in frames:
        frame = json.dumps(elements, separators=(",", ":"))
        decoded, plain = decoder.decode(frame if as_text else frame.encode()), decode(frame)
        assert (decoded.events, decoded.rejections) == (plain.events, plain.rejections)
        assert decoded.kind is None or {type(event) for event in decoded.events} == {decoded.kind}


def test_a_line_s_decoder_knows_the_kind_until_a_frame_deceives_it():
    decoder = FrameDecoder()
    alike, mixed = (json.dumps(each, separators=(",", ":")).encode() for each in ([GOOD], [GOOD, MINUTE]))
    assert decoder.decode(alike).kind is Trade
    assert decoder.decode(mixed).kind is None
    for _ in range(MIXED):
        assert decoder.decode(alike).kind is None
    assert decoder.decode(alike).kind is Trade


@pytest.mark.parametrize(
    "good", [GOOD, MINUTE, MINUTE | {"ev": "A"}, {"ev": "Q", "sym": "ACME", "t": MINUTE["s"]}], ids=lambda good: good["ev"]
)
def test_what_names_no_kind_is_no_event_however_its_frame_begins(good):
    nameless = {key: value for key, value in good.items() if key != "ev"}

    decoded = FrameDecoder().decode(json.dumps([good, nameless, good], separators=(",", ":")).encode())

    assert len(decoded.events) == 2
    assert [rejection.reason for rejection in decoded.rejections] == ["no_event_type"]


def test_a_frame_s_kind_is_told_by_its_text_as_by_its_bytes():
    for good, kind in ((GOOD, Trade), (MINUTE, MinuteAggregate), (MINUTE | {"ev": "A"}, SecondAggregate)):
        frame = json.dumps([good, good], separators=(",", ":"))
        assert FrameDecoder().decode(frame).kind is FrameDecoder().decode(frame.encode()).kind is kind


def test_each_text_of_events_that_are_equal_here_is_found():
    frame = json.dumps([GOOD | {"x": 1}, GOOD | {"q": 7}, GOOD | {"x": 2}])
    [first, _, _] = decode(frame).events

    assert [json.loads(text)["x"] for text in texts(frame, [first])[first]] == [1, 2]
