"""`/ws/live` over real sockets: a daphne of its own, the test database, a Valkey that may fall."""

import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from accounts.models import ApiToken
from marketdata.signals import bars_closed, feed_changed
from patterns.signals import patterns_detected
from tests.dashboards.bars import make_change
from tests.dashboards.conftest import Web

SECONDS = 20


@pytest.fixture
def reader(web):
    """A signed-in browser."""
    client = Client()
    client.user = get_user_model().objects.create_user("reader", password="a long enough password")
    client.force_login(client.user)
    return client


def cookies(browser: Client) -> dict[str, str]:
    return {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}


def open_socket(web: Web, headers: dict[str, str], *, origin: str | None = "own", path: str = "/ws/live") -> ClientConnection:
    chosen: Any = f"http://{web.host}" if origin == "own" else origin
    return connect(f"ws://{web.host}{path}", additional_headers=headers, origin=chosen, max_size=None, open_timeout=SECONDS)


def say(line: ClientConnection, **words: Any) -> None:
    line.send(json.dumps(words))


def hear(line: ClientConnection) -> dict[str, Any]:
    """Return the next message that is no sign of life."""
    while True:
        message = json.loads(line.recv(timeout=SECONDS))
        if message["type"] != "heartbeat":
            return message


def close_code(line: ClientConnection) -> int | None:
    """Read until the server closes; return its code."""
    end = time.monotonic() + 2 * SECONDS
    try:
        while time.monotonic() < end:
            line.recv(timeout=SECONDS)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    return None


def make_token(user: Any, *scopes: str) -> dict[str, str]:
    _, text = ApiToken.objects.issue(user, scopes=scopes, expires_at=timezone.now() + timedelta(days=1))
    return {"Authorization": f"Bearer {text}"}


def test_snapshot_then_updates_in_order_with_an_unbroken_chain(web, reader):
    bars_closed.send_robust(None, bars=[make_change("CHAIN", minute=0)])
    with open_socket(web, cookies(reader)) as line:
        say(line, action="watch", topics=["bars:CHAIN", "patterns", "feed"])
        first = [hear(line) for _ in range(3)]
        for minute in (1, 2):
            bars_closed.send_robust(None, bars=[make_change("CHAIN", minute=minute), make_change("OTHER", minute=minute)])
        patterns_detected.send_robust(None, detections=[{"id": 7, "symbol": "CHAIN", "name": "Doji"}])
        feed_changed.send_robust(None, status={"state": "live"})
        then = [hear(line) for _ in range(4)]

    assert [(message["topic"], message["type"], message["prev"]) for message in first] == [
        ("bars:CHAIN", "snapshot", None), ("patterns", "snapshot", None), ("feed", "snapshot", None),
    ]  # fmt: skip
    assert [bar["t"] for bar in first[0]["data"]["bars"]] == ["2026-11-20T14:30:00Z"]
    bars = [message for message in then if message["topic"] == "bars:CHAIN"]
    assert [[(bar["s"], bar["t"]) for bar in message["data"]["bars"]] for message in bars] == [
        [("CHAIN", "2026-11-20T14:31:00Z")], [("CHAIN", "2026-11-20T14:32:00Z")],
    ]  # fmt: skip
    assert [message["prev"] for message in bars] == [first[0]["seq"], bars[0]["seq"]]
    assert [message["data"] for message in then if message["topic"] == "feed"] == [{"state": "live"}]
    assert [message["data"]["detections"][0]["id"] for message in then if message["topic"] == "patterns"] == [7]
    assert all(message["at"].endswith("Z") for message in first + then)


def test_unwatched_topic_is_silent_and_resume_brings_what_was_missed(web, reader):
    with open_socket(web, cookies(reader)) as line:
        say(line, action="watch", topics=["bars:BACK", "feed"])
        seq = hear(line)["seq"]
        hear(line)
        say(line, action="unwatch", topics=["bars:BACK"])
        feed_changed.send_robust(None, status={"state": "a"})
        hear(line)
        for minute in range(3):
            bars_closed.send_robust(None, bars=[make_change("BACK", minute=minute)])
        feed_changed.send_robust(None, status={"state": "b"})
        silent = hear(line)
        say(line, action="resume", topic="bars:BACK", after=seq)
        resumed = [hear(line) for _ in range(3)]

    assert silent["topic"] == "feed"
    assert [message["data"]["bars"][0]["t"][14:16] for message in resumed] == ["30", "31", "32"]
    assert [message["prev"] for message in resumed] == [seq, resumed[0]["seq"], resumed[1]["seq"]]


def test_fault_is_answered_with_a_sentence_and_the_socket_stays(web, reader):
    with open_socket(web, cookies(reader)) as line:
        line.send("not json")
        say(line, action="watch", topics=["bars:A B"])
        line.send(b"\xff\xfe")
        say(line, action="dance")
        answers = [hear(line) for _ in range(4)]
        say(line, action="watch", topics=["feed"])
        last = hear(line)

    assert [answer["type"] for answer in answers] == ["error"] * 4
    assert [answer["topic"] for answer in answers] == [None, "bars:A B", None, None]
    assert all(answer["data"]["detail"].endswith(".") for answer in answers)
    assert last["type"] == "snapshot"


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:9", "http://127.0.0.1.evil.example", "http://127.0.0.1"]
)
def test_page_from_elsewhere_is_refused_even_with_a_good_session(web, reader, origin):
    with pytest.raises(InvalidStatus) as refused, open_socket(web, cookies(reader), origin=origin):
        pass

    assert refused.value.response.status_code == 403


def test_name_that_is_not_ours_is_refused_even_where_it_matches_itself(web, reader):
    evil, line = f"evil.example:{web.port}", socket.create_connection(("127.0.0.1", web.port))
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{evil}/ws/live", sock=line, additional_headers=cookies(reader), origin=f"http://{evil}")  # type: ignore[arg-type]
    line.close()

    assert refused.value.response.status_code in {400, 403}


@pytest.mark.parametrize("headers", [{}, {"Cookie": "sessionid=made-up"}, {"Authorization": "Bearer ts_made_up"}])
def test_nobody_is_sent_away_with_a_code_the_browser_can_read(web, headers):
    with open_socket(web, headers) as line:
        assert close_code(line) == 4401


def test_token_in_the_address_is_refused_also_beside_a_good_session(web, reader):
    token = make_token(reader.user, "read:bars")["Authorization"].split()[1]
    with open_socket(web, cookies(reader), path=f"/ws/live?token={token}") as line:
        assert close_code(line) == 4401


def test_program_with_a_token_needs_no_origin_and_sees_what_its_scopes_name(web, reader):
    with open_socket(web, make_token(reader.user, "read:bars"), origin=None) as line:
        say(line, action="watch", topics=["bars:AAPL", "patterns"])
        answers = {message["topic"]: message for message in (hear(line), hear(line))}

    assert answers["bars:AAPL"]["type"] == "snapshot"
    assert answers["patterns"]["type"] == "error"
    assert "read:patterns" in answers["patterns"]["data"]["detail"]


def test_signing_out_closes_the_open_socket(web, reader):
    with open_socket(web, cookies(reader)) as line:
        say(line, action="watch", topics=["feed"])
        hear(line)
        wait_for_listener(web, reader.user.pk)  # who does not listen yet is found by the check of each minute
        reader.logout()

        assert close_code(line) == 4403


def wait_for_listener(web: Web, user_id: int) -> None:
    """Wait until a socket of the user listens for the word that ends it."""
    client, channel = redis.Redis.from_url(web.redis_url), f"tickstock-test__group__user-{user_id}"
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and not dict(client.pubsub_numsub(channel))[channel.encode()]:
        time.sleep(0.01)


def test_too_many_messages_a_second_close_the_socket(web, reader):
    with open_socket(web, cookies(reader)) as line:
        for _ in range(21):
            say(line, action="unwatch", topics=[])

        assert close_code(line) == 4429


@pytest.mark.parametrize("size", [17_000, 2_000_000])
def test_message_that_is_too_large_closes_the_socket(web, reader, size):
    with open_socket(web, cookies(reader)) as line:
        line.send("x" * size)

        assert close_code(line) == 1009


def test_message_in_many_small_frames_is_measured_as_a_whole(web, reader):
    with open_socket(web, cookies(reader)) as line:
        line.send("x" * 1000 for _ in range(20))

        assert close_code(line) == 1009


def test_too_many_topics_close_the_socket(web, reader):
    with open_socket(web, cookies(reader)) as line:
        say(line, action="watch", topics=[f"bars:S{number}" for number in range(201)])

        assert close_code(line) == 1008


def test_one_user_has_at_most_twenty_sockets(web, reader):
    with ExitStack() as stack:
        lines = [stack.enter_context(open_socket(web, cookies(reader))) for _ in range(20)]
        for line in lines:
            say(line, action="watch", topics=["feed"])
            hear(line)
        one_more = stack.enter_context(open_socket(web, cookies(reader)))

        assert close_code(one_more) == 4429


def frozen_socket(web: Web, headers: dict[str, str]) -> socket.socket:
    """Open a socket that watches everything and then never reads again."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", web.port))
    lines = [
        "GET /ws/live HTTP/1.1", f"Host: {web.host}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {b64encode(b'0123456789abcdef').decode()}", f"Origin: http://{web.host}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert b" 101 " in line.recv(4096)
    text = b'{"action":"watch","topics":["bars"]}'
    line.sendall(bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text)
    return line


def test_client_that_stops_reading_is_closed_and_harms_nobody(web, reader):
    frozen = frozen_socket(web, cookies(reader))
    with open_socket(web, cookies(reader)) as healthy:
        say(healthy, action="watch", topics=["bars"])
        prev = hear(healthy)["seq"]
        left, rounds = None, 0
        while left is None and rounds < 400:  # 40 megabytes: nobody may hold so much for a client
            rounds += 1
            bars_closed.send_robust(None, bars=[make_change(f"S{number}", close=100 + number) for number in range(500)])
            message = hear(healthy)
            assert (message["prev"], len(message["data"]["bars"]), "skipped" in message) == (prev, 500, False)
            prev = message["seq"]
            try:
                frozen.send(b"\x8a\x80\0\0\0\0", socket.MSG_DONTWAIT)  # a pong: it is alive, only it does not read
            except (BrokenPipeError, ConnectionResetError) as error:
                left = error
            time.sleep(0.05)
    frozen.close()

    assert left is not None


def test_slow_client_is_told_the_newest_of_each_symbol_and_what_was_left_out(web, reader):
    symbols = [f"S{number}" for number in range(500)]
    with open_socket(web, cookies(reader)) as healthy:
        say(healthy, action="watch", topics=["bars:S0"])
        hear(healthy)
        slow = frozen_socket(web, cookies(reader))
        messages_of_slow = bars_messages(slow)
        messages = [next(messages_of_slow)]
        rounds = 25
        for close in range(rounds):  # 2.5 megabytes: more than every buffer between us holds
            bars_closed.send_robust(None, bars=[make_change(symbol, minute=30, revision=close, close=1000 + close) for symbol in symbols])
            assert "skipped" not in hear(healthy)
        while messages[-1]["data"]["bars"][0]["c"] != 1000 + rounds - 1:
            messages.append(next(messages_of_slow))
        slow.close()

    updates = [message for message in messages if message["type"] == "update"]
    assert [message["type"] for message in messages] == ["snapshot"] + ["update"] * len(updates)
    assert [message["prev"] for message in messages] == [None, *(message["seq"] for message in messages)][: len(messages)]
    assert len(updates) < rounds
    assert {bar["c"] for bar in updates[-1]["data"]["bars"]} == {1000 + rounds - 1}
    assert sum(len(message["data"]["bars"]) + message.get("skipped", 0) for message in updates) == rounds * len(symbols)


def bars_messages(line: socket.socket) -> Iterator[dict[str, Any]]:
    """Read server frames from a bare socket; yield the messages of bars."""
    line.settimeout(SECONDS)
    stream = line.makefile("rb")
    while True:
        code, length = stream.read(2)
        length &= 0x7F
        if length >= 126:
            length = int.from_bytes(stream.read(2 if length == 126 else 8))
        payload = stream.read(length)
        if code & 0x0F == 1:
            message = json.loads(payload)
            if message.get("topic") == "bars":
                yield message


def test_fall_of_redis_is_told_at_once_and_its_return_brings_gap_and_updates(web, reader):
    with open_socket(web, cookies(reader)) as line:
        say(line, action="watch", topics=["feed"])
        hear(line)
        web.valkey.stop()
        dark = json.loads(line.recv(timeout=SECONDS))
        web.valkey.start()
        back = [hear(line) for _ in range(2)]
        feed_changed.send_robust(None, status={"state": "again"})
        update = hear(line)

    assert (dark["type"], dark["live"]) == ("heartbeat", False)
    assert [message["type"] for message in back] == ["gap", "snapshot"]
    assert (update["type"], update["prev"], update["data"]) == ("update", back[-1]["seq"], {"state": "again"})


def test_unknown_address_is_refused_without_a_traceback(web, reader):
    before = web.errors.read_text()
    with pytest.raises(InvalidStatus) as refused, open_socket(web, cookies(reader), path="/ws/else"):
        pass

    assert refused.value.response.status_code == 403
    assert "Traceback" not in web.errors.read_text()[len(before) :]
