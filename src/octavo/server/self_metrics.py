"""Series that the server keeps of itself, beside the engine's: replies, the event loop, memory, files."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from octavo.engine.liveness import EngineState
from octavo.server.event_loop_probe import EventLoopProbe
from octavo.server.metric_buckets import LAG_SECONDS
from octavo.server.metrics import ENGINE
from octavo.server.request_record import RequestRecord

if TYPE_CHECKING:
    from octavo.engine.async_engine import AsyncEngine

_WENT_AWAY = "disconnected"


class SelfMetrics:
    """Registers the series, and counts replies. `process_…` is the front end, `octavo_engine_process_…` the engine."""

    def __init__(
        self, registry: CollectorRegistry, model_name: str, engine: "AsyncEngine", probe: EventLoopProbe
    ) -> None:
        self._registry = registry
        self._labels = {"model_name": model_name, "engine": ENGINE}
        self._responses = Counter(
            "octavo:http_responses",
            "HTTP requests that ended, by status; «disconnected» where the client went away.",
            (*self._labels, "status"),
            registry=registry,
        )
        self._errors = Counter(
            "octavo:request_errors",
            "HTTP requests that were refused or failed, in a stream too, by the error's code.",
            (*self._labels, "code"),
            registry=registry,
        )
        lag = Histogram(
            "octavo:event_loop_lag_seconds",
            "By how much a task on the event loop is woken late.",
            tuple(self._labels),
            registry=registry,
            buckets=LAG_SECONDS,
        )
        probe.observe = lag.labels(**self._labels).observe
        self._gauge("octavo:event_loop_lag_max_seconds", "The longest since the last scrape.").set_function(
            probe.take_max_s
        )
        self._gauge("octavo:tokenizer_queue", "Tokenisations and renderings that run or wait.").set_function(
            lambda: engine.texts.num_jobs
        )
        self._gauge("octavo:engine_silence_seconds", "Since the step loop's last sign of life.").set_function(
            lambda: engine.pulse.silence_s
        )
        self._gauge("octavo:engine_up", "1 while the engine takes requests.").set_function(
            lambda: float(engine.state is EngineState.RUNNING)
        )
        ProcessCollector(registry=registry)
        ProcessCollector(namespace="octavo_engine", pid=lambda: engine.pid, registry=registry)

    def observe_request(self, record: RequestRecord) -> None:
        status = _WENT_AWAY if record.is_disconnected else str(record.status)
        self._responses.labels(**self._labels, status=status).inc()
        if record.error_code is not None:
            self._errors.labels(**self._labels, code=record.error_code).inc()

    def count_refusal(self) -> None:
        """Of what is not HTTP, and so no request."""
        self._errors.labels(**self._labels, code="invalid_http").inc()

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, tuple(self._labels), registry=self._registry).labels(**self._labels)
