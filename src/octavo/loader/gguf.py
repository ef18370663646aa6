"""GGUF files: one mapped file of metadata and tensors, every header field checked before it is used.

ggml lists dimensions fastest first; here a shape is row-major, so a weight is (N, K) as elsewhere.
"""

import mmap
import os
import sys
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.core.weights import StoredWeight, WeightFormat
from octavo.loader.ggml_types import FORMATS, UNSUPPORTED_NAMES
from octavo.loader.gguf_header import MAX_KEY_BYTES, HeaderCursor, ValueType
from octavo.loader.tensor_names import missing_tensor, printable

if TYPE_CHECKING:
    from torch import Tensor

_MAGIC = 0x46554747  # "GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_RANK = 4
_MAX_TENSOR_NAME_BYTES = 255
_MAP_NORESERVE = 0x4000  # Linux; Python names it from 3.13 on


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFTensor:
    """Where one tensor lies. `format` is None, and `num_bytes` 0, for a ggml type Octavo does not know."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    format: WeightFormat | None
    offset: int
    """Bytes from the start of the file."""
    num_bytes: int


class GGUFFile:
    """An open GGUF file. Tensors it hands out are views of the mapped file, private to this process.

    They stay valid after `close`, which only drops this object's hold on the mapping. Nobody may
    truncate the file while it is mapped: the system answers that with SIGBUS.
    """

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        self.path = path
        self._mapping: mmap.mmap | None = mapping
        cursor = HeaderCursor(mapping, file_name=str(path))
        self.version = _read_version(cursor)
        num_tensors = cursor.num_tensors()
        num_entries = cursor.num_entries()
        self.metadata: dict[str, Any] = _read_metadata(cursor, num_entries)
        self.alignment = _alignment(cursor, self.metadata)
        self.tensors: dict[str, GGUFTensor] = _read_tensors(cursor, num_tensors, self.alignment, len(mapping))
        self.header_bytes = cursor.position
        """Bytes before the padding that precedes the tensor data."""

    @classmethod
    def open(cls, path: Path) -> "GGUFFile":
        """Map the file and check its header. O(header), not O(file). Raises `ModelFileError`."""
        mapping = _map(path)
        try:
            return cls(path, mapping)
        except BaseException:
            mapping.close()
            raise

    @property
    def architecture(self) -> str:
        """`general.architecture`, such as «llama»."""
        value = self.metadata.get("general.architecture")
        if not isinstance(value, str) or not value:
            raise ModelFileError(
                f"{self.path}: general.architecture is {value!r}, a name was expected; the file is not a model: "
                "download or convert it again",
                param="general.architecture",
            )
        return value

    @property
    def unsupported_types(self) -> dict[str, int]:
        """Names of the ggml types that Octavo does not know → how many tensors have them."""
        counts: dict[str, int] = {}
        for tensor in self.tensors.values():
            if tensor.format is None:
                counts[tensor.type_name] = counts.get(tensor.type_name, 0) + 1
        return counts

    def stored_weight(self, name: str) -> StoredWeight:
        """The matrix `name`, zero-copy: (N, K) for dense formats, (N, row_bytes) uint8 for block formats."""
        tensor = self._find(name)
        weight_format = self._supported_format(tensor)
        if len(tensor.shape) != 2:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} has shape {tensor.shape}, a matrix (N, K) was expected; "
                "the file does not fit its architecture: convert it again",
                param=name,
            )
        num_rows, num_columns = tensor.shape
        data = self._dense(tensor, weight_format)
        if data is None:
            data = self._bytes(tensor).view(num_rows, weight_format.row_bytes(num_columns))
        return StoredWeight(data=data, format=weight_format, out_features=num_rows, in_features=num_columns)

    def tensor(self, name: str) -> "Tensor":
        """The dense tensor `name` of any rank, zero-copy, in the dtype of the file (F32, F16 or BF16)."""
        tensor = self._find(name)
        data = self._dense(tensor, self._supported_format(tensor))
        if data is None:
            raise UnsupportedModelError(
                f"{self.path}: tensor {name!r} of shape {tensor.shape} is stored as {tensor.type_name}, but F32, F16 "
                "or BF16 is needed here; convert the model with a converter that keeps such tensors dense",
                param=name,
            )
        return data

    def header(self) -> bytes:
        """The bytes of everything before the tensor data."""
        return self._open_mapping()[: self.header_bytes]

    def release_pages(self) -> None:
        """Give back the memory of pages read so far. A tensor that is used again reads them again; writes to it are undone."""
        if sys.platform == "linux":
            self._open_mapping().madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file. The memory goes back when the last tensor taken from it does."""
        self._mapping = None

    def _open_mapping(self) -> mmap.mmap:
        assert self._mapping is not None, f"{self.path} was closed"
        return self._mapping

    def _find(self, name: str) -> GGUFTensor:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise missing_tensor(self.path, name, self.tensors)
        return tensor

    def _supported_format(self, tensor: GGUFTensor) -> WeightFormat:
        if tensor.format is None:
            raise unsupported_types_error(self.path, {tensor.type_name: 1}, param=tensor.name)
        return tensor.format

    def _bytes(self, tensor: GGUFTensor) -> "Tensor":
        import torch

        return torch.frombuffer(self._open_mapping(), dtype=torch.uint8, count=tensor.num_bytes, offset=tensor.offset)

    def _dense(self, tensor: GGUFTensor, weight_format: WeightFormat) -> "Tensor | None":
        """The tensor in its element type, or None for a block format."""
        import torch

        dtypes = {WeightFormat.F32: torch.float32, WeightFormat.F16: torch.float16, WeightFormat.BF16: torch.bfloat16}
        dtype = dtypes.get(weight_format)
        if dtype is None:
            return None
        data = self._bytes(tensor)
        if tensor.offset % dtype.itemsize:  # an alignment below the element's size is legal, but not to be computed on
            data = data.clone()
        return data.view(dtype).view(tensor.shape)


def unsupported_types_error(path: Path, types: dict[str, int], *, param: str | None = None) -> UnsupportedModelError:
    listed = ", ".join(f"{name} ({types[name]} tensor{'s' if types[name] > 1 else ''})" for name in sorted(types)[:10])
    return UnsupportedModelError(
        f"{path}: tensors are stored as {listed}, which Octavo does not know; supported are "
        f"{', '.join(each for each in WeightFormat if each.is_in_files)}: choose another quantisation of the model, such as Q4_K_M or Q8_0",
        param=param,
    )


def _map(path: Path) -> mmap.mmap:
    try:
        if not path.is_file():  # opening a pipe would block
            raise ModelFileError(f"{path} is not a regular file; name a .gguf file that exists", param="model")
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes == 0:
                raise ModelFileError(f"{path} is empty; download it again", param="model")
            # Private and writable, because torch wants writable memory: a stray write changes our copy of a page only.
            # Without a reservation, because otherwise a model larger than the memory could not be mapped at all.
            return mmap.mmap(
                file.fileno(),
                num_bytes,
                flags=mmap.MAP_PRIVATE | _MAP_NORESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}", param="model") from error


def _read_version(cursor: HeaderCursor) -> int:
    magic = cursor.u32("magic")
    if magic != _MAGIC:
        raise cursor.error("magic", f"{magic.to_bytes(4, 'little')!r}, b'GGUF' was expected: this is no GGUF file")
    version = cursor.u32("version")
    if version & 0xFFFF == 0 and version:
        raise cursor.error("version", "the file is big-endian, little-endian is needed")
    if version not in _VERSIONS:
        raise cursor.error("version", f"{version}, 2 or 3 is supported")
    return version


def _read_metadata(cursor: HeaderCursor, num_entries: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(num_entries):
        field = f"the key of metadata entry {index}"
        key = cursor.string(field, MAX_KEY_BYTES)
        if not key:
            raise cursor.error(field, "it is empty")
        if key in metadata:
            raise cursor.error(key, "the key appears twice")
        kind = cursor.value_type(key)
        metadata[key] = cursor.value(kind, key)
        if key == "general.alignment" and kind is not ValueType.UINT32:
            raise cursor.error(key, f"its type is {kind.name}, UINT32 was expected")
    return metadata


def _alignment(cursor: HeaderCursor, metadata: dict[str, Any]) -> int:
    alignment: int = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if alignment < 1 or alignment & (alignment - 1):
        raise cursor.error("general.alignment", f"{alignment} is not a power of two")
    return alignment


def _read_tensors(cursor: HeaderCursor, num_tensors: int, alignment: int, file_bytes: int) -> dict[str, GGUFTensor]:
    """Read and check the table of tensors; `cursor` ends on the header's last byte."""
    entries = [_read_tensor(cursor, index) for index in range(num_tensors)]
    data_start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GGUFTensor] = {}
    for entry in entries:
        if entry.name in tensors:
            raise cursor.error(entry.name, "the tensor name appears twice")
        if entry.offset % alignment:
            raise cursor.error(entry.name, f"its offset {entry.offset} is not a multiple of the alignment {alignment}")
        start = data_start + entry.offset
        if start + max(entry.num_bytes, 1) > file_bytes:
            raise cursor.error(
                entry.name, f"its {entry.num_bytes} bytes from byte {start} on end beyond the file's {file_bytes} bytes"
            )
        tensors[entry.name] = GGUFTensor(
            name=entry.name,
            shape=entry.shape,
            type_name=entry.type_name,
            format=entry.format,
            offset=start,
            num_bytes=entry.num_bytes,
        )
    _check_overlap(cursor, tensors)
    return tensors


def _read_tensor(cursor: HeaderCursor, index: int) -> GGUFTensor:
    """One entry of the table, its offset still relative to the tensor data."""
    name = cursor.string(f"the name of tensor {index}", _MAX_TENSOR_NAME_BYTES)
    if not name:
        raise cursor.error(f"the name of tensor {index}", "it is empty")
    rank = cursor.u32(name)
    if not 1 <= rank <= _MAX_RANK:
        raise cursor.error(name, f"{rank} dimensions, 1 to {_MAX_RANK} are allowed")
    shape = tuple(reversed([cursor.u64(name) for _ in range(rank)]))
    code = cursor.u32(name)
    offset = cursor.u64(name)
    if 0 in shape or prod(shape) >= 1 << 63:
        raise cursor.error(name, f"shape {shape}: every dimension must be 1 or more and their product below 2⁶³")
    weight_format = FORMATS.get(code)
    if weight_format is None:
        type_name = UNSUPPORTED_NAMES.get(code, f"type {code}")
        return GGUFTensor(name=name, shape=shape, type_name=type_name, format=None, offset=offset, num_bytes=0)
    if shape[-1] % weight_format.block_size:
        raise cursor.error(
            name, f"rows of {shape[-1]} elements, {weight_format} needs a multiple of {weight_format.block_size}"
        )
    num_bytes = prod(shape[:-1]) * weight_format.row_bytes(shape[-1])
    return GGUFTensor(
        name=name, shape=shape, type_name=str(weight_format), format=weight_format, offset=offset, num_bytes=num_bytes
    )


def _check_overlap(cursor: HeaderCursor, tensors: dict[str, GGUFTensor]) -> None:
    ordered = sorted(tensors.values(), key=lambda tensor: tensor.offset)
    for before, after in pairwise(ordered):
        if before.offset + max(before.num_bytes, 1) > after.offset:
            raise cursor.error(after.name, f"its data overlaps that of {printable(before.name)}")
