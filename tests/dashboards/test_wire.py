"""The words on the wire: exact numbers, times with Z, faults in sentences."""

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from dashboards import wire
from marketdata.bars.snapshot import SHARE
from tests.dashboards.bars import make_bar, make_change


def test_stored_bar_is_told_with_times_in_utc_and_its_revision():
    told = json.loads(wire.closed_bars([make_change("BRK.B", revision=3)]))["bars"][0]

    assert told == {
        "s": "BRK.B", "t": "2026-11-20T14:30:00Z", "end": "2026-11-20T14:31:00Z", "o": 100.25, "h": 102.0, "l": 100.0, "c": 101.5,
        "v": 1500, "vw": 101.1234, "n": 42, "final": False, "complete": True, "revision": 3, "forming": False,
    }  # fmt: skip


def test_forming_bar_is_told_as_such():
    told = json.loads(wire.moving_bars([make_bar()]))["bars"][0]

    assert told["forming"] is True
    assert told["revision"] is None
    assert told["final"] is False


@given(st.integers(min_value=0, max_value=10**15 * SHARE))
def test_volume_keeps_every_digit(volume: int):
    told = json.loads(wire.moving_bars([make_bar(volume=volume)]), parse_float=Decimal, parse_int=Decimal)["bars"][0]["v"]

    assert told * SHARE == volume


@given(st.decimals(min_value="0.0001", max_value="999999.9999", places=4))
def test_price_is_told_as_the_feed_wrote_it(price: Decimal):
    told = json.loads(wire.moving_bars([make_bar(close=float(price))]), parse_float=Decimal)["bars"][0]["c"]

    assert told == price


def test_detection_found_in_another_zone_is_told_in_utc():
    new_york = timezone(timedelta(hours=-5))
    row = {"id": 7, "symbol": "AAPL", "name": "Doji", "timestamp": datetime(2026, 11, 20, 9, 30, tzinfo=new_york)}

    told = json.loads(wire.found_patterns([row]))

    assert told == {"detections": [row | {"timestamp": "2026-11-20T14:30:00Z"}], "retracted": []}


@given(st.lists(st.tuples(st.sampled_from(["AAPL", "BRK.B", "KIMpL"]), st.integers(0, 5)), max_size=12))
def test_what_is_read_back_is_what_was_written(keys: list[tuple[str, int]]):
    body = wire.closed_bars(make_change(symbol, minute=minute) for symbol, minute in keys)

    flush = wire.read_flush(5, wire.BARS, "2026-11-20T14:31:03.000Z", body)

    assert wire.bars_data(flush.parts).encode() == body
    assert sum(len(parts) for parts in flush.by_symbol.values()) == len(keys)


def test_flush_of_a_later_version_has_no_parts_and_breaks_nothing():
    assert wire.read_flush(5, "weather", "2026-11-20T14:31:03.000Z", b'{"rain":true}').parts == ()


def test_body_that_is_not_what_it_says_is_refused():
    with pytest.raises(msgspec.DecodeError):
        wire.read_flush(5, wire.BARS, "2026-11-20T14:31:03.000Z", b'{"detections":[]}')


@pytest.mark.parametrize("topic", ["bars", "bars:AAPL", "bars:BRK.B", "bars:KIMpL", "patterns", "feed"])
def test_good_topics(topic: str):
    assert wire.topic_fault(topic) is None


@pytest.mark.parametrize("topic", ["", "bars:", "bars:A B", "bars:" + "A" * 21, "market ", "Bars", "feed\n", 'bars:"', "bars:<script>"])
def test_other_topics_are_answered_with_a_sentence(topic: str):
    assert "there are bars" in str(wire.topic_fault(topic))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '{"action":"shout"}', '{"topics":[]}', '{"action":"watch"}', '{"action":"watch","topics":"bars"}',
     '{"action":"watch","topics":[7]}', '{"action":"resume","topic":"bars"}', '{"action":"resume","topic":"bars","after":"7"}',
     '{"action":"watch","x":' + "[" * 16_000, "[" * 16_000],
)  # fmt: skip
def test_request_that_is_none_is_answered_with_a_sentence(text: str):
    with pytest.raises(ValueError, match=r"Send \{|Send an object"):
        wire.read_request(text)


@given(st.text() | st.binary())
def test_nothing_a_client_sends_raises_anything_else(text: str | bytes):
    try:
        wire.read_request(text)
    except ValueError as fault:
        assert "\n" not in str(fault)  # noqa: PT017 - most texts raise, a few may not


def test_message_has_the_envelope_of_the_interface():
    told = json.loads(wire.message("bars:AAPL", seq=9, prev=None, kind="update", at="2026-11-20T14:31:03.000Z", data='{"bars":[]}'))

    assert told == {"topic": "bars:AAPL", "seq": 9, "prev": None, "type": "update", "at": "2026-11-20T14:31:03.000Z", "data": {"bars": []}}


def test_error_about_a_hostile_topic_is_still_json():
    told = json.loads(wire.error('bars:"}{\n', "No such topic.", at="2026-11-20T14:31:03.000Z"))

    assert told["topic"] == 'bars:"}{\n'
    assert told["type"] == "error"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_frame_is_that_of_rfc_6455_whatever_its_size(size):
    payload = b"x" * size

    assert wire.frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert wire.Message(payload.decode()).frame() == wire.frame(payload)


@pytest.mark.parametrize(
    ("topic", "good"),
    [
        ("quotes:AAPL", True),
        ("quotes:BRK.B", True),
        ("quotes", False),
        ("quotes:", False),
        ("bars", True),
        ("bars:", False),
        ("patterns:AAPL", False),
    ],
)
def test_quotes_are_watched_by_symbol_only(topic, good):
    assert (wire.topic_fault(topic) is None) is good
