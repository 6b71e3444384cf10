"""The door: signing in and out."""

from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied
from django.http import HttpRequest, HttpResponse

from accounts.forms import LoginForm

STATUS_OF_FAILURE = {"too_many_tries": 429, "no_count": 503}


class LoginView(auth_views.LoginView):
    """Name and password; `next` leads on, inside this site only."""

    template_name = "accounts/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

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
