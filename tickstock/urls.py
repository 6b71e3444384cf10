"""Where each app hangs."""

from django.urls import path

urlpatterns: list = []
