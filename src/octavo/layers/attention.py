"""Attention through the paged cache. T: tokens, H: query heads, K: KV heads, D: head size."""

from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.core.cache_spec import CacheSpec, FullAttentionSpec, KVDtype, SlidingWindowSpec
from octavo.layers.context import ForwardContext
from octavo.layers.linear import Linear, split_columns
from octavo.layers.norm import RMSNorm
from octavo.layers.rope import RopeSpec, RotaryEmbedding
from octavo.ops import AttentionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    """Multiplies q · k."""
    window: int | None = None
    """A query reads itself and the `window - 1` tokens before it; None: all before it."""
    softcap: float = 0.0
    """s → softcap · tanh(s / softcap); 0: off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Grouped-query attention: shape, positions, biases."""

    shape: AttentionShape
    rope: RopeSpec
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_qk_norm: bool = False

    def cache_spec(self, block_size: int, dtype: KVDtype) -> CacheSpec:
        shape = self.shape
        if shape.window is None:
            return FullAttentionSpec(
                block_size=block_size,
                num_kv_heads=shape.num_kv_heads,
                key_head_dim=shape.head_dim,
                value_head_dim=shape.head_dim,
                dtype=dtype,
            )
        return SlidingWindowSpec(
            block_size=block_size,
            num_kv_heads=shape.num_kv_heads,
            key_head_dim=shape.head_dim,
            value_head_dim=shape.head_dim,
            dtype=dtype,
            window=shape.window,
        )


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Where a layer's keys and values live: (num_blocks, block_size, K, D) each, of one cache group."""

    group: int
    keys: Tensor
    values: Tensor


class Attention:
    """Causal grouped-query attention with rotary positions and optional q/k norms.

    Keys and values go to the cache first, and every query, of a prompt or a decode, reads them from
    there as stored (law 2). The worker binds `cache` once it has made the tensors.
    """

    cache: LayerCache

    def __init__(
        self,
        shape: AttentionShape,
        qkv: Linear,
        output: Linear,
        rope: RotaryEmbedding,
        q_norm: RMSNorm | None = None,
        k_norm: RMSNorm | None = None,
    ) -> None:
        self.shape = shape
        self.qkv = qkv
        self.output = output
        self.rope = rope
        self.q_norm = q_norm
        self.k_norm = k_norm
        q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        self._sizes = (q_size, kv_size, kv_size)
        self._options = AttentionOptions(
            scale=shape.scale,
            window_left=None if shape.window is None else shape.window - 1,
            window_right=0,
            softcap=shape.softcap,
        )

    def __call__(self, x_TC: Tensor, context: ForwardContext) -> Tensor:
        shape, cache = self.shape, self.cache
        q, k, v = split_columns(self.qkv(x_TC), self._sizes)
        q_THD = q.unflatten(-1, (shape.num_heads, shape.head_dim))
        k_TKD = k.unflatten(-1, (shape.num_kv_heads, shape.head_dim))
        v_TKD = v.unflatten(-1, (shape.num_kv_heads, shape.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            q_THD, k_TKD = self.q_norm(q_THD), self.k_norm(k_TKD)
        self.rope(q_THD, k_TKD, context.positions_T)
        step = context.groups[cache.group]
        ops.store_kv(k_TKD, v_TKD, cache.keys, cache.values, step.slots_T)
        out_THD = ops.paged_attention(
            q_THD,
            cache.keys,
            cache.values,
            step.plan,
            self._options,
        )
        return self.output(out_THD.flatten(-2))
