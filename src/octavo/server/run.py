"""The server's life: take the port, load the model, answer, drain, end."""

import asyncio
import gc
import logging
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import octavo
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError, OctavoError
from octavo.core.logs import set_up_logging
from octavo.server.access_log import log_access
from octavo.server.app import build_app, front_door_options
from octavo.server.auth import load_keys
from octavo.server.clients import check_client_header
from octavo.server.context import Gate, ServerContext, check_tokenizer_is_used, make_context
from octavo.server.drain import StopSignals, serve_until_stopped
from octavo.server.listener import HttpServer, bound_sockets, raise_file_limit
from octavo.server.middleware import FrontDoor
from octavo.server.startup import Console, LoadingPage, StartProgress
from octavo.server.systemd import READY, STOPPING, tell_systemd

if TYPE_CHECKING:
    from octavo.engine.async_engine import AsyncEngine
    from octavo.server.tracing import Tracer

logger = logging.getLogger(__name__)


def serve(config: EngineConfig, server_config: ServerConfig) -> None:
    """See `octavo.server.serve_forever`."""
    set_up_logging(server_config.log_level, server_config.log_format)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are of connections that speak no HTTP
    raise_file_limit(server_config.max_connections)
    try:
        check_tokenizer_is_used(config)
        keys = load_keys(server_config)  # once: a file that changes later is not that which was checked
        server_config = replace(server_config, api_key=keys, api_key_file=None)
        check_client_header(config, server_config, len(keys))
        with bound_sockets(server_config.host, server_config.port) as listeners:
            asyncio.run(_serve(config, server_config, listeners))
    except OctavoError as error:
        if not server_config.is_log_json:
            raise
        logger.error("%s", error.message)
        raise SystemExit(error.exit_code) from None


async def _serve(config: EngineConfig, server_config: ServerConfig, listeners: list[socket.socket]) -> None:
    stop = StopSignals()
    stop.install()
    console = Console(is_json=server_config.is_log_json)
    progress = StartProgress(console)
    tracer = _start_tracer(server_config.otlp_traces_endpoint)
    http = HttpServer(_loading_app(server_config, progress), server_config, listeners)
    await http.start()
    try:
        engine = await _start_engine(config, server_config, stop, progress, console)
        if engine is not None:
            try:
                context = make_context(engine, server_config, () if tracer is None else (tracer.record,))
                http.app, http.report_refusal = build_app(context), context.count_refusal
                gc.freeze()  # what lives as long as the server is not looked at again: that takes tens of milliseconds
                _announce(context, http, console, time.perf_counter() - progress.begin_s)
                tell_systemd(READY)
                await serve_until_stopped(context, http, stop, console)
            finally:
                await engine.shutdown()
        console.say("Octavo has ended.")
    finally:
        await http.stop()
        if tracer is not None:
            await asyncio.to_thread(tracer.shutdown)


def _start_tracer(endpoint: str | None) -> "Tracer | None":
    """Raises `ConfigError` where what traces need is not installed."""
    if endpoint is None:
        return None
    try:
        from octavo.server.tracing import Tracer, otlp_provider
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"otlp_traces_endpoint={endpoint!r} needs the package {error.name}: pip install 'octavo[otel]'",
            param="otlp_traces_endpoint",
        ) from error
    return Tracer(otlp_provider(endpoint))


def _loading_app(config: ServerConfig, progress: StartProgress) -> FrontDoor:
    return FrontDoor(LoadingPage(progress), **front_door_options(config, Gate(), (log_access,)))


async def _start_engine(
    config: EngineConfig, server_config: ServerConfig, stop: StopSignals, progress: StartProgress, console: Console
) -> "AsyncEngine | None":
    """None where the user gave up waiting."""
    from octavo.engine.async_engine import AsyncEngine

    console.say(f"Octavo {octavo.__version__} loads {config.model}")
    starting = asyncio.create_task(
        AsyncEngine.start(
            config,
            progress.report,
            log_level=server_config.log_level.upper(),
            log_format=server_config.log_format,
            stall_timeout_s=server_config.stall_timeout_s,
        )
    )
    stopping = asyncio.create_task(stop.is_asked.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    tell_systemd(STOPPING)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return None


def _announce(context: ServerContext, http: HttpServer, console: Console, seconds: float) -> None:
    options = context.config
    name = context.model_names[0]
    key = "" if not options.has_keys else " -H 'Authorization: Bearer KEY'"
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    if not options.has_keys and not options.is_loopback:
        logger.warning("--host %s without --api-key: whoever reaches this machine can use the model", options.host)
    console.say(
        f"Octavo {octavo.__version__} serves {name} at {http.url}/v1 (ready in {seconds:.1f} s).",
        hint=f" Try:\n  curl {http.url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'",
    )
