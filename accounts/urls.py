"""Addresses of accounts: pages under /accounts/, tokens under /api/."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts.api import AppearanceView, Token, Tokens
from accounts.views import LoginView

urlpatterns = [
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("appearance/", AppearanceView.as_view(), name="appearance"),
]
api_urlpatterns = [
    path("tokens/", Tokens.as_view(), name="api-tokens"),
    path("tokens/<str:prefix>/", Token.as_view(), name="api-token"),
]
