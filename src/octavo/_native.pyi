import enum

class Format(enum.Enum):
    F32 = ...
    F16 = ...
    BF16 = ...
    Q4_0 = ...
    Q4_1 = ...
    Q5_0 = ...
    Q5_1 = ...
    Q8_0 = ...
    Q4_K = ...
    Q5_K = ...
    Q6_K = ...

class CacheType(enum.Enum):
    F32 = ...
    BF16 = ...
    F16 = ...

class GatedActivation(enum.Enum):
    SILU = ...
    GELU_TANH = ...

def available_isas() -> list[str]: ...
def isa() -> str: ...
def force_isa(name: str) -> None: ...
def int8_paths() -> list[str]: ...
def force_int8_path(name: str) -> None: ...
def attention_paths() -> list[str]: ...
def force_attention_path(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(num_threads: int) -> None: ...
def num_usable_cores() -> int: ...
def packed_bytes(format: Format, n: int, k: int) -> int: ...
def pack(format: Format, rows: int, row_stride_bytes: int, n: int, k: int, out: int) -> None: ...
def linear(
    x: int,
    x_stride: int,
    weight: int,
    format: Format,
    bias: int,
    y: int,
    rows: int,
    in_features: int,
    out_features: int,
) -> None: ...
def quantize(x: int, x_stride: int, q: int, scales: int, sums: int, rows: int, in_features: int) -> None: ...
def linear_int8(
    q: int,
    scales: int,
    sums: int,
    weight: int,
    format: Format,
    bias: int,
    y: int,
    rows: int,
    in_features: int,
    out_features: int,
) -> None: ...
def embedding(
    ids: int, weight: int, format: Format, y: int, rows: int, in_features: int, out_features: int
) -> None: ...
def rms_norm(
    x: int,
    x_stride: int,
    residual: int,
    total: int,
    weight: int,
    y: int,
    rows: int,
    channels: int,
    eps: float,
) -> None: ...
def layer_norm(x: int, x_stride: int, weight: int, bias: int, y: int, rows: int, channels: int, eps: float) -> None: ...
def rotary(
    x: int,
    token_stride: int,
    head_stride: int,
    cos_sin: int,
    positions: int,
    tokens: int,
    heads: int,
    rotary_size: int,
) -> None: ...
def gated(x: int, x_stride: int, y: int, rows: int, features: int, activation: GatedActivation) -> None: ...
def store(
    x: int,
    token_stride: int,
    head_stride: int,
    cache: int,
    block_stride: int,
    slot_stride: int,
    cache_head_stride: int,
    type: CacheType,
    slots: int,
    tokens: int,
    heads: int,
    head_size: int,
    block_size: int,
) -> None: ...
def attention(
    q: int,
    q_token_stride: int,
    q_head_stride: int,
    k_cache: int,
    k_block_stride: int,
    k_slot_stride: int,
    k_head_stride: int,
    v_cache: int,
    v_block_stride: int,
    v_slot_stride: int,
    v_head_stride: int,
    type: CacheType,
    o: int,
    query_starts: int,
    seq_lens: int,
    block_tables: int,
    num_requests: int,
    max_blocks: int,
    block_size: int,
    heads: int,
    kv_heads: int,
    key_size: int,
    value_size: int,
    scale: float,
    softcap: float,
    window: int,
    sinks: int,
    is_causal: bool,
) -> None: ...
