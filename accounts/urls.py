"""Addresses of accounts: pages under /accounts/, tokens under /api/. Names with an underscore are those that allauth looks for."""

from allauth.account.views import ReauthenticateView
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.base.views import ReauthenticateView as ReauthenticateByCodeView
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.decorators.cache import never_cache

from accounts.api import AppearanceView, Token, Tokens
from accounts.views import door, own, people

urlpatterns = [
    # The door
    path("login/", door.LoginView.as_view(), name="account_login"),
    path("login/code/", AuthenticateView.as_view(template_name="accounts/code.html"), name="mfa_authenticate"),
    path("logout/", LogoutView.as_view(), name="account_logout"),
    path("invitation/<str:secret>/", door.invitation, name="invitation"),
    path("password/reset/", door.PasswordResetView.as_view(), name="password-reset"),
    path("password/reset/sent/", door.PasswordResetDoneView.as_view(), name="password-reset-done"),
    path("password/reset/<uidb64>/<token>/", door.PasswordResetConfirmView.as_view(), name="password_reset_confirm"),
    # One's own
    path("", own.account, name="account"),
    path("appearance/", AppearanceView.as_view(), name="appearance"),
    path("password/", own.PasswordChangeView.as_view(), name="account-password"),
    path("sessions/", own.sessions, name="account-sessions"),
    path("tokens/", own.tokens, name="account-tokens"),
    path("again/", ReauthenticateView.as_view(template_name="accounts/again.html"), name="account_reauthenticate"),
    path("again/code/", ReauthenticateByCodeView.as_view(template_name="accounts/again.html"), name="mfa_reauthenticate"),
    path("second-factor/", own.account, name="mfa_index"),
    path("second-factor/on/", never_cache(ActivateTOTPView.as_view(template_name="accounts/factor_on.html")), name="mfa_activate_totp"),
    path(
        "second-factor/off/", never_cache(DeactivateTOTPView.as_view(template_name="accounts/factor_off.html")), name="mfa_deactivate_totp"
    ),
    path(
        "second-factor/codes/",
        never_cache(ViewRecoveryCodesView.as_view(template_name="accounts/codes.html")),
        name="mfa_view_recovery_codes",
    ),
    path(
        "second-factor/codes/new/",
        never_cache(GenerateRecoveryCodesView.as_view(template_name="accounts/codes_new.html")),
        name="mfa_generate_recovery_codes",
    ),
    # Administrators
    path("people/", people.people, name="people"),
]
api_urlpatterns = [
    path("tokens/", Tokens.as_view(), name="api-tokens"),
    path("tokens/<str:prefix>/", Token.as_view(), name="api-token"),
]
