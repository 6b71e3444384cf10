from datetime import timedelta

import numpy as np
import pytest
import talib
from drf_spectacular.generators import SchemaGenerator

from accounts.models import Scope
from patterns.models import Detection, IndicatorValue
from patterns.scan import scan
from tests.factories import moment
from tests.patterns.market import NOW, keys_of, random_bars, store
from tests.people import make_user, token_client

pytestmark = pytest.mark.usefixtures("market")


@pytest.fixture
def user(market):
    user = make_user("patterns-reader")
    yield user
    user.delete()


@pytest.fixture
def api(user):
    return token_client(user, scopes=[Scope.READ_PATTERNS])


@pytest.fixture
def scanned(writer):
    bars = random_bars("AAPL", 60, seed=1) + random_bars("BRK.B", 60, seed=2)
    store(writer, bars)
    scan(keys_of(bars[:60]), now=NOW)
    scan(keys_of(bars[60:]), now=NOW + timedelta(minutes=1))
    return bars


def get(api, path, **parameters):
    response = api.get(path, parameters)
    return response.status_code, response.json()


def test_detections_come_newest_first_page_by_page_and_none_is_missed(api, scanned):
    pages, cursor = [], None
    while True:
        status, body = get(api, "/api/patterns/", limit=50, **({"cursor": cursor} if cursor else {}))
        assert status == 200
        pages.append([row["id"] for row in body["patterns"]])
        if not (cursor := body["next"]):
            break

    assert [number for page in pages for number in page] == list(Detection.objects.order_by("-id").values_list("id", flat=True))
    assert len(pages) > 2


def test_a_detection_says_what_it_saw(api, scanned):
    _, body = get(api, "/api/patterns/", symbol="AAPL", limit=1)

    (row,) = body["patterns"]
    kept = Detection.objects.get(pk=row["id"])
    assert (row["symbol"], row["pattern_type"], row["confidence"], row["direction"]) == (
        "AAPL",
        kept.pattern_type,
        kept.confidence,
        kept.direction,
    )
    assert row["timestamp"].endswith("Z")
    assert row["name"][0].isupper()
    assert row["detail"] == kept.detail
    assert set(row["detail"]) == {"conditions", "geometry", "trend", "measures", "grade", "bars", "candles"}
    assert all(set(condition) == {"name", "measured", "relation", "threshold", "passed"} for condition in row["detail"]["conditions"])


@pytest.mark.parametrize(
    ("parameters", "holds"),
    [
        ({"symbol": "BRK.B"}, lambda row: row.symbol_id == "BRK.B"),
        ({"pattern": "doji"}, lambda row: row.pattern_type == "doji"),
        ({"direction": "bearish"}, lambda row: row.direction == "bearish"),
        ({"min_confidence": "0.6"}, lambda row: row.confidence >= 0.6),
        ({"since": NOW.isoformat()}, lambda row: row.detection_timestamp > NOW),
        ({"status": "retracted"}, lambda row: False),
        ({"timeframe": "1m", "symbol": ""}, lambda row: True),
    ],
)
def test_filters(api, scanned, parameters, holds):
    status, body = get(api, "/api/patterns/", limit=1000, **parameters)

    assert status == 200
    assert {row["id"] for row in body["patterns"]} == {row.pk for row in Detection.objects.all() if holds(row)}


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"pattern": "cup"}, "pattern"),
        ({"direction": "up"}, "direction"),
        ({"timeframe": "7m"}, "timeframe"),
        ({"min_confidence": "2"}, "min_confidence"),
        ({"min_confidence": "nan"}, "min_confidence"),
        ({"since": "yesterday"}, "since"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"cursor": "-1"}, "cursor"),
        ({"cursor": "9" * 19}, "cursor"),
        ({"symbol": "'; DROP"}, "symbol"),
    ],
)
def test_a_bad_filter_is_named(api, parameters, field):
    status, body = get(api, "/api/patterns/", **parameters)

    assert status == 400
    assert [error["field"] for error in body["errors"]] == [field]


def test_the_newest_values_come_oldest_first(api, scanned):
    status, body = get(api, "/api/indicators/BRK.B/", name="sma_5,rsi_14", limit=4)

    assert status == 200
    assert (body["symbol"], body["timeframe"], body["count"]) == ("BRK.B", "1m", 4)
    assert [(row["timestamp"], row["name"]) for row in body["values"]] == [
        ("2026-11-20T15:28:00Z", "rsi_14"), ("2026-11-20T15:28:00Z", "sma_5"), ("2026-11-20T15:29:00Z", "rsi_14"), ("2026-11-20T15:29:00Z", "sma_5"),
    ]  # fmt: skip
    closes = [bar.close for bar in scanned[-5:]]
    assert body["values"][-1]["value"] == pytest.approx(sum(closes) / 5, rel=1e-14)


def test_values_can_be_asked_for_between_two_moments(api, scanned):
    _, body = get(api, "/api/indicators/AAPL/", name="ema_5", **{"from": "2026-11-20T15:00:00Z", "to": moment("15:03").timestamp()})

    assert [row["timestamp"] for row in body["values"]] == [f"2026-11-20T15:0{minute}:00Z" for minute in range(3)]


def test_long_averages_of_minutes_are_computed_for_whoever_asks_and_not_stored(api, writer):
    bars = random_bars("AAPL", 260, seed=1)
    store(writer, bars)

    status, body = get(api, "/api/indicators/AAPL/", timeframe="1m", name="sma_200,ema_200", limit=4)

    closes = np.array([bar.close for bar in bars])
    assert status == 200
    assert [(row["timestamp"], row["name"]) for row in body["values"]] == [
        ("2026-11-20T18:48:00Z", "ema_200"), ("2026-11-20T18:48:00Z", "sma_200"), ("2026-11-20T18:49:00Z", "ema_200"), ("2026-11-20T18:49:00Z", "sma_200"),
    ]  # fmt: skip
    assert body["values"][-1]["value"] == pytest.approx(closes[-200:].mean(), rel=1e-12)
    assert body["values"][-2]["value"] == pytest.approx(talib.EMA(closes[-220:], 200)[-1], rel=1e-9)
    assert not IndicatorValue.objects.exists()


def test_detections_and_values_of_longer_bars_have_their_own_filter(api, writer):
    bars = random_bars("AAPL", 300, seed=1)
    store(writer, bars)
    scan([("AAPL", bar.opened_at_ms) for bar in bars[::5]], now=NOW, timeframe="5m")

    _, found = get(api, "/api/patterns/", timeframe="5m", limit=1000)
    _, none = get(api, "/api/patterns/", timeframe="1m")
    _, values = get(api, "/api/indicators/AAPL/", timeframe="5m", name="adx_14", limit=2)

    assert {row["timeframe"] for row in found["patterns"]} == {"5m"}
    assert len(found["patterns"]) == Detection.objects.count()
    assert none["patterns"] == []
    assert [row["timestamp"] for row in values["values"]] == ["2026-11-20T19:20:00Z", "2026-11-20T19:25:00Z"]


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        ("/api/indicators/NOBODY/", {}, 404),
        ("/api/indicators/MSFT/", {}, 200),
        ("/api/indicators/AAPL/", {"name": "sma_7"}, 400),
        ("/api/indicators/AAPL/", {"name": ","}, 400),
        ("/api/indicators/AAPL/", {"limit": "1001"}, 400),
        ("/api/indicators/AAPL/", {"timeframe": "1h"}, 200),
        ("/api/indicators/AAPL/", {"timeframe": "1d", "name": "vwap"}, 400),
        ("/api/indicators/AAPL/", {"timeframe": "2h"}, 400),
        ("/api/indicators/%00/", {}, 400),
    ],
)
def test_answers_to_odd_questions(api, path, parameters, status):
    assert api.get(path, parameters).status_code == status


def test_a_token_without_the_scope_is_refused(user):
    client = token_client(user, scopes=[Scope.READ_BARS])

    assert client.get("/api/patterns/").status_code == 403
    assert client.get("/api/indicators/AAPL/").status_code == 403


def test_the_schema_of_this_app_has_no_warning(capsys):
    schema = SchemaGenerator().get_schema(request=None, public=True)

    assert {"/api/patterns/", "/api/indicators/{symbol}/"} <= set(schema["paths"])
    assert "patterns/api.py" not in capsys.readouterr().err
