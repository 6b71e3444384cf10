"""From signal to outbox: the log in a real Valkey, the ring, and what a slow or returning socket is told."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import redis
from django.conf import settings
from django.test import AsyncRequestFactory
from hypothesis import given
from hypothesis import strategies as st

from dashboards import receivers, wire
from dashboards.hub import Hub, hub_of_this_process
from dashboards.outbox import MERGED_BARS, Board, Outbox
from dashboards.views import live
from dashboards.wire import Flush
from marketdata.feed.events import Quote
from marketdata.signals import bars_closed, bars_moving, feed_changed
from patterns.signals import patterns_detected, patterns_retracted
from tests.dashboards.bars import make_bar, make_change

AT = "2026-11-20T14:31:03.000Z"


def bars_flush(seq: int, *bars: tuple[str, int, int], forming: bool = False) -> Flush:
    """Return a flush of bars (symbol, minute, close), closed or forming."""
    if forming:
        body = wire.moving_bars(make_bar(symbol, minute=minute, close=close) for symbol, minute, close in bars)
    else:
        body = wire.closed_bars(make_change(symbol, minute=minute, close=close, revision=close) for symbol, minute, close in bars)
    return wire.read_flush(seq, wire.BARS, AT, body)


def patterns_flush(seq: int, *ids: int) -> Flush:
    return wire.read_flush(seq, wire.PATTERNS, AT, wire.found_patterns({"id": number} for number in ids))


def ready_board(**options: int) -> Board:
    board = Board(**options)
    board.ready = True
    return board


def told(outbox: Outbox, limit: int = 1_000_000) -> list[dict[str, Any]]:
    """Take up to `limit` messages from the outbox."""
    found = []
    for message in outbox.messages(lambda: AT):
        found.append(json.loads(message.text))
        if len(found) >= limit:
            break
    return found


def watching(board: Board, *topics: str) -> Outbox:
    """Return an outbox that watches and has had its snapshots."""
    outbox = Outbox(board)
    for topic in topics:
        outbox.watch(topic)
    told(outbox)
    return outbox


# ---- the ring and the outbox ------------------------------------------------------------------------------------------------------


async def test_snapshot_comes_first_and_every_update_names_the_one_before():
    board = ready_board()
    board.add(bars_flush(10, ("AAPL", 0, 101), ("MSFT", 0, 50)))
    board.add(bars_flush(11, ("AAPL", 1, 102), forming=True))
    outbox = Outbox(board)
    outbox.watch("bars:AAPL")

    first = told(outbox)
    board.add(bars_flush(12, ("MSFT", 1, 51)))
    board.add(bars_flush(13, ("AAPL", 1, 103)))
    second = told(outbox)

    assert [(message["type"], message["seq"], message["prev"]) for message in first + second] == [
        ("snapshot", 11, None),
        ("update", 13, 11),
    ]
    assert [(bar["c"], bar["forming"]) for bar in first[0]["data"]["bars"]] == [(101, False), (102, True)]
    assert [(bar["c"], bar["forming"]) for bar in second[0]["data"]["bars"]] == [(103, False)]


async def test_closed_bar_ends_the_forming_one_of_its_minute_and_a_late_revision_is_not_the_newest():
    board = ready_board()
    board.add(bars_flush(1, ("AAPL", 5, 100), forming=True))
    board.add(bars_flush(2, ("AAPL", 5, 105)))
    board.add(bars_flush(3, ("AAPL", 3, 99)))
    board.add(bars_flush(4, ("AAPL", 5, 104), forming=True))

    bars = json.loads(board.snapshot("bars"))["bars"]

    assert [(bar["c"], bar["forming"]) for bar in bars] == [(105, False)]


async def test_slow_reader_is_told_the_newest_of_each_symbol_and_minute_and_how_much_was_left_out():
    board = ready_board()
    board.add(bars_flush(1, ("AAPL", 0, 100)))
    outbox = watching(board, "bars")
    for step in range(20):
        board.add(bars_flush(2 + step, ("AAPL", 1, 200 + step), ("MSFT", step // 10, 300 + step), forming=True))

    messages = told(outbox)

    assert len(messages) == 1
    assert {(bar["s"], bar["t"][14:16], bar["c"]) for bar in messages[0]["data"]["bars"]} == {
        ("AAPL", "31", 219),
        ("MSFT", "30", 309),
        ("MSFT", "31", 319),
    }
    assert messages[0]["skipped"] == 37
    assert (messages[0]["prev"], messages[0]["seq"]) == (1, 21)


async def test_what_cannot_merge_is_told_in_messages_of_bounded_size():
    board = ready_board()
    outbox = watching(board, "bars")
    for minute in range(40):
        board.add(bars_flush(1 + minute, *((f"S{number}", minute, 100) for number in range(70))))

    messages = told(outbox)

    assert max(len(message["data"]["bars"]) for message in messages) <= MERGED_BARS
    assert sum(len(message["data"]["bars"]) for message in messages) == 40 * 70
    assert len(messages) < 40


async def test_slow_reader_is_told_every_detection():
    board = ready_board()
    board.add(patterns_flush(1, 0))
    outbox = watching(board, "patterns")
    for number in range(1, 30):
        board.add(patterns_flush(1 + number, number))

    messages = told(outbox)

    assert [message["data"]["detections"][0]["id"] for message in messages] == list(range(1, 30))
    assert not any("skipped" in message for message in messages)


async def test_slow_reader_is_told_the_newest_state_of_the_feed():
    board = ready_board()
    outbox = watching(board, "feed")
    for number in range(1, 21):
        board.add(wire.read_flush(number, wire.FEED, AT, wire.feed_status({"frames": number})))

    messages = told(outbox)

    assert [(message["data"], message["skipped"]) for message in messages] == [({"frames": 20}, 19)]


flushes = st.lists(st.tuples(st.sampled_from(["AAPL", "MSFT"]), st.integers(0, 3), st.booleans()), min_size=1, max_size=4)


@given(st.lists(st.tuples(flushes, st.integers(0, 3)), max_size=60), st.sampled_from(["bars", "bars:AAPL"]))
async def test_whatever_the_pace_of_the_reader_the_chain_holds_and_nothing_is_lost_in_silence(steps: list[Any], topic: str):
    board = ready_board()
    outbox = watching(board, topic)
    written: list[tuple[str, str, int]] = []
    read: list[dict[str, Any]] = []
    for seq, (bars, taken) in enumerate(steps, start=1):
        closes: list[tuple[str, int, int]] = []
        for symbol, minute, _ in bars:
            closes.append((symbol, minute, 1000 + len(written)))
            if topic in ("bars", f"bars:{symbol}"):
                written.append((symbol, f"3{minute}", 1000 + len(written)))
        board.add(bars_flush(seq, *closes, forming=bars[0][2]))
        read += told(outbox, taken) if taken else []
    read += told(outbox)

    assert [message["type"] for message in read] == ["update"] * len(read)
    assert [message["prev"] for message in read] == [0, *(message["seq"] for message in read)][: len(read)]
    bars_read = [(bar["s"], bar["t"][14:16], int(bar["c"])) for message in read for bar in message["data"]["bars"]]
    assert len(bars_read) + sum(message.get("skipped", 0) for message in read) == len(written)
    assert {bar[:2]: bar for bar in bars_read} == {bar[:2]: bar for bar in written}


async def test_socket_that_comes_back_is_told_exactly_what_it_missed():
    board = ready_board()
    for seq in range(1, 8):
        board.add(bars_flush(seq, ("AAPL" if seq % 2 else "MSFT", 0, 100 + seq)))
    outbox = Outbox(board)

    outbox.resume("bars:AAPL", 3)

    assert [(message["type"], message["seq"], message["prev"]) for message in told(outbox)] == [("update", 5, 3), ("update", 7, 5)]


async def test_socket_that_missed_nothing_is_told_nothing():
    board = ready_board()
    board.add(bars_flush(1, ("AAPL", 0, 100)))
    outbox = Outbox(board)

    outbox.resume("bars", 1)

    assert told(outbox) == []


async def test_socket_that_comes_back_too_late_or_from_elsewhere_is_told_of_the_gap_and_the_newest_state():
    board = ready_board(ring_bytes=1000)
    for seq in range(1, 30):
        board.add(bars_flush(seq, ("AAPL", seq, 100 + seq)))
    outbox = Outbox(board)
    for after in (3, 1_000_000, -1):
        outbox.resume("bars", after)
        messages = told(outbox)

        assert [(message["type"], message["seq"], message["prev"]) for message in messages] == [("gap", 29, after), ("snapshot", 29, 29)]
        assert messages[1]["data"]["bars"][0]["c"] == 129


async def test_reader_whom_the_ring_has_left_behind_is_told_of_the_gap():
    board = ready_board(ring_bytes=1000)
    board.add(bars_flush(1, ("AAPL", 0, 100)))
    outbox = watching(board, "bars")
    for seq in range(2, 30):
        board.add(bars_flush(seq, ("AAPL", seq, 100 + seq)))

    assert [(message["type"], message["prev"]) for message in told(outbox)] == [("gap", 1), ("snapshot", 29)]


async def test_number_that_does_not_follow_is_a_gap_for_everyone_and_updates_go_on_after_it():
    board = ready_board()
    board.add(bars_flush(1, ("AAPL", 0, 100)))
    outbox = watching(board, "bars", "feed")
    board.add(bars_flush(7, ("AAPL", 1, 101)))

    messages = told(outbox)
    board.add(bars_flush(8, ("AAPL", 2, 102)))
    messages += told(outbox)

    assert [(message["topic"], message["type"], message["prev"]) for message in messages] == [
        ("bars", "gap", 1), ("bars", "snapshot", 7), ("feed", "gap", 1), ("feed", "snapshot", 7), ("bars", "update", 7),
    ]  # fmt: skip


async def test_nobody_resumes_across_a_loss():
    board = ready_board()
    board.add(bars_flush(1, ("AAPL", 0, 100)))
    board.lose()
    between = Outbox(board)
    between.resume("bars", 1)
    assert [message["type"] for message in told(between)] == ["gap", "snapshot"]

    board.add(bars_flush(2, ("AAPL", 1, 101)))
    after = Outbox(board)
    after.resume("bars", 1)
    assert [message["type"] for message in told(after)] == ["gap", "snapshot"]


# ---- signals → log ------------------------------------------------------------------------------------------------------------------


def entries(client: "redis.Redis") -> list[tuple[int, str, Any]]:
    """Return number, kind and data of what stands in the log."""
    rows: Any = client.xrange(wire.LOG_KEY)
    return [(int(name.split(b"-")[0]), fields[b"kind"].decode(), json.loads(fields[b"body"])) for name, fields in rows]


def test_each_flush_is_one_entry_in_the_log_and_the_numbers_have_no_holes(valkey):
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.config_resetstat()

    for minute in range(10):
        bars_closed.send_robust(None, bars=[make_change(f"S{number}", minute=minute) for number in range(70)])
    bars_moving.send_robust(None, bars=[make_bar(), make_bar("MSFT")])
    feed_changed.send_robust(None, status={"state": "live"})
    patterns_detected.send_robust(None, detections=[{"id": 1}, {"id": 2}])
    patterns_retracted.send_robust(None, detections=[{"id": 1}])
    bars_closed.send_robust(None, bars=[])

    found = entries(client)
    stats: Any = client.info("commandstats")
    assert stats["cmdstat_xadd"]["calls"] == 14
    assert "cmdstat_publish" not in stats
    assert [number for number, _, _ in found] == list(range(found[0][0], found[0][0] + 14))
    assert [kind for _, kind, _ in found] == ["bars"] * 11 + ["feed", "patterns", "patterns"]
    assert len(found[0][2]["bars"]) == 70
    assert found[-1][2] == {"detections": [], "retracted": [{"id": 1}]}


def test_number_never_goes_back_when_redis_starts_anew(valkey):
    feed_changed.send_robust(None, status={})
    before = entries(redis.Redis.from_url(settings.REDIS_URL))[-1][0]
    valkey.stop()
    valkey.start()

    feed_changed.send_robust(None, status={})
    receivers.announcer.cache_clear()  # a process that knows no number yet
    feed_changed.send_robust(None, status={})

    first, second = (number for number, _, _ in entries(redis.Redis.from_url(settings.REDIS_URL)))
    assert before < first < second


def test_number_never_goes_back_when_the_clock_does(valkey):
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.hset(receivers.COUNTER_KEY, "seq", 9_000_000_000_000)  # a clock that was far ahead
    feed_changed.send_robust(None, status={})
    client.flushall()

    feed_changed.send_robust(None, status={})

    assert entries(client)[-1][0] > 9_000_000_000_000


def test_log_stays_within_its_bytes(valkey, monkeypatch):
    monkeypatch.setattr(receivers, "LOG_BYTES", 100_000)
    for number in range(200):
        bars_closed.send_robust(None, bars=[make_change(f"S{symbol}", minute=number) for symbol in range(number % 20 + 1)])

    client = redis.Redis.from_url(settings.REDIS_URL)
    rows: Any = client.xrange(wire.LOG_KEY)
    weight = sum(len(fields[b"body"]) for _, fields in rows)
    assert 90_000 < weight <= 100_000
    assert int(client.hget(receivers.COUNTER_KEY, "bytes")) == weight


def test_sender_is_not_hurt_while_redis_is_away_and_the_next_entry_confesses(valkey, caplog):
    feed_changed.send_robust(None, status={})
    valkey.stop()
    with caplog.at_level(logging.WARNING, "dashboards.receivers"):
        answers = [answer for _ in range(5) for _, answer in bars_closed.send_robust(None, bars=[make_change()])]
    valkey.start()
    feed_changed.send_robust(None, status={})
    feed_changed.send_robust(None, status={})

    rows: Any = redis.Redis.from_url(settings.REDIS_URL).xrange(wire.LOG_KEY)
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert len(caplog.records) == 1
    assert [int(fields[b"lost"]) for _, fields in rows] == [5, 0]


# ---- log → hub ------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running_hub() -> AsyncIterator[Hub]:
    hub = Hub(settings.REDIS_URL, lambda: AT)
    hub.start()
    await until(lambda: hub.live)
    try:
        yield hub
    finally:
        await hub.stop()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def collect(outbox: Outbox, count: int) -> list[dict[str, Any]]:
    """Wait until so many messages came."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(told(outbox))
        return len(found) >= count

    await until(enough)
    return found


async def test_hub_that_starts_late_knows_what_the_log_holds(valkey):
    for number in range(250):
        feed_changed.send_robust(None, status={"number": number})
    bars_closed.send_robust(None, bars=[make_change()])

    async with running_hub() as hub:
        outbox = hub.join(1)
        outbox.watch("feed")
        outbox.watch("bars")
        feed, bars = await collect(outbox, 2)

    assert feed["data"] == {"number": 249}
    assert bars["data"]["bars"][0]["s"] == "AAPL"
    assert feed["seq"] == bars["seq"] == hub.board.seq


async def test_flush_reaches_every_outbox_in_order(valkey):
    async with running_hub() as hub:
        outboxes = [hub.join(1) for _ in range(3)]
        for outbox in outboxes:
            outbox.watch("bars")
            await collect(outbox, 1)
        for minute in range(5):
            await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change(minute=minute)])

        for outbox in outboxes:
            messages = await collect(outbox, 5)
            assert [message["data"]["bars"][0]["t"][14:16] for message in messages] == ["30", "31", "32", "33", "34"]
            assert [message["prev"] for message in messages[1:]] == [message["seq"] for message in messages[:-1]]


async def test_after_a_restart_of_redis_pages_are_told_of_the_gap_and_updates_go_on(valkey):
    bars_closed.send_robust(None, bars=[make_change()])
    async with running_hub() as hub:
        outbox = hub.join(1)
        outbox.watch("bars")
        (snapshot,) = await collect(outbox, 1)
        await asyncio.to_thread(valkey.stop)
        await until(lambda: hub.live is False)
        await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change(minute=1)])  # nobody hears it
        await asyncio.to_thread(valkey.start)
        await until(lambda: hub.live)
        gap = await collect(outbox, 2)
        await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change(minute=2)])
        after = await collect(outbox, 2)
        await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change(minute=3)])
        last = await collect(outbox, 1)

    assert [message["type"] for message in gap + after + last] == ["gap", "snapshot", "gap", "snapshot", "update"]
    assert last[0]["prev"] == after[-1]["seq"] > snapshot["seq"]
    assert after[-1]["data"]["bars"][0]["t"] == "2026-11-20T14:32:00Z"


async def test_log_that_is_emptied_while_the_line_stands_is_a_gap(valkey):
    bars_closed.send_robust(None, bars=[make_change()])
    async with running_hub() as hub:
        outbox = hub.join(1)
        outbox.watch("bars")
        await collect(outbox, 1)
        redis.Redis.from_url(settings.REDIS_URL).flushall()

        messages = await collect(outbox, 2)

    assert [message["type"] for message in messages] == ["gap", "snapshot"]


async def test_connection_that_breaks_without_a_loss_is_no_gap(valkey):
    async with running_hub() as hub:
        outbox = hub.join(1)
        outbox.watch("bars")
        await collect(outbox, 1)
        client = redis.Redis.from_url(settings.REDIS_URL)
        await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change(minute=0)])
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change(minute=1)])

        messages = await collect(outbox, 2)

    assert [message["type"] for message in messages] == ["update", "update"]


async def test_entry_that_cannot_be_read_is_a_gap_and_not_the_end(valkey):
    async with running_hub() as hub:
        outbox = hub.join(1)
        outbox.watch("bars")
        await collect(outbox, 1)
        receivers.announcer(settings.REDIS_URL).announce(wire.BARS, b'{"nonsense":1}')
        await asyncio.to_thread(bars_closed.send_robust, None, bars=[make_change()])

        messages = await collect(outbox, 2)

    assert [message["type"] for message in messages][:2] == ["gap", "snapshot"]


def market_flush(seq: int, *surveys: tuple[str, str]) -> Flush:
    rows = [
        {"universe": universe, "as_of": datetime.fromisoformat(as_of), "kind": "intraday", "coverage": {}} for universe, as_of in surveys
    ]
    return wire.read_flush(seq, wire.MARKET, AT, wire.made_surveys(rows))


def test_who_watches_the_market_is_told_which_surveys_are_new_and_a_slow_one_the_newest_of_each_universe():
    board = ready_board()
    board.add(market_flush(1, ("mine", "2026-11-20T14:31:00+00:00"), ("yours", "2026-11-20T14:31:00+00:00")))
    outbox = Outbox(board)
    outbox.watch("market")
    (snapshot,) = told(outbox)
    for minute in range(32, 52):
        board.add(market_flush(minute - 30, ("mine", f"2026-11-20T14:{minute}:00+00:00")))

    (update,) = told(outbox)

    assert [(row["universe"], row["as_of"]) for row in snapshot["data"]["surveys"]] == [
        ("mine", "2026-11-20T14:31:00Z"), ("yours", "2026-11-20T14:31:00Z"),
    ]  # fmt: skip
    assert [(row["universe"], row["as_of"]) for row in update["data"]["surveys"]] == [("mine", "2026-11-20T14:51:00Z")]
    assert update["skipped"] == 19
    assert {row["as_of"] for row in json.loads(board.snapshot("market"))["surveys"]} == {"2026-11-20T14:31:00Z", "2026-11-20T14:51:00Z"}


async def test_old_flush_that_keeps_its_body_only_still_tells_a_returning_socket_all():
    board = ready_board()
    board.add(bars_flush(1, ("AAPL", 0, 1)))
    for number in range(2, 60):
        board.add(bars_flush(number, ("AAPL", number, number), ("MSFT", number, number)))
    outbox = Outbox(board)
    outbox.resume("bars:AAPL", 1)

    (message,) = told(outbox)

    assert [bar["c"] for bar in message["data"]["bars"]] == list(range(2, 60))
    assert all(bar["s"] == "AAPL" for bar in message["data"]["bars"])


# ---- straight onto the lines ------------------------------------------------------------------------------------------------------


class Wire:
    """A connection that takes frames while it is free."""

    def __init__(self) -> None:
        self.free = True
        self.frames: list[bytes] = []

    def ready(self) -> bool:
        return self.free

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)


def payload(frame: bytes) -> dict[str, Any]:
    return json.loads(frame[frame.index(b"{") :])


async def test_sockets_at_the_same_place_are_told_one_message_that_was_made_once():
    board = ready_board()
    lines = [Wire() for _ in range(3)]
    outboxes = [Outbox(board, line) for line in lines]
    for outbox in outboxes:
        outbox.watch("bars:AAPL")
        told(outbox)

    for minute in range(2):
        board.add(bars_flush(1 + minute, ("AAPL", minute, 100)))
        for outbox in outboxes:
            outbox.push(lambda: AT, 0.0)

    for first, second, third in zip(*(line.frames for line in lines), strict=True):
        assert first is second is third
    assert [payload(frame)["seq"] for frame in lines[0].frames] == [1, 2]


async def test_flush_concerns_only_those_who_watch_its_kind_or_one_of_its_symbols():
    board = ready_board()
    names = ("bars", "bars:AAPL", "bars:MSFT", "quotes:AAPL", "patterns")
    outboxes = {name: watching(board, name) for name in names}

    def audience(flush: Flush) -> set[str]:
        return {name for name, outbox in outboxes.items() if outbox in board.audience([flush])}

    assert audience(bars_flush(1, ("AAPL", 0, 100))) == {"bars", "bars:AAPL"}
    assert audience(patterns_flush(2, 7)) == {"patterns"}
    outboxes["bars:AAPL"].unwatch("bars:AAPL")
    assert audience(bars_flush(3, ("AAPL", 0, 100), ("MSFT", 0, 9))) == {"bars", "bars:MSFT"}
    for outbox in outboxes.values():
        outbox.leave()
    assert board.listeners == {}


async def test_socket_whose_line_is_full_is_woken_and_goes_on_where_it_stood():
    board, line = ready_board(), Wire()
    outbox = Outbox(board, line)
    outbox.watch("bars")
    told(outbox)
    outbox.wake.clear()
    line.free = False
    board.add(bars_flush(1, ("AAPL", 0, 100)))
    outbox.push(lambda: AT, 0.0)
    assert (outbox.wake.is_set(), line.frames) == (True, [])

    by_task = told(outbox)
    line.free = True
    board.add(bars_flush(2, ("AAPL", 1, 101)))
    outbox.push(lambda: AT, 0.0)

    assert [message["seq"] for message in by_task] == [1]
    assert [(payload(frame)["prev"], payload(frame)["seq"]) for frame in line.frames] == [(1, 2)]


@given(st.lists(st.tuples(st.sampled_from(["AAPL", "MSFT", "busy", "free", "lose"]), st.integers(0, 2)), max_size=60))
def test_chain_is_unbroken_whoever_writes_and_whatever_the_line_takes(steps):
    async def play() -> None:
        board, lines = ready_board(ring_bytes=2_000), [Wire() for _ in range(3)]
        outboxes = [Outbox(board, line) for line in lines]
        heard: list[list[dict[str, Any]]] = [[] for _ in lines]

        def drain() -> None:
            for number, (outbox, line) in enumerate(zip(outboxes, lines, strict=True)):
                heard[number] += [payload(frame) for frame in line.frames]
                line.frames.clear()
                if line.free and outbox.wake.is_set():
                    heard[number] += told(outbox)
                    outbox.wake.clear()

        for outbox in outboxes:
            outbox.watch("bars:AAPL")
        drain()
        seq = 0
        for what, which in steps:
            if what in {"busy", "free"}:
                lines[which].free = what == "free"
            elif what == "lose":
                board.lose()
                for outbox in outboxes:
                    outbox.wake.set()
            else:
                seq += 1
                board.add(flush := bars_flush(seq, (what, 0, seq)))
                for outbox in board.audience([flush]):
                    outbox.push(lambda: AT, 0.0)
            drain()
        for line in lines:
            line.free = True
        for outbox in outboxes:
            outbox.wake.set()
        drain()
        newest = max(
            (number for number, (what, _) in enumerate((s for s in steps if s[0] in {"AAPL", "MSFT"}), 1) if what == "AAPL"), default=0
        )
        for messages in heard:
            assert [message["prev"] for message in messages[1:]] == [message["seq"] for message in messages[:-1]]
            states = [bar["c"] for message in messages for bar in (message["data"].get("bars") or [])]
            assert states[-1:] == ([newest] if newest else [])

    asyncio.run(play())


async def test_asking_where_no_socket_opens_leaves_nothing_behind(valkey):
    bars_closed.send_robust(None, bars=[make_change()])
    hub = hub_of_this_process(settings.REDIS_URL, lambda: AT)
    try:
        answer = await live.messages(AsyncRequestFactory().get("/live/", {"topic": ["bars@", "feed@"]}))
        assert [message["topic"] for message in json.loads(answer.content)] == ["bars", "feed"]
        assert hub.board.listeners == {}
    finally:
        await hub.stop()


# ---- last quotes ------------------------------------------------------------------------------------------------------------------


def quote(symbol: str, at: int, bid: float | None, ask: float | None) -> Quote:
    return Quote(sym=symbol, t=1_795_185_000_000 + at, bp=bid, bs=3, ap=ask, ask_size=5)


def quotes_flush(seq: int, *quotes: Quote) -> Flush:
    return wire.read_flush(seq, wire.QUOTES, AT, wire.moving_quotes(quotes))


async def test_last_quote_of_a_symbol_is_its_snapshot_and_a_slow_reader_is_told_the_newest():
    board = ready_board()
    nobody = watching(board, "quotes:MSFT")
    board.add(quotes_flush(1, quote("AAPL", 0, 99.9, 100.1)))
    outbox = Outbox(board)
    outbox.watch("quotes:AAPL")
    (snapshot,) = told(outbox)
    for number in range(20):
        board.add(quotes_flush(2 + number, quote("AAPL", 1 + number, None, 100 + number)))

    (update,) = told(outbox)

    at = "2026-11-20T14:30:00."
    assert snapshot["data"]["quotes"] == [{"s": "AAPL", "t": f"{at}000Z", "bp": 99.9, "bs": 3.0, "ap": 100.1, "as": 5.0}]
    assert update["data"]["quotes"] == [{"s": "AAPL", "t": f"{at}020Z", "bp": None, "bs": 3.0, "ap": 119.0, "as": 5.0}]
    assert update["skipped"] == 19
    assert told(nobody) == []
