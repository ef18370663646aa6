"""The bounds of a step."""

from dataclasses import dataclass

MAX_PROMPT_LOGPROBS = 128
"""Tokens a step of prompts whose log-probabilities are asked for. Each has logits of its own, ranked: up to a millisecond
on a core, for which everybody in the step waits.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """What a step may hold."""

    max_num_seqs: int
    max_num_batched_tokens: int
    enable_chunked_prefill: bool = True
    """Off: a prompt's uncomputed tokens go into one step, or wait."""
    is_static: bool = False
    """On: a batch, once admitted, runs to its end before the next one; the baseline to compare with."""

    @property
    def max_prompt_logprobs(self) -> int:
        """Prompts that cannot be cut are computed at once, whatever is asked of them."""
        return MAX_PROMPT_LOGPROBS if self.enable_chunked_prefill else self.max_num_batched_tokens

    def chunk(self, num_uncomputed: int, most_tokens: int, budget: int) -> int:
        """How many of a request's uncomputed tokens a step takes; 0: none."""
        if self.enable_chunked_prefill:
            return min(num_uncomputed, most_tokens, budget)
        return num_uncomputed if num_uncomputed <= budget else 0
