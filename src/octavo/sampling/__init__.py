"""From logits to tokens: processors, exact batch-invariant draws, log-probabilities."""

from octavo.sampling.grammar import GrammarState
from octavo.sampling.logprobs import token_logprobs
from octavo.sampling.row import SampledToken, SamplingRow
from octavo.sampling.sampler import Sampler

__all__ = ["GrammarState", "SampledToken", "Sampler", "SamplingRow", "token_logprobs"]
