"""Django's entry to this app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """who the user is."""

    name = "accounts"
