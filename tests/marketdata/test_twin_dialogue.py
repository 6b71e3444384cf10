"""Massive's side of the dialogue: each text as Massive says it, each silence as Massive keeps it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.twin.dialogue import Close, Dialogue, Drop, Send, demand


def signed_in():
    dialogue = Dialogue()
    dialogue.receive('{"action":"auth","params":"key"}')
    return dialogue


def statuses(actions):
    """Return (status, message) of every element of every frame."""
    return [(item["status"], item["message"]) for action in actions if isinstance(action, Send) for item in json.loads(action.text)]


def subscribe(dialogue, params):
    return dialogue.receive(json.dumps({"action": "subscribe", "params": params}))


def test_the_server_speaks_first():
    assert [action.text for action in Dialogue().greet()] == ['[{"ev":"status","status":"connected","message":"Connected Successfully"}]']


def test_a_good_key_signs_in():
    assert statuses(Dialogue().receive('{"action":"auth","params":"anything"}')) == [("auth_success", "authenticated")]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("bad", "authentication failed"),
        ("bad key", "authentication failed"),
        ("", "authentication failed"),
        ("noplan1", "Your plan doesn't include websocket access."),
    ],
)
def test_a_refused_key_is_told_why_and_cut_off(key, message):
    actions = Dialogue().receive(json.dumps({"action": "auth", "params": key}))

    assert statuses(actions) == [("auth_failed", message)]
    assert isinstance(actions[-1], Drop)


def test_who_never_signs_in_is_closed_and_who_did_is_not():
    late = Dialogue().auth_time_over()

    assert statuses(late) == [("auth_timeout", "No authentication request received.")]
    assert isinstance(late[-1], Close)
    assert signed_in().auth_time_over() == []


def test_subscribing_before_signing_in_is_refused_and_changes_nothing():
    dialogue = Dialogue()

    assert [status for status, _ in statuses(subscribe(dialogue, "AM.*"))] == ["auth_required"]
    assert not dialogue.wants("AM", "AAPL")


def test_each_pair_is_acknowledged_in_one_frame_in_its_order():
    actions = subscribe(signed_in(), "AM.*, T.BRK.B,A.KIMpL,Q.AAPL,LULD.AAPL")

    assert len(actions) == 1
    assert statuses(actions) == [("success", f"subscribed to: {pair}") for pair in ("AM.*", "T.BRK.B", "A.KIMpL", "Q.AAPL", "LULD.AAPL")]


def test_what_the_plan_lacks_is_refused_once_and_before_the_acknowledgements():
    got = statuses(subscribe(signed_in(), "AM.AAPL,FMV.AAPL,NOI.AAPL,LV.AAPL"))

    assert got == [("error", "not authorized"), ("success", "subscribed to: AM.AAPL")]


def test_repeated_pairs_and_unknown_topics_meet_silence():
    dialogue = signed_in()
    subscribe(dialogue, "AM.AAPL")

    assert subscribe(dialogue, "AM.AAPL,ZZ.AAPL,GARBAGE,.,AM.") == []
    assert statuses(subscribe(dialogue, "T.A,T.A")) == [("success", "subscribed to: T.A")]


def test_an_unknown_ticker_is_acknowledged_like_any_other():
    assert statuses(subscribe(signed_in(), "T.NOTATICKER")) == [("success", "subscribed to: T.NOTATICKER")]


def test_unsubscribing_says_what_massive_says_and_only_for_what_was_held():
    dialogue = signed_in()
    subscribe(dialogue, "AM.*,T.ACME")

    got = statuses(dialogue.receive('{"action":"unsubscribe","params":"T.ACME,T.ACME,A.ACME"}'))

    assert got == [("success", "unsubscribed to: T.ACME")]
    assert not dialogue.wants("T", "ACME")
    assert dialogue.wants("AM", "ACME")


def test_a_wildcard_holds_for_its_topic_alone():
    dialogue = signed_in()
    subscribe(dialogue, "AM.*,AM.AAPL,A.AAPL")

    assert dialogue.wants("AM", "MSFT")
    assert dialogue.wants("A", "AAPL")
    assert not dialogue.wants("A", "MSFT")
    assert not dialogue.wants("T", "AAPL")


def test_demand_is_what_anybody_wants():
    first, second = signed_in(), signed_in()
    subscribe(first, "AM.*,T.AAPL")
    subscribe(second, "T.MSFT")
    second.receive('{"action":"unsubscribe","params":"T.MSFT"}')
    subscribe(second, "T.SPY,A.SPY")

    assert demand([first, second, Dialogue()]) == {"AM": {"*"}, "T": {"AAPL", "SPY"}, "A": {"SPY"}}


def test_a_slow_reader_is_told_before_it_is_closed():
    actions = signed_in().buffer_full()

    assert [status for status, _ in statuses(actions)] == ["slow_consumer"]
    assert isinstance(actions[-1], Close)


ALMOST_REQUESTS = ["[]", "{}", "null", '{"action":1}', '{"action":"auth","params":7}', '{"action":"dance"}']


@given(st.text() | st.binary() | st.sampled_from(ALMOST_REQUESTS))
def test_no_text_breaks_the_dialogue(text):
    dialogue = signed_in()
    actions = dialogue.receive(text)

    assert all(isinstance(action, Send) for action in actions)
    assert statuses(subscribe(dialogue, "AM.*")) == [("success", "subscribed to: AM.*")]


SOME_SYMBOLS = st.sampled_from(["*", "AAPL", "BRK.B"])
REQUESTS = st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.sampled_from(["A", "AM", "T"]), SOME_SYMBOLS)


@given(st.lists(REQUESTS))
def test_acknowledged_pairs_are_exactly_those_that_are_held(requests):
    dialogue, held = signed_in(), set()
    for action, topic, symbol in requests:
        for _, message in statuses(dialogue.receive(json.dumps({"action": action, "params": f"{topic}.{symbol}"}))):
            verb, pair = message.split(" to: ")
            (held.add if verb == "subscribed" else held.remove)(pair)

    assert held == {f"{topic}.{symbol}" for topic, symbols in dialogue.subscriptions.items() for symbol in symbols}
