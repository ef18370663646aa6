"""What every endpoint needs: made once, when the engine is ready."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError
from octavo.server.access_log import log_access
from octavo.server.answer_format import AnswerFormat, read_answer_format
from octavo.server.arriving import ArrivingBodies
from octavo.server.dashboard.live_view import LiveView
from octavo.server.event_loop_probe import EventLoopProbe
from octavo.server.fingerprint import system_fingerprint
from octavo.server.metrics import ServerMetrics
from octavo.server.request_record import Reporter
from octavo.server.responses.store import ResponseStore
from octavo.server.self_metrics import SelfMetrics
from octavo.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from octavo.engine.async_engine import AsyncEngine

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Gate:
    """Lets requests in until the server is to end, and counts those inside. Used on the event loop only."""

    is_closed: bool = False
    num_inside: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """A running engine and how it is offered."""

    engine: "AsyncEngine"
    config: ServerConfig
    tokenizer: Tokenizer
    model_names: tuple[str, ...]
    """What requests may call the model; the first is its name."""
    fingerprint: str
    answer_format: AnswerFormat
    metrics: ServerMetrics
    live: LiveView
    created_s: int
    probe: EventLoopProbe
    reporters: tuple[Reporter, ...]
    """Told of each HTTP request at its end."""
    count_refusal: Callable[[], None]
    """Of a connection that speaks no HTTP."""
    gate: Gate = field(default_factory=Gate)
    arriving: ArrivingBodies = field(default_factory=ArrivingBodies)
    responses: ResponseStore = field(default_factory=ResponseStore)


def check_tokenizer_is_used(config: EngineConfig) -> None:
    """Raises `ConfigError`: a server has no use for an engine without a tokenizer."""
    if config.skip_tokenizer_init:
        raise ConfigError(
            "skip_tokenizer_init: the server's answers are text, which takes a tokenizer; leave the option out",
            param="skip_tokenizer_init",
        )


def make_context(engine: "AsyncEngine", config: ServerConfig, more_reporters: Sequence[Reporter] = ()) -> ServerContext:
    """Of an engine with a tokenizer."""
    tokenizer = engine.front_end.tokenizer
    assert tokenizer is not None
    names = config.served_model_name or (engine.info.model,)
    metrics = ServerMetrics(names[0], engine.info)
    engine.subscribe(metrics.observe)
    template = engine.front_end.chat_template
    answer_format = read_answer_format(config, tokenizer, "" if template is None else template.source)
    logger.info(
        "tool calls are read as %s, reasoning %s",
        answer_format.tools.name,
        "between <think> and </think>" if answer_format.has_reasoning else "is not looked for",
    )
    probe = EventLoopProbe()
    own = SelfMetrics(metrics.registry, names[0], engine, probe)
    return ServerContext(
        engine=engine,
        config=config,
        tokenizer=tokenizer,
        model_names=names,
        fingerprint=system_fingerprint(engine.info),
        answer_format=answer_format,
        metrics=metrics,
        live=LiveView(engine, names[0], metrics.recent_ttft, metrics.recent_itl),
        created_s=int(time.time()),
        probe=probe,
        reporters=(log_access, own.observe_request, *more_reporters),
        count_refusal=own.count_refusal,
    )
