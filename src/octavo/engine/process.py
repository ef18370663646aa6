"""The engine's own process: `main` with INPUT and OUTPUT as arguments, and options on standard input.

    stdin   the engine's options as one line of JSON; then held open: its end means the parent is gone
    INPUT   a ZeroMQ address; requests and aborts come in
    OUTPUT  another; phases of the start, then a batch a step, go out

HTTP work in the parent never stalls a step, and the parent sees when this process dies.
"""

import logging
import os
import signal
import sys
import threading

import msgspec
import zmq

from octavo.config import EngineConfig
from octavo.core.errors import EngineDeadError, OctavoError
from octavo.engine.build import build_engine
from octavo.engine.core import EngineCore
from octavo.engine.wire import (
    Abort,
    Add,
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

IDLE_POLL_MS = 1000


def main() -> None:
    input_address, output_address = sys.argv[1:3]
    for sent_to_the_whole_group in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent_to_the_whole_group, signal.SIG_IGN)  # the parent drains, and says when to end
    options = msgspec.json.decode(sys.stdin.buffer.readline(), type=dict)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=options.pop("log_level"), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
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
    finally:
        context.destroy(linger=1000)


def _serve(options: dict[str, object], inbox: "zmq.Socket[bytes]", outbox: "zmq.Socket[bytes]") -> None:
    def send(message: FromEngine) -> None:
        outbox.send(encoder.encode(message))

    try:
        core, info = build_engine(
            EngineConfig.from_options(options), on_phase=lambda name, share: send(Phase(name, share))
        )
    except OctavoError as error:
        send(StartFailed.of(error))
        return
    except Exception as error:
        logger.exception("the engine could not start")
        send(StartFailed.of(EngineDeadError(f"the engine could not start: {type(error).__name__}: {error}")))
        return
    send(Ready(info))
    while _take_in(core, inbox):
        if core.has_work():
            send(Output(core.step()))


def _take_in(core: EngineCore, inbox: "zmq.Socket[bytes]") -> bool:
    """Hand the core what has arrived, waiting for it while there is nothing to do; False to end."""
    if not core.has_work() and not inbox.poll(IDLE_POLL_MS):
        return True
    while True:
        try:
            data = inbox.recv(zmq.NOBLOCK)
        except zmq.Again:
            return True
        message = to_engine_decoder.decode(data)
        if isinstance(message, Add):
            core.add(message.request)
        elif isinstance(message, Abort):
            core.abort(message.abort)
        elif isinstance(message, Shutdown):
            return False


def _end_with_parent() -> None:
    """No orphan: when the parent's end of stdin closes, however it died, end at once."""
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a daemon thread must not hold a lock of sys.stdin at exit
        pass
    os._exit(1)
