"""Prompts that a KV cache's manager admits and computes."""

from scheduler.traffic import make_samples

from octavo.cache import KVCacheManager
from octavo.core.request import Request
from octavo.core.sampling_params import SamplingParams


def make_request(tokens: list[int], name: str = "r", salt: str = "") -> Request:
    return make_samples(name, tokens, SamplingParams(), cache_salt=salt)[0]


def compute(manager: KVCacheManager, request: Request, num_tokens: int) -> None:
    assert manager.allocate(request, num_tokens)
    request.num_computed_tokens += num_tokens
    manager.commit(request)


def run(manager: KVCacheManager, request: Request) -> int:
    """Admit and compute a whole prompt; how much of it was found."""
    match = manager.match_prefix(request)
    manager.admit(request, match)
    request.num_computed_tokens = match.num_tokens
    compute(manager, request, request.num_tokens - match.num_tokens)
    return match.num_tokens
