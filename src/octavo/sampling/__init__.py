"""From logits to tokens: processors, exact batch-invariant draws, log-probabilities."""

from octavo.sampling.logprobs import token_logprobs
from octavo.sampling.row import SampledToken, SamplingRow
from octavo.sampling.sampler import Sampler

__all__ = ["SampledToken", "Sampler", "SamplingRow", "token_logprobs"]
