"""The engine's options as a person gives them: one table from which `LLM(...)` and the command line are made."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from octavo.config.options import check_option, option_field
from octavo.config.quantities import parse_quantity
from octavo.core.errors import ConfigError, NotBuiltError
from octavo.core.near_names import did_you_mean

DEFAULT_MODEL = "smollm2"
"""An alias of `octavo.loader.aliases`."""
STALL_TIMEOUT_S = 120.0
"""A step of 512 prompt tokens at 4.3 tokens/s, far less than 8 billion weights leave two cores, is still legal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Engine options, checked one by one; `resolve` fills in what is `auto` or None.

    Raises `ConfigError` for a value out of range and `NotBuiltError`, by name, for what the field
    knows but Octavo does not do yet.
    """

    model: str = option_field(DEFAULT_MODEL, "A model: alias, directory, .gguf file or Hugging Face repository id.")
    device: str = option_field("auto", "Where to run.", choices=("auto", "cpu", "cuda"))
    dtype: str = option_field(
        "auto",
        "Type of activations; weights stay as stored. On a CPU: float32; given, the KV cache has it too.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    kv_cache_dtype: str = option_field(
        "auto",
        "Type of cached keys and values; auto: bf16 on a CPU, else that of the activations.",
        choices=("auto", "fp32", "bf16", "fp16", "fp8", "int8"),
        not_built_values=("fp8", "int8"),
    )
    linear_activations: str = option_field(
        "auto",
        "What packed weights are multiplied with; auto: bf16 on a CPU with AMX, int8 on others; native: for exact comparison.",
        choices=("auto", "native", "int8", "bf16"),
    )
    max_model_len: int | str | None = option_field(
        None, "Longest prompt + output, in tokens; default: the model's context; auto: what fits in memory."
    )
    max_num_batched_tokens: int | str | None = option_field(
        None, "Token budget of one step; default: 512 on a CPU, 2048 on a GPU."
    )
    max_num_seqs: int = option_field(256, "Most requests in one step.")
    max_num_queued_reqs: int = option_field(
        512, "Most sequences that may wait, beyond max_num_seqs; further ones are refused."
    )
    kv_cache_memory: int | str | None = option_field(
        None, "Memory for keys and values, in bytes (512M, 4G); default: a quarter of what is available."
    )
    gpu_memory_utilization: float | None = option_field(None, "Share of a GPU's memory to use (0.9); on a GPU only.")
    block_size: int = option_field(16, "Tokens a KV block.")
    enable_prefix_caching: bool = option_field(True, "Keep computed prefixes and share them between requests.")
    enable_chunked_prefill: bool = option_field(True, "Compute long prompts in chunks; off: a prompt in one step.")
    batching: str = option_field(
        "continuous",
        "static runs each batch to its end: the baseline to compare with.",
        choices=("continuous", "static"),
    )
    scheduling_policy: str = option_field(
        "fcfs",
        "Who is served first: by arrival, by the field priority, or the client that was given the fewest tokens.",
        choices=("fcfs", "priority", "fair"),
    )
    threads: int | None = option_field(None, "CPU threads; default: the cores this process may use.")
    enforce_eager: bool = option_field(False, "Compute op by op instead of replaying a recorded pass; same results.")
    seed: int | None = option_field(None, "Makes requests without a seed of their own repeatable.")
    chat_template: str | None = option_field(None, "A file with a Jinja chat template, instead of the model's own.")
    skip_tokenizer_init: bool = option_field(False, "Token ids in and out; no tokenizer is loaded.")
    quantization: str | None = option_field(
        None,
        "int8 makes F32, F16 and BF16 weights bytes at load, one scale an output feature; weights that a file holds "
        "quantised (GGUF) stay as they are. Default: all stay as stored.",
        choices=("int8",),
    )
    tensor_parallel_size: int = option_field(1, "GPUs that share each layer.", not_built=True)
    pipeline_parallel_size: int = option_field(1, "GPUs that share the layers out.", not_built=True)
    data_parallel_size: int = option_field(1, "Copies of the engine.", not_built=True)
    enable_lora: bool = option_field(False, "Serve LoRA adapters.", not_built=True)
    lora_modules: str | None = option_field(None, "LoRA adapters, name=path.", not_built=True)
    max_loras: int | None = option_field(None, "Most adapters in one step.", not_built=True)
    max_lora_rank: int | None = option_field(None, "Largest adapter rank.", not_built=True)
    speculative_config: str | None = option_field(None, "Speculative decoding, as JSON.", not_built=True)
    limit_mm_per_prompt: str | None = option_field(None, "Most images a prompt, image=8.", not_built=True)
    batch_invariant: bool = option_field(
        False, "Bitwise batch invariance on a GPU; on a CPU it always holds.", not_built=True
    )
    trust_remote_code: bool = option_field(False, "Always an error: code that comes with a model is never run.")

    def __post_init__(self) -> None:
        for option in fields(self):
            check_option(option, getattr(self, option.name))
        if self.trust_remote_code:
            raise ConfigError(
                "trust_remote_code: code that comes with a model is never run; leave the option out, and use a "
                "model whose architecture `octavo models` lists",
                param="trust_remote_code",
            )
        if self.chat_template is not None and self.skip_tokenizer_init:
            raise ConfigError(
                "chat_template has no use with skip_tokenizer_init, which loads no tokenizer; leave one of them out",
                param="chat_template",
            )
        self._check_not_built()
        self._check_numbers()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "EngineConfig":
        """From keyword options; an unknown name raises `ConfigError` with the nearest known one."""
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known:
                hint = did_you_mean(name, known) or f"options are {', '.join(known)}"
                raise ConfigError(f"unknown option {name}; {hint}", param=name)
        return cls(**options)

    def _check_not_built(self) -> None:
        for option in fields(self):
            if option.metadata["not_built"] and getattr(self, option.name) != option.default:
                raise NotBuiltError(
                    f"--{option.name.replace('_', '-')} is not built yet; leave it out", param=option.name
                )
            built = [
                choice for choice in option.metadata["choices"] if choice not in option.metadata["not_built_values"]
            ]
            value = getattr(self, option.name)
            if value in option.metadata["not_built_values"]:
                flag = option.name.replace("_", "-")
                raise NotBuiltError(f"--{flag} {value} is not built yet; use {', '.join(built)}", param=option.name)

    def _check_numbers(self) -> None:
        _within("max_num_seqs", self.max_num_seqs, 1, 65_536)
        _within("max_num_queued_reqs", self.max_num_queued_reqs, 0, 1 << 20)
        _within("block_size", self.block_size, 1, 1024)
        if self.threads is not None:
            _within("threads", self.threads, 1, 1024)
        if self.seed is not None:
            _within("seed", self.seed, 0, (1 << 63) - 1)
        if self.max_model_len is not None and self.max_model_len != "auto":
            _within("max_model_len", parse_quantity("max_model_len", self.max_model_len), 1, 1 << 31)
        if self.max_num_batched_tokens is not None:
            tokens = parse_quantity("max_num_batched_tokens", self.max_num_batched_tokens)
            _within("max_num_batched_tokens", tokens, 1, 1 << 24)
        if self.kv_cache_memory is not None:
            _within("kv_cache_memory", parse_quantity("kv_cache_memory", self.kv_cache_memory), 1, 1 << 50)
        share = self.gpu_memory_utilization
        if share is not None and not 0.0 < share <= 1.0:
            raise ConfigError(f"gpu_memory_utilization={share} is not in (0, 1]", param="gpu_memory_utilization")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is not in {low} … {high}", param=name)
