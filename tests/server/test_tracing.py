"""Spans of requests, kept in memory."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from server.conftest import MODEL, InProcess, chat_body
from server.fake_engine import FakeEngine

from octavo.core.errors import ConfigError
from octavo.server.run import _start_tracer
from octavo.server.tracing import Tracer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.server = InProcess(FakeEngine(), reporters=(Tracer(provider).record,))

    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_a_span_a_request(traced: Traced) -> None:
    traced.server.chat("Hi", max_tokens=5, temperature=0.5, top_p=0.75)
    [span] = traced.spans()
    assert (span.name, span.kind) == (f"chat {MODEL}", SpanKind.SERVER)
    attributes = dict(span.attributes or {})
    assert (
        attributes.items()
        >= {
            "http.request.method": "POST",
            "url.path": "/v1/chat/completions",
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "octavo",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.75,
            "gen_ai.request.max_tokens": 5,
            "gen_ai.request.choice.count": 1,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.response.finish_reasons": ("length",),
        }.items()
    )
    assert attributes["gen_ai.usage.input_tokens"] == len("<user>Hi<assistant>")
    for name in ("queue", "model_prefill", "model_decode"):
        assert isinstance(attributes[f"gen_ai.latency.time_in_{name}"], float)
    assert span.start_time is not None and span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(attributes["gen_ai.latency.e2e"], abs=1e-6)


def test_the_clients_trace_goes_on(traced: Traced) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    traced.server.post("/v1/chat/completions", chat_body(stream=True), headers=headers)
    [span] = traced.spans()
    assert span.parent is not None and span.context is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)


def test_a_trace_header_that_is_none_begins_a_trace(traced: Traced) -> None:
    traced.server.post("/v1/chat/completions", chat_body(), headers={"traceparent": "nonsense"})
    [span] = traced.spans()
    assert span.parent is None


def test_a_request_that_fails_is_marked(traced: Traced) -> None:
    traced.server.engine.fails_after = 3
    traced.server.post("/v1/completions", {"model": MODEL, "prompt": "Hi"})
    [span] = traced.spans()
    assert span.name == f"text_completion {MODEL}" and span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "internal_error"


def test_what_asks_nothing_of_the_engine_is_no_span(traced: Traced) -> None:
    traced.server.get("/health")
    traced.server.post("/v1/chat/completions", {"model": "other", "messages": []})
    assert not traced.spans()


def test_the_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _start_tracer(None) is None
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "octavo.server.tracing"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setattr("octavo.server.tracing", None, raising=False)
    with pytest.raises(ConfigError, match=r"octavo\[otel\]") as raised:
        _start_tracer("http://localhost:4318/v1/traces")
    assert raised.value.param == "otlp_traces_endpoint"


def test_off_imports_nothing() -> None:
    code = "import sys, octavo.server.run; sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
