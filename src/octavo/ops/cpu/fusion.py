"""Launches of a recording that become one: the same operations in the same order, with fewer passes over memory.

A pass is recorded op by op, as the layers are written. These runs of neighbouring launches are replaced:

    linear_bf16, gated, round  →  gated_linear
    rms_norm | gated, quantize_groups | round  →  rms_norm | gated, which leaves bytes or bf16
    [rms_norm q, rms_norm k,] rotary q, rotary k, store k, store v  →  heads

An output that no other launch reads is then not written at all.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from octavo.ops.cpu.launch import GATED_LINEAR, HEADS
from octavo.ops.recording import Buffer, Launch, RecordedTensor


def fuse(launches: Sequence[Launch], outputs: Iterable[RecordedTensor]) -> list[Launch]:
    """The launches with every fusion made that keeps the bits. `outputs` are read after the last one."""
    uses = Counter(buffer for launch in launches for buffer in {tensor.buffer for tensor in launch.tensors().values()})
    uses.update(output.buffer for output in outputs)
    fused: list[Launch] = []
    index = 0
    while index < len(launches):
        rest = launches[index:]
        launch, length = _gated_linear(rest, uses) or _narrowed(rest, uses) or _heads(rest) or (launches[index], 1)
        fused.append(launch)
        index += length
    return fused


def _gated_linear(launches: Sequence[Launch], uses: Counter[Buffer]) -> tuple[Launch, int] | None:
    """A layer of gates and what they gate, whose output is not wanted itself, on AMX's tiles."""
    if [launch.kernel for launch in launches[:3]] != ["linear_bf16", "gated", "round"]:
        return None
    linear, gated, rounded = (launch.arguments for launch in launches[:3])
    between = (linear["y"], gated["x"]), (gated["y"], rounded["x"])
    if any(a.buffer is not b.buffer or a.shape != b.shape or uses[a.buffer] != 2 for a, b in between):
        return None
    if linear["bias"] is not None or not rounded["is_paired"]:
        return None
    arguments = {
        "x": linear["x"],
        "weight": linear["weight"],
        "format": linear["format"],
        "y": rounded["y"],
        "rows": gated["rows"],
        "in_features": linear["in_features"],
        "features": gated["features"],
        "activation": gated["activation"],
    }
    return Launch(GATED_LINEAR.name, arguments, GATED_LINEAR.outputs), 3


_NARROW_OUTPUTS = {
    "quantize_groups": {"q": "q", "scales": "scales", "sums": "sums"},
    "round": {"bf16": "y", "is_paired": "is_paired"},
}
"""Kernel → the fused kernel's arguments for its outputs, and their names there."""


def _narrowed(launches: Sequence[Launch], uses: Counter[Buffer]) -> tuple[Launch, int] | None:
    """A norm or gated activation, and the quantisation or rounding of all it gave."""
    if (
        len(launches) < 2
        or launches[0].kernel not in ("rms_norm", "gated")
        or launches[1].kernel not in _NARROW_OUTPUTS
    ):
        return None
    first, second = launches[0], launches[1]
    y, x = first.arguments["y"], second.arguments["x"]
    if x.buffer is not y.buffer or x.shape != y.shape:
        return None
    is_kept = uses[y.buffer] > 2
    narrow = {to: second.arguments[name] for to, name in _NARROW_OUTPUTS[second.kernel].items()}
    return Launch(first.kernel, {**first.arguments, **narrow, "y": y if is_kept else None}, first.outputs), 2


_HEAD_KERNELS = ("rotary", "rotary", "store", "store")


def _heads(launches: Sequence[Launch]) -> tuple[Launch, int] | None:
    """A token's heads on their way from the q, k and v projection to attention and its cache."""
    num_norms = 2 if [launch.kernel for launch in launches[:2]] == ["rms_norm", "rms_norm"] else 0
    norms, run = launches[:num_norms], launches[num_norms : num_norms + 4]
    if tuple(launch.kernel for launch in run) != _HEAD_KERNELS:
        return None
    rotary_q, rotary_k, store_k, store_v = (launch.arguments for launch in run)
    q, k = rotary_q["x"], rotary_k["x"]
    if norms:
        norm_q, norm_k = (launch.arguments for launch in norms)
        if norm_q["y"].buffer is not q.buffer or norm_k["y"].buffer is not k.buffer or norm_q["eps"] != norm_k["eps"]:
            return None
        source_q, source_k = norm_q["x"], norm_k["x"]
    else:
        source_q, source_k = q, k
    is_one_step = rotary_q["positions"].buffer is rotary_k["positions"].buffer and store_k["slots"] is store_v["slots"]
    if not is_one_step or store_k["x"].buffer is not k.buffer or store_k["type"] != store_v["type"]:
        return None
    v = store_v["x"]
    arguments = {
        "q": source_q,
        "q_token_stride": source_q.stride(0),
        "q_head_stride": source_q.stride(1),
        "q_out": q,
        "q_out_token_stride": q.stride(0),
        "q_out_head_stride": q.stride(1),
        "k": source_k,
        "k_token_stride": source_k.stride(0),
        "k_head_stride": source_k.stride(1),
        "v": v,
        "v_token_stride": v.stride(0),
        "v_head_stride": v.stride(1),
        "q_weight": norm_q["weight"] if norms else None,
        "k_weight": norm_k["weight"] if norms else None,
        "eps": norm_q["eps"] if norms else 0.0,
        "cos_sin": rotary_q["cos_sin"],
        "positions": rotary_q["positions"],
        "k_cache": store_k["cache"],
        "v_cache": store_v["cache"],
        "type": store_k["type"],
        "slots": store_k["slots"],
        "rows": rotary_q["rows"],
        "heads": rotary_q["heads"],
        "kv_heads": rotary_k["heads"],
        "key_size": store_k["head_size"],
        "value_size": store_v["head_size"],
        "rotary_size": rotary_q["rotary_size"],
        "block_size": store_k["block_size"],
    }
    return Launch(HEADS.name, arguments, HEADS.outputs), num_norms + 4
