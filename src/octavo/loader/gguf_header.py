"""Read the values of a GGUF header out of untrusted bytes, each checked against what is left of the file.

Layout (ggml's docs/gguf.md, versions 2 and 3), all little-endian, a string being u64 length + UTF-8:

    magic u32 · version u32 · num_tensors u64 · num_entries u64
    num_entries × ( key string · type u32 · value )            value of an array: type u32 · count u64 · values
    num_tensors × ( name string · rank u32 · dims u64[rank] · type u32 · offset u64 )
    padding to `general.alignment` · tensor data
"""

import struct
from enum import IntEnum
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.core.errors import ModelFileError
from octavo.loader.tensor_names import printable

MAX_HEADER_BYTES = 256 << 20
"""Real headers are below 20 MiB (a vocabulary of 262,144 takes 6.5 MiB); the bound keeps a hostile one cheap."""
MAX_HEADER_OBJECTS = 2_000_000
"""Strings and nested arrays in one header: each becomes a Python object."""
MAX_KEY_BYTES = 65_535
MAX_ARRAY_DEPTH = 4
_NESTED_ARRAY_COST = 20  # of those objects: an array costs that much more than a string


class ValueType(IntEnum):
    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_NUMERIC: dict[ValueType, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("u1"),
    ValueType.INT8: np.dtype("i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("u1"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_ENTRY_MIN_BYTES = 8 + 4 + 1
_TENSOR_MIN_BYTES = 8 + 4 + 8 + 4 + 8


class HeaderCursor:
    """A position in the header that only moves forward and never past `limit`. It borrows `buffer`.

    Every reader takes `field`, what to call the value in a `ModelFileError`.
    """

    def __init__(self, buffer: mmap, *, file_name: str) -> None:
        self._buffer = buffer
        self._file_name = file_name
        self._file_bytes = len(buffer)
        self._limit = min(self._file_bytes, MAX_HEADER_BYTES)
        self._objects_left = MAX_HEADER_OBJECTS
        self.position = 0

    def error(self, field: str, problem: str) -> ModelFileError:
        return ModelFileError(
            f"{self._file_name}: {printable(field)} (near byte {self.position}): {problem}; "
            "the file is damaged or was made by a broken converter: download or convert it again",
            param=printable(field),
        )

    def u32(self, field: str) -> int:
        start = self._take(4, field)
        value: int = _U32.unpack_from(self._buffer, start)[0]
        return value

    def u64(self, field: str) -> int:
        start = self._take(8, field)
        value: int = _U64.unpack_from(self._buffer, start)[0]
        return value

    def count(self, field: str, min_bytes_each: int, most: int) -> int:
        """A u64 that counts things of at least `min_bytes_each` bytes that follow."""
        value = self.u64(field)
        self._check_count(value, field, min_bytes_each, most)
        return value

    def num_entries(self) -> int:
        return self.count("the number of metadata entries", _ENTRY_MIN_BYTES, 65_536)

    def num_tensors(self) -> int:
        """Checked against what is left of the file before the entries: they come between."""
        return self.count("the number of tensors", _TENSOR_MIN_BYTES, 65_536)

    def string(self, field: str, most_bytes: int = MAX_HEADER_BYTES) -> str:
        length = self.u64(field)
        if length > most_bytes:
            raise self.error(field, f"a string of {length} bytes, at most {most_bytes} are allowed")
        start = self._take(length, field)
        self._charge(1, field)
        try:
            return self._buffer[start : start + length].decode()
        except UnicodeDecodeError as error:
            raise self.error(field, f"a string that is not UTF-8 ({error.reason})") from error

    def value_type(self, field: str) -> ValueType:
        code = self.u32(field)
        try:
            return ValueType(code)
        except ValueError:
            raise self.error(field, f"value type {code}, 0 to {max(ValueType)} are defined") from None

    def value(self, kind: ValueType, field: str, depth: int = 0) -> Any:
        """A Python scalar or str; a read-only numpy array of numbers; a list of str or of arrays."""
        if kind is ValueType.STRING:
            return self.string(field)
        if kind is ValueType.ARRAY:
            return self._array(field, depth + 1)
        return self._numbers(kind, 1, field)[0].item()

    def _array(self, field: str, depth: int) -> list[Any] | NDArray[Any]:
        if depth > MAX_ARRAY_DEPTH:
            raise self.error(field, f"arrays nested more than {MAX_ARRAY_DEPTH} deep")
        kind = self.value_type(field)
        count = self.u64(field)
        if kind is ValueType.STRING:
            return self._strings(count, field)
        if kind is ValueType.ARRAY:
            self._check_count(count, field, 12, MAX_HEADER_OBJECTS)
            self._charge(count * _NESTED_ARRAY_COST, field)
            return [self._array(field, depth + 1) for _ in range(count)]
        return self._numbers(kind, count, field)

    def _numbers(self, kind: ValueType, count: int, field: str) -> NDArray[Any]:
        dtype = _NUMERIC[kind]
        start = self._take(count * dtype.itemsize, field)
        numbers: NDArray[Any] = np.frombuffer(self._buffer, dtype, count, start).copy()
        if kind is ValueType.BOOL:
            if count and int(numbers.max()) > 1:
                raise self.error(field, f"a boolean of {int(numbers.max())}, 0 or 1 is allowed")
            numbers = numbers.astype(np.bool_)
        numbers.flags.writeable = False
        return numbers

    def _strings(self, count: int, field: str) -> list[str]:
        """The inner loop of opening a file: a vocabulary has hundreds of thousands of strings."""
        self._check_count(count, field, 8, MAX_HEADER_OBJECTS)
        self._charge(count, field)
        buffer, unpack, limit = self._buffer, _U64.unpack_from, self._limit
        position = self.position
        strings: list[str] = []
        append = strings.append
        last_length_at = limit - 8
        for index in range(count):
            if position > last_length_at:
                self.position = position
                raise self.error(field, f"it ends inside string {index} of {count}")
            start = position + 8
            position = start + unpack(buffer, position)[0]
            if position > limit:
                raise self.error(
                    field, f"string {index} of {count} has {position - start} bytes, beyond the file's end"
                )
            try:
                append(buffer[start:position].decode())
            except UnicodeDecodeError as error:
                raise self.error(field, f"string {index} is not UTF-8 ({error.reason})") from error
        self.position = position
        return strings

    def _take(self, num_bytes: int, field: str) -> int:
        """Move over `num_bytes` and return where they start."""
        start = self.position
        if num_bytes > self._limit - start:
            left = self._limit - start
            bound = "the file" if self._limit == self._file_bytes else f"the {MAX_HEADER_BYTES >> 20} MiB allowed"
            raise self.error(field, f"it needs {num_bytes} bytes, {bound} has {left} left")
        self.position = start + num_bytes
        return start

    def _check_count(self, count: int, field: str, min_bytes_each: int, most: int) -> None:
        left = self._limit - self.position
        if count > most or count * min_bytes_each > left:
            raise self.error(field, f"a count of {count}, at most {min(most, left // min_bytes_each)} fit")

    def _charge(self, num_objects: int, field: str) -> None:
        self._objects_left -= num_objects
        if self._objects_left < 0:
            raise self.error(field, "more strings and arrays than the header of any model has")
