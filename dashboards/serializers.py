"""What the REST of watchlists and screens takes and gives."""

from typing import Any

from rest_framework import serializers

from dashboards.models import SavedScreen, Watchlist, WatchlistEntry


class EntryRow(serializers.ModelSerializer[WatchlistEntry]):
    """A symbol on a list."""

    symbol = serializers.CharField(source="symbol_id")

    class Meta:
        model = WatchlistEntry
        fields = ["symbol", "note"]


class WatchlistRow(serializers.ModelSerializer[Watchlist]):
    """A list with its symbols in their order."""

    entries = EntryRow(many=True)

    class Meta:
        model = Watchlist
        fields = ["id", "name", "created_at", "entries"]


class WatchlistsAnswer(serializers.Serializer[Any]):
    """One's own lists."""

    watchlists = WatchlistRow(many=True)


class NewEntry(serializers.Serializer[Any]):
    """A symbol to put at the end of a list."""

    symbol = serializers.CharField(max_length=20)


class ScreenRow(serializers.ModelSerializer[SavedScreen]):
    """A state of the rankings and its name; `path` is the page that shows it."""

    path = serializers.CharField(read_only=True)

    class Meta:
        model = SavedScreen
        fields = ["id", "name", "query", "path", "created_at"]


class ScreensAnswer(serializers.Serializer[Any]):
    """One's own screens."""

    screens = ScreenRow(many=True)
