"""Faults as values: how they are written, when they strike, what they make of frames; the same for the same seed."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.feed.decode import decode
from marketdata.feed.events import Trade
from marketdata.twin.dialogue import Close, Dialogue, Drop, Send
from marketdata.twin.faults import KINDS, Fault, FaultError, Faults, parse, usage
from marketdata.twin.holding import Holding
from marketdata.twin.mangle import frames
from marketdata.twin.recording import read
from marketdata.twin.schedule import Due

MINUTE_MS = 60_000


def trade(number):
    event = {"ev": "T", "sym": "AAPL", "p": 100.5, "s": 100, "t": 1_795_185_000_000 + number, "q": number}
    return Due(event["t"], "T", "AAPL", msgspec.json.encode(event))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Fault("drop")),
        ("drop:0.5", Fault("drop", every_seconds=0.5)),
        ("close:1001", Fault("close", 1001)),
        ("close:1008:3", Fault("close", 1008, every_seconds=3)),
        ("silence", Fault("silence", 3600)),
        ("silence:20", Fault("silence", 20)),
        ("max_connections:1", Fault("max_connections", 1, "evict_older")),
        ("max_connections:2:random", Fault("max_connections", 2, "random")),
        ("not_authorized:T", Fault("not_authorized", word="T")),
        ("big_frame:5:10", Fault("big_frame", 5, every_seconds=10)),
        ("rest_429", Fault("rest_429")),
        ("rest_429:3", Fault("rest_429", 3)),
        ("rest_rate", Fault("rest_rate", 5)),
        ("rest_foreign_next_url", Fault("rest_foreign_next_url", word="http://elsewhere.invalid")),
        ("rest_foreign_next_url:http://127.0.0.1:99", Fault("rest_foreign_next_url", word="http://127.0.0.1:99")),
    ],
)
def test_a_fault_is_written_as_its_name_and_arguments(text, fault):
    assert parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nope",
        "Drop",
        "close",
        "close:1002",
        "close:x",
        "drop:0",
        "drop:-1",
        "drop:1:2",
        "duplicates",
        "duplicates:101",
        "duplicates:nan",
        "auth_failed:1",
        "max_connections:1:maybe",
        "not_authorized",
        "silence:soon",
        "garbage:",
    ],
)
def test_what_is_no_fault_is_refused_in_one_sentence_that_lists_the_faults(text):
    with pytest.raises(FaultError) as refused:
        parse(text)

    sentence = str(refused.value)
    assert all(name in sentence for name in KINDS)
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_every_fault_says_how_it_is_written_and_what_it_does():
    assert usage("close") == "close:CODE[:EVERY_SECONDS]"
    assert usage("max_connections") == "max_connections:LINES[:POLICY]"
    assert set(Faults().report()["known"]) == {usage(name) for name in KINDS}


def test_a_fault_that_happens_once_strikes_once_and_is_over():
    faults = Faults(0, parse("drop"))

    assert [bool(faults.strikes("drop", now)) for now in (0.0, 0.1, 99.0)] == [True, False, False]
    assert faults.find("drop") is None
    assert faults.felt["drop"] == 1


def test_a_periodic_fault_strikes_each_time_its_period_is_over():
    faults = Faults(0, parse("close:1011:2"))

    assert [bool(faults.strikes("close", now)) for now in (10.0, 11.9, 12.0, 13.0, 14.5, 15.0, 16.5)] == [
        False,
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_silence_begins_with_the_first_to_hear_it_and_ends_by_itself():
    faults = Faults(0, parse("silence:5"))

    assert [faults.silent(now) for now in (100.0, 104.9, 105.0, 106.0)] == [True, True, False, False]
    assert faults.report()["active"] == []


def test_the_limiter_counts_the_last_minute():
    faults = Faults(0, parse("rest_rate:2"))

    assert [faults.too_many_requests(now) for now in (0.0, 1.0, 2.0, 59.0, 60.0, 60.5, 61.0)] == [
        False,
        False,
        True,
        True,
        False,
        True,
        False,
    ]


def test_removing_what_is_unknown_is_refused_and_what_is_not_at_work_is_not():
    faults = Faults()
    faults.remove("drop")

    with pytest.raises(FaultError):
        faults.remove("nope")


@given(st.integers(), st.lists(st.sampled_from(["garbage", "duplicates", "rest_500"]), max_size=60))
def test_the_same_seed_throws_the_same_dice_for_each_fault(seed, names):
    first, second = (Faults(seed, parse("garbage:40"), parse("duplicates:40"), parse("rest_500:40")) for _ in range(2))

    thrown = [(name, first.chance(name)) for name in names]
    of_one = [happened for name, happened in thrown if name == "garbage"]

    assert thrown == [(name, second.chance(name)) for name in names]
    alone = Faults(seed, parse("garbage:40"))
    assert of_one == [alone.chance("garbage") for _ in of_one]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 1_200), st.sampled_from([0, 37, 100]), st.sampled_from([0, 50, 100]))
def test_no_good_event_is_lost_among_nonsense_and_duplicates(seed, count, garbage, duplicates):
    faults = Faults(seed, parse(f"garbage:{garbage}"), parse(f"duplicates:{duplicates}"))
    sent = [trade(number) for number in range(count)]

    decoded = [decode(frame) for frame in frames(sent, [], faults)]

    heard = [event.q for one in decoded for event in one.events if isinstance(event, Trade) and event.p == 100.5]
    rejected = sum(len(one.rejections) for one in decoded)
    assert sorted(set(heard)) == list(range(count))
    if duplicates == 0:
        assert heard == list(range(count))
    assert (rejected > 0) == (faults.felt["garbage"] > 0)
    assert len(heard) >= count


def test_without_faults_frames_are_plain_and_bounded():
    made = frames([trade(number) for number in range(1_001)], [], Faults())

    assert [len(json.loads(frame)) for frame in made] == [500, 500, 1]
    assert frames([], [], Faults()) == []


def test_statuses_ride_in_the_midst_of_the_first_frame_or_alone():
    status = b'{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}'

    assert [event["ev"] for event in json.loads(frames([trade(1), trade(2)], [status], Faults())[0])] == ["T", "status", "T"]
    assert [event["ev"] for event in json.loads(frames([], [status], Faults())[0])] == ["status"]


def test_a_large_frame_has_the_size_and_the_events():
    frame = frames([trade(1), trade(2)], [], Faults(), megabytes=2)[0]

    assert 2_000_000 < len(frame) < 2_001_000
    assert [event.q for event in decode(frame).events] == [1, 2]


# --- held back --------------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1_000), st.sampled_from(["reorder:5", "late:5"]), st.lists(st.integers(0, 20_000), min_size=1, max_size=50))
def test_what_is_held_back_comes_once_and_in_time(seed, fault, moments):
    faults = Faults(seed, parse(fault))
    holding = Holding(faults)
    sent = [Due(moment, "T", "AAPL", str(number).encode()) for number, moment in enumerate(sorted(moments))]

    left = []
    for now in range(0, 26_000, 500):
        for event in holding.pass_on([event for event in sent if now - 500 < event.at_ms <= now], now):
            assert 0 <= now - event.at_ms <= 5_500
            left.append(event)

    assert sorted(left) == sorted(sent)


def test_without_such_a_fault_nothing_waits_and_what_waited_still_comes():
    faults = Faults(0, parse("late:10"), parse("reorder:1"))
    holding = Holding(faults)
    held = [trade(number) for number in range(50)]

    first = holding.pass_on(held, held[-1].at_ms)
    faults.clear()
    later = holding.pass_on([trade(99)], held[-1].at_ms + 20_000)

    assert sorted(first + later) == sorted([*held, trade(99)])
    assert holding.pass_on([trade(100)], 0) == [trade(100)]


# --- the dialogue under faults ----------------------------------------------------------------------------------------------------


def statuses(actions):
    return [(item["status"], item["message"]) for action in actions if isinstance(action, Send) for item in json.loads(action.text)]


def auth(dialogue, key="key"):
    return dialogue.receive(json.dumps({"action": "auth", "params": key}))


def test_keys_are_refused_as_the_fault_says_and_good_again_afterwards():
    faults = Faults(0, parse("auth_failed"))

    refused = auth(Dialogue(faults))
    faults.clear()
    faults.add(parse("no_plan"))
    planless = auth(Dialogue(faults))
    faults.clear()

    assert statuses(refused) == [("auth_failed", "authentication failed")]
    assert isinstance(refused[-1], Drop)
    assert statuses(planless) == [("auth_failed", "Your plan doesn't include websocket access.")]
    assert statuses(auth(Dialogue(faults))) == [("auth_success", "authenticated")]


def test_a_key_that_is_never_answered_runs_into_the_timeout():
    dialogue = Dialogue(Faults(0, parse("auth_timeout:1")))

    assert auth(dialogue) == []
    over = dialogue.auth_time_over()
    assert statuses(over) == [("auth_timeout", "No authentication request received.")]
    assert isinstance(over[-1], Close)


def test_a_topic_that_the_plan_lacks_is_refused_without_its_name():
    dialogue = Dialogue(Faults(0, parse("not_authorized:T")))
    auth(dialogue)

    got = statuses(dialogue.receive('{"action":"subscribe","params":"T.*,AM.*"}'))

    assert got == [("error", "not authorized"), ("success", "subscribed to: AM.*")]
    assert not dialogue.wants("T", "AAPL")


def test_without_acknowledgements_the_subscription_holds_all_the_same():
    dialogue = Dialogue(Faults(0, parse("no_ack")))
    auth(dialogue)

    assert dialogue.receive('{"action":"subscribe","params":"AM.*"}') == []
    assert dialogue.wants("AM", "AAPL")


def test_one_line_too_many_is_told_so_and_closed_with_1008():
    actions = Dialogue().over_quota()

    assert statuses(actions)[0][0] == "max_connections"
    assert statuses(actions)[0][1].startswith("Maximum number of websocket connections exceeded.")
    assert actions[-1].code == 1008


# --- recordings -------------------------------------------------------------------------------------------------------------------


def test_a_recorded_frame_keeps_its_texts_and_loses_its_statuses():
    body = b'{"ev":"T","sym":"BRK.B","p":1.50,"t":1381239000123,"q":1,"new":[1]}'
    frame = b'[{"ev":"status","status":"success","message":"x"},' + body + b',{"ev":"AM","sym":"A","s":1381239000000,"e":1381239060000}]'

    recorded = read(frame)

    assert recorded.at_ms == 1381239060000
    assert [(event.topic, event.symbol, event.at_ms) for event in recorded.events] == [
        ("T", "BRK.B", 1381239000123),
        ("AM", "A", 1381239060000),
    ]
    assert recorded.events[0].body == body


def test_a_recorded_pause_has_its_time_in_nanoseconds_and_its_ticker_in_capitals():
    event = read(b'[{"ev":"LULD","T":"ACME","h":55.1,"l":44.9,"i":[21],"z":3,"t":1795185000123456789,"q":88}]').events[0]

    assert (event.topic, event.symbol, event.at_ms) == ("LULD", "ACME", 1795185000123)


@given(st.binary() | st.sampled_from([b"[]", b"null", b"[1]", b'[{"ev":7}]', b'[{"sym":"A"}]']))
def test_no_recorded_line_breaks_the_reader(line):
    recorded = read(line)

    assert recorded.raw in (None, line)
