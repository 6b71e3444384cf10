"""REST of bars and ticks."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from urllib.parse import quote

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from marketdata.bars.interval import INTERVALS, MINUTE, Candle, day_from, midnight
from marketdata.models import Bar, BarRevision, DailyBar, Source, Symbol
from marketdata.serializers import MomentField, bars_json
from tests.people import make_user, session_client, token_client
from tickstock.http import json_bytes

pytestmark = pytest.mark.django_db
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
SYMBOL = "TST.A"
ROW = {
    "high": Decimal("188.4300"), "low": Decimal("188.41"), "open": Decimal("188.42"), "close": Decimal("188.4200"),
    "volume": Decimal("1200.5"), "source": Source.VENDOR, "source_version": 1,
}  # fmt: skip


def store_minutes(count: int, *, symbol: str = SYMBOL, start: datetime = OPEN, **more) -> None:
    Symbol.objects.get_or_create(symbol=symbol)
    row = {**ROW, "complete": True, "is_final": True, "writer_epoch": 1, "updated_at": start, **more}
    Bar.objects.bulk_create(Bar(symbol_id=symbol, timestamp=start + timedelta(minutes=number), **row) for number in range(count))


def store_days(first: date, count: int, *, symbol: str = SYMBOL) -> None:
    Symbol.objects.get_or_create(symbol=symbol)
    DailyBar.objects.bulk_create(
        DailyBar(symbol_id=symbol, date=first + timedelta(days=number), updated_at=OPEN, **ROW) for number in range(count)
    )


@pytest.fixture
def client():
    return session_client(make_user())


def starts(answer) -> list[str]:
    return [row.get("t") or row["timestamp"] for row in answer.json().get("bars", answer.json().get("ticks"))]


def at(minute: int) -> str:
    return (OPEN + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- /api/ticks/recent


def test_a_minute_that_was_seen_only_in_part_does_not_show_until_it_is_repaired(client):
    store_minutes(2)
    Bar.objects.filter(timestamp=OPEN).update(complete=False, is_final=False)
    assert client.get(f"/api/ticks/recent?symbol={SYMBOL}").json()["count"] == 1
    Bar.objects.filter(timestamp=OPEN).update(is_final=True)
    assert client.get(f"/api/ticks/recent?symbol={SYMBOL}").json()["count"] == 2


def test_recent_ticks_have_exactly_the_promised_shape(client):
    store_minutes(1)

    answer = client.get(f"/api/ticks/recent?symbol={SYMBOL}")

    assert answer.content.decode() == (
        '{"symbol":"TST.A","count":1,"ticks":[{"timestamp":"2026-11-20T14:30:00Z","open":188.42,"high":188.43,"low":188.41,'
        '"close":188.42,"volume":1200.5}]}'
    )


def test_recent_ticks_are_the_newest_oldest_first(client):
    store_minutes(5)

    answer = client.get(f"/api/ticks/recent?symbol={SYMBOL}&limit=3&since=")

    assert starts(answer) == [at(2), at(3), at(4)]
    assert answer.json()["count"] == 3


@pytest.mark.parametrize(
    "since",
    [
        "2026-11-20T14:32:00Z",
        "2026-11-20T09:32:00-05:00",
        "2026-11-20T14:32:00",
        "2026-11-20 14:32",
        "1795185120",
        "1795185120000",
        "1795185120.0",
    ],
)
def test_since_is_exclusive_in_every_notation(client, since):
    store_minutes(5)

    answer = client.get("/api/ticks/recent", {"symbol": SYMBOL, "since": since})

    assert starts(answer) == [at(3), at(4)]


def test_a_plus_that_nobody_encoded_is_understood(client):
    store_minutes(5)

    assert starts(client.get(f"/api/ticks/recent?symbol={SYMBOL}&since=2026-11-20T15:32:00+01:00")) == [at(3), at(4)]


def test_a_known_symbol_without_bars_has_none_and_an_unknown_one_is_a_404(client):
    Symbol.objects.create(symbol="EMPTY")

    assert client.get("/api/ticks/recent?symbol=EMPTY").json() == {"symbol": "EMPTY", "count": 0, "ticks": []}
    answer = client.get("/api/ticks/recent?symbol=empty")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert "empty" in answer.json()["detail"]


HOSTILE = [
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 400,
    "-1",
    "yesterday",
    "99999-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "2026-02-30",
    "\0",
    "²",
]


@pytest.mark.parametrize(
    ("field", "value"),
    [("since", value) for value in HOSTILE]
    + [("limit", value) for value in ["0", "1001", "-5", "ten", "9" * 400, "1e3", "nan"]]
    + [("symbol", value) for value in ["", "A B", "A" * 21, "'; drop table symbols", "A\n", "\0", "ÄÖ", "<script>"]],
)
def test_a_bad_value_is_a_400_that_names_its_field(client, field, value):
    answer = client.get("/api/ticks/recent", {"symbol": SYMBOL, field: value})

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert {error["field"] for error in answer.json()["errors"]} == {field}


moments = st.one_of(st.text(max_size=30), st.integers().map(str), st.floats().map(str), st.datetimes().map(str), st.sampled_from(HOSTILE))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(symbol=st.text(max_size=25) | st.just(SYMBOL), since=moments, limit=st.text(max_size=8) | st.integers().map(str))
@example(symbol=SYMBOL, since="99999999999", limit="1")
@example(symbol="\ud800", since="", limit="")
def test_recent_ticks_never_fail_whatever_is_asked(client, symbol, since, limit):
    query = "&".join(f"{name}={quote(value, errors='replace')}" for name, value in (("symbol", symbol), ("since", since), ("limit", limit)))

    assert client.get(f"/api/ticks/recent?{query}").status_code in {200, 400, 404}


@given(st.datetimes(min_value=datetime(1973, 3, 4), max_value=datetime(2999, 12, 31)))  # noqa: DTZ001 - hypothesis wants them naive
def test_a_moment_reads_the_same_in_every_notation(naive):
    moment = naive.replace(tzinfo=UTC, microsecond=0)
    seconds = int(moment.timestamp())

    for text in (moment.isoformat(), naive.replace(microsecond=0).isoformat(), str(seconds), str(seconds * 1000)):
        assert MomentField().to_internal_value(text) == moment


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_a_validation_error(text):
    with suppress(ValidationError):
        assert MomentField().to_internal_value(text).tzinfo is UTC


def test_an_unchanged_answer_costs_nothing_twice(client):
    store_minutes(2)
    url = f"/api/ticks/recent?symbol={SYMBOL}"
    tag = client.get(url)["ETag"]

    again = client.get(url, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")

    Bar.objects.filter(symbol=SYMBOL, timestamp=OPEN).update(close=Decimal("188.415"))
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 200


def test_a_program_needs_one_query_for_its_token_and_one_for_the_bars(django_assert_num_queries):
    store_minutes(3)
    program = token_client(make_user("program"))
    program.get(f"/api/ticks/recent?symbol={SYMBOL}")  # notes the token's use

    for url in (f"/api/ticks/recent?symbol={SYMBOL}", f"/api/bars/{SYMBOL}/"):
        with django_assert_num_queries(2):
            assert program.get(url).status_code == 200


# ---- /api/bars/


def test_bars_have_exactly_the_promised_shape(client):
    store_minutes(1, trades=7, vwap=Decimal("188.42100"), is_final=False)

    answer = client.get(f"/api/bars/{SYMBOL}/")

    assert answer.content.decode() == (
        '{"symbol":"TST.A","interval":"1m","next":null,"bars":[{"t":"2026-11-20T14:30:00Z","end":"2026-11-20T14:31:00Z","o":188.42,'
        '"h":188.43,"l":188.41,"c":188.42,"v":1200.5,"vw":188.421,"n":7,"final":false}]}'
    )


PRICES = st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**15)


@given(st.lists(st.tuples(PRICES, PRICES, st.none() | PRICES, st.none() | st.integers(0, 2**31), st.booleans())))
@example([(Decimal("188.4200"), Decimal("1E+3"), Decimal("0E-7"), 0, True)])
@example([(Decimal("1E-12"), Decimal(0), None, None, False)])
def test_a_page_of_bars_is_written_as_the_renderer_writes_its_rows(values):
    page = [Candle(OPEN, OPEN + MINUTE, price, price, price, price, volume, *rest) for price, volume, *rest in values]

    rows = [
        {"t": bar.start, "end": bar.end, "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": bar.volume,
         "vw": bar.vwap, "n": bar.trades, "final": bar.final}
        for bar in page
    ]  # fmt: skip
    assert json_bytes(bars_json(page)) == json_bytes(rows)


def test_without_from_the_newest_bars_come_first_and_pages_go_back_in_time(client):
    store_minutes(5)

    first = client.get(f"/api/bars/{SYMBOL}/?limit=2")
    assert starts(first) == [at(3), at(4)]
    second = client.get(f"/api/bars/{SYMBOL}/", {"limit": 2, "cursor": first.json()["next"]})
    assert starts(second) == [at(1), at(2)]
    third = client.get(f"/api/bars/{SYMBOL}/", {"limit": 2, "cursor": second.json()["next"]})
    assert starts(third) == [at(0)]
    assert third.json()["next"] is None


def test_with_from_pages_go_forward_and_to_is_not_included(client):
    store_minutes(6)
    span = {"from": at(1), "to": at(5), "limit": 3}

    first = client.get(f"/api/bars/{SYMBOL}/", span)
    assert starts(first) == [at(1), at(2), at(3)]
    second = client.get(f"/api/bars/{SYMBOL}/", {**span, "cursor": first.json()["next"]})
    assert starts(second) == [at(4)]
    assert second.json()["next"] is None


@pytest.mark.parametrize(
    "query", ["limit=7", "limit=7&from=2026-11-20T14:33:00Z", "limit=7&to=2026-11-20T15:00:00Z", "interval=1d&limit=7"]
)
def test_following_the_link_header_meets_every_bar_once(client, query):
    store_minutes(40)
    store_days(date(2026, 10, 20), 40)
    url, seen, rows = f"/api/bars/{SYMBOL}/?{query}", [], client.get(f"/api/bars/{SYMBOL}/?{query.replace('limit=7', 'limit=5000')}")

    while url:
        answer = client.get(url)
        page = starts(answer)
        seen = page + seen if "from" not in query else seen + page
        url = answer.headers.get("Link", "").partition(">")[0].lstrip("<")

    assert seen == starts(rows)
    assert all(earlier < later for earlier, later in pairwise(seen))


def test_a_day_starts_at_midnight_in_new_york_in_summer_and_in_winter(client):
    store_days(date(2026, 10, 31), 3)  # the clocks go back on 1 November

    rows = client.get(f"/api/bars/{SYMBOL}/?interval=1d").json()["bars"]

    assert [(row["t"], row["end"]) for row in rows] == [
        ("2026-10-31T04:00:00Z", "2026-11-01T04:00:00Z"),
        ("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ("2026-11-02T05:00:00Z", "2026-11-03T05:00:00Z"),
    ]


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - as above
def test_the_first_day_from_a_moment_is_the_first_that_starts_at_or_after_it(moment):
    day = day_from(moment)

    assert midnight(day - timedelta(days=1)) < moment <= midnight(day)


def test_a_day_is_final_when_it_is_over(client):
    today = timezone.now().date()
    store_days(today - timedelta(days=3), 5)

    final = [row["final"] for row in client.get(f"/api/bars/{SYMBOL}/?interval=1d").json()["bars"]]

    assert final[0] is True
    assert final[-1] is False


@pytest.mark.parametrize(
    ("query", "field", "word"),
    [
        ("interval=2h", "interval", "2h"),
        ("adjusted=perhaps", "adjusted", "boolean"),
        ("as_of=2999-01-01", "as_of", "not come yet"),
        ("as_of=then", "as_of", "ISO 8601"),
        ("from=soon", "from", "ISO 8601"),
        ("to=9e99", "to", "ISO 8601"),
        ("limit=5001", "limit", "5000"),
        ("cursor=after:x", "cursor", "cursor"),
        ("cursor=after:99999999999999999999", "cursor", "cursor"),
    ],
)
def test_a_bad_parameter_of_bars_is_named(client, query, field, word):
    answer = client.get(f"/api/bars/{SYMBOL}/?{query}")

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert word in answer.json()["detail"]


@pytest.mark.parametrize("cursor", ["after:99999999999", "before:99999999999", "before:0", "after:0"])
@pytest.mark.parametrize("interval", ["1m", "1d"])
def test_a_cursor_from_nowhere_finds_nothing_or_something_and_never_fails(client, cursor, interval):
    store_minutes(1)

    assert client.get(f"/api/bars/{SYMBOL}/?cursor={cursor}&interval={interval}").status_code == 200


@pytest.mark.parametrize("symbol", ["A%20B", "A" * 21, "%00", "..%2F..%2Fetc%2Fpasswd%2Fabcdef", "%F0%9F%92%A9"])
def test_a_symbol_that_cannot_be_one_is_a_400_and_one_that_is_not_known_a_404(client, symbol):
    assert client.get(f"/api/bars/{symbol}/").json()["errors"][0]["field"] == "symbol"
    assert client.get("/api/bars/BRK/B/").status_code == 404


def test_the_api_never_writes_a_bar(client):
    store_minutes(1)

    for method in (client.post, client.put, client.patch, client.delete):
        assert method(f"/api/bars/{SYMBOL}/", {}, content_type="application/json").status_code == 405


def test_bars_are_read_with_an_index(client):
    store_minutes(3)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = Bar.objects.of(SYMBOL).newest_first()[:100].explain()

    assert "Index" in plan


# ---- longer intervals, as_of


@pytest.mark.parametrize("interval", ["5m", "15m", "30m", "1h", "4h", "1d", "1w"])
def test_following_the_link_header_meets_every_longer_bar_once(client, interval):
    for day in range(9):
        store_minutes(40, start=OPEN - timedelta(days=day, minutes=7))
    whole = starts(client.get(f"/api/bars/{SYMBOL}/?interval={interval}&limit=5000"))
    assert whole

    for query in ("", "&from=2000-01-01", "&to=2999-01-01"):
        url, seen = f"/api/bars/{SYMBOL}/?interval={interval}&limit=2{query}", []
        while url:
            answer = client.get(url)
            seen = seen + starts(answer) if "from" in query else starts(answer) + seen
            url = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert seen == whole


def test_a_longer_bar_has_the_promised_shape(client):
    store_minutes(7, trades=2, vwap=Decimal("188.42"))

    answer = client.get(f"/api/bars/{SYMBOL}/?interval=5m&limit=1&from=2026-11-20T14:31:00Z")

    assert answer.content.decode() == (
        '{"symbol":"TST.A","interval":"5m","next":null,"bars":[{"t":"2026-11-20T14:35:00Z","end":"2026-11-20T14:40:00Z","o":188.42,'
        '"h":188.43,"l":188.41,"c":188.42,"v":2401,"vw":188.42,"n":4,"final":%s}]}'
    ) % ("true" if timezone.now() > OPEN + timedelta(minutes=25) else "false")


def test_as_of_reads_the_row_that_was_replaced_since(client):
    store_minutes(1, valued_at=OPEN + timedelta(minutes=10), revision=1)
    BarRevision.objects.create(
        symbol_id=SYMBOL, timestamp=OPEN, revision=0, **{**ROW, "close": Decimal("188.41")}, complete=True,
        stored_at=OPEN + timedelta(minutes=1), replaced_at=OPEN + timedelta(minutes=10), cause="late",
    )  # fmt: skip

    def close(as_of: str) -> list[float]:
        return [bar["c"] for bar in client.get(f"/api/bars/{SYMBOL}/?as_of={as_of}").json()["bars"]]

    assert close("2026-11-20T14:30:59Z") == []
    assert close("2026-11-20T14:31:00Z") == close("2026-11-20T14:39:59Z") == [188.41]
    assert close("2026-11-20T14:40:00Z") == [188.42]


def test_every_interval_needs_one_query_and_adjusted_one_more(django_assert_num_queries):
    store_minutes(3, valued_at=OPEN)
    store_days(date(2026, 11, 1), 1)
    program = token_client(make_user("program"))
    program.get(f"/api/bars/{SYMBOL}/")  # notes the token's use

    for interval in INTERVALS:
        with django_assert_num_queries(2):
            assert program.get(f"/api/bars/{SYMBOL}/?interval={interval}&as_of=2026-11-20T15:00:00Z").status_code == 200
    with django_assert_num_queries(3):
        assert program.get(f"/api/bars/{SYMBOL}/?adjusted=true").status_code == 200
