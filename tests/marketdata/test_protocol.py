"""Our side of the dialogue, without a socket."""

import json

from hypothesis import given
from hypothesis import strategies as st

from marketdata.feed.events import StatusMessage
from marketdata.feed.protocol import Backoff, Dialogue, State

PAIRS = ("AM.AAPL", "AM.MSFT", "T.BRK.B")


def say(dialogue, status, message=""):
    return [json.loads(text) for text in dialogue.receive(StatusMessage(status, message))]


def signed_in(pairs=PAIRS):
    dialogue = Dialogue("key", pairs)
    say(dialogue, "connected", "Connected Successfully")
    say(dialogue, "auth_success", "authenticated")
    return dialogue


def test_sign_in_then_subscribe_then_live_when_every_pair_is_acknowledged():
    dialogue = Dialogue("key", PAIRS)

    assert say(dialogue, "connected") == [{"action": "auth", "params": "key"}]
    assert say(dialogue, "auth_success") == [{"action": "subscribe", "params": "AM.AAPL,AM.MSFT,T.BRK.B"}]
    for pair in PAIRS[:2]:
        say(dialogue, "success", f"subscribed to: {pair}")
        assert dialogue.state is State.SUBSCRIBING
    say(dialogue, "success", f"subscribed to: {PAIRS[2]}")
    assert dialogue.state is State.LIVE


def test_not_authorized_names_no_pair_so_what_stays_unacknowledged_is_missing():
    dialogue = signed_in()
    say(dialogue, "error", "not authorized")
    say(dialogue, "success", "subscribed to: AM.AAPL")

    dialogue.settle()

    assert dialogue.state is State.LIVE
    assert dialogue.missing == {"AM.MSFT", "T.BRK.B"}


def test_without_any_acknowledgement_it_never_goes_live():
    dialogue = signed_in()
    dialogue.settle()
    assert dialogue.state is State.SUBSCRIBING


def test_each_farewell_is_told_apart():
    for status, state in {
        "auth_failed": State.REFUSED,
        "max_connections": State.CROWDED,
        "slow_consumer": State.DROPPED,
        "auth_timeout": State.DROPPED,
    }.items():
        dialogue = Dialogue("key", PAIRS)
        say(dialogue, status, "words of the server")
        assert (dialogue.state, dialogue.reason, dialogue.ended) == (state, "words of the server", True)


def test_many_pairs_are_asked_for_in_portions():
    dialogue = Dialogue("key", tuple(f"AM.S{number}" for number in range(2_500)))
    say(dialogue, "connected")
    requests = say(dialogue, "auth_success")
    assert sum(len(request["params"].split(",")) for request in requests) == 2_500
    assert len(requests) == 3


statuses = st.sampled_from(["connected", "auth_success", "success", "error", "auth_failed", "max_connections", "nonsense"])
words = st.sampled_from(
    ["", *(f"subscribed to: {pair}" for pair in PAIRS), "subscribed to: X.Y", "unsubscribed to: AM.AAPL", "subscribed to"]
)


@given(st.lists(st.tuples(statuses, words), max_size=30))
def test_live_means_signed_in_and_all_acknowledged_whatever_the_server_says(messages):
    dialogue = Dialogue("key", PAIRS)
    acknowledged, sent = set(), []
    for status, message in messages:
        if status == "success" and dialogue.state in (State.SUBSCRIBING, State.LIVE):
            acknowledged.add(message.removeprefix("subscribed to: "))
        sent += say(dialogue, status, message)
    if dialogue.state is State.LIVE:
        assert set(PAIRS) <= acknowledged | {pair for status, message in messages for pair in PAIRS if message.endswith(pair)}
        assert [text["action"] for text in sent] == ["auth", "subscribe"]
    assert sum(text["action"] == "auth" for text in sent) <= 1


@given(st.lists(st.floats(0, 0.999), min_size=12, max_size=12))
def test_attempts_begin_at_once_grow_and_stay_capped(jitters):
    backoff = Backoff()
    waits = [backoff.after(State.CONNECTING, healthy_seconds=0, jitter=jitter) for jitter in jitters]
    assert waits[0] == 0
    assert all(0.5 <= wait <= 60 for wait in waits[1:])
    assert waits[-1] >= 30


def test_a_healthy_minute_resets_the_wait_and_a_taken_place_cools_down():
    backoff = Backoff()
    for _ in range(5):
        backoff.after(State.CONNECTING, healthy_seconds=0, jitter=0)
    assert backoff.after(State.CONNECTING, healthy_seconds=60, jitter=0) == 0
    assert backoff.after(State.CROWDED, healthy_seconds=600, jitter=0) >= 60


def test_a_refused_key_is_tried_rarely_after_the_third_time():
    backoff = Backoff()
    waits = [backoff.after(State.REFUSED, healthy_seconds=0, jitter=0) for _ in range(5)]
    assert waits[1] < 60 <= min(waits[2:])
