"""Spans from a submission to its outcome, read from the exporter of OpenTelemetry's own tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deltaq.client import AsyncClient, Client, QueueUnavailable, SchemaMismatch, gather
from deltaq.tasks.request import Append, Lane
from deltaq.tasks.settings import Settings
from deltaq.worker.tracing import Tracing
from tests.support.bench import Bench
from tests.support.requests import make_request, stage

ROWS = pa.table({"n": [1]})


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """The provider of this process; there can be one only."""
    if isinstance(current := trace.get_tracer_provider(), TracerProvider):
        return current
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def bench(
    settings: Settings, provider: TracerProvider
) -> Iterator[tuple[Bench, Callable[[str], None]]]:
    """A committer that traces, and what has it commit and end its spans."""
    tracing = Tracing(provider.get_tracer("deltaq"))
    bench = Bench(settings, observers=tracing)

    def drain(table: str) -> None:
        bench.committer.drain(table)
        tracing.close()

    yield bench, drain
    bench.close()


@pytest.fixture
def client(settings: Settings, provider: TracerProvider) -> Iterator[Client]:
    with Client(settings, tracing=True) as client:
        yield client


def of(exporter: InMemorySpanExporter, verb: str) -> list[ReadableSpan]:
    return [s for s in exporter.get_finished_spans() if s.name.startswith(f"{verb} ")]


def key(context: trace.SpanContext | None) -> tuple[int, int]:
    assert context is not None
    return context.trace_id, context.span_id


def test_a_request_is_one_trace_from_its_submission_to_its_commit(
    bench: tuple[Bench, Callable[[str], None]], client: Client, spans: InMemorySpanExporter
) -> None:
    tracer = trace.get_tracer("a program")
    with tracer.start_as_current_span("trade"):
        futures = [client.append("t", ROWS) for _ in range(3)]
    bench[1]("t")
    gather(futures, timeout=10)

    (outer,) = [s for s in spans.get_finished_spans() if s.name == "trade"]
    submits, processes, (commit,) = of(spans, "submit"), of(spans, "process"), of(spans, "commit")
    assert len(submits) == len(processes) == 3
    for future, submit, process in zip(futures, submits, processes, strict=True):
        assert submit.attributes is not None
        assert process.attributes is not None
        assert key(submit.parent) == key(outer.context)
        assert key(process.parent) == key(submit.context)
        assert submit.attributes["messaging.message.id"] == future.request_id
        assert process.attributes["messaging.message.id"] == future.request_id
        assert process.attributes["deltaq.version"] == 0
        assert (submit.kind, process.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
        assert [key(link.context) for link in process.links] == [key(commit.context)]
        assert (process.end_time or 0) >= (process.start_time or 0)
    assert commit.name == "commit append t"
    assert commit.parent is None
    assert commit.attributes is not None
    assert commit.attributes["deltaq.requests"] == 3
    assert commit.attributes["deltaq.engine"] == "native"
    assert [key(link.context) for link in commit.links] == [key(s.context) for s in submits]


def test_a_request_that_fails_has_a_span_that_says_so(
    bench: tuple[Bench, Callable[[str], None]], client: Client, spans: InMemorySpanExporter
) -> None:
    client.append("f", ROWS)
    wrong = client.append("f", pa.table({"n": ["no number"]}))
    bench[1]("f")
    with pytest.raises(SchemaMismatch):
        wrong.result(10)

    good, bad = of(spans, "process")
    assert good.status.status_code is trace.StatusCode.UNSET
    assert bad.status.status_code is trace.StatusCode.ERROR
    assert "n" in (bad.status.description or "")
    assert bad.attributes is not None
    assert bad.attributes["error.type"] == "schema_mismatch"


def test_a_submission_that_fails_has_a_span_that_says_so(
    settings: Settings, spans: InMemorySpanExporter
) -> None:
    with (
        Client(settings, tracing=True, redis_url="redis://127.0.0.1:1", redis_timeout=0.1) as away,
        pytest.raises(QueueUnavailable),
    ):
        away.append("t", ROWS)
    (submit,) = of(spans, "submit")
    assert submit.status.status_code is trace.StatusCode.ERROR
    assert submit.events[0].name == "exception"


def test_requests_without_a_span_or_with_none_that_can_be_read_are_committed(
    bench: tuple[Bench, Callable[[str], None]], settings: Settings, spans: InMemorySpanExporter
) -> None:
    with Client(settings) as untraced:
        future = untraced.append("u", ROWS)
        (waiting,) = bench[0].inbox.peek("u", Lane.LIVE, count=9)
        assert "trace_parent" not in waiting.wire
        request = make_request(Append, "u", trace_parent="no span")
        bench[0].inbox.submit(stage(bench[0].staging, request, ROWS))
        bench[1]("u")
        assert future.result(10).version == 0
    assert not of(spans, "process")
    assert of(spans, "commit")
    assert not any(commit.links for commit in of(spans, "commit"))


def test_the_same_id_from_another_span_is_the_same_request(
    bench: tuple[Bench, Callable[[str], None]], client: Client
) -> None:
    first = client.append("s", ROWS, request_id="once")
    second = client.append("s", ROWS, request_id="once")
    bench[1]("s")
    assert first.result(10).version == second.result(10).version == 0


def test_an_event_loop_traces_each_task_of_its_own(
    bench: tuple[Bench, Callable[[str], None]], settings: Settings, spans: InMemorySpanExporter
) -> None:
    async def trade(client: AsyncClient, name: str) -> None:
        with trace.get_tracer("a program").start_as_current_span(name):
            await client.append("a", ROWS)

    async def run() -> None:
        async with AsyncClient(settings, tracing=True) as client:
            await asyncio.gather(*(trade(client, f"trade {n}") for n in range(5)))

    asyncio.run(run())
    bench[1]("a")
    outer = {key(s.context) for s in of(spans, "trade")}
    assert {key(s.parent) for s in of(spans, "submit")} == outer
    assert len(outer) == len(of(spans, "process")) == 5


def test_without_tracing_it_is_not_loaded() -> None:
    program = (  # redis-py loads the API of OpenTelemetry if it is there
        "import sys\n"
        "from deltaq.client import Client\n"
        "from deltaq.worker.app import Worker\n"
        "from deltaq.tasks.settings import load_settings\n"
        "Client(lake='/lake').close()\n"
        "Worker(load_settings(lake='/lake', spark='off'))\n"
        "sys.exit(bool({'opentelemetry.sdk.trace', 'deltaq.worker.tracing'} & {*sys.modules}))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
