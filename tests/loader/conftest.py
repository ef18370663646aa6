"""Makers of small model files, sound ones and every kind of broken one."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

U32, STRING, ARRAY = 4, 8, 9


def gguf_string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


@dataclass
class GGUFBuilder:
    """A GGUF file put together byte by byte, so that any field can be wrong."""

    magic: bytes = b"GGUF"
    version: int = 3
    alignment: int = 32
    num_tensors: int | None = None
    num_entries: int | None = None
    entries: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    data: bytes = b""

    def entry(self, key: str | bytes, kind: int, payload: bytes) -> "GGUFBuilder":
        self.entries.append(gguf_string(key) + struct.pack("<I", kind) + payload)
        return self

    def array(self, key: str, kind: int, count: int, payload: bytes) -> "GGUFBuilder":
        return self.entry(key, ARRAY, struct.pack("<IQ", kind, count) + payload)

    def tensor(self, name: str | bytes, dims: list[int], code: int, offset: int) -> "GGUFBuilder":
        """`dims` as ggml has them, fastest first."""
        shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        self.tensors.append(gguf_string(name) + shape + struct.pack("<IQ", code, offset))
        return self

    def build(self) -> bytes:
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_entries = len(self.entries) if self.num_entries is None else self.num_entries
        head = self.magic + struct.pack("<IQQ", self.version, num_tensors, num_entries)
        head += b"".join(self.entries) + b"".join(self.tensors)
        return head + bytes(-len(head) % self.alignment) + self.data


@pytest.fixture
def builder() -> GGUFBuilder:
    """A sound file: an architecture, a vocabulary, an F32 vector «norm» and a Q8_0 matrix «weight» of (2, 64)."""
    builder = GGUFBuilder()
    builder.entry("general.architecture", STRING, gguf_string("llama"))
    builder.entry("llama.block_count", U32, struct.pack("<I", 1))
    builder.array("tokens", STRING, 3, gguf_string("a") + gguf_string("é") + gguf_string(""))
    builder.array("scores", 6, 3, struct.pack("<3f", 0.0, -1.0, -2.0))
    builder.tensor("norm", [8], 0, 0)
    builder.tensor("weight", [64, 2], 8, 32)
    builder.data = struct.pack("<8f", *range(8)) + bytes(range(136))
    return builder


MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Write a safetensors model directory; more than one mapping of tensors makes shards and an index."""

    def make(*shards: dict[str, torch.Tensor], config: object = None) -> Path:
        directory = tmp_path / "model"
        directory.mkdir(exist_ok=True)
        text = json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 4} if config is None else config)
        (directory / "config.json").write_text(text)
        if len(shards) == 1:
            save_file(shards[0], directory / "model.safetensors")
            return directory
        weight_map = {}
        for number, tensors in enumerate(shards):
            name = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
            save_file(tensors, directory / name)
            weight_map.update(dict.fromkeys(tensors, name))
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return directory

    return make
