"""What one user keeps: lists of symbols, and filters of the rankings under a name."""

from django.conf import settings
from django.core.validators import MaxLengthValidator
from django.db import models, transaction
from django.db.models import Max

from marketdata.models import Symbol


class WatchlistQuerySet(models.QuerySet["Watchlist"]):
    """Questions to the watchlists."""

    def of(self, user_id: int) -> "WatchlistQuerySet":
        """Return one user's lists, oldest first, each with `count` of its symbols."""
        return self.filter(user_id=user_id).annotate(count=models.Count("entries")).order_by("id")


class Watchlist(models.Model):
    """A named list of symbols in the order that its owner gave it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="watchlists")
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WatchlistQuerySet.as_manager()

    class Meta:
        db_table = "watchlists"
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="watchlist_name_once")]

    def __str__(self) -> str:
        return self.name

    def add(self, symbol: str) -> bool:
        """Put a known symbol at the end; return whether it was not there before."""
        with transaction.atomic():
            Watchlist.objects.select_for_update().get(pk=self.pk)
            last = self.entries.aggregate(last=Max("position"))["last"]
            _, made = self.entries.get_or_create(symbol_id=symbol, defaults={"position": 0 if last is None else last + 1})
        return made

    def move(self, symbol: str, by: int) -> None:
        """Move a symbol up (negative) or down by so many places; past an end it stays at the end. Unknown ones change nothing."""
        with transaction.atomic():
            Watchlist.objects.select_for_update().get(pk=self.pk)
            entries = list(self.entries.all())
            place = next((number for number, entry in enumerate(entries) if entry.symbol_id == symbol), None)
            if place is None:
                return
            entries.insert(max(0, min(len(entries) - 1, place + by)), entries.pop(place))
            for number, entry in enumerate(entries):
                entry.position = number
            WatchlistEntry.objects.bulk_update(entries, ["position"])


class WatchlistEntry(models.Model):
    """A symbol on a list, its place, and what its owner noted."""

    watchlist = models.ForeignKey(Watchlist, on_delete=models.CASCADE, related_name="entries")
    symbol = models.ForeignKey(Symbol, on_delete=models.CASCADE, related_name="+")
    position = models.PositiveIntegerField(default=0)
    note = models.TextField(blank=True, default="", validators=[MaxLengthValidator(500)])

    class Meta:
        db_table = "watchlist_entries"
        ordering = ["watchlist", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["watchlist", "symbol"], name="watchlist_entry_once")]
        verbose_name_plural = "watchlist entries"

    def __str__(self) -> str:
        return f"{self.symbol_id} on {self.watchlist_id}"


class SavedScreen(models.Model):
    """A state of the rankings under a name: the address's query, so that the link and the screen cannot differ."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="screens")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=1000, blank=True, default="", help_text="the part of the address after the question mark")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "saved_screens"
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="screen_name_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> str:
        """Return the address that shows it."""
        return f"/rankings/?{self.query}" if self.query else "/rankings/"
