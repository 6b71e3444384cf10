"""What is one's own: sessions, second factor, tokens, password."""

from datetime import timedelta
from typing import Any, cast

from allauth.account.decorators import reauthentication_required
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.authentication import has_second_factor, must_have_second_factor
from accounts.forms import NewTokenForm
from accounts.models import ApiToken, Scope, User
from accounts.receivers import end_sockets
from accounts.serializers import READ_SCOPES


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)  # the middleware has seen to it


@require_safe
def account(request: HttpRequest) -> HttpResponse:
    """Show what there is to know and to change about oneself."""
    user = _user(request)
    return render(
        request,
        "accounts/account.html",
        {
            "role": user.role,
            "second_factor": has_second_factor(user),
            "must": must_have_second_factor(user),
            "administers": user.has_perm("accounts.administer"),
            "codes": _codes_left(user),
            "sessions": len(UserSession.objects.purge_and_list(user)),
            "tokens": ApiToken.objects.standing().filter(user=user, expires_at__gt=timezone.now()).count(),
        },
    )


def _codes_left(user: User) -> int:
    codes = Authenticator.objects.filter(user=user, type=Authenticator.Type.RECOVERY_CODES).first()
    return len(codes.wrap().get_unused_codes()) if codes else 0


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sessions(request: HttpRequest) -> HttpResponse:
    """List one's own sessions; a POST ends one (`end`), or all others."""
    user = _user(request)
    standing: list[UserSession] = UserSession.objects.purge_and_list(user)
    if request.method == "POST":
        chosen = request.POST.get("end", "")
        for session in standing:
            if not session.is_current() and chosen in {"others", str(session.pk)}:
                session.end()
        end_sockets(user.pk)
        messages.success(request, "Signed out there.")
        return HttpResponseRedirect(reverse("account-sessions"))
    standing.sort(key=lambda session: session.last_seen_at, reverse=True)
    return render(request, "accounts/sessions.html", {"sessions": standing})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """List one's own tokens; a POST makes one, or revokes one (`revoke`). Its text is on this one answer and nowhere else."""
    user = _user(request)
    if prefix := request.POST.get("revoke"):
        if token := ApiToken.objects.standing().filter(user=user, prefix=prefix).first():
            token.revoke(at=timezone.now())
            messages.success(request, f"The token ts_{token.prefix}… is revoked.")
        return HttpResponseRedirect(reverse("account-tokens"))
    if request.method == "POST":
        answer: HttpResponse = _make_token(request)
        return answer
    return _show_tokens(request, NewTokenForm(initial={"scopes": READ_SCOPES}))


@reauthentication_required  # type: ignore[untyped-decorator]  # untyped upstream
def _make_token(request: HttpRequest) -> HttpResponse:
    form = NewTokenForm(request.POST)
    text = ""
    if form.is_valid():
        asked = form.cleaned_data
        expires_at = timezone.now() + timedelta(days=asked["days"])
        _, text = ApiToken.objects.issue(_user(request), scopes=asked["scopes"], expires_at=expires_at, name=asked["name"])
    return _show_tokens(request, form, text=text)


def _show_tokens(request: HttpRequest, form: NewTokenForm, *, text: str = "") -> HttpResponse:
    rows = ApiToken.objects.standing().filter(user=_user(request))
    context: dict[str, Any] = {"tokens": rows, "form": form, "text": text, "scopes": Scope.choices, "now": timezone.now()}
    context["chosen"] = form["scopes"].value() or []
    return render(request, "accounts/tokens.html", context)


class PasswordChangeView(auth_views.PasswordChangeView):
    """Another password; this session stays, all others end."""

    template_name = "accounts/password.html"
    success_url = reverse_lazy("account")

    def form_valid(self, form: Any) -> HttpResponse:
        """Take it."""
        answer = super().form_valid(form)
        messages.success(self.request, "The new password holds. All other sessions are signed out.")
        return answer
