"""What the admin of this app asks for."""

from django import forms


class TrialForm(forms.Form):
    """Over how many days a combination is tried out."""

    days = forms.IntegerField(min_value=1, max_value=365, label="Days")
