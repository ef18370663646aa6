"""CPU kernels of octavo.ops; only octavo.ops.cpu calls them"""

import enum
from collections.abc import Sequence

class Format(enum.Enum):
    F32 = 0

    F16 = 1

    BF16 = 2

    Q4_0 = 3

    Q4_1 = 4

    Q5_0 = 5

    Q5_1 = 6

    Q8_0 = 7

    Q4_K = 8

    Q5_K = 9

    Q6_K = 10

    I8 = 11

    BF16_TILES = 12

class ElementType(enum.Enum):
    F32 = 0

    BF16 = 1

    F16 = 2

    F8_E4M3 = 3

    I8 = 4

class GatedActivation(enum.Enum):
    SILU = 0

    GELU_TANH = 1

def available_isas() -> list[str]: ...
def isa() -> str: ...
def force_isa(name: str) -> None: ...
def int8_paths() -> list[str]: ...
def force_int8_path(name: str) -> None: ...
def has_bf16_tiles() -> bool: ...
def attention_paths() -> list[str]: ...
def force_attention_path(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(num_threads: int) -> None: ...
def num_usable_cores() -> int: ...
def packed_bytes(format: Format, n: int, k: int) -> int: ...
def pack(format: Format, rows: int, row_stride_bytes: int, n: int, k: int, out: int) -> None: ...

class CacheView:
    def __init__(self, *, data: int, block_stride: int, slot_stride: int, head_stride: int) -> None: ...

class AttentionPlan:
    def __init__(
        self,
        *,
        query_starts: int,
        seq_lens: int,
        block_tables: int,
        key_starts: int,
        num_requests: int,
        max_blocks: int,
    ) -> None: ...

class AttentionScores:
    def __init__(
        self,
        *,
        scale: float,
        softcap: float,
        left: int,
        right: int,
        sinks: int,
        slopes: int,
        slopes_stride: int,
        bias: int,
        bias_request_stride: int,
        bias_head_stride: int,
        bias_row_stride: int,
        bias_keys: int,
        k_scales: int,
        v_scales: int,
        k_scales_stride: int,
        v_scales_stride: int,
        seed: int,
        threshold: int,
        kept_factor: float,
    ) -> None: ...

class LinearArguments:
    def __init__(
        self,
        *,
        x: int,
        x_stride: int,
        weight: int,
        format: Format,
        bias: int,
        y: int,
        y_stride: int,
        rows: int,
        in_features: int,
        out_features: int,
    ) -> None: ...

class RoundArguments:
    def __init__(self, *, x: int, x_stride: int, y: int, is_paired: bool, rows: int, channels: int) -> None: ...

class LinearBf16Arguments:
    def __init__(
        self,
        *,
        x: int,
        weight: int,
        format: Format,
        bias: int,
        y: int,
        y_stride: int,
        rows: int,
        in_features: int,
        out_features: int,
    ) -> None: ...

class GatedLinearArguments:
    def __init__(
        self,
        *,
        x: int,
        weight: int,
        format: Format,
        y: int,
        rows: int,
        in_features: int,
        features: int,
        activation: GatedActivation,
    ) -> None: ...

class QuantizeGroupsArguments:
    def __init__(
        self, *, x: int, x_stride: int, q: int, scales: int, sums: int, rows: int, in_features: int
    ) -> None: ...

class LinearInt8Arguments:
    def __init__(
        self,
        *,
        q: int,
        scales: int,
        sums: int,
        weight: int,
        format: Format,
        bias: int,
        y: int,
        y_stride: int,
        rows: int,
        in_features: int,
        out_features: int,
    ) -> None: ...

class QuantizeRowsArguments:
    def __init__(
        self, *, x: int, x_stride: int, q: int, scales: int, sums: int, rows: int, in_features: int
    ) -> None: ...

class LinearI8Arguments:
    def __init__(
        self,
        *,
        q: int,
        scales: int,
        sums: int,
        weight: int,
        bias: int,
        y: int,
        y_stride: int,
        rows: int,
        in_features: int,
        out_features: int,
    ) -> None: ...

class EmbeddingArguments:
    def __init__(
        self,
        *,
        ids: int,
        weight: int,
        format: Format,
        scale: float,
        y: int,
        rows: int,
        in_features: int,
        out_features: int,
    ) -> None: ...

class TakeRowsArguments:
    def __init__(self, *, x: int, x_stride: int, ids: int, y: int, rows: int, channels: int) -> None: ...

class AddArguments:
    def __init__(self, *, x: int, y: int, total: int, rows: int, channels: int) -> None: ...

class SoftcapArguments:
    def __init__(self, *, x: int, y: int, rows: int, channels: int, cap: float) -> None: ...

class TileMaxArguments:
    def __init__(self, *, x: int, x_stride: int, maximums: int, rows: int, channels: int, tile: int) -> None: ...

class SoftmaxArguments:
    def __init__(
        self, *, x: int, x_stride: int, temperatures: int, y: int, rows: int, channels: int, is_log: bool
    ) -> None: ...

class RmsNormArguments:
    def __init__(
        self,
        *,
        x: int,
        x_stride: int,
        head_stride: int,
        residual: int,
        total: int,
        weight: int,
        y: int,
        q: int,
        scales: int,
        sums: int,
        bf16: int,
        is_paired: bool,
        rows: int,
        heads: int,
        channels: int,
        eps: float,
    ) -> None: ...

class LayerNormArguments:
    def __init__(
        self, *, x: int, x_stride: int, weight: int, bias: int, y: int, rows: int, channels: int, eps: float
    ) -> None: ...

class RotaryArguments:
    def __init__(
        self,
        *,
        x: int,
        token_stride: int,
        head_stride: int,
        cos_sin: int,
        positions: int,
        rows: int,
        heads: int,
        rotary_size: int,
    ) -> None: ...

class GatedArguments:
    def __init__(
        self,
        *,
        x: int,
        x_stride: int,
        y: int,
        q: int,
        scales: int,
        sums: int,
        bf16: int,
        is_paired: bool,
        rows: int,
        features: int,
        activation: GatedActivation,
    ) -> None: ...

class StoreArguments:
    def __init__(
        self,
        *,
        x: int,
        token_stride: int,
        head_stride: int,
        cache: CacheView,
        type: ElementType,
        slots: int,
        rows: int,
        heads: int,
        head_size: int,
        block_size: int,
    ) -> None: ...

class HeadsArguments:
    def __init__(
        self,
        *,
        q: int,
        q_token_stride: int,
        q_head_stride: int,
        q_out: int,
        q_out_token_stride: int,
        q_out_head_stride: int,
        k: int,
        k_token_stride: int,
        k_head_stride: int,
        v: int,
        v_token_stride: int,
        v_head_stride: int,
        q_weight: int,
        k_weight: int,
        eps: float,
        cos_sin: int,
        positions: int,
        k_cache: CacheView,
        v_cache: CacheView,
        type: ElementType,
        slots: int,
        rows: int,
        heads: int,
        kv_heads: int,
        key_size: int,
        value_size: int,
        rotary_size: int,
        block_size: int,
    ) -> None: ...

class AttentionArguments:
    def __init__(
        self,
        *,
        q: int,
        q_type: ElementType,
        q_token_stride: int,
        q_head_stride: int,
        k: CacheView,
        v: CacheView,
        type: ElementType,
        o: int,
        o_token_stride: int,
        o_head_stride: int,
        lse: int,
        plan: AttentionPlan,
        block_size: int,
        heads: int,
        kv_heads: int,
        key_size: int,
        value_size: int,
        options: AttentionScores,
    ) -> None: ...

class AttentionBackwardArguments:
    def __init__(
        self, *, forward: AttentionArguments, d_o: int, d_lse: int, delta: int, dq: int, dk: CacheView, dv: CacheView
    ) -> None: ...

def attention_backward(arguments: AttentionBackwardArguments) -> None: ...
def run(
    arguments: LinearArguments
    | RoundArguments
    | LinearBf16Arguments
    | GatedLinearArguments
    | QuantizeGroupsArguments
    | LinearInt8Arguments
    | QuantizeRowsArguments
    | LinearI8Arguments
    | EmbeddingArguments
    | TakeRowsArguments
    | AddArguments
    | SoftcapArguments
    | TileMaxArguments
    | SoftmaxArguments
    | RmsNormArguments
    | LayerNormArguments
    | RotaryArguments
    | GatedArguments
    | StoreArguments
    | HeadsArguments
    | AttentionArguments,
) -> None: ...

class RowSet(enum.Enum):
    TOKENS = 0

    SAMPLED = 1

class Program:
    def __init__(self) -> None: ...
    def append(
        self,
        arguments: LinearArguments
        | RoundArguments
        | LinearBf16Arguments
        | GatedLinearArguments
        | QuantizeGroupsArguments
        | LinearInt8Arguments
        | QuantizeRowsArguments
        | LinearI8Arguments
        | EmbeddingArguments
        | TakeRowsArguments
        | AddArguments
        | SoftcapArguments
        | TileMaxArguments
        | SoftmaxArguments
        | RmsNormArguments
        | LayerNormArguments
        | RotaryArguments
        | GatedArguments
        | StoreArguments
        | HeadsArguments
        | AttentionArguments,
        *,
        set: RowSet,
        rows_per_entry: int,
        plan: int,
    ) -> None: ...
    def replay(self, num_tokens: int, num_sampled: int, plans: Sequence[AttentionPlan]) -> None: ...
    def time(self, num_tokens: int, num_sampled: int, plans: Sequence[AttentionPlan]) -> list[float]: ...
    def __len__(self) -> int: ...
