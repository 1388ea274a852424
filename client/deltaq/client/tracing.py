"""Spans of OpenTelemetry around submissions; the program says where spans go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

import msgspec

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.request import Request, operation_of

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

R = TypeVar("R", bound=Request)


class Traces:
    """Makes no spans."""

    def submitting(self, draft: R) -> AbstractContextManager[R]:
        """Lend the request that is to be submitted."""
        return nullcontext(draft)


class SpanTraces(Traces):
    """Makes a span around each submission, which the request brings to the worker.

    Raises:
        ConfigurationError: The API of OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as exc:
            raise ConfigurationError(
                f"tracing is on, and {exc.name} is missing: pip install 'deltaq[otel]'"
            ) from exc
        self._tracer = trace.get_tracer("deltaq")
        self._kind = trace.SpanKind.PRODUCER
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def submitting(self, draft: R) -> Iterator[R]:
        """Lend the request with the span in it; the span ends with the block."""
        facts = {
            "messaging.system": "deltaq",
            "messaging.destination.name": draft.table,
            "messaging.message.id": draft.request_id,
            "messaging.operation.name": operation_of(draft),
            "deltaq.lane": str(draft.lane),
        }
        name = f"submit {operation_of(draft)} {draft.table}"
        with self._tracer.start_as_current_span(name, kind=self._kind, attributes=facts):
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            yield msgspec.structs.replace(draft, trace_parent=carrier.get("traceparent"))


def traces_of(settings: Settings) -> Traces:
    """Make what settings ask for.

    Raises:
        ConfigurationError: As :class:`SpanTraces`.
    """
    return SpanTraces() if settings.tracing else Traces()
