"""What crosses the socket between the front end and the engine process: tagged msgpack, never pickle."""

from functools import lru_cache
from typing import Any

import msgspec

from octavo.core import errors
from octavo.core.errors import EngineDeadError, OctavoError
from octavo.core.messages import AbortRequest, BlockMap, EngineRequest, OutputBatch
from octavo.core.sampling_params import SamplingParams
from octavo.engine.info import EngineInfo


class Add(msgspec.Struct, frozen=True, tag=True):
    """A request, and apart from it its parameters: the prompts of one call share them, and they may be long lists."""

    request: EngineRequest
    """With parameters that say nothing."""
    params: bytes

    @classmethod
    def of(cls, request: EngineRequest) -> "Add":
        changes: dict[str, Any] = {"params": _NO_PARAMS}
        return cls(msgspec.structs.replace(request, **changes), encoder.encode(request.params))

    def whole(self) -> EngineRequest:
        """The request as it was; of those that came just before, equal parameters are the same object."""
        changes: dict[str, Any] = {"params": _read_params(self.params)}
        return msgspec.structs.replace(self.request, **changes)


class Abort(msgspec.Struct, frozen=True, tag=True):
    abort: AbortRequest


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """End the loop and the process; open requests are dropped."""


ToEngine = Add | Abort | Shutdown


class Phase(msgspec.Struct, frozen=True, tag=True):
    """The start has come this far."""

    name: str
    share: float


class Found(msgspec.Struct, frozen=True, tag=True):
    """Where the model is, before it is loaded."""

    path: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    info: EngineInfo


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """The engine could not start; `kind` is the error's class name."""

    kind: str
    message: str
    param: str | None

    @classmethod
    def of(cls, error: OctavoError) -> "StartFailed":
        return cls(type(error).__name__, error.message, error.param)

    def error(self) -> OctavoError:
        """The error again, of its own class where that is one of `octavo.core.errors`."""
        kind: Any = getattr(errors, self.kind, None)
        is_known = isinstance(kind, type) and issubclass(kind, OctavoError)
        return (kind if is_known else EngineDeadError)(self.message, param=self.param)


class Output(msgspec.Struct, frozen=True, tag=True):
    batch: OutputBatch
    is_busy: bool
    """Whether the next step follows at once."""


class Blocks(msgspec.Struct, frozen=True, tag=True):
    """Now and then, for those who watch: see `octavo.engine.block_maps`."""

    map: BlockMap


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The step loop is alive: about to step if `is_busy`, else waiting for requests."""

    is_busy: bool


FromEngine = Phase | Found | Ready | StartFailed | Output | Blocks | Beat

_NO_PARAMS = SamplingParams()
encoder = msgspec.msgpack.Encoder()
to_engine_decoder = msgspec.msgpack.Decoder(ToEngine)
from_engine_decoder = msgspec.msgpack.Decoder(FromEngine)


@lru_cache(maxsize=4)
def _read_params(data: bytes) -> SamplingParams:
    """Decoded and checked once, however many prompts come with them."""
    return msgspec.msgpack.decode(data, type=SamplingParams)
