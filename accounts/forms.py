"""Forms of people: signing in."""

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from accounts import limits
from accounts.authentication import user_for_password


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
