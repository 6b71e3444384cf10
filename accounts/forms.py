"""Forms of people: signing in, a forgotten password, an invitation, a token."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import connection

from accounts import limits
from accounts.authentication import user_for_password
from accounts.models import Role, Scope, User

log = logging.getLogger(__name__)
_mailing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")


class LoginForm(AuthenticationForm):
    """Django's form, with counted tries and one message for every failure."""

    error_messages = {"invalid_login": "This name and password do not open the door.", "inactive": ""}

    def clean(self) -> dict[str, Any]:
        """Find the user. ValidationError with code invalid_login, too_many_tries or no_count."""
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if name and password and self.request is not None:
            try:
                self.user_cache = user_for_password(self.request, name, password)
            except limits.TooManyTriesError as error:
                raise ValidationError(str(error), code="too_many_tries") from None
            except limits.CountUnavailableError as error:
                raise ValidationError(str(error), code="no_count") from None
            if self.user_cache is None:
                raise self.get_invalid_login_error()
        return self.cleaned_data


class _OnceForm(BaseAuthenticateForm):  # type: ignore[misc]  # untyped upstream
    """allauth remembers a used code for half a minute, but a code may hold for a minute and a half."""

    def clean_code(self) -> str:
        """Return the code, whose first use this is. ValidationError."""
        code: str = super().clean_code()
        try:
            first = limits.use_code(self.user.pk, code)
        except limits.CountUnavailableError as error:
            raise ValidationError(str(error), code="no_count") from None
        if not first:
            raise get_adapter().validation_error("incorrect_code")
        return code


class CodeForm(_OnceForm, AuthenticateForm):  # type: ignore[misc]  # untyped upstream
    """The code that lets in."""


class CodeAgainForm(_OnceForm, ReauthenticateForm):  # type: ignore[misc]  # untyped upstream
    """The code that opens what is one's own."""


class ResetRequestForm(PasswordResetForm):
    """Django's form; people and letters are looked for behind the answer, so that its time says nothing about who exists."""

    def save(self, **options: Any) -> None:  # type: ignore[override]  # Django's names each argument
        """Send a link to whoever has this address, on a thread of its own."""
        _mailing.submit(self._send, options)

    def _send(self, options: dict[str, Any]) -> None:
        try:
            super().save(**options)
        except Exception:
            log.exception("The letters of a password reset could not be sent.")
            raise
        finally:
            connection.close()


class InvitationForm(forms.Form):
    """Whom to let in, as what."""

    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)
    email = forms.EmailField(required=False)


class AcceptForm(forms.ModelForm):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """The name and password that an invited person chooses."""

    password = forms.CharField(strip=False, max_length=1000)

    class Meta:
        model = User
        fields = ["username"]

    def clean(self) -> dict[str, Any]:
        """Hold the password against the rules. ValidationError."""
        cleaned = super().clean() or self.cleaned_data
        if password := cleaned.get("password"):
            try:
                validate_password(password, User(username=cleaned.get("username", "")))
            except ValidationError as error:
                self.add_error("password", error)
        return cleaned


class NewTokenForm(forms.Form):
    """What a program may do, and for how long."""

    name = forms.CharField(max_length=100)
    scopes = forms.MultipleChoiceField(choices=Scope.choices)
    days = forms.IntegerField(min_value=1, max_value=365, initial=90)
