"""The door: signing in and out, a forgotten password, an invitation. Everything here is open to strangers."""

from typing import Any

from allauth.account.internal.flows.login import perform_password_login  # the public perform_login notes no password
from allauth.account.models import Login
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import limits
from accounts.forms import AcceptForm, LoginForm, ResetRequestForm
from accounts.models import Invitation

STATUS_OF_FAILURE = {"too_many_tries": 429, "no_count": 503}
LETTERS_AN_HOUR = 5


class LoginView(auth_views.LoginView):
    """
    Name and password; `next` leads on, inside this site only.

    Ours up to the password, whose tries are counted in one place with the API's; from there on allauth's stages, which ask for the
    second factor before anybody is signed in.
    """

    template_name = "accounts/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Go on to the second factor where there is one, else inside."""
        user = form.get_user()
        login = Login(user=user, redirect_url=self.get_success_url(), email_verification="none")
        answer: HttpResponse = perform_password_login(self.request, {"username": user.get_username()}, login)
        return answer

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Show the form again; the status says what programs should do about it."""
        status = next((status for code, status in STATUS_OF_FAILURE.items() if form.has_error(NON_FIELD_ERRORS, code)), 200)
        return self.render_to_response(self.get_context_data(form=form), status=status)


@login_not_required
def admin_login(request: HttpRequest) -> HttpResponse:
    """Send the admin's visitors to the one door; who stands inside already lacks the right, and is told so."""
    if request.user.is_authenticated:
        raise PermissionDenied
    return redirect_to_login(request.GET.get("next", "/admin/"))


class PasswordResetView(auth_views.PasswordResetView):
    """Ask for a link; the answer is the same whether anybody has the address or not."""

    template_name = "accounts/reset.html"
    email_template_name = "accounts/reset_letter.txt"
    subject_template_name = "accounts/reset_subject.txt"
    form_class = ResetRequestForm
    success_url = reverse_lazy("password-reset-done")

    def form_valid(self, form: PasswordResetForm) -> HttpResponse:
        """Send the letter, unless this address, or somebody at this place, has asked often."""
        place = limits.network_of(self.request.META.get("REMOTE_ADDR", ""))
        asked = [f"reset {form.cleaned_data['email'].casefold()}", f"reset {place}"]
        if any([limits.take_request(who, limit=LETTERS_AN_HOUR, seconds=3600) for who in asked]):  # noqa: C419 - both are counted
            return HttpResponseRedirect(str(self.success_url))
        return super().form_valid(form)

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        """Say where letters go."""
        return super().get_context_data(**more, **mail_words())


class PasswordResetDoneView(auth_views.PasswordResetDoneView):
    """The answer to everybody who asked for a link."""

    template_name = "accounts/reset_done.html"

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        """Say where letters go."""
        return super().get_context_data(**more, **mail_words())


class PasswordResetConfirmView(auth_views.PasswordResetConfirmView):
    """The link of the letter: a new password. It signs nobody in, so that a second factor is still asked."""

    template_name = "accounts/reset_confirm.html"
    success_url = reverse_lazy("account_login")

    def form_valid(self, form: Any) -> HttpResponse:
        """Take the password."""
        messages.success(self.request, "The new password holds. Sign in with it.")
        return super().form_valid(form)


def mail_words() -> dict[str, Any]:
    """Return what pages must say about letters: none are sent where no server is configured."""
    return {"mail_folder": "" if settings.EMAIL_HOST else str(settings.EMAIL_FILE_PATH)}


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """Let an invited person choose name and password, once."""
    place = limits.network_of(request.META.get("REMOTE_ADDR", ""))
    if limits.take_request(f"invitation {place}", limit=60, seconds=3600):
        return render(request, "429.html", status=429)
    now = timezone.now()
    invited = Invitation.objects.of_link(secret, at=now)
    if invited is None:
        return render(request, "accounts/invitation_over.html", status=404)
    form = AcceptForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = Invitation.objects.accept(secret, username=form.cleaned_data["username"], password=form.cleaned_data["password"], at=now)
        if user is None:
            return render(request, "accounts/invitation_over.html", status=404)
        messages.success(request, "Your account is made. Sign in with it.")
        return HttpResponseRedirect(reverse("account_login"))
    return render(request, "accounts/invitation.html", {"form": form, "invited": invited})
