"""What each `auto` becomes, and which options are refused because they would do nothing."""

from typing import Any

import pytest

from octavo.config import EngineConfig, MachineFacts, ModelFacts, resolve
from octavo.core.errors import ConfigError


class Cache:
    """A block of one layer."""

    block_bytes = 1024

    def __getattr__(self, name: str) -> Any:
        return lambda *args: 1


def resolved(formats: tuple[str, ...] = ("Q4_1",), machine: dict[str, Any] | None = None, **options: Any) -> Any:
    model = ModelFacts(
        max_position=2048,
        weight_bytes=1 << 20,
        num_parameters=1 << 20,
        cache_layout=lambda block_size, dtype: Cache(),
        weight_formats=dict.fromkeys(formats, 1),
    )
    facts = MachineFacts(num_cores=2, available_memory_bytes=1 << 30, **(machine or {}))
    return resolve(EngineConfig(model="m", device="cpu", **options), model, facts)


@pytest.mark.parametrize(
    ("machine", "kind", "reason"),
    [
        ({"has_bf16_tiles": True}, "bf16", "AMX"),
        ({}, "int8", "products of bytes"),
        ({"has_fast_bytes": False}, "native", "no fast products of bytes"),
    ],
)
def test_activations_are_what_the_kernels_in_use_are_best_at(machine: dict[str, Any], kind: str, reason: str) -> None:
    config = resolved(machine=machine)
    assert config.linear_activations == kind
    assert reason in config.reasons["linear_activations"]
    assert resolved(machine=machine, linear_activations="int8").linear_activations == "int8"


def test_bf16_activations_need_tiles() -> None:
    with pytest.raises(ConfigError, match="needs AMX, which this CPU does not have, or OCTAVO_ISA rules out"):
        resolved(linear_activations="bf16")


def test_an_option_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"quantization=int8 has no effect: .* already \(Q4_1, Q8_0\); leave it out"):
        resolved(("Q8_0", "Q4_1"), quantization="int8")
    with pytest.raises(ConfigError, match="linear_activations=int8 has no effect: the model's weights are BF16"):
        resolved(("BF16",), linear_activations="int8")
    tiles = {"has_bf16_tiles": True}
    with pytest.raises(ConfigError, match="linear_activations=bf16 has no effect: the model's weights are F32"):
        resolved(("F32",), machine=tiles, linear_activations="bf16")
    assert resolved(("F32",), machine=tiles, linear_activations="bf16", quantization="int8").quantization == "int8"
    assert resolved(("F32", "BF16"), machine=tiles, linear_activations="bf16").linear_activations == "bf16"
    assert resolved(("BF16",), linear_activations="int8", quantization="int8").quantization == "int8"
    assert resolved(("BF16", "Q4_1"), linear_activations="int8", quantization="int8").linear_activations == "int8"
