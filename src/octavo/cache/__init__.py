"""The KV cache in blocks: who holds which block, what prefixes are kept, how layers share the pool. No torch."""

from octavo.cache.block_pool import NULL_BLOCK, BlockPool
from octavo.cache.kv_cache_manager import KVCacheManager, PrefixMatch
from octavo.cache.layout import CacheGroup, CacheLayout, plan_layout

__all__ = ["NULL_BLOCK", "BlockPool", "CacheGroup", "CacheLayout", "KVCacheManager", "PrefixMatch", "plan_layout"]
