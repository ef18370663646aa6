"""What one HTTP request did: filled in as it is answered, read once at its end by logs, metrics and traces."""

import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import Scope

from octavo.core.outputs import RequestDelta
from octavo.core.sampling_params import SamplingParams

MAX_PATH_CHARS = 200


@dataclass(slots=True)
class RequestRecord:
    """One HTTP request, from its headers to its end. Used on the event loop only."""

    method: str
    path: str
    """Percent-encoded, without the query, which may hold what is nobody's business."""
    trace_headers: dict[str, str]
    """W3C traceparent and tracestate, where the client sent them."""
    id: str = field(default_factory=lambda: f"req-{secrets.token_hex(16)}")
    begin_ns: int = field(default_factory=time.time_ns)
    begin_s: float = field(default_factory=time.perf_counter)
    duration_s: float = 0.0
    status: int | None = None
    """None until the reply has begun."""
    is_disconnected: bool = False
    key_number: int | None = None
    """Which of the API keys was given, where there are any."""
    error_code: str | None = None
    model: str = ""
    params: SamplingParams | None = None
    """What was asked of the engine, if anything was."""
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float = 0.0
    """Of several prompts, each time is the longest."""

    @classmethod
    def of(cls, scope: Scope) -> "RequestRecord":
        headers = Headers(scope=scope)
        traced = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        return cls(scope["method"][:MAX_PATH_CHARS], quote(scope["path"])[:MAX_PATH_CHARS], traced)

    def begin_generation(self, model: str, params: SamplingParams, num_prompt_tokens: int) -> None:
        self.model, self.params = model, params
        self.num_prompt_tokens += num_prompt_tokens

    def take(self, delta: RequestDelta) -> None:
        """Count what an engine request brought."""
        for piece in delta.outputs:
            self.num_generated_tokens += len(piece.token_ids)
            if piece.finish_reason is not None:
                self.finish_reasons.append(piece.finish_reason.value)
        if delta.metrics is not None and delta.error is None:
            times = delta.metrics
            self.queue_s = max(self.queue_s, times.queue_s)
            self.ttft_s = max(self.ttft_s, times.ttft_s)
            self.prefill_s = max(self.prefill_s, times.ttft_s - times.queue_s)
            self.decode_s = max(self.decode_s, times.e2e_s - times.ttft_s)

    def end(self) -> None:
        self.duration_s = time.perf_counter() - self.begin_s


Reporter = Callable[[RequestRecord], None]
"""Told of each request at its end; must be quick and must not raise."""

current_record: ContextVar[RequestRecord] = ContextVar("current_record")
"""The record of the request that the running task works for."""
