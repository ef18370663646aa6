"""What the techniques are tried on: one model, with one set of options, and work of given sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octavo.bench.techniques.sizes import Sizes, fit_sizes
from octavo.cache import CacheLayout, plan_layout
from octavo.config import EngineConfig
from octavo.core.cache_spec import KVDtype
from octavo.core.errors import NotBuiltError
from octavo.engine.build import build_engine, inspect_engine
from octavo.engine.core import EngineCore
from octavo.engine.info import EngineInfo
from octavo.loader.checkpoint import open_checkpoint
from octavo.models.decoder import DecoderSpec
from octavo.models.registry import read_spec


@dataclass(frozen=True, slots=True)
class Subject:
    config: EngineConfig
    info: EngineInfo
    """As the options resolve, before any technique changes them."""
    spec: DecoderSpec
    sizes: Sizes

    def engine(self, **changes: Any) -> EngineCore:
        """A new engine with some options changed. Raises as `build_engine` does."""
        core, _ = build_engine(replace(self.config, **changes))
        return core

    @property
    def layout(self) -> CacheLayout:
        """Of the KV cache."""
        dtype = KVDtype(self.info.options["kv_cache_dtype"])
        return plan_layout(self.spec.cache_specs(self.info.block_size, dtype))

    @property
    def token_bytes(self) -> int:
        """Of keys and values that one token adds over all layers."""
        dtype = KVDtype(self.info.options["kv_cache_dtype"])
        return (
            sum(spec.block_bytes for spec in self.spec.cache_specs(self.info.block_size, dtype)) // self.info.block_size
        )

    @property
    def step_tokens(self) -> int:
        """The token budget of one step."""
        return int(self.info.options["max_num_batched_tokens"])


def open_subject(config: EngineConfig, sizes: Mapping[str, int | None]) -> Subject:
    """Look at the model without loading its weights. Raises `ConfigError` and what `inspect_engine` does."""
    info = inspect_engine(config)
    if info.options["device"] != "cpu":
        raise NotBuiltError(
            f"comparing techniques on {info.options['device']}, which needs two engines at once, is not built yet; "
            "use device=cpu",
            param="device",
        )
    checkpoint = open_checkpoint(Path(info.model_path))
    try:
        spec = read_spec(checkpoint)
    finally:
        checkpoint.close()
    return Subject(config, info, spec, fit_sizes(info.max_model_len, sizes))
