"""The composition root: from options to a running `EngineCore`."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from octavo import ops
from octavo.cache import CacheLayout, KVCacheManager, plan_layout
from octavo.config import EngineConfig, ModelFacts, ResolvedConfig, resolve
from octavo.config.env import cache_directory
from octavo.core.cache_spec import KVDtype
from octavo.core.errors import OctavoError
from octavo.engine.core import EngineCore
from octavo.engine.front_end import load_tokenizer
from octavo.engine.info import EngineInfo, OnFound, OnPhase
from octavo.engine.machine import inspect_machine
from octavo.loader.checkpoint import Checkpoint, open_checkpoint
from octavo.loader.fetch import resolve_model
from octavo.models.decoder import DecoderSpec
from octavo.models.registry import family_of, load_decoder, read_spec
from octavo.quantization import ActivationKind, AsStored, Int8Weights, LinearMethod, NarrowActivations
from octavo.scheduler import Scheduler, SchedulerLimits
from octavo.scheduler.policy import POLICIES
from octavo.tokenizer.grammar import Grammars
from octavo.worker import ModelRunner, RunnerLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _OpenModel:
    """A checkpoint, what its config asks for, and the options resolved for it."""

    path: Path
    checkpoint: Checkpoint
    spec: DecoderSpec
    facts: ModelFacts
    resolved: ResolvedConfig


def build_engine(
    config: EngineConfig,
    on_phase: OnPhase = lambda phase, share: None,
    on_found: OnFound = lambda path: None,
) -> tuple[EngineCore, EngineInfo]:
    """Find the model, resolve the options, load the weights, make the cache.

    Raises `ConfigError`, `ModelNotFoundError`, `ModelFileError` or `UnsupportedModelError`.
    """
    phases = _Phases(on_phase)
    phases.begin("find model")
    path = _find_model(config)
    on_found(path)
    phases.begin("open model")
    with _open_model(config, path) as model:
        spec, resolved = model.spec, model.resolved
        ops.set_num_threads(resolved.threads)
        phases.begin("load weights")
        device = torch.device(resolved.device)
        decoder = load_decoder(
            model.checkpoint,
            spec,
            _linear_method(resolved, device),
            max_position=resolved.max_model_len,
            device=device,
            on_layer=lambda layer: on_phase("load weights", (layer + 1) / len(spec.layers)),
        )
        phases.begin("make KV cache")
        layout = _cache_layout(spec, resolved.block_size, resolved.kv_cache_dtype)
        limits = RunnerLimits(
            max_num_batched_tokens=resolved.max_num_batched_tokens,
            max_num_seqs=resolved.max_num_seqs,
            num_threads=resolved.threads,
            enforce_eager=resolved.enforce_eager,
        )
        grammars = Grammars(lambda: load_tokenizer(model.path, cache_directory()))
        runner = ModelRunner(decoder, layout, resolved.num_blocks, device, limits, grammars)
        scheduler = _make_scheduler(resolved, layout)
        phases.end()
        info = _describe(config, model, phases.seconds)
    logger.debug("engine ready: %s, %s", info.model, ", ".join(f"{k} {v:.2f} s" for k, v in phases.seconds.items()))
    return EngineCore(scheduler, runner, grammars), info


def inspect_engine(config: EngineConfig) -> EngineInfo:
    """What `build_engine` would tell, without loading the weights. Raises as it does."""
    with _open_model(config, _find_model(config)) as model:
        return _describe(config, model, {})


def _find_model(config: EngineConfig) -> Path:
    """Where it is, once it has been fetched."""
    return resolve_model(config.model, cache_dir=cache_directory())


@contextmanager
def _open_model(config: EngineConfig, path: Path) -> Iterator[_OpenModel]:
    checkpoint = open_checkpoint(path)
    try:
        spec = read_spec(checkpoint)
        facts = ModelFacts(
            max_position=spec.max_position,
            weight_bytes=checkpoint.num_bytes,
            num_parameters=sum(math.prod(checkpoint.shape(name)) for name in checkpoint.tensor_names),
            cache_layout=lambda block_size, dtype: _cache_layout(spec, block_size, dtype),
            weight_formats=_weight_formats(checkpoint),
        )
        yield _OpenModel(path, checkpoint, spec, facts, resolve(config, facts, inspect_machine()))
    finally:
        checkpoint.close()


def _weight_formats(checkpoint: Checkpoint) -> dict[str, int]:
    """Of the matrices: format → bytes."""
    formats: dict[str, int] = {}
    for name in checkpoint.tensor_names:
        if len(checkpoint.shape(name)) == 2:
            with suppress(OctavoError):  # an integer table, say: it has no weight's format
                weight = checkpoint.weight(name)
                formats[str(weight.format)] = formats.get(str(weight.format), 0) + weight.num_bytes
    return formats


class _Phases:
    """Times the phases of the start and tells of them."""

    def __init__(self, on_phase: OnPhase) -> None:
        self.seconds: dict[str, float] = {}
        self._on_phase = on_phase
        self._name = ""
        self._start = 0.0

    def begin(self, name: str) -> None:
        self.end()
        self._name, self._start = name, time.perf_counter()
        self._on_phase(name, 0.0)

    def end(self) -> None:
        if self._name:
            self.seconds[self._name] = time.perf_counter() - self._start
            self._on_phase(self._name, 1.0)
            self._name = ""


def _linear_method(resolved: ResolvedConfig, device: torch.device) -> LinearMethod:
    dtype = torch.bfloat16 if resolved.linear_activations == "bf16" else getattr(torch, resolved.dtype)
    as_stored = AsStored(device, dtype)
    method: LinearMethod = as_stored
    if resolved.linear_activations != "native":
        method = NarrowActivations(as_stored, ActivationKind(resolved.linear_activations))
    return Int8Weights(method) if resolved.quantization == "int8" else method


def _cache_layout(spec: DecoderSpec, block_size: int, dtype: KVDtype) -> CacheLayout:
    return plan_layout(spec.cache_specs(block_size, dtype))


def _make_scheduler(resolved: ResolvedConfig, layout: CacheLayout) -> Scheduler:
    limits = SchedulerLimits(
        max_num_seqs=resolved.max_num_seqs,
        max_num_batched_tokens=resolved.max_num_batched_tokens,
        enable_chunked_prefill=resolved.enable_chunked_prefill,
        is_static=resolved.batching == "static",
    )
    cache = KVCacheManager(layout, resolved.num_blocks, enable_prefix_caching=resolved.enable_prefix_caching)
    return Scheduler(limits, cache, POLICIES[resolved.scheduling_policy]())


def _describe(config: EngineConfig, model: _OpenModel, start_phases_s: dict[str, float]) -> EngineInfo:
    checkpoint, spec, resolved = model.checkpoint, model.spec, model.resolved
    options = {name: value for name, value in msgspec.to_builtins(resolved).items() if name != "reasons"}
    return EngineInfo(
        model=config.model,
        model_path=str(model.path),
        family=family_of(checkpoint).name,
        architecture=checkpoint.architecture,
        vocab_size=spec.vocab_size,
        num_layers=len(spec.layers),
        num_parameters=model.facts.num_parameters,
        weight_bytes=checkpoint.num_bytes,
        weight_formats=dict(model.facts.weight_formats),
        max_model_len=resolved.max_model_len,
        max_num_seqs=resolved.max_num_seqs,
        max_num_queued_reqs=resolved.max_num_queued_reqs,
        max_num_batched_tokens=resolved.max_num_batched_tokens,
        num_blocks=resolved.num_blocks,
        block_size=resolved.block_size,
        has_priorities=resolved.scheduling_policy == "priority",
        seed=resolved.seed,
        isa=ops.isa(),
        options=options,
        reasons=dict(resolved.reasons),
        start_phases_s=start_phases_s,
    )
