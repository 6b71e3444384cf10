"""The assembly of TickStock: settings, URLs, processes. Apps never import it."""

from tickstock.celery import app as celery_app

__all__ = ["celery_app"]
