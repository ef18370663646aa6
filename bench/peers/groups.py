"""What is compared: models, engines with their files and settings, and rows of work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

CACHE = Path.home() / ".cache" / "octavo"
PEERS = CACHE / "peers"
CONVERTED = PEERS / "models"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """`body` leaves out the embedding: a prompt's tokens are multiplied with the rest, the last one with the head too."""

    gguf: Path
    vocab_size: int
    num_body_parameters: int
    num_embedding_parameters: int
    prompt: Sequence[int]
    """«The capital of France is Paris, a city on the river Seine, where about two million», 19 tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    name: str
    worker: str
    """`<worker>_worker.py`, run in the environment of that name; Octavo's is run in this one."""
    file: Path
    """What it loads: a file, or a directory."""
    weights: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_octavo(self) -> bool:
        return self.worker == "octavo"

    @property
    def weight_bytes(self) -> int:
        """Of the file, or of the weight files in the directory; OSError where there are none."""
        if self.file.is_file():
            return self.file.stat().st_size
        return sum(file.stat().st_size for file in self.file.iterdir() if _holds_weights(file))


def _holds_weights(file: Path) -> bool:
    return file.suffix == ".safetensors" or file.name == "openvino_model.bin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    name: str
    batch: int
    input_len: int
    output_len: int

    @property
    def is_decode(self) -> bool:
        return self.output_len > 1


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "smollm2": Model(
            gguf=CACHE / "models" / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf",
            vocab_size=49_152,
            num_body_parameters=106_203_456,
            num_embedding_parameters=28_311_552,
            prompt=(504, 3575, 282, 4649, 314, 7042, 28, 253, 2240, 335, 260, 4626, 1268, 462, 28, 837, 563, 827, 2215),
        ),
        "gemma3-270m": Model(
            gguf=CACHE / "models" / "gemma3-270m" / "gemma-3-270m-q4_k_m.gguf",
            vocab_size=262_144,
            num_body_parameters=100_326_016,
            num_embedding_parameters=167_772_160,
            prompt=(
                *(2, 818, 5279, 529, 7001, 563, 9079, 236764, 496, 3207),
                *(580, 506, 8858, 69598, 236764, 1298, 1003, 1156, 3625),
            ),
        ),
    }
)


def _converted(model: str) -> dict[str, Engine]:
    """The engines that do not read the GGUF file."""
    bf16, int8 = CONVERTED / f"{model}-bf16", CONVERTED / f"{model}-openvino-int8"
    return {
        "openvino": Engine(name="OpenVINO int8", worker="openvino", file=int8, weights="int8 a channel"),
        "vllm": Engine(name="vLLM bf16", worker="vllm", file=bf16, weights="bf16"),
        "transformers": Engine(
            name="transformers bf16",
            worker="transformers",
            file=bf16,
            weights="bf16",
            options={"dtype": "bfloat16"},
        ),
    }


def _from_gguf(model: str, weights: str) -> dict[str, Engine]:
    """Octavo and llama.cpp read the same file; Q4_0 is the format that llama.cpp does best."""
    gguf = MODELS[model].gguf
    return {
        "octavo": Engine(name="Octavo", worker="octavo", file=gguf, weights=weights),
        "octavo-int8": Engine(
            name="Octavo, int8 activations",
            worker="octavo",
            file=gguf,
            weights=weights,
            options={"linear_activations": "int8"},
        ),
        "llama": Engine(name="llama.cpp", worker="llama_cpp", file=gguf, weights=weights),
        "llama-q4_0": Engine(
            name="llama.cpp Q4_0",
            worker="llama_cpp",
            file=CONVERTED / f"{model}-Q4_0.gguf",
            weights="Q4_0 made of the same file",
        ),
        **_converted(model),
    }


def _from_bf16(model: str) -> dict[str, Engine]:
    bf16 = CONVERTED / f"{model}-bf16"
    return {
        "octavo": Engine(name="Octavo", worker="octavo", file=bf16, weights="bf16"),
        "octavo-int8": Engine(
            name="Octavo int8",
            worker="octavo",
            file=bf16,
            weights="bf16, packed to int8 at load",
            options={"quantization": "int8"},
        ),
        **_converted(model),
        "transformers-fp32": Engine(
            name="transformers fp32",
            worker="transformers",
            file=bf16,
            weights="bf16, widened at load",
            options={"dtype": "float32"},
        ),
    }


MODEL_OF_GROUP: Mapping[str, str] = MappingProxyType(
    {"smollm2": "smollm2", "gemma3-270m": "gemma3-270m", "smollm2-bf16": "smollm2"}
)

GROUPS: Mapping[str, Mapping[str, Engine]] = MappingProxyType(
    {
        "smollm2": _from_gguf("smollm2", "Q4_1 and Q8_0"),
        "gemma3-270m": _from_gguf("gemma3-270m", "Q4_K and others up to Q8_0"),
        "smollm2-bf16": _from_bf16("smollm2"),
    }
)

ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "decode1": Row(name="decode, 1 request", batch=1, input_len=512, output_len=128),
        "decode8": Row(name="decode, 8 requests", batch=8, input_len=128, output_len=128),
        "decode32": Row(name="decode, 32 requests", batch=32, input_len=128, output_len=128),
        "prefill1": Row(name="prefill, 1 prompt", batch=1, input_len=512, output_len=1),
        "prefill16": Row(name="prefill, 16 prompts", batch=16, input_len=512, output_len=1),
    }
)

QUICK_ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "decode1": Row(name="decode, 1 request", batch=1, input_len=64, output_len=24),
        "decode8": Row(name="decode, 8 requests", batch=8, input_len=32, output_len=12),
        "decode32": Row(name="decode, 32 requests", batch=32, input_len=16, output_len=8),
        "prefill1": Row(name="prefill, 1 prompt", batch=1, input_len=128, output_len=1),
        "prefill16": Row(name="prefill, 16 prompts", batch=16, input_len=64, output_len=1),
    }
)
"""To try the tool, not to measure with."""
