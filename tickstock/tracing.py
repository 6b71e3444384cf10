"""Traces by OpenTelemetry: a span a request and a span a task. Nothing at all unless OTEL_EXPORTER_OTLP_ENDPOINT is set."""

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, StatusCode
except ImportError:
    is_installed = False
else:
    is_installed = True


@lru_cache(maxsize=1)
def provider() -> "TracerProvider | None":
    """Return what makes spans and sends them, in batches and on a thread of its own; None where no endpoint is set."""
    if not settings.OTEL_ENDPOINT:
        return None
    if not is_installed:
        raise ImproperlyConfigured(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and the packages are missing: pip install -r requirements/tracing.txt."
        )
    made = TracerProvider(resource=Resource.create({"service.name": f"tickstock-{settings.PART or 'shell'}"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{settings.OTEL_ENDPOINT.rstrip('/')}/v1/traces", timeout=5)))
    return made


def begin(name: str) -> "Span | None":
    """Begin a span; None where nothing is traced."""
    made = provider()
    return None if made is None else made.get_tracer("tickstock").start_span(name)


def end(span: "Span | None", *, name: str = "", failed: bool = False, **attributes: Any) -> None:
    """End a span, with what is known only now."""
    if span is None:
        return
    if name:
        span.update_name(name)
    for key, value in attributes.items():
        span.set_attribute(key.replace("_", "."), value)
    if failed:
        span.set_status(StatusCode.ERROR)
    span.end()
