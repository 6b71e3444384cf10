"""REST of detections and indicators: reads only."""

from typing import Any

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata.models import Symbol
from marketdata.serializers import Parameters, ensure_symbol_form
from patterns.curves import curves
from patterns.models import Combination, Detection, IndicatorValue
from patterns.serializers import IndicatorsAnswer, IndicatorsQuery, LinesAnswer, LinesQuery, PatternsAnswer, PatternsQuery
from patterns.windows.asked import computed_values

SYMBOL_IN_PATH = OpenApiParameter("symbol", str, OpenApiParameter.PATH, description="the ticker, case kept")
FILTERS = {
    "symbol": "symbol_id",
    "pattern": "pattern_type",
    "timeframe": "timeframe",
    "direction": "direction",
    "status": "status",
    "since": "detection_timestamp__gt",
    "min_confidence": "confidence__gte",
    "cursor": "id__lt",
}


class Patterns(APIView):
    """The detections, page by page."""

    required_scope = "read:patterns"

    @extend_schema(parameters=[PatternsQuery], responses=PatternsAnswer, operation_id="patterns_list")
    def get(self, request: Request) -> Response:
        """Return detections in the order in which they were found, the last one first. Retracted ones stand among them."""
        asked = _checked(PatternsQuery, request)
        rows = Detection.objects.newest_first().filter(**{FILTERS[name]: value for name, value in asked.items() if name in FILTERS})
        page = list(rows[: asked["limit"] + 1])
        shown = page[: asked["limit"]]
        further = str(shown[-1].id) if len(page) > len(shown) else None
        names = Combination.objects.names_of({detection.pattern_type for detection in shown})
        return Response(PatternsAnswer({"next": further, "patterns": shown}, context={"names": names}).data)


class Indicators(APIView):
    """The indicator values of one symbol."""

    required_scope = "read:patterns"

    @extend_schema(parameters=[SYMBOL_IN_PATH, IndicatorsQuery], responses=IndicatorsAnswer, operation_id="indicators_list")
    def get(self, request: Request, symbol: str) -> Response:
        """
        Return values at bars that start in [from, to), oldest first; the newest ones where more fit than `limit`.

        On 1m the averages of 100 and 200 bars are computed for the answer, all else is stored.
        """
        ensure_symbol_form(symbol)
        asked = _checked(IndicatorsQuery, request)
        timeframe, start, end, limit = asked["timeframe"], asked.get("from"), asked.get("to"), asked["limit"]
        rows = IndicatorValue.objects.of_symbol(symbol, timeframe=timeframe).within(start, end)
        names = asked.get("name")
        newest = list((rows.named(names) if names else rows).newest_first()[:limit])
        if names:
            computed = computed_values(symbol, timeframe, names, start=start, end=end, limit=limit, now=timezone.now())
            newest = sorted([*newest, *computed], key=lambda row: (row.timestamp, row.indicator_name), reverse=True)[:limit]
        if not newest and not Symbol.objects.filter(pk=symbol).exists():
            raise Http404(f"There is no symbol {symbol[:20]}.")
        answer = {"symbol": symbol, "timeframe": timeframe, "count": len(newest), "values": newest[::-1]}
        return Response(IndicatorsAnswer(answer).data)


class Lines(APIView):
    """Indicator lines for a chart."""

    required_scope = "read:patterns"

    @extend_schema(parameters=[SYMBOL_IN_PATH, LinesQuery], responses=LinesAnswer, operation_id="indicators_lines")
    def get(self, request: Request, symbol: str) -> Response:
        """Return the values at the newest bars of any interval, computed from the bars as they stand now or stood at `as_of`."""
        ensure_symbol_form(symbol)
        asked = _checked(LinesQuery, request)
        now = timezone.now()
        times, values = curves(
            symbol, asked["interval"], asked["name"], end=asked.get("to"), limit=asked["limit"], now=now, as_of=asked.get("as_of"),
            adjusted=asked["adjusted"],
        )  # fmt: skip
        if not times and not Symbol.objects.filter(pk=symbol).exists():
            raise Http404(f"There is no symbol {symbol[:20]}.")
        return Response({"symbol": symbol, "interval": asked["interval"], "t": times, "values": values})


def _checked(query: type[Parameters], request: Request) -> dict[str, Any]:
    """Return the checked parameters. ValidationError names each bad field."""
    given = query(data=request.query_params)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
