"""Safetensors weights, one file or several under an index, read through the `safetensors` library.

A file is: u64 length of the header, the header (JSON: name → dtype, shape, [begin, end)), then the
data, little-endian. The header is checked here before the library maps the data.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.core.weights import StoredWeight, WeightFormat
from octavo.loader.file_endings import PICKLE_ENDINGS
from octavo.loader.json_file import MAX_JSON_BYTES, parse_json_object, read_json_object
from octavo.loader.tensor_names import missing_tensor, printable

if TYPE_CHECKING:
    from torch import Tensor

INDEX_NAME = "model.safetensors.index.json"
_MAX_TENSORS = 65_536  # in one file

_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "C64": 64, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
_FORMATS = {"F32": WeightFormat.F32, "F16": WeightFormat.F16, "BF16": WeightFormat.BF16}


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsEntry:
    """One tensor: the file that holds it, and what that file's header says of it."""

    name: str
    shard: Path
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


class SafetensorsFiles:
    """The tensors of a model directory's safetensors files, as if they were one file.

    What it hands out is memory-mapped where the library can; it stays valid after `close`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.headers: dict[Path, bytes] = {}
        """Shard → its header's bytes."""
        self._handles: dict[Path, Any] = {}
        self.entries: Mapping[str, SafetensorsEntry] = MappingProxyType(self._read_entries())

    def stored_weight(self, name: str) -> StoredWeight:
        """The matrix `name`, (N, K)."""
        entry = self._find(name)
        if len(entry.shape) != 2:
            raise ModelFileError(
                f"{entry.shard}: tensor {name!r} has shape {entry.shape}, a matrix (N, K) was expected; "
                "the file does not fit its config.json: download it again",
                param=name,
            )
        num_rows, num_columns = entry.shape
        return StoredWeight(
            data=self.tensor(name), format=_FORMATS[entry.dtype], out_features=num_rows, in_features=num_columns
        )

    def tensor(self, name: str) -> "Tensor":
        """The tensor `name` of any rank, in the dtype of the file (F32, F16 or BF16)."""
        entry = self._find(name)
        if entry.dtype not in _FORMATS:
            raise UnsupportedModelError(
                f"{entry.shard}: tensor {name!r} is stored as {entry.dtype}; {', '.join(_FORMATS)} are supported: "
                "use the model's BF16 release, or a GGUF quantisation of it",
                param=name,
            )
        if 0 in entry.shape:
            raise ModelFileError(f"{entry.shard}: tensor {name!r} is empty, its shape is {entry.shape}", param=name)
        from safetensors import SafetensorError

        try:
            data: Tensor = self._open(entry.shard).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{entry.shard}: tensor {name!r} cannot be read: {error}", param=name) from error
        return data

    def close(self) -> None:
        """Let go of the files."""
        self._handles.clear()

    def _find(self, name: str) -> SafetensorsEntry:
        entry = self.entries.get(name)
        if entry is None:
            raise missing_tensor(self.directory, name, self.entries)
        return entry

    def _open(self, shard: Path) -> Any:
        """The library's handle, which checks that the tensors tile the data exactly."""
        if shard not in self._handles:
            from safetensors import safe_open

            self._handles[shard] = safe_open(shard, framework="pt", device="cpu")
        return self._handles[shard]

    def _read_entries(self) -> dict[str, SafetensorsEntry]:
        index = self.directory / INDEX_NAME
        if not index.exists():
            return self._read_shard(find_single_file(self.directory))
        return self._read_shards(index)

    def _read_shards(self, index: Path) -> dict[str, SafetensorsEntry]:
        """The union of all shards; each tensor must be in the shard that the index names, and only there."""
        weight_map = read_json_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelFileError(f"{index}: it has no weight_map; download it again", param="weight_map")
        entries: dict[str, SafetensorsEntry] = {}
        for shard_name in sorted({_shard_name(index, value) for value in weight_map.values()}):
            shard = self.directory / shard_name
            if not shard.is_file():
                raise ModelFileError(f"{index}: it names {shard_name}, which is missing; download it", param=shard_name)
            for name, entry in self._read_shard(shard).items():
                if name in entries:
                    raise ModelFileError(
                        f"{shard}: tensor {printable(name)} is also in {entries[name].shard.name}; download both again",
                        param=printable(name),
                    )
                entries[name] = entry
        for name, shard_name in weight_map.items():
            if name not in entries or entries[name].shard.name != shard_name:
                raise ModelFileError(
                    f"{index}: it promises tensor {printable(name)} in {shard_name}, which does not hold it; "
                    "index and shards are of different versions: download all again",
                    param=printable(name),
                )
        return entries

    def _read_shard(self, shard: Path) -> dict[str, SafetensorsEntry]:
        header = _read_header(shard)
        self.headers[shard] = header
        fields = parse_json_object(header, what=f"{shard}: its header", param="header")
        if len(fields) > _MAX_TENSORS:
            raise ModelFileError(
                f"{shard} has {len(fields)} tensors, at most {_MAX_TENSORS} are allowed", param="header"
            )
        data_bytes = shard.stat().st_size - 8 - len(header)
        entries = {
            name: _entry(shard, name, value, data_bytes) for name, value in fields.items() if name != "__metadata__"
        }
        from safetensors import SafetensorError

        try:
            self._open(shard)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{shard}: {error}; download it again", param="header") from error
        return entries


def find_single_file(directory: Path) -> Path:
    """The one safetensors file of a directory without an index; a typed error where there is none, or no one."""
    preferred = directory / "model.safetensors"
    if preferred.is_file():
        return preferred
    found = sorted(path for path in directory.glob("*.safetensors") if path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise ModelFileError(
            f"{directory} has {len(found)} safetensors files ({names}) and no {INDEX_NAME}; download the index",
            param="model",
        )
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLE_ENDINGS)
    if pickled:
        raise UnsupportedModelError(
            f"{directory} has its weights as {', '.join(pickled[:5])}, a pickle, which can run any code when it is "
            "read; Octavo never reads one: use the model's safetensors release, or convert it where you trust it "
            "(transformers: model.save_pretrained(directory))",
            param="model",
        )
    raise ModelFileError(f"{directory} has no weights; *.safetensors or a .gguf file is needed", param="model")


def _read_header(shard: Path) -> bytes:
    try:
        with shard.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise ModelFileError(f"{shard} is truncated: it has {len(prefix)} bytes", param="header")
            (length,) = struct.unpack("<Q", prefix)
            left = shard.stat().st_size - 8
            if length > min(left, MAX_JSON_BYTES):
                raise ModelFileError(
                    f"{shard}: its header claims {length} bytes, at most {min(left, MAX_JSON_BYTES)} are possible; "
                    "the file is truncated or no safetensors file: download it again",
                    param="header",
                )
            header = file.read(length)
    except OSError as error:
        raise ModelFileError(f"{shard} cannot be read: {error.strerror or error}", param=shard.name) from error
    if len(header) < length:
        raise ModelFileError(f"{shard} is truncated inside its header; download it again", param="header")
    return header


def _entry(shard: Path, name: str, value: Any, data_bytes: int) -> SafetensorsEntry:
    """One header entry, checked by itself; the library checks how the tensors lie to each other."""

    def error(problem: str) -> ModelFileError:
        return ModelFileError(f"{shard}: tensor {printable(name)}: {problem}; download it again", param=printable(name))

    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise error("its entry must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BITS:
        raise error(f"dtype {dtype!r:.80} is not one that safetensors defines")
    if not _is_counts(shape) or len(shape) > 16:
        raise error(f"shape {shape!r:.80} is not a list of at most 16 sizes")
    if not _is_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_bytes:
        raise error(f"data_offsets {offsets!r:.80} do not lie within the {data_bytes} bytes of data")
    num_bytes = offsets[1] - offsets[0]
    if prod(shape) * _ITEM_BITS[dtype] != num_bytes * 8:
        raise error(f"shape {shape} of {dtype} does not take the {num_bytes} bytes that data_offsets give it")
    return SafetensorsEntry(name=name, shard=shard, dtype=dtype, shape=tuple(shape), num_bytes=num_bytes)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _shard_name(index: Path, value: Any) -> str:
    """A plain file name: an index must not reach outside its directory."""
    if not isinstance(value, str) or Path(value).name != value or not value.endswith(".safetensors"):
        raise ModelFileError(
            f"{index}: the shard {value!r:.120} is not the name of a .safetensors file beside it", param="weight_map"
        )
    return value
