"""Whether the server lives, and whether it takes requests."""

from octavo.engine.liveness import EngineState
from octavo.server.context import ServerContext
from octavo.server.errors import ApiError, overloaded
from octavo.server.replies import Health


def liveness(context: ServerContext) -> Health:
    """Raises `ApiError` (503) where only a restart helps: the engine is dead, or stalled."""
    state = context.engine.state
    if state is EngineState.DEAD:
        raise ApiError(503, "the engine has died; restart the server", code="engine_dead", type="server_error")
    if state is EngineState.STALLED:
        raise overloaded(
            f"the engine has given no sign of life for {context.engine.pulse.silence_s:.0f} s; "
            "if it does not recover, restart the server",
            code="engine_stalled",
        )
    return Health(status="draining" if context.gate.is_closed else "ok")


def readiness(context: ServerContext) -> Health:
    """Raises `ApiError` (503) where a request would be refused: also while the server ends."""
    health = liveness(context)
    if context.gate.is_closed:
        raise overloaded("the server is ending", code="shutting_down")
    return health
