"""Spans of OpenTelemetry: one for each commit, and one for each request that brings a span.

The span of a request is in its client's trace and lasts from its submission to its outcome. It
links to that of the commit, which links to those in which its requests were submitted.

Imported only where tracing is on: OpenTelemetry takes 0.2 s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane, Request, operation_of
from deltaq.worker.aside import Aside
from deltaq.worker.observers import GroupCommitted, Observer

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanContext, Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as exc:
    raise ConfigurationError(
        f"tracing is on, and {exc.name} is missing: pip install 'deltaq[otel]'"
    ) from exc

#: Links that one span may have; what a collector takes is limited, too.
_MOST_LINKS = 128
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class _Unapplied:
    """Requests that failed or expired."""

    outcomes: Sequence[Outcome]
    requests: Sequence[Request]
    ended: int


class Tracing(Observer):
    """Makes the spans, in a thread of its own. Close it to end that.

    Args:
        tracer: Of the program's provider; see :func:`set_up_tracing`.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._aside: Aside[GroupCommitted | _Unapplied] = Aside(self._trace, name="tracing")
        self.close = self._aside.close

    def group_committed(self, commit: GroupCommitted) -> None:
        """Have spans made of a commit."""
        self._aside.put(commit)

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        """Have spans made of requests that were not applied."""
        if requests and outcomes[0].state is not State.COMMITTED:
            ended = time.time_ns()
            self._aside.put(_Unapplied(outcomes=outcomes, requests=requests, ended=ended))

    def _trace(self, told: GroupCommitted | _Unapplied) -> None:
        if isinstance(told, GroupCommitted):
            self._trace_commit(told)
            return
        for outcome, request in zip(told.outcomes, told.requests, strict=True):
            self._trace_request(request, outcome, ended=told.ended, links=[])

    def _trace_commit(self, commit: GroupCommitted) -> None:
        group, performed = commit.group, commit.performed
        ended = int((commit.began + commit.commit_seconds) * _NANOSECONDS)
        links = [Link(context) for r in group.requests if (context := _context_of(r)) is not None]
        span = self._tracer.start_span(
            f"commit {operation_of(group.first)} {group.table}",
            context=Context(),
            links=links[:_MOST_LINKS],
            attributes=_known(
                {
                    "deltaq.table": group.table,
                    "deltaq.lane": str(group.lane),
                    "deltaq.engine": performed.engine,
                    "deltaq.engine_reason": performed.reason,
                    "deltaq.version": performed.commit.version,
                    "deltaq.requests": len(commit.outcomes),
                    "deltaq.size_bytes": sum(request.size_bytes for request in group.requests),
                    "deltaq.attempt": commit.attempt,
                }
            ),
            start_time=int(commit.began * _NANOSECONDS),
        )
        span.end(ended)
        back = [Link(span.get_span_context())]
        for outcome, request in zip(commit.outcomes, group.requests, strict=True):
            self._trace_request(request, outcome, ended=ended, links=back)

    def _trace_request(
        self, request: Request, outcome: Outcome, *, ended: int, links: list[Link]
    ) -> None:
        context = _context_of(request)
        if context is None:
            return
        parent = trace.set_span_in_context(trace.NonRecordingSpan(context), Context())
        span = self._tracer.start_span(
            f"process {outcome.operation} {request.table}",
            context=parent,
            kind=trace.SpanKind.CONSUMER,
            links=links,
            attributes=_known(
                {
                    "messaging.system": "deltaq",
                    "messaging.destination.name": request.table,
                    "messaging.message.id": request.request_id,
                    "messaging.operation.name": outcome.operation,
                    "deltaq.state": str(outcome.state),
                    "deltaq.version": outcome.version,
                    "deltaq.waited_seconds": outcome.waited_seconds,
                    "error.type": outcome.error.code if outcome.error else None,
                }
            ),
            # By its client's clock, which may be ahead of ours.
            start_time=min(request.submitted_at_ms * 1_000_000, ended),
        )
        if outcome.state is not State.COMMITTED:
            told = outcome.error.message if outcome.error else str(outcome.state)
            span.set_status(trace.StatusCode.ERROR, told)
        span.end(ended)


def set_up_tracing() -> Tracing:
    """Send spans where the OTEL_* variables say, unless the program has said so before.

    Raises:
        ConfigurationError: OpenTelemetry's SDK or its exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"tracing is on, and {exc.name} is missing: pip install 'deltaq[otel]'"
        ) from exc
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        named = Resource.create({SERVICE_NAME: "deltaq-worker"})
        provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return Tracing(trace.get_tracer("deltaq"))


def _context_of(request: Request) -> SpanContext | None:
    """Read the span that a request brings; None for none, or for what is no span."""
    if request.trace_parent is None:
        return None
    carrier = {"traceparent": request.trace_parent}
    found = TraceContextTextMapPropagator().extract(carrier, Context())
    context = trace.get_current_span(found).get_span_context()
    return context if context.is_valid else None


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
