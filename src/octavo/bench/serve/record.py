"""What is kept of a request: when it was sent, when its output came, or why it failed."""

from dataclasses import dataclass, field

from octavo.bench.serve.chunks import Usage
from octavo.core.strenum import StrEnum


class FailureKind(StrEnum):
    CONNECTION = "connection"
    """There was none, or it broke off."""
    STATUS = "status"
    """The reply had another status than 200."""
    STREAM = "stream"
    """The stream held an error, or something that is no chunk, or ended without an end."""
    EMPTY = "empty"
    """The answer had no token."""
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Equal ones are counted together."""

    kind: FailureKind
    message: str
    status: int | None = None


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """Times are seconds from the start of the run. Written while the request runs, and not after."""

    scheduled_s: float
    released_s: float
    """When the client came to it; later than scheduled where the client was busy."""
    sent_s: float = 0.0
    """When it was sent; later than released where it waited for a place of the most that may be in flight."""
    output_s: list[float] = field(default_factory=list)
    """When each chunk with output came."""
    end_s: float = 0.0
    """When the answer's last chunk came; the usage that follows is not part of the answer."""
    num_prompt_tokens: int | None = None
    """None where neither the client knows nor the server said."""
    usage: Usage | None = None
    max_tokens: int = 0
    failure: Failure | None = None
    is_finished: bool = False
    """Not so for one that was in flight when the run was stopped."""

    @property
    def is_successful(self) -> bool:
        return self.is_finished and self.failure is None

    @property
    def num_output_tokens(self) -> int:
        """As the server counted them, else as many as there were chunks."""
        return len(self.output_s) if self.usage is None else self.usage.completion_tokens

    @property
    def num_cached_tokens(self) -> int:
        details = self.usage.prompt_tokens_details if self.usage else None
        return (details.cached_tokens or 0) if details else 0

    @property
    def ttft_s(self) -> float:
        return self.output_s[0] - self.sent_s

    @property
    def e2e_s(self) -> float:
        return self.end_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """(last − first) / (tokens − 1); None for an answer of one token."""
        num_later = self.num_output_tokens - 1
        return (self.end_s - self.output_s[0]) / num_later if num_later > 0 else None

    @property
    def itl_s(self) -> list[float]:
        """Between one chunk with output and the next."""
        return [later - earlier for earlier, later in zip(self.output_s, self.output_s[1:], strict=False)]
