"""The engine's own process: `main` with INPUT and OUTPUT as arguments, and options on standard input.

    stdin   the engine's options as one line of JSON; then held open: its end means the parent is gone
    INPUT   a ZeroMQ address; requests and aborts come in
    OUTPUT  another; phases of the start, then a batch a step and now and then a map of the KV blocks, go out

HTTP work in the parent never stalls a step, and the parent sees when this process dies.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable

import msgspec
import zmq

from octavo.config import EngineConfig
from octavo.core.errors import EngineDeadError, OctavoError
from octavo.core.logs import of_request, set_up_logging
from octavo.engine.block_maps import BlockMaps
from octavo.engine.build import build_engine
from octavo.engine.child import leave_signals_to_parent
from octavo.engine.core import EngineCore
from octavo.engine.liveness import BEAT_S
from octavo.engine.wire import (
    Abort,
    Add,
    Beat,
    Blocks,
    Found,
    FromEngine,
    Output,
    Phase,
    Ready,
    Shutdown,
    StartFailed,
    encoder,
    to_engine_decoder,
)

logger = logging.getLogger(__name__)

Send = Callable[[FromEngine], None]

GRAMMAR_WAIT_S = 0.005
"""How long messages may wait for an engine that has nothing but grammars to wait for."""


def main() -> None:
    input_address, output_address = sys.argv[1:3]
    leave_signals_to_parent()
    options = msgspec.json.decode(sys.stdin.buffer.readline(), type=dict)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_up_logging(options.pop("log_level"), options.pop("log_format"))
    context = zmq.Context()
    inbox: zmq.Socket[bytes] = context.socket(zmq.PULL)
    outbox: zmq.Socket[bytes] = context.socket(zmq.PUSH)
    for socket in (inbox, outbox):
        socket.set_hwm(0)
        socket.linger = 1000
    inbox.connect(input_address)
    outbox.connect(output_address)
    try:
        _serve(options, inbox, outbox)
    except Exception:
        logger.exception("the engine cannot go on")
        raise SystemExit(1) from None
    finally:
        context.destroy(linger=1000)


def _serve(options: dict[str, object], inbox: "zmq.Socket[bytes]", outbox: "zmq.Socket[bytes]") -> None:
    def send(message: FromEngine) -> None:
        outbox.send(encoder.encode(message))

    try:
        core, info = build_engine(
            EngineConfig.from_options(options),
            on_phase=lambda name, share: send(Phase(name, share)),
            on_found=lambda path: send(Found(str(path))),
        )
    except OctavoError as error:
        send(StartFailed.of(error))
        return
    except Exception as error:
        logger.exception("the engine could not start")
        send(StartFailed.of(EngineDeadError(f"the engine could not start: {type(error).__name__}: {error}")))
        return
    send(Ready(info))
    maps = BlockMaps(core.scheduler.cache.pool, lambda block_map: send(Blocks(block_map)))
    is_open = True
    try:
        while is_open:
            advance = _step if core.has_work() else _wait
            is_open = advance(core, maps, inbox, send)
    finally:
        core.close()


def _step(core: EngineCore, maps: BlockMaps, inbox: "zmq.Socket[bytes]", send: Send) -> bool:
    """One step; between two of them the core is handed what has arrived. False to end."""
    batch = core.step()
    is_busy = core.has_work()
    send(Output(batch, is_busy))
    maps.after_step(batch.stats.step)
    return not is_busy or _take_in(core, inbox)


def _wait(core: EngineCore, maps: BlockMaps, inbox: "zmq.Socket[bytes]", send: Send) -> bool:
    """Wait one beat at most for a message or a compiled grammar, and tell that the loop is alive. False to end."""
    if core.is_waiting:
        core.wait_for_grammar(GRAMMAR_WAIT_S)
    else:
        inbox.poll(round(BEAT_S * 1000))
    maps.show_if_due()
    is_open = _take_in(core, inbox)
    send(Beat(is_busy=core.has_work()))
    return is_open


def _take_in(core: EngineCore, inbox: "zmq.Socket[bytes]") -> bool:
    """Hand the core what has arrived; False to end."""
    while True:
        try:
            data = inbox.recv(zmq.NOBLOCK)
        except zmq.Again:
            return True
        message = to_engine_decoder.decode(data)
        if isinstance(message, Add):
            num_tokens = len(message.request.prompt_token_ids)
            logger.debug("arrived, with %d prompt tokens", num_tokens, extra=of_request(message.request.id))
            core.add(message.whole())
        elif isinstance(message, Abort):
            logger.debug("aborted: %s", message.abort.reason, extra=of_request(message.abort.id))
            core.abort(message.abort)
        elif isinstance(message, Shutdown):
            return False


def _end_with_parent() -> None:
    """No orphan: when the parent's end of stdin closes, however it died, end at once."""
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a daemon thread must not hold a lock of sys.stdin at exit
        pass
    os._exit(1)
