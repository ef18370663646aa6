"""A step being put together, and how its prompts share it."""

from dataclasses import dataclass, field

from octavo.core.request import Request

MIN_SHARE_TOKENS = 64
"""Fewer of one prompt are not worth reading its keys again for."""
MAX_PASSED_OVER = 16


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step computes."""

    num_requests: int = 0
    num_decode_tokens: int = 0
    num_prefill_tokens: int = 0


@dataclass(slots=True)
class Step:
    """How many tokens each request gets, in serving order, and the budget that is left."""

    budget: int
    """Tokens that it may still compute."""
    prompt_logprobs_budget: int
    """Those of them that may be of prompts whose log-probabilities are asked for."""
    num_tokens: dict[Request, int] = field(default_factory=dict)
    is_admitting: bool = True
    """Off once a request was preempted, or one that waits could not be let in: nobody comes in before it."""

    passed_over: list[Request] = field(default_factory=list)
    """Those that wait on, for a prefix that is being computed or for log-probabilities' part, while others come in."""

    def grant(self, request: Request, num_tokens: int) -> None:
        """Compute `num_tokens` of the request: in place of what it was granted before."""
        self._charge(request, num_tokens - self.num_tokens.get(request, 0))
        self.num_tokens[request] = num_tokens

    def budget_of(self, request: Request) -> int:
        """What is left for it."""
        return min(self.budget, self.prompt_logprobs_budget) if request.wants_prompt_logprobs else self.budget

    def pass_over(self, request: Request) -> None:
        self.passed_over.append(request)
        self.is_admitting = self.is_admitting and len(self.passed_over) < MAX_PASSED_OVER

    def revoke(self, request: Request) -> None:
        """It was preempted."""
        self.is_admitting = False
        self._charge(request, -self.num_tokens.pop(request, 0))

    def _charge(self, request: Request, num_tokens: int) -> None:
        self.budget -= num_tokens
        if request.wants_prompt_logprobs:
            self.prompt_logprobs_budget -= num_tokens

    def work(self) -> StepWork:
        """A token is decode where it alone is computed of a request whose prompt is; all others are prefill."""
        num_decode_tokens = 0
        for request, num_tokens in self.num_tokens.items():
            num_decode_tokens += num_tokens == 1 and request.num_computed_tokens >= request.num_prompt_tokens
        num_all_tokens = sum(self.num_tokens.values())
        return StepWork(len(self.num_tokens), num_decode_tokens, num_all_tokens - num_decode_tokens)


def share(budget: int, rank: int, num_claims: int) -> int:
    """What the rank-th of `num_claims` prompts, oldest first, may take of the budget that is left.

    The oldest takes half, the others equal parts of the rest, the last one all. Measured on a step
    model (tests/scheduler/test_sharing.py): equal parts for all would make long prompts wait for each
    other, the whole for the oldest would make short prompts wait for long ones.
    """
    num_claims_left = num_claims - rank
    if num_claims_left == 1:
        return budget
    return max(MIN_SHARE_TOKENS, budget // (2 if rank == 0 else num_claims_left))
