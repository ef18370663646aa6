"""The bounds of a step."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """What a step may hold."""

    max_num_seqs: int
    max_num_batched_tokens: int
    enable_chunked_prefill: bool = True
    """Off: a prompt's uncomputed tokens go into one step, or wait."""
    is_static: bool = False
    """On: a batch, once admitted, runs to its end before the next one; the baseline to compare with."""

    def chunk(self, num_uncomputed: int, most_tokens: int, budget: int) -> int:
        """How many of a request's uncomputed tokens a step takes; 0: none."""
        if self.enable_chunked_prefill:
            return min(num_uncomputed, most_tokens, budget)
        return num_uncomputed if num_uncomputed <= budget else 0
