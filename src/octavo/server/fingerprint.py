"""`system_fingerprint`: equal fingerprints and seeds mean equal outputs."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import octavo

if TYPE_CHECKING:
    from octavo.engine.info import EngineInfo

_WEIGHT_SUFFIXES = (".gguf", ".safetensors", ".json")
_NUM_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16


def system_fingerprint(info: "EngineInfo") -> str:
    """A key of weights, types and build.

    Of the weights' files it covers names, sizes and sixteen samples of 64 KiB each, evenly spread: a
    fine-tuned copy differs nearly everywhere, and reading all of it would delay the start by seconds.
    """
    key = hashlib.sha256()
    facts = {
        "version": octavo.__version__,
        "isa": info.isa,
        "architecture": info.architecture,
        "num_parameters": info.num_parameters,
        "weight_bytes": info.weight_bytes,
        "options": {
            name: info.options.get(name)
            for name in ("device", "dtype", "kv_cache_dtype", "linear_activations", "quantization")
        },
    }
    key.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for file in _weight_files(Path(info.model_path)):
        key.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
        _add_samples(key, file)
    return f"fp_{key.hexdigest()[:16]}"


def _weight_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in _WEIGHT_SUFFIXES and file.is_file())
    return [path] if path.is_file() else []


def _add_samples(key: "hashlib._Hash", file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= _NUM_SAMPLES * _SAMPLE_BYTES:
            key.update(stream.read())
            return
        for index in range(_NUM_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * index // (_NUM_SAMPLES - 1))
            key.update(stream.read(_SAMPLE_BYTES))
