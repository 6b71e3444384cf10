"""What people send: lists, notes, screens."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from django import forms

from dashboards.models import SavedScreen, Watchlist
from marketdata.models import Symbol

LONGEST_QUERY = 1000
NEVER_SAVED = {"as_of", "format", "page"}
"""A screen is asked of the present market: a moment or a file format is no part of it."""


class NameForm(forms.Form):
    """A name for a list."""

    name = forms.CharField(max_length=80, error_messages={"required": "Give the list a name."})


class EntryForm(forms.Form):
    """A symbol to add; BRK-B and BRK B mean BRK.B, lower case means upper where no such ticker exists."""

    symbol = forms.CharField(max_length=20, error_messages={"required": "Name a symbol."})

    def clean_symbol(self) -> str:
        """Return the known ticker. ValidationError names the one that is not."""
        text: str = self.cleaned_data["symbol"].strip().replace("-", ".").replace(" ", ".")
        known = set(Symbol.objects.filter(pk__in={text, text.upper()}).values_list("symbol", flat=True))
        if not known:
            raise forms.ValidationError(f"There is no symbol “{text}” here. Find it by its name with the key /.")
        return text if text in known else text.upper()


class NoteForm(forms.Form):
    """A note beside a symbol."""

    symbol = forms.CharField(max_length=20)
    note = forms.CharField(max_length=500, required=False, error_messages={"max_length": "A note has at most 500 characters."})


class ScreenForm(forms.ModelForm):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """A state of the rankings and its name."""

    class Meta:
        model = SavedScreen
        fields = ["name", "query"]
        error_messages = {"name": {"required": "Give the screen a name."}}

    def clean_query(self) -> str:
        """Return the query without what is not kept, in one form: the same state is the same text."""
        pairs = parse_qsl(self.cleaned_data["query"].removeprefix("?"))
        query = urlencode([(name, value) for name, value in pairs if name not in NEVER_SAVED])
        if len(query) > LONGEST_QUERY:
            raise forms.ValidationError(f"This filter is too long to keep: {len(query)} characters of {LONGEST_QUERY}.")
        return query


def watchlist_named(user_id: int, data: Any, *, instance: Watchlist | None = None) -> tuple[Watchlist | None, str]:
    """Return the list made or renamed, or None and the sentence that says why not."""
    form = NameForm(data)
    if not form.is_valid():
        return None, str(form.errors["name"][0])
    name = form.cleaned_data["name"].strip()
    if Watchlist.objects.filter(user_id=user_id, name=name).exclude(pk=instance.pk if instance else 0).exists():
        return None, f"You have a list “{name}” already."
    if instance is None:
        return Watchlist.objects.create(user_id=user_id, name=name), ""
    instance.name = name
    instance.save(update_fields=["name"])
    return instance, ""
