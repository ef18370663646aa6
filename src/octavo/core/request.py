"""A request as the scheduler sees it: its tokens, how many are computed, and where it stands."""

import hashlib
from dataclasses import dataclass, field

import msgspec

from octavo.core.errors import InvalidRequestError, OctavoError
from octavo.core.sampling_params import SamplingParams
from octavo.core.strenum import StrEnum


class RequestStatus(StrEnum):
    WAITING = "waiting"
    """In the queue; also after a preemption."""
    FORKING = "forking"
    """A further sample of a prompt that its first sample is still computing."""
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class RequestFailure(msgspec.Struct, frozen=True, array_like=True):
    """Why a request ended without an answer."""

    message: str
    is_of_request: bool = False
    """It asked for what cannot be done; else the engine is at fault."""
    param: str | None = None
    """What it asked for by this field."""

    @classmethod
    def of(cls, error: BaseException) -> "RequestFailure":
        """Of an exception that was raised for one request alone."""
        if isinstance(error, OctavoError):
            return cls(error.message, is_of_request=isinstance(error, InvalidRequestError), param=error.param)
        return cls(f"{type(error).__name__}: {error}")


@dataclass(slots=True, eq=False)
class Request:
    """One sequence: a prompt and what was sampled after it. The scheduler is its only mutator.

    A request has tokens to compute, not a phase: `token_ids` holds prompt and output, of which
    the first `num_computed_tokens` have their keys and values in the cache.
    """

    id: str
    token_ids: list[int]
    """Prompt, then sampled tokens."""
    num_prompt_tokens: int
    params: SamplingParams
    seed: int
    """Keys the random numbers together with the position; already distinct for each sample of one request."""
    max_tokens: int
    """Resolved: at most what the context leaves."""
    eos_token_ids: frozenset[int] = frozenset()
    stop_token_ids: frozenset[int] = frozenset()
    """The parameters', as a set that samples share: each token that is sampled is looked for."""
    priority: int = 0
    """Smaller runs first."""
    client: str = ""
    """Whose it is, for a policy that is fair between clients."""
    arrival_s: float = 0.0
    arrival_order: int = 0
    cache_salt: str = ""
    """Prefixes are shared only between requests of the same salt."""
    leader_id: str | None = None
    """The sample whose prompt blocks this one shares, while FORKING."""

    status: RequestStatus = RequestStatus.WAITING
    num_computed_tokens: int = 0
    num_cached_tokens: int = -1
    """Prompt tokens that came from the prefix cache at first admission; -1 before it."""
    num_preemptions: int = 0
    is_known_to_worker: bool = False
    block_keys: list[bytes] = field(default_factory=list)
    """SHA-256 prefix keys of the full blocks of `token_ids`, as far as they were needed."""
    num_prompt_logprobs_sent: int = 0
    scheduled_s: float = 0.0
    """When it first ran."""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_prompt_shareable(self) -> bool:
        """Prompt log-probabilities need every prompt position computed, so nothing is taken from the cache."""
        return self.params.prompt_logprobs is None

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether log-probabilities of its prompt are asked for, and not all there yet."""
        return self.params.prompt_logprobs is not None and self.num_output_tokens == 0

    def root_key(self) -> bytes:
        """The parent key of the first block: everything but tokens that changes keys and values."""
        return hashlib.sha256(b"octavo-prefix-v1\0" + self.cache_salt.encode()).digest()
