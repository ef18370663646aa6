"""Options in, decisions out: the one place where `auto` and None become values, each with its reason."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

from octavo.config.engine_config import EngineConfig
from octavo.config.quantities import format_bytes, parse_quantity
from octavo.core.cache_spec import KVDtype
from octavo.core.errors import ConfigError
from octavo.core.weights import WeightFormat

logger = logging.getLogger(__name__)

MAX_BLOCKS = 1 << 20
"""Blocks beyond this many are not made: their bookkeeping would cost more than they could hold."""

ACTIVATION_SHARE = 0.1
"""Of what a GPU has left for the KV cache, kept free for activations and logits."""

_TOKEN_BUDGET = {"cpu": 512, "cuda": 2048}
"""Of a step, by default. On a CPU a larger step's activations leave the caches: prompts are a fifth slower at 2048."""

_BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
_KV_OF_DTYPE = {"float32": KVDtype.FP32, "bfloat16": KVDtype.BF16, "float16": KVDtype.FP16}


class BlockArithmetic(Protocol):
    """What `resolve` asks of a `CacheLayout`."""

    @property
    def block_bytes(self) -> int: ...

    def max_blocks(self, num_tokens: int, max_chunk_tokens: int) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What the machine has. Memory is what this process may still use, its cgroup respected."""

    num_cores: int
    available_memory_bytes: int
    has_bf16_tiles: bool = False
    """Whether the CPU multiplies bf16 on AMX's tiles."""
    has_fast_bytes: bool = True
    """Whether the CPU kernels in use multiply bytes faster than floats: the portable ones do not."""
    has_cuda: bool = False
    cuda_total_bytes: int = 0
    cuda_free_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the model's files say."""

    max_position: int
    """Longest context it was made for, in tokens."""
    weight_bytes: int
    """As stored."""
    num_parameters: int
    cache_layout: Callable[[int, KVDtype], BlockArithmetic]
    """The layout of its KV cache, given block size and type."""
    weight_formats: Mapping[str, int] = field(default_factory=dict)
    """Of its matrices: format → bytes as stored."""

    @property
    def has_float_weights(self) -> bool:
        return any(not WeightFormat(name).is_block_format for name in self.weight_formats)

    @property
    def has_quantized_weights(self) -> bool:
        return any(WeightFormat(name).is_block_format for name in self.weight_formats)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """Every option with its value, and why. Components get their own part, never the whole."""

    model: str
    device: str
    dtype: str
    kv_cache_dtype: KVDtype
    linear_activations: str
    quantization: str | None
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_num_queued_reqs: int
    kv_cache_memory: int
    num_blocks: int
    block_size: int
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    batching: str
    scheduling_policy: str
    threads: int
    enforce_eager: bool
    seed: int | None
    reasons: Mapping[str, str]
    """Option → why it has this value."""


def resolve(config: EngineConfig, model: ModelFacts, machine: MachineFacts) -> ResolvedConfig:
    """Decide everything left open. Pure: the same facts give the same decisions.

    Raises `ConfigError` where options contradict each other, the model or the machine.
    """
    why: dict[str, str] = {}
    device = _device(config, machine, why)
    dtype = _dtype(config, device, why)
    kv_dtype = _kv_dtype(config, device, dtype, why)
    layout = model.cache_layout(config.block_size, kv_dtype)
    memory = _kv_cache_memory(config, model, machine, device, dtype, why)
    num_blocks = min(memory // layout.block_bytes, MAX_BLOCKS)
    if num_blocks == MAX_BLOCKS:
        why["kv_cache_memory"] += f"; held to {MAX_BLOCKS:,} blocks, more than which cost more than they hold"
    max_model_len, budget = _lengths(config, model, layout, num_blocks, memory, _TOKEN_BUDGET[device], why)
    why["num_blocks"] = (
        f"{format_bytes(memory)} at {format_bytes(layout.block_bytes)} a block of {config.block_size} tokens"
    )
    threads = config.threads or machine.num_cores
    why["threads"] = "given" if config.threads else "the cores that this process may use"
    linear_activations = _linear_activations(config, model, machine, device, why)
    _check_quantization(config, model, device, why)
    for option in fields(config):
        why.setdefault(option.name, "default" if getattr(config, option.name) == option.default else "given")
    return ResolvedConfig(
        model=config.model,
        device=device,
        dtype=dtype,
        kv_cache_dtype=kv_dtype,
        linear_activations=linear_activations,
        quantization=config.quantization,
        max_model_len=max_model_len,
        max_num_batched_tokens=budget,
        max_num_seqs=config.max_num_seqs,
        max_num_queued_reqs=config.max_num_queued_reqs,
        kv_cache_memory=num_blocks * layout.block_bytes,
        num_blocks=num_blocks,
        block_size=config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
        enable_chunked_prefill=config.enable_chunked_prefill,
        batching=config.batching,
        scheduling_policy=config.scheduling_policy,
        threads=threads,
        enforce_eager=config.enforce_eager,
        seed=config.seed,
        reasons=why,
    )


def _device(config: EngineConfig, machine: MachineFacts, why: dict[str, str]) -> str:
    if config.device == "auto":
        why["device"] = "a GPU is there" if machine.has_cuda else "no GPU is there"
        return "cuda" if machine.has_cuda else "cpu"
    if config.device == "cuda" and not machine.has_cuda:
        raise ConfigError(
            "device=cuda: torch finds no GPU here; use cpu, or install torch's CUDA build", param="device"
        )
    why["device"] = "given"
    return config.device


def _dtype(config: EngineConfig, device: str, why: dict[str, str]) -> str:
    if device == "cpu" and config.dtype not in ("auto", "float32"):
        raise ConfigError(
            f"dtype={config.dtype} on a CPU is not built yet; use auto or float32 (weights stay as stored all the same)",
            param="dtype",
        )
    if config.dtype != "auto":
        why["dtype"] = "given"
        return config.dtype
    why["dtype"] = "CPU kernels compute in float32" if device == "cpu" else "GPU default"
    return "float32" if device == "cpu" else "bfloat16"


def _linear_activations(
    config: EngineConfig, model: ModelFacts, machine: MachineFacts, device: str, why: dict[str, str]
) -> str:
    asked = config.linear_activations
    if asked in ("int8", "bf16") and device != "cpu":
        raise ConfigError(
            f"linear_activations={asked} on {device} is not built yet; use auto or native", param="linear_activations"
        )
    if asked == "bf16" and not machine.has_bf16_tiles:
        raise ConfigError(
            "linear_activations=bf16 needs AMX, which this CPU does not have, or OCTAVO_ISA rules out; use auto, int8 or native",
            param="linear_activations",
        )
    narrows_none = {"int8": not model.has_quantized_weights, "bf16": model.weight_formats.keys() == {"F32"}}
    if config.quantization is None and model.weight_formats and narrows_none.get(asked, False):
        raise ConfigError(
            f"linear_activations={asked} has no effect: the model's weights are {', '.join(sorted(model.weight_formats))}; "
            "add quantization=int8, or use auto or native",
            param="linear_activations",
        )
    if asked == "native" or device != "cpu":
        why["linear_activations"] = "given" if asked == "native" else "as the activations"
        return "native"
    if asked == "bf16" or (asked == "auto" and machine.has_bf16_tiles):
        reason = "given" if asked == "bf16" else "the CPU has AMX"
        why["linear_activations"] = (
            f"{reason}; an output head of blocks (Q4_0 … Q6_K) takes bytes; F32 weights keep native activations, and so do "
            "widths not divisible by 32 (I8: int8)"
        )
        return "bf16"
    if asked == "auto" and not machine.has_fast_bytes:
        why["linear_activations"] = "the kernels in use have no fast products of bytes"
        return "native"
    reason = "given" if asked == "int8" else "products of bytes are the fastest here"
    why["linear_activations"] = f"{reason}; F32, F16 and BF16 weights keep native activations"
    return "int8"


def _check_quantization(config: EngineConfig, model: ModelFacts, device: str, why: dict[str, str]) -> None:
    if config.quantization is None:
        why["quantization"] = "weights stay as stored"
        return
    if device != "cpu":
        raise ConfigError(
            f"quantization={config.quantization} on {device} is not built yet; leave it out", param="quantization"
        )
    if model.weight_formats and not model.has_float_weights:
        raise ConfigError(
            f"quantization={config.quantization} has no effect: the model's weights are quantised already "
            f"({', '.join(sorted(model.weight_formats))}); leave it out",
            param="quantization",
        )
    why["quantization"] = "given; F32, F16 and BF16 weights become int8, others stay as stored"


def _kv_dtype(config: EngineConfig, device: str, dtype: str, why: dict[str, str]) -> KVDtype:
    if config.kv_cache_dtype == "auto":
        if device == "cpu" and config.dtype == "auto":
            why["kv_cache_dtype"] = "half the bytes of float32 to read; dtype=float32 keeps those"
            return KVDtype.BF16
        why["kv_cache_dtype"] = "as the activations"
        return _KV_OF_DTYPE[dtype]
    why["kv_cache_dtype"] = "given"
    return KVDtype(config.kv_cache_dtype)


def _kv_cache_memory(
    config: EngineConfig, model: ModelFacts, machine: MachineFacts, device: str, dtype: str, why: dict[str, str]
) -> int:
    """Bytes for keys and values."""
    if device == "cpu" and config.gpu_memory_utilization is not None:
        why["gpu_memory_utilization"] = "has no meaning on a CPU, where --kv-cache-memory is the option"
        logger.warning("--gpu-memory-utilization %s %s", config.gpu_memory_utilization, why["gpu_memory_utilization"])
    available = machine.available_memory_bytes if device == "cpu" else machine.cuda_free_bytes
    if config.kv_cache_memory is not None:
        why["kv_cache_memory"] = "given"
        memory = parse_quantity("kv_cache_memory", config.kv_cache_memory)
        if memory > available:
            raise ConfigError(
                f"kv_cache_memory={format_bytes(memory)} is more than the {format_bytes(available)} available; lower it",
                param="kv_cache_memory",
            )
        return memory
    if device == "cpu":
        why["kv_cache_memory"] = "a quarter of the memory available"
        return available // 4
    share = config.gpu_memory_utilization or 0.9
    weight_bytes = max(model.weight_bytes, model.num_parameters * _BYTES_OF_DTYPE[dtype])  # unpacked on a GPU
    usable = int(machine.cuda_total_bytes * share) - (machine.cuda_total_bytes - machine.cuda_free_bytes)
    memory = int((usable - weight_bytes) * (1 - ACTIVATION_SHARE))
    why["kv_cache_memory"] = (
        f"{share:.0%} of the GPU less weights, what is in use, and {ACTIVATION_SHARE:.0%} for activations"
    )
    if memory <= 0:
        raise ConfigError(
            f"gpu_memory_utilization={share} leaves no memory for the KV cache: the weights take "
            f"{format_bytes(weight_bytes)} and {format_bytes(max(0, usable))} may be used; raise it, or use a smaller model",
            param="gpu_memory_utilization",
        )
    return memory


def _lengths(
    config: EngineConfig,
    model: ModelFacts,
    layout: BlockArithmetic,
    num_blocks: int,
    memory: int,
    default_budget: int,
    why: dict[str, str],
) -> tuple[int, int]:
    """(max_model_len, max_num_batched_tokens): a request of the one fits the pool, and a step the other."""
    budget = None
    if config.max_num_batched_tokens is not None:
        budget = parse_quantity("max_num_batched_tokens", config.max_num_batched_tokens)
    chunk = budget or default_budget

    def fits(num_tokens: int) -> bool:
        return layout.max_blocks(num_tokens, chunk) <= num_blocks

    if config.max_model_len == "auto":
        max_model_len = _largest(fits, model.max_position)
        why["max_model_len"] = "the longest that fits the KV cache, at most the model's context"
    elif config.max_model_len is None:
        max_model_len = model.max_position
        why["max_model_len"] = "the model's context"
    else:
        max_model_len = parse_quantity("max_model_len", config.max_model_len)
        why["max_model_len"] = "given"
        if max_model_len > model.max_position:
            raise ConfigError(
                f"max_model_len={max_model_len} is more than the model's context of {model.max_position} tokens; lower it",
                param="max_model_len",
            )
    if max_model_len == 0 or not fits(max_model_len):
        longest = _largest(fits, max_model_len)
        needed = layout.max_blocks(max(1, max_model_len), chunk) * layout.block_bytes
        raise ConfigError(
            f"a request of max_model_len={max_model_len} tokens needs {format_bytes(needed)} of KV cache and "
            f"kv_cache_memory is {format_bytes(memory)}; raise kv_cache_memory"
            + (f", or lower max_model_len to {longest} (auto does so)" if longest else ""),
            param="max_model_len",
        )
    if budget is None:
        budget = default_budget if config.enable_chunked_prefill else max(default_budget, max_model_len)
        why["max_num_batched_tokens"] = "default" if config.enable_chunked_prefill else "holds the longest prompt whole"
    else:
        why["max_num_batched_tokens"] = "given"
        if not config.enable_chunked_prefill and budget < max_model_len:
            raise ConfigError(
                f"max_num_batched_tokens={budget} is less than max_model_len={max_model_len}, but without chunked "
                "prefill a prompt must fit one step; raise it, lower max_model_len, or enable_chunked_prefill",
                param="max_num_batched_tokens",
            )
    return max_model_len, budget


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest n ≤ `most` that fits, by bisection; 0 if none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
