"""The twin's faults over real sockets, switched on and off while it runs; its scenarios and recordings as a process."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import massive
import pytest
import urllib3
from massive.exceptions import AuthError, BadResponse
from massive.websocket.models import EquityQuote, EquityTrade
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from marketdata.feed.decode import decode
from marketdata.feed.events import Trade
from marketdata.twin.days import NEW_YORK

ROOT = Path(__file__).resolve().parents[2]
# What would lead to a database or a Redis must not be touched
NOWHERE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
COMMAND = (sys.executable, "manage.py", "simulate_massive")
PATIENCE = 30


class Twin:
    """A running `simulate_massive`, with its door for faults."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [*COMMAND, "--port", "0", "--seed", "5", *flags],
            cwd=ROOT,
            env=os.environ | NOWHERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port = int(self.process.stdout.readline().strip().rpartition(":")[2])
        self.base = f"http://127.0.0.1:{self.port}"

    def get(self, target, key="key"):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = urllib3.request("GET", self.base + target, headers=headers, retries=False, timeout=PATIENCE)
        return answer.status, answer

    def faults(self, asked):
        status, answer = self.get(f"/v1/twin/faults?{asked}")
        assert status == 200, answer.data
        return answer.json()

    @property
    def rest(self):
        return massive.RESTClient("key", base=self.base, retries=0)

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/stocks"

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def running():
    twin = Twin("--speed", "60", "--interval", "0.05", "--tickers", "6")
    yield twin
    twin.stop()


@pytest.fixture
def twin(running):
    yield running
    running.faults("clear=1")


@pytest.fixture
def started():
    twins = []

    def start(*flags):
        twins.append(Twin(*flags))
        return twins[-1]

    yield start
    for one in twins:
        one.stop()


def subscriber(twin, **options):
    return connect(twin.url, max_size=None, **options)


async def hear(line):
    async with asyncio.timeout(PATIENCE):
        return await line.recv()


async def sign_in(line, params="AM.*,A.*,T.*", key="key"):
    """Sign in and subscribe; return the statuses that are heard until the acknowledgement of the last pair."""
    await line.send(json.dumps({"action": "auth", "params": key}))
    await line.send(json.dumps({"action": "subscribe", "params": params}))
    said = []
    while not any(message.endswith(params.split(",")[-1]) for _, message in said):
        said += statuses(await hear(line))
    return said


def statuses(frame):
    return [(event["status"], event["message"]) for event in json.loads(frame) if event.get("ev") == "status"]


async def data(line, count=1):
    """Return the next frames of data."""
    found = []
    while len(found) < count:
        frame = await hear(line)
        with suppress(ValueError):
            events = json.loads(frame)
            if isinstance(events, list) and any(isinstance(event, dict) and event.get("ev") != "status" for event in events):
                found.append(frame)
    return found


async def end_of(line):
    """Return the statuses said until the line ends, and its close code (None: no close frame)."""
    said = []
    with suppress(ConnectionClosed):
        while True:
            frame = await hear(line)
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                said += [status for status, _ in statuses(frame)]
    return said, line.protocol.close_rcvd.code if line.protocol.close_rcvd else None


# --- the door ---------------------------------------------------------------------------------------------------------------------


def test_the_door_adds_removes_clears_and_tells_what_there_is(twin):
    added = twin.faults("add=garbage:5&add=rest_slow:0.001")
    removed = twin.faults("remove=garbage")
    cleared = twin.faults("clear=1")

    assert [fault["name"] for fault in added["active"]] == ["garbage", "rest_slow"]
    assert [fault["name"] for fault in removed["active"]] == ["rest_slow"]
    assert cleared["active"] == []
    assert "close:CODE[:EVERY_SECONDS]" in cleared["known"]


@pytest.mark.parametrize("asked", ["add=nope", "add=close:1002", "add=duplicates", "remove=nope"])
def test_the_door_refuses_what_it_does_not_know_with_the_list(twin, asked):
    status, answer = twin.get(f"/v1/twin/faults?{asked}")

    assert status == 400
    assert "the faults are drop[:EVERY_SECONDS]" in answer.json()["error"]


@pytest.mark.parametrize("key", ["", "bad"])
def test_the_door_needs_a_key(twin, key):
    assert twin.get("/v1/twin/faults?add=drop", key)[0] == 401
    assert twin.faults("")["active"] == []


# --- lines that end or fall silent ------------------------------------------------------------------------------------------------


async def test_a_drop_ends_the_line_without_a_close_frame_once(twin):
    async with subscriber(twin) as line:
        await sign_in(line)
        twin.faults("add=drop")
        assert await end_of(line) == ([], None)
    async with subscriber(twin) as line:
        await sign_in(line)
        assert await data(line, 3)


async def test_drops_come_again_where_they_are_periodic(twin):
    twin.faults("add=drop:0.2")
    for _ in range(2):
        async with subscriber(twin) as line:
            await sign_in(line)
            assert (await end_of(line))[1] is None
    assert twin.faults("")["felt"]["drop"] >= 2


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011])
async def test_each_close_code_is_said(twin, code):
    async with subscriber(twin) as line:
        await sign_in(line)
        twin.faults(f"add=close:{code}")
        assert await end_of(line) == ([], code)


async def test_in_a_silence_pings_are_answered_and_afterwards_data_comes(twin):
    async with subscriber(twin) as line:
        await sign_in(line)
        twin.faults("add=silence:1")
        quiet = None
        while quiet is None:  # what was on its way may still come
            try:
                async with asyncio.timeout(0.4):
                    await line.recv()
            except TimeoutError:
                quiet = await line.ping()
        async with asyncio.timeout(PATIENCE):
            await quiet
        assert await data(line, 2)
    assert twin.faults("")["active"] == []


async def test_a_half_open_line_answers_no_ping_and_stays_open(twin):
    async with subscriber(twin, ping_interval=None, close_timeout=0.1) as line:
        await sign_in(line)
        twin.faults("add=half_open")
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await line.recv()
            except TimeoutError:
                break
        pong = await line.ping()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await pong
        assert line.protocol.close_rcvd is None
    async with subscriber(twin) as other:
        await sign_in(other)
        assert await data(other, 2)


# --- what is said at the door of the market ---------------------------------------------------------------------------------------


async def test_a_refused_key_is_an_auth_error_for_the_official_client(twin):
    client = massive.WebSocketClient("key", feed=f"127.0.0.1:{twin.port}", secure=False, subscriptions=["AM.*"], max_reconnects=0)
    twin.faults("add=auth_failed")
    with pytest.raises(AuthError, match="authentication failed"):
        await client.connect(lambda messages: None)
    twin.faults("clear=1&add=no_plan")
    with pytest.raises(AuthError, match="Your plan doesn't include websocket access"):
        await client.connect(lambda messages: None)


async def test_an_unanswered_key_ends_in_a_timeout(twin):
    twin.faults("add=auth_timeout:0.3")
    async with subscriber(twin) as line:
        await line.send('{"action":"auth","params":"key"}')
        assert await end_of(line) == (["connected", "auth_timeout"], 1008)


async def test_a_topic_is_refused_and_the_others_stream(twin):
    twin.faults("add=not_authorized:T")
    async with subscriber(twin) as line:
        said = await sign_in(line, "T.*,A.*")
        assert ("error", "not authorized") in said
        kinds = {event["ev"] for frame in await data(line, 5) for event in json.loads(frame)}
    assert kinds == {"A"}


async def test_without_acknowledgements_data_comes(twin):
    twin.faults("add=no_ack")
    async with subscriber(twin) as line:
        await line.send('{"action":"auth","params":"key"}')
        await line.send('{"action":"subscribe","params":"A.*"}')
        heard = [await hear(line), await hear(line), *await data(line, 2)]
    assert [message for frame in heard for _, message in statuses(frame)] == ["Connected Successfully", "authenticated"]


async def test_acknowledgements_ride_in_the_midst_of_data(twin):
    twin.faults("add=status_in_data")
    async with subscriber(twin) as line:
        await line.send('{"action":"auth","params":"key"}')
        await line.send('{"action":"subscribe","params":"T.*,A.*"}')
        frame = "[]"
        while "subscribed to" not in frame:
            frame = await hear(line)
    assert [message for _, message in statuses(frame)] == ["subscribed to: T.*", "subscribed to: A.*"]
    assert twin.faults("")["felt"]["status_in_data"] == 1


@pytest.mark.parametrize("policy", ["evict_older", "refuse_newcomer", "random"])
async def test_over_the_quota_one_line_of_the_key_must_go(twin, policy):
    twin.faults(f"add=max_connections:1:{policy}")
    async with subscriber(twin) as older, subscriber(twin) as stranger:
        await sign_in(older, "A.*")
        await sign_in(stranger, "A.*", key="another")
        async with subscriber(twin) as newer:
            await newer.send('{"action":"auth","params":"key"}')
            await newer.send('{"action":"subscribe","params":"A.*"}')
            ends = [asyncio.create_task(end_of(line)) for line in (older, newer)]
            done, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
            loser = next(iter(done))
            for task in waiting:
                task.cancel()
        assert len(done) == 1
        assert loser.result()[0][-1] == "max_connections"
        assert loser.result()[1] == 1008
        if policy != "random":
            assert (loser is ends[0]) == (policy == "evict_older")
        assert await data(stranger)


async def test_a_small_buffer_makes_a_slow_consumer(twin):
    twin.faults("add=slow_consumer:1000")
    async with subscriber(twin) as line:
        await line.send('{"action":"auth","params":"key"}')
        await line.send('{"action":"subscribe","params":"T.*"}')
        said, code = await end_of(line)
    assert said[-1] == "slow_consumer"
    assert code == 1008


# --- data as faults make it -------------------------------------------------------------------------------------------------------


async def test_duplicates_are_frames_sent_twice(twin):
    twin.faults("add=duplicates:100")
    async with subscriber(twin) as line:
        await sign_in(line, "T.*")
        first, second, third, fourth = await data(line, 4)
    assert first == second != third == fourth


async def test_good_events_stand_beside_garbage(twin):
    async with subscriber(twin) as line:
        await sign_in(line, "T.AAPL")
        twin.faults("add=garbage:100")
        good, rejected = [], 0
        async with asyncio.timeout(2 * PATIENCE):
            while rejected < 20 or len(good) < 20:  # how many trades a second brings depends on the hour
                decoded = decode(await hear(line))
                # a size that is no number is seen only where sizes are read
                good += [event.q for event in decoded.events if isinstance(event, Trade) and event.ds not in ("many", "-3")]
                rejected += len(decoded.rejections)
    assert good == sorted(set(good))
    assert twin.faults("")["felt"]["garbage_events"] > 0


async def test_empty_frames_come_between_the_others(twin):
    twin.faults("add=empty_frames")
    async with subscriber(twin) as line:
        await sign_in(line, "A.*")
        heard = [await hear(line) for _ in range(12)]
    assert "[]" in heard
    assert any(len(frame) > 2 for frame in heard)


async def test_one_large_frame_comes_and_then_ordinary_ones(twin):
    async with subscriber(twin) as line:
        await sign_in(line, "A.*")
        twin.faults("add=big_frame:1.5")
        while len(frame := (await data(line))[0]) < 1_500_000:
            pass
        after = await data(line, 3)
    assert decode(frame).rejections == []
    assert max(len(frame) for frame in after) < 100_000


@pytest.mark.parametrize("fault", ["reorder:30", "late:30"])
async def test_events_come_out_of_order_and_none_twice(twin, fault):
    twin.faults(f"add={fault}")
    async with subscriber(twin) as line:
        await sign_in(line, "T.AAPL")
        numbers = []
        while len(numbers) < 600:
            numbers += [event["q"] for frame in await data(line) for event in json.loads(frame)]
    assert numbers != sorted(numbers)
    assert len(set(numbers)) == len(numbers)


# --- REST under faults ------------------------------------------------------------------------------------------------------------


def some_day():
    return datetime.now(NEW_YORK).date() - timedelta(days=3)


def daily(twin):
    return twin.get(f"/v2/aggs/ticker/AAPL/range/1/day/{some_day() - timedelta(days=4)}/{some_day()}?limit=2")


def test_too_many_requests_with_and_without_retry_after(twin):
    twin.faults("add=rest_429:7")
    status, answer = daily(twin)
    twin.faults("add=rest_429")
    plain = daily(twin)

    assert (status, answer.headers["Retry-After"]) == (429, "7")
    assert plain[0] == 429
    assert "Retry-After" not in plain[1].headers
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        twin.rest.get_previous_close_agg("AAPL")


def test_the_free_plan_has_five_requests_a_minute(twin):
    twin.faults("add=rest_rate")

    assert [daily(twin)[0] for _ in range(7)] == [200] * 5 + [429] * 2


def test_server_errors_empty_answers_and_broken_json(twin):
    twin.faults("add=rest_500")
    assert daily(twin)[0] == 500
    twin.faults("clear=1&add=rest_empty")
    assert daily(twin)[1].json()["results"] == []
    assert list(twin.rest.list_aggs("AAPL", 1, "day", some_day(), some_day())) == []
    twin.faults("clear=1&add=rest_bad_json")
    status, answer = daily(twin)
    assert status == 200
    with pytest.raises(ValueError):
        answer.json()


def test_half_the_requests_fail_as_the_seed_says(twin):
    twin.faults("add=rest_500:50")

    assert {daily(twin)[0] for _ in range(25)} == {200, 500}


def test_a_slow_answer_takes_its_time_and_pages_lead_elsewhere(twin):
    twin.faults("add=rest_slow:0.4&add=rest_foreign_next_url:http://127.0.0.1:9")
    began = time.monotonic()
    status, answer = daily(twin)

    assert status == 200
    assert time.monotonic() - began >= 0.4
    assert answer.json()["next_url"].startswith("http://127.0.0.1:9/v2/aggs/")


def test_faults_of_rest_leave_the_twins_own_doors_alone(twin):
    twin.faults("add=rest_500&add=rest_empty")

    assert twin.get("/v1/twin/calendar?from=2026-01-01&to=2026-01-02")[0] == 200
    assert twin.faults("clear=1")["active"] == []


# --- REST of the official client --------------------------------------------------------------------------------------------------


def test_the_official_client_reads_trades_snapshots_and_days(twin):
    previous = twin.rest.get_previous_close_agg("AAPL")[0]
    yesterday = datetime.fromtimestamp(previous.timestamp / 1000, NEW_YORK).date()  # the twin's clock is hours ahead of ours
    trades = []
    for trade in twin.rest.list_trades("AAPL", timestamp=yesterday.isoformat(), limit=500):
        trades.append(trade)
        if len(trades) == 1_700:
            break
    rising = []
    for trade in twin.rest.list_trades(
        "AAPL", timestamp_gte=trades[-1].sip_timestamp, timestamp_lte=trades[0].sip_timestamp, order="asc", limit=600
    ):
        rising.append(trade.id)
    snapshots = {row.ticker: row for row in twin.rest.get_snapshot_all("stocks")}
    day = twin.rest.get_daily_open_close_agg("AAPL", yesterday)

    assert [trade.sequence_number for trade in trades] == sorted({trade.sequence_number for trade in trades}, reverse=True)
    assert {trade.id for trade in trades} <= set(rising)
    assert all(trade.price > 0 and float(trade.decimal_size) > 0 for trade in trades)
    assert set(snapshots) == {"AAPL", "MSFT", "GOOGL", "NVDA", "META", "TSLA"}
    assert snapshots["AAPL"].min.accumulated_volume == pytest.approx(snapshots["AAPL"].day.volume, rel=0.01)
    assert twin.rest.get_snapshot_ticker("stocks", "AAPL").prev_day.close == previous.close == day.close
    assert len(twin.rest.get_snapshot_direction("stocks", "gainers")) == 6
    assert {exchange.id for exchange in twin.rest.get_exchanges()} >= {4, 10, 11, 12, 201, 202, 203}
    assert {kind.code for kind in twin.rest.get_ticker_types()} == {"CS", "ETF"}
    with pytest.raises(BadResponse, match="Data not found"):
        twin.rest.get_daily_open_close_agg("AAPL", "2022-01-01")


def test_the_official_client_reads_splits_and_dividends_of_both_ages(started):
    twin = started("--scenario", "splits", "--tickers", "40")
    new, old = list(twin.rest.list_stocks_splits(limit=300)), list(twin.rest.list_splits(limit=300))
    paid, formerly = list(twin.rest.list_stocks_dividends(ticker="AAPL")), list(twin.rest.list_dividends(ticker="AAPL"))

    assert len(new) == len(old) > 600
    assert [(row.ticker, row.execution_date, row.split_to) for row in new] == [
        (row.ticker, row.execution_date, row.split_to) for row in old
    ]
    assert {row.adjustment_type for row in new} == {"forward_split", "reverse_split"}
    assert len(paid) == len(formerly) > 10
    assert [row.cash_amount for row in paid] == [row.cash_amount for row in formerly]
    since = list(twin.rest.list_stocks_splits(ticker="AAPL", execution_date_gte="2026-06-01"))
    assert since
    assert all(row.ticker == "AAPL" and row.execution_date >= "2026-06-01" for row in since)


async def test_the_official_client_parses_quotes(twin):
    got, done = [], asyncio.Event()
    client = massive.WebSocketClient("key", feed=f"127.0.0.1:{twin.port}", secure=False, subscriptions=["Q.AAPL"], max_reconnects=0)

    async def collect(messages):
        got.extend(messages)
        done.set()

    running = asyncio.create_task(client.connect(collect))
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    await client.close()
    running.cancel()

    assert all(isinstance(message, EquityQuote) and message.bid_price < message.ask_price for message in got)


# --- recordings -------------------------------------------------------------------------------------------------------------------

START_MS = 1_381_239_000_000


def recorded_frame(number):
    symbol = ("AAPL", "MSFT")[number % 2]
    trade = {"ev": "T", "sym": symbol, "p": 70.25, "s": 100, "t": START_MS + 100 * number, "q": number, "z": 3, "x": 12, "i": str(number)}
    return json.dumps([{"ev": "status", "status": "success", "message": "then"}, trade])


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "session.jsonl.gz"
    with gzip.open(path, "wt") as lines:
        lines.write("\n".join([recorded_frame(number) for number in range(60)] + ["garbled", "[]"]) + "\n")
    return path


async def test_a_recording_is_sent_to_whom_it_concerns_at_its_pace_and_once(started, recording):
    twin = started("--replay", str(recording), "--speed", "10")
    client = massive.WebSocketClient(
        "key", feed=f"127.0.0.1:{twin.port}", secure=False, subscriptions=["T.AAPL"], max_reconnects=0, raw=True
    )
    got, done = [], asyncio.Event()

    async def collect(frame):
        got.append(frame)
        if frame == "garbled":
            done.set()

    began = time.monotonic()
    running = asyncio.create_task(client.connect(collect))
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    took = time.monotonic() - began
    await client.close()
    running.cancel()

    events = [event for frame in got if frame != "garbled" for event in json.loads(frame) if event["ev"] != "status"]
    assert [event["q"] for event in events] == list(range(0, 60, 2))
    assert [event["t"] for event in events] == [START_MS + 100 * number for number in range(0, 60, 2)]
    assert took >= 0.5  # 5.9 recorded seconds, ten times as fast
    assert isinstance(EquityTrade.from_dict(events[0]).price, float)
    assert twin.get("/v2/aggs/ticker/AAPL/range/1/day/2026-01-01/2026-02-01")[1].json()["resultsCount"] == 0


async def test_faults_befall_recordings_too(started, recording):
    twin = started("--replay", str(recording), "--speed", "10", "--fault", "close:1001")
    async with subscriber(twin) as line:
        await sign_in(line, "T.*")
        assert (await end_of(line))[1] == 1001


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--fault", "nope"), "There is no fault 'nope'; the faults are drop[:EVERY_SECONDS], "),
        (("--fault", "close:999"), "CODE must be a number from 1000 to 1011; the faults are "),
        (("--scenario", "moon"), "There is no scenario 'moon'; the scenarios are default, quiet, "),
        (("--replay", "/nowhere.jsonl"), "The recording /nowhere.jsonl cannot be read (No such file or directory)."),
    ],
)
def test_what_it_does_not_know_is_one_sentence_and_status_1(flags, words):
    refused = subprocess.run([*COMMAND, "--port", "0", *flags], cwd=ROOT, env=os.environ | NOWHERE, capture_output=True, text=True)

    assert refused.returncode == 1
    assert refused.stderr.startswith("CommandError: ")
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""


def test_a_recording_that_breaks_off_ends_the_twin_with_one_sentence(tmp_path):
    whole = gzip.compress("\n".join(recorded_frame(number) for number in range(400)).encode())
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--replay", str(path), "--speed", "1000"],
        cwd=ROOT,
        env=os.environ | NOWHERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    port = int(process.stdout.readline().strip().rpartition(":")[2])

    async def listen():
        async with connect(f"ws://127.0.0.1:{port}/stocks") as line:
            await line.send('{"action":"auth","params":"key"}')
            await line.send('{"action":"subscribe","params":"T.*"}')
            await end_of(line)

    asyncio.run(listen())
    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert "CommandError: The recording cannot be read beyond its frame " in errors
    assert "Traceback" not in errors
