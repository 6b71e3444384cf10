"""REST of one's own watchlists and screens: tokens read, people in a session also add."""

from typing import cast

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dashboards.forms import EntryForm
from dashboards.models import SavedScreen, Watchlist
from dashboards.serializers import NewEntry, ScreenRow, ScreensAnswer, WatchlistRow, WatchlistsAnswer


class Own(APIView):
    """What belongs to the one who asks. A token that may read the market may read it; no token changes it."""

    @property
    def required_scope(self) -> str | None:
        """Return the scope of reading; None closes the other methods to tokens."""
        return "read:market" if self.request is None or self.request.method in SAFE_METHODS else None


def _user_id(request: Request) -> int:
    return cast("int", request.user.pk)  # the permission IsSignedIn has seen to it


class Watchlists(Own):
    """One's watchlists."""

    @extend_schema(responses=WatchlistsAnswer, operation_id="watchlists_list")
    def get(self, request: Request) -> Response:
        """Return one's lists, oldest first, each with its symbols in their order and the notes."""
        lists = Watchlist.objects.filter(user_id=_user_id(request)).order_by("id").prefetch_related("entries")
        return Response({"watchlists": WatchlistRow(lists, many=True).data})


class OneWatchlist(Own):
    """One of one's watchlists."""

    @extend_schema(responses=WatchlistRow, operation_id="watchlists_read")
    def get(self, request: Request, pk: int) -> Response:
        """Return a list."""
        return Response(WatchlistRow(self._own(request, pk)).data)

    @extend_schema(request=NewEntry, responses={200: WatchlistRow, 201: WatchlistRow}, operation_id="watchlists_add")
    def post(self, request: Request, pk: int) -> Response:
        """Put a symbol at the end: 201 where it is new, 200 where it stands there already."""
        chosen = self._own(request, pk)
        form = EntryForm(request.data if isinstance(request.data, dict) else {})
        if not form.is_valid():
            raise ValidationError({name: [str(fault) for fault in faults] for name, faults in form.errors.items()})
        made = chosen.add(form.cleaned_data["symbol"])
        return Response(WatchlistRow(chosen).data, status=201 if made else 200)

    def _own(self, request: Request, pk: int) -> Watchlist:
        found = Watchlist.objects.filter(user_id=_user_id(request), pk=pk).prefetch_related("entries").first()
        if found is None:
            raise Http404("You have no such list.")
        return found


class Screens(Own):
    """One's screens."""

    @extend_schema(responses=ScreensAnswer, operation_id="screens_list")
    def get(self, request: Request) -> Response:
        """Return one's screens by name; `query` is what `/rankings/` takes."""
        return Response({"screens": ScreenRow(SavedScreen.objects.filter(user_id=_user_id(request)), many=True).data})
