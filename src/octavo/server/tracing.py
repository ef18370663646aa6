"""OpenTelemetry: one span a request that the engine answered. Imported only where traces are asked for (extra `otel`)."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import octavo
from octavo.server.request_record import RequestRecord

EXPORT_TIMEOUT_S = 5.0

Attribute = str | int | float | list[str]


def otlp_provider(endpoint: str) -> TracerProvider:
    """Sends spans to `endpoint`, OTLP over HTTP, from a thread of its own."""
    resource = Resource.create({SERVICE_NAME: "octavo", SERVICE_VERSION: octavo.__version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=EXPORT_TIMEOUT_S)))
    return provider


class Tracer:
    """Makes spans of ended requests, named and filled after the semantic conventions `gen_ai`.

    `gen_ai.latency.…`, which the conventions have not, are the names that vLLM uses.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("octavo", octavo.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, record: RequestRecord) -> None:
        """A child of the client's span, where its headers name one."""
        if record.params is None:
            return
        attributes = _attributes(record)
        span = self._tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {record.model}",
            context=self._propagator.extract(record.trace_headers),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=record.begin_ns,
        )
        if record.error_code is not None:
            span.set_attribute("error.type", record.error_code)
            span.set_status(Status(StatusCode.ERROR))
        span.end(record.begin_ns + round(record.duration_s * 1e9))

    def shutdown(self) -> None:
        """Send what has not been sent. Blocks."""
        self._provider.shutdown()


def _attributes(record: RequestRecord) -> dict[str, Attribute]:
    params = record.params
    assert params is not None
    attributes: dict[str, Attribute | None] = {
        "http.request.method": record.method,
        "url.path": record.path,
        "http.response.status_code": record.status,
        "octavo.request_id": record.id,
        "gen_ai.operation.name": "text_completion" if record.path == "/v1/completions" else "chat",
        "gen_ai.provider.name": "octavo",
        "gen_ai.request.model": record.model,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.choice.count": params.n,
        "gen_ai.response.finish_reasons": record.finish_reasons,
        "gen_ai.usage.input_tokens": record.num_prompt_tokens,
        "gen_ai.usage.output_tokens": record.num_generated_tokens,
        "gen_ai.latency.time_in_queue": record.queue_s,
        "gen_ai.latency.time_in_model_prefill": record.prefill_s,
        "gen_ai.latency.time_in_model_decode": record.decode_s,
        "gen_ai.latency.time_to_first_token": record.ttft_s,
        "gen_ai.latency.e2e": record.duration_s,
    }
    return {name: value for name, value in attributes.items() if value is not None}
