"""One example of each answer, shown in the OpenAPI description; a test holds them against it. Named in settings only."""

from typing import Any

BAR = {
    "t": "2026-11-20T14:30:00Z", "end": "2026-11-20T14:31:00Z", "o": 231.05, "h": 231.4, "l": 230.98, "c": 231.31,
    "v": 184205, "vw": 231.1942, "n": 2217, "final": True,
}  # fmt: skip
TICK = {"timestamp": "2026-11-20T14:30:00Z", "open": 231.05, "high": 231.4, "low": 230.98, "close": 231.31, "volume": 184205}
SYMBOL = {
    "symbol": "AAPL", "name": "Apple Inc.", "type": "CS", "exchange": "XNAS", "sector": "Information Technology", "industry": "", "active": True,
}  # fmt: skip
UNIVERSE = {"key": "dow30", "name": "Dow Jones Industrial Average", "description": "", "count": 30}
TOKEN = {
    "prefix": "k3v9q0m2xa", "name": "my script", "scopes": ["read:bars"], "created_at": "2026-11-20T14:30:00Z",
    "expires_at": "2027-02-18T14:30:00Z",
}  # fmt: skip
DETECTION = {
    "id": 48211, "symbol": "AAPL", "pattern_type": "engulfing", "name": "Engulfing", "timeframe": "1m", "timestamp": "2026-11-20T14:30:00Z",
    "detection_timestamp": "2026-11-20T14:31:03.214Z", "confidence": 0.72, "direction": "bullish", "status": "standing",
    "status_at": "2026-11-20T14:31:03.214Z", "bar_revision": 0, "detail": {},
}  # fmt: skip
GAP = {
    "id": 112, "symbol": "AAPL", "first_minute": "2026-11-20T15:02:00Z", "last_minute": "2026-11-20T15:04:00Z", "cause": "feed_down",
    "state": "repaired", "opened_at": "2026-11-20T15:05:10Z", "asked_at": "2026-11-20T15:05:12Z", "closed_at": "2026-11-20T15:05:12Z",
    "attempts": 1, "bars_found": 3, "last_error": "",
}  # fmt: skip
COVERAGE = {
    "symbol": "AAPL",
    "expected": 960,
    "bars": 951,
    "no_trade": 9,
    "halted": 0,
    "open": 0,
    "unproven": 0,
    "repaired": 3,
    "revised": 12,
}

ANSWERS: dict[str, Any] = {
    "BarsAnswer": {"symbol": "AAPL", "interval": "1m", "next": "after:1763649000", "bars": [BAR]},
    "TicksAnswer": {"symbol": "AAPL", "count": 1, "ticks": [TICK]},
    "SymbolsAnswer": {"next": "AAPL", "symbols": [SYMBOL]},
    "SymbolAnswer": {**SYMBOL, "universes": ["dow30"]},
    "UniversesAnswer": {"next": None, "universes": [UNIVERSE]},
    "UniverseAnswer": {**UNIVERSE, "count": 2, "symbols": ["AAPL", "MSFT"]},
    "GapsAnswer": {"next": None, "gaps": [GAP]},
    "CoverageAnswer": {"date": "2026-11-20", "symbols": [COVERAGE]},
    "PatternsAnswer": {"next": "48211", "patterns": [DETECTION]},
    "IndicatorsAnswer": {
        "symbol": "AAPL", "timeframe": "1m", "count": 1, "values": [{"timestamp": "2026-11-20T14:30:00Z", "name": "rsi_14", "value": 58.31}],
    },
    "TokenRequest": {"username": "ada", "password": "a long enough passphrase", "name": "my script", "scopes": ["read:bars"], "days": 90},
    "NewToken": {"token": "ts_k3v9q0m2xa_" + "X" * 43, **TOKEN},
    "TokenList": {"tokens": [{**TOKEN, "last_used_at": None}]},
    "Problem": {
        "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "limit: Ensure this value is less than or equal to 1000.",
        "errors": [{"field": "limit", "message": "Ensure this value is less than or equal to 1000."}],
    },
}  # fmt: skip


def show_examples(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Put each example beside its schema. A post-processing hook of drf-spectacular, after the one that describes problems."""
    schemas = result["components"]["schemas"]
    shown = {name: {**schemas[name], "examples": [answer]} for name, answer in ANSWERS.items() if name in schemas}
    return {**result, "components": {**result["components"], "schemas": {**schemas, **shown}}}
