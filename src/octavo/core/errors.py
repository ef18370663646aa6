"""The errors Octavo raises for what comes from outside: each says what, got, allowed and remedy.

Everything a user, a client or a file can get wrong raises a subclass of `OctavoError`;
asserts are for invariants of Octavo's own.
"""

from typing import ClassVar


class OctavoError(Exception):
    """An error a person can act on.

    The message reads «what: got …; allowed …; remedy». `param` names the option, request
    field or tensor at fault, where there is one, so that a server can put it in its reply.
    """

    is_lasting: ClassVar[bool] = False
    """Whether the same command would fail again: nothing but another option, name or file mends it."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def exit_code(self) -> int:
        """Of the command that ends with this error: 2 where what was asked is wrong, 1 where it failed."""
        return 2 if self.is_lasting else 1


class ConfigError(OctavoError, ValueError):
    """An engine option is unknown, out of its range, or contradicts another."""

    is_lasting = True


class NotBuiltError(ConfigError):
    """The option or value is known to the field but not built yet; it is refused, never ignored."""


class InvalidRequestError(OctavoError, ValueError):
    """A request's field is out of its range (HTTP 400)."""

    is_lasting = True


class ContextLengthError(InvalidRequestError):
    """The prompt, or prompt plus requested output, is longer than the model's context."""


class ModelNotFoundError(OctavoError, LookupError):
    """The model name leads to no file, alias or reachable repository."""

    is_lasting = True


class ModelFetchError(ModelNotFoundError):
    """The model could not be fetched: the network or the hub failed, and may do better another time."""

    is_lasting = False


class ModelFileError(OctavoError, ValueError):
    """A model file is truncated, malformed, or holds something other than its header promises."""

    is_lasting = True


class UnsupportedModelError(OctavoError, ValueError):
    """The file is sound but its architecture, tensor type or tokenizer is not one Octavo knows."""

    is_lasting = True


class QueueFullError(OctavoError):
    """More sequences wait than `max_num_queued_reqs` allows (HTTP 503, retry in `retry_after_s` seconds)."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(OctavoError):
    """The request did not finish in the time it was given (HTTP 504)."""


class ShuttingDownError(OctavoError):
    """The server was asked to end, and takes no more requests (HTTP 503, retry elsewhere or later)."""

    def __init__(self, message: str = "the server is shutting down; send the request again elsewhere or later") -> None:
        super().__init__(message)


class EngineStalledError(OctavoError):
    """The engine's step loop gives no sign of life, but may recover (HTTP 503, retry later)."""


class EngineDeadError(OctavoError, RuntimeError):
    """The engine stopped; no further request can be answered."""
