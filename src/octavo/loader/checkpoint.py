"""A model on disk, whatever its format: its configuration and its tensors by name, one interface for all families."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from octavo.core.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from octavo.core.strenum import StrEnum
from octavo.core.weights import StoredWeight
from octavo.loader.file_endings import wrong_ending
from octavo.loader.gguf import GGUFFile, unsupported_types_error
from octavo.loader.json_file import read_json_object
from octavo.loader.safetensors import SafetensorsFiles
from octavo.loader.tensor_names import missing_tensor

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class CheckpointKind(StrEnum):
    GGUF = "gguf"
    SAFETENSORS = "safetensors"


class Checkpoint(Protocol):
    """An open model. Tensors are views of mapped files where they can be; they outlive `close`."""

    @property
    def kind(self) -> CheckpointKind: ...

    @property
    def path(self) -> Path:
        """The .gguf file, or the model's directory."""

    @property
    def architecture(self) -> str:
        """`general.architecture` of a GGUF file («llama»), `architectures[0]` of config.json («LlamaForCausalLM»)."""

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json; empty for GGUF."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The GGUF header's entries; empty for safetensors."""

    @property
    def generation_config(self) -> Mapping[str, Any]:
        """generation_config.json; empty where there is none."""

    @property
    def tensor_names(self) -> frozenset[str]: ...

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors as stored."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major. Raises `ModelFileError` where there is no such tensor, as do the two below."""

    def weight(self, name: str) -> StoredWeight:
        """The matrix `name`, (N, K)."""

    def tensor(self, name: str) -> "Tensor":
        """The dense tensor `name` of any rank, in the dtype of the file."""

    def content_key(self) -> str:
        """A SHA-256 that tells this checkpoint from others, wherever it lies.

        Over the kind, config.json, and for each weight file its header, size and time of change.
        It does not read the weights: an edit that keeps all of these goes unnoticed.
        """

    def release_pages(self) -> None:
        """Let what was read leave this process's memory: tensors no longer in use, at least. All can be read again."""

    def close(self) -> None:
        """Let go of the files. Idempotent."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .gguf file, or a directory with config.json and safetensors. O(headers).

    Raises `ModelNotFoundError`, `ModelFileError`, or `UnsupportedModelError`.
    """
    if path.is_dir():
        return SafetensorsCheckpoint(path)
    if path.suffix.lower() == ".gguf" and path.exists():
        return GGUFCheckpoint(path)
    if not path.exists():
        raise ModelNotFoundError(f"{path} does not exist; name a .gguf file or a model's directory", param="model")
    raise wrong_ending(path)


class GGUFCheckpoint:
    """One .gguf file. Its metadata is the configuration."""

    kind = CheckpointKind.GGUF
    config = _EMPTY
    generation_config = _EMPTY

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = GGUFFile.open(path)
        self.metadata: Mapping[str, Any] = MappingProxyType(self._file.metadata)
        self.architecture = self._file.architecture
        self.tensor_names = frozenset(self._file.tensors)
        self.num_bytes = sum(tensor.num_bytes for tensor in self._file.tensors.values())
        self._check_supported()

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self._file.tensors.get(name)
        if tensor is None:
            raise missing_tensor(self.path, name, self._file.tensors)
        return tensor.shape

    def weight(self, name: str) -> StoredWeight:
        return self._file.stored_weight(name)

    def tensor(self, name: str) -> "Tensor":
        return self._file.tensor(name)

    def content_key(self) -> str:
        digest = hashlib.sha256(b"octavo-checkpoint-v1\0gguf\0")
        _add_file(digest, self._file.header(), self.path)
        return digest.hexdigest()

    def release_pages(self) -> None:
        self._file.release_pages()

    def close(self) -> None:
        self._file.close()

    def _check_supported(self) -> None:
        content = self.metadata.get("general.type", "model")
        if not isinstance(content, str) or content != "model":
            raise UnsupportedModelError(
                f"{self.path} holds a {content!r:.60} (general.type), a model was expected; name the model's own file",
                param="general.type",
            )
        num_pieces = self.metadata.get("split.count", 1)
        if not isinstance(num_pieces, int) or num_pieces > 1:
            raise UnsupportedModelError(
                f"{self.path} is one of {num_pieces!r:.60} pieces of a split model; join them with "
                "«llama-gguf-split --merge FIRST OUTPUT»",
                param="split.count",
            )
        if not self.tensor_names:
            raise ModelFileError(f"{self.path} has no tensors; it holds a vocabulary only", param="model")
        if types := self._file.unsupported_types:
            raise unsupported_types_error(self.path, types)


class SafetensorsCheckpoint:
    """A directory as Hugging Face lays it out: config.json, *.safetensors, perhaps generation_config.json."""

    kind = CheckpointKind.SAFETENSORS
    metadata = _EMPTY

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: Mapping[str, Any] = MappingProxyType(_read_config(path))
        self.architecture = _architecture(path, self.config)
        generation = path / "generation_config.json"
        self.generation_config: Mapping[str, Any] = (
            MappingProxyType(read_json_object(generation)) if generation.exists() else _EMPTY
        )
        self._files = SafetensorsFiles(path)
        self.tensor_names = frozenset(self._files.entries)
        self.num_bytes = sum(entry.num_bytes for entry in self._files.entries.values())
        if not self.tensor_names:
            raise ModelFileError(f"{path}: its safetensors hold no tensors; download them again", param="model")

    def shape(self, name: str) -> tuple[int, ...]:
        entry = self._files.entries.get(name)
        if entry is None:
            raise missing_tensor(self.path, name, self._files.entries)
        return entry.shape

    def weight(self, name: str) -> StoredWeight:
        return self._files.stored_weight(name)

    def tensor(self, name: str) -> "Tensor":
        return self._files.tensor(name)

    def content_key(self) -> str:
        digest = hashlib.sha256(b"octavo-checkpoint-v1\0safetensors\0")
        config = self.path / "config.json"
        _add_file(digest, config.read_bytes(), config)
        for shard, header in self._files.headers.items():
            _add_file(digest, header, shard)
        return digest.hexdigest()

    def release_pages(self) -> None:
        self._files.close()  # opened again when asked for more

    def close(self) -> None:
        self._files.close()


def _add_file(digest: "hashlib._Hash", content: bytes, path: Path) -> None:
    status = path.stat()
    digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0{len(content)}\0".encode())
    digest.update(content)


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.exists():
        found = sorted(file.name for file in directory.glob("*.gguf"))
        remedy = f"name the file itself: {directory / found[0]}" if found else "download the model's config.json"
        raise ModelFileError(f"{directory} has no config.json; {remedy}", param="config.json")
    config = read_json_object(path)
    if "auto_map" in config:
        logger.info("%s: auto_map is ignored: code that comes with a model is never run", path)
    if config.get("quantization_config") is not None:
        settings = config["quantization_config"]
        method = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise UnsupportedModelError(
            f"{path}: the weights are quantised with {method!r:.60}, which Octavo does not read from safetensors; "
            "use the model's BF16 release, or a GGUF quantisation of it",
            param="quantization_config",
        )
    return config


def _architecture(directory: Path, config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str) and names[0]:
        return names[0]
    raise ModelFileError(
        f"{directory / 'config.json'}: architectures is {names!r:.80}, a list with the model class's name was "
        "expected; download the model's own config.json",
        param="architectures",
    )
