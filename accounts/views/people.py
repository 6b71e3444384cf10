"""Who is in, as what, and letting others in: for administrators."""

import logging
from typing import cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.core.mail import send_mail
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.forms import InvitationForm
from accounts.models import Invitation, Role, User

log = logging.getLogger(__name__)


@never_cache
@permission_required("accounts.administer", raise_exception=True)
@require_http_methods(["GET", "HEAD", "POST"])
def people(request: HttpRequest) -> HttpResponse:
    """List users and open invitations; a POST invites, withdraws (`withdraw`), or gives a role (`user`, `role`)."""
    if "withdraw" in request.POST:
        return _withdraw(request)
    if "user" in request.POST:
        return _give_role(request)
    form = InvitationForm(request.POST or None)
    link = _invite(request, form) if request.method == "POST" and form.is_valid() else ""
    context = {
        "people": User.objects.prefetch_related("groups").order_by("username"),
        "invitations": Invitation.objects.open(at=timezone.now()).select_related("invited_by"),
        "roles": Role.choices,
        "form": form,
        "link": link,
        "mailed": bool(link and settings.EMAIL_HOST and form.cleaned_data["email"]),
    }
    return render(request, "accounts/people.html", context)


def _invite(request: HttpRequest, form: InvitationForm) -> str:
    """Return the link, which is shown this once; it is sent as well where there is an address and a mail server."""
    asked, by = form.cleaned_data, cast("User", request.user)
    row, secret = Invitation.objects.issue(by=by, role=asked["role"], email=asked["email"], at=timezone.now())
    link = request.build_absolute_uri(reverse("invitation", args=[secret]))
    log.info("user %s invited somebody as %s", by.pk, row.role)
    if asked["email"] and settings.EMAIL_HOST:
        words = render_to_string("accounts/invitation_letter.txt", {"link": link, "by": by, "row": row})
        try:
            send_mail("An invitation to TickStock", words, None, [asked["email"]])
        except OSError as error:
            log.warning("The letter of an invitation could not be sent: %s", error)
            messages.error(request, "The letter could not be sent. Hand over the link yourself.")
    return link


def _withdraw(request: HttpRequest) -> HttpResponse:
    number = request.POST["withdraw"]
    if number.isascii() and number.isdigit() and len(number) < 10:
        Invitation.objects.open(at=timezone.now()).filter(pk=int(number)).update(expires_at=timezone.now())
    messages.success(request, "The invitation is withdrawn.")
    return HttpResponseRedirect(reverse("people"))


def _give_role(request: HttpRequest) -> HttpResponse:
    user, role = User.objects.filter(username=request.POST["user"]).first(), request.POST.get("role", "")
    if user is None or role not in Role.values:
        raise Http404("No such user or role.")
    try:
        user.take_role(role)
    except ValueError as error:
        messages.error(request, str(error))
    else:
        log.info("user %s gave user %s the role %s", request.user.pk, user.pk, role)
        messages.success(request, f"{user.username} is {role} now.")
    return HttpResponseRedirect(reverse("people"))
