"""Watchlists and screens of all users."""

from django.contrib import admin

from dashboards.models import SavedScreen, Watchlist, WatchlistEntry


class Entries(admin.TabularInline):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """The symbols of one list."""

    model = WatchlistEntry
    autocomplete_fields = ["symbol"]
    extra = 0


@admin.register(Watchlist)
class WatchlistAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Lists by owner."""

    list_display = ["name", "user", "created_at"]
    list_select_related = ["user"]
    search_fields = ["name", "user__username"]
    autocomplete_fields = ["user"]
    inlines = [Entries]


@admin.register(SavedScreen)
class SavedScreenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Screens by owner."""

    list_display = ["name", "user", "query", "created_at"]
    list_select_related = ["user"]
    search_fields = ["name", "user__username"]
    autocomplete_fields = ["user"]
