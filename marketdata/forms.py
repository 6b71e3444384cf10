"""Forms of the admin: what REST takes as JSON, as fields."""

from typing import Any

from django import forms

from marketdata import jobs
from marketdata.models import Job, JobKind
from marketdata.serializers import JobOptions


class JobForm(forms.ModelForm):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Ask for a job. The options are checked by the same rules as REST's."""

    first = forms.DateField(required=False, help_text="first exchange day: import, repair, reconcile, scan")
    last = forms.DateField(required=False, help_text="last exchange day, included")
    symbols = forms.CharField(required=False, help_text="A,B: these instead of the universe that is streamed")
    timespan = forms.ChoiceField(choices=[("", "minute"), ("day", "day")], required=False, help_text="import: bars of a minute or of a day")

    class Meta:
        model = Job
        fields = ["kind"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kind" in self.fields:
            here = set(jobs.kinds_here())
            self.fields["kind"] = forms.ChoiceField(choices=[choice for choice in JobKind.choices if choice[0] in here])

    def clean(self) -> dict[str, Any]:
        """Turn the fields into the options of the row. ValidationError in the words of REST."""
        given = super().clean() or self.cleaned_data
        options: dict[str, Any] = {"from": given.get("first"), "to": given.get("last"), "timespan": given.get("timespan")}
        options["symbols"] = [name.strip() for name in given.get("symbols", "").split(",") if name.strip()]
        checked = JobOptions(data={name: value for name, value in options.items() if value})
        if not checked.is_valid():
            raise forms.ValidationError([f"{name}: {words}" for name, words in checked.errors.items()])
        self.instance.options = checked.as_json()
        return given
