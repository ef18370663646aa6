"""Every technique that is compared, in the order of the report."""

from collections.abc import Sequence

from octavo.bench.techniques.chunked_prefill import CHUNKED_PREFILL
from octavo.bench.techniques.continuous_batching import CONTINUOUS_BATCHING
from octavo.bench.techniques.flash_attention import FLASH_ATTENTION
from octavo.bench.techniques.fused_kernels import FUSED_KERNELS
from octavo.bench.techniques.int8_activations import INT8_ACTIVATIONS
from octavo.bench.techniques.kv_cache import KV_CACHE
from octavo.bench.techniques.paged_kv import PAGED_KV
from octavo.bench.techniques.prefix_caching import PREFIX_CACHING
from octavo.bench.techniques.recorded_pass import RECORDED_PASS
from octavo.bench.techniques.technique import Technique
from octavo.core.errors import ConfigError

TECHNIQUES = (
    KV_CACHE,
    PAGED_KV,
    CONTINUOUS_BATCHING,
    CHUNKED_PREFILL,
    PREFIX_CACHING,
    RECORDED_PASS,
    FUSED_KERNELS,
    FLASH_ATTENTION,
    INT8_ACTIVATIONS,
)


def select(names: Sequence[str]) -> list[Technique]:
    """Those named, in the report's order; all for none. Raises `ConfigError` for an unknown name."""
    known = [technique.name for technique in TECHNIQUES]
    for name in names:
        if name not in known:
            raise ConfigError(f"only={name} is not a technique; use {', '.join(known)}", param="only")
    return [technique for technique in TECHNIQUES if not names or technique.name in names]
