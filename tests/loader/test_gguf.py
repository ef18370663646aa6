"""Our GGUF reader against the `gguf` package, and against every malformed field."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.core.weights import WeightFormat
from octavo.loader.gguf import GGUFFile

U32, BOOL, STRING, ARRAY = 4, 7, 8, 9
DENSE = {WeightFormat.F32: torch.float32, WeightFormat.F16: torch.float16, WeightFormat.BF16: torch.bfloat16}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


# ── sound files ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[2, 3])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file by the `gguf` package: one (3, 512) matrix of every format, vectors, and all kinds of metadata."""
    rng = np.random.default_rng(0)
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 7)
    writer.add_float32("llama.rope.freq_base", 10000.5)
    writer.add_bool("flag", True)
    writer.add_int64("negative", -(1 << 40))
    writer.add_float64("double", 1e300)
    writer.add_uint8("small", 255)
    writer.add_token_list(["<s>", "é", "", "日本", "\n"])
    writer.add_token_scores([0.5, -1.0, 2.0, 3.0, 4.0])
    writer.add_token_types([1, 2, 3, 4, 5])
    writer.add_array("flags", [True, False, True])
    for weight_format in (each for each in WeightFormat if each.is_in_files):
        kind = gguf.GGMLQuantizationType[weight_format.value]
        raw = rng.integers(0, 256, (3, weight_format.row_bytes(512)), dtype=np.uint8)
        writer.add_tensor(f"m.{weight_format}", raw, raw_dtype=kind)
    writer.add_tensor("vector", rng.standard_normal(17).astype(np.float32))
    writer.add_tensor("cube", rng.standard_normal((2, 3, 5)).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", request.param)
    path.write_bytes(content)
    return path


def test_metadata_equals_the_gguf_packages(written: Path) -> None:
    ours = GGUFFile.open(written)
    theirs = gguf.GGUFReader(written)
    fields = {name: f.contents() for name, f in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.metadata.keys() == fields.keys()
    for name, value in fields.items():
        mine = ours.metadata[name]
        if isinstance(mine, np.ndarray):
            assert mine.tolist() == value
            assert not mine.flags.writeable
        else:
            assert mine == value
            assert type(mine) is type(value)
    assert ours.architecture == "llama"
    assert ours.metadata["tokenizer.ggml.tokens"] == ["<s>", "é", "", "日本", "\n"]
    assert ours.metadata["flags"].dtype == np.bool_


def test_tensors_equal_the_gguf_packages(written: Path) -> None:
    ours = GGUFFile.open(written)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(written).tensors}
    assert ours.tensors.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours.tensors[name].shape == tuple(reversed(tensor.shape.tolist()))
        assert ours.tensors[name].num_bytes == tensor.n_bytes
        assert ours.tensors[name].type_name == tensor.tensor_type.name
    for weight_format in (each for each in WeightFormat if each.is_in_files):
        name = f"m.{weight_format}"
        weight = ours.stored_weight(name)
        assert (weight.out_features, weight.in_features, weight.format) == (3, 512, weight_format)
        if weight_format in DENSE:
            assert weight.data.dtype is DENSE[weight_format]
            assert weight.data.shape == (3, 512)
            assert torch.equal(ours.tensor(name).view(torch.uint8), weight.data.view(torch.uint8))
        else:
            assert weight.data.shape == (3, weight_format.row_bytes(512))
        stored = weight.data.view(torch.uint8).numpy().tobytes()
        assert stored == theirs[name].data.tobytes()
        assert len(stored) == weight.num_bytes
    assert np.array_equal(ours.tensor("vector").numpy(), theirs["vector"].data)
    assert np.array_equal(ours.tensor("cube").numpy(), theirs["cube"].data)


def test_tensors_are_views_that_outlive_close_and_never_reach_the_file(tmp_path: Path, builder: Any) -> None:
    path = write(tmp_path / "m.gguf", builder.build())
    file = GGUFFile.open(path)
    first, second = file.stored_weight("weight").data, file.stored_weight("weight").data
    assert first.data_ptr() == second.data_ptr()
    file.close()
    file.close()
    del file
    first[0, 0] = 99
    assert second[0, 0] == 99
    assert path.read_bytes() == builder.build()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what is resident of a mapping")
def test_pages_that_were_read_can_be_released(tmp_path: Path, builder: Any) -> None:
    def resident_kib() -> int:
        mappings = Path("/proc/self/smaps").read_text().split(str(path))[1:]
        return sum(int(mapping.partition("\nRss:")[2].split()[0]) for mapping in mappings)

    path = write(tmp_path / "m.gguf", builder.build())
    file = GGUFFile.open(path)
    weight = file.stored_weight("weight").data
    before = weight.clone()
    assert resident_kib() > 0
    file.release_pages()
    assert resident_kib() == 0
    assert torch.equal(weight, before)
    assert torch.equal(file.stored_weight("weight").data, before)


def test_a_misaligned_dense_tensor_is_read_right(tmp_path: Path, builder: Any) -> None:
    builder.alignment = 1
    builder.entry("general.alignment", U32, struct.pack("<I", 1))
    builder.tensors.clear()
    builder.tensor("odd", [4], 0, 1)
    while len(builder.build()) % 4:
        builder.data += b"\0"
    builder.data = b"\0" + struct.pack("<4f", 1, 2, 3, 4)
    file = GGUFFile.open(write(tmp_path / "m.gguf", builder.build()))
    assert file.tensor("odd").tolist() == [1, 2, 3, 4]
    assert file.tensor("odd").data_ptr() % 4 == 0


def test_nested_arrays_are_read(tmp_path: Path, builder: Any) -> None:
    inner = struct.pack("<IQ", U32, 2) + struct.pack("<2I", 5, 6)
    builder.array("nested", ARRAY, 2, inner + inner)
    metadata = GGUFFile.open(write(tmp_path / "m.gguf", builder.build())).metadata
    assert [part.tolist() for part in metadata["nested"]] == [[5, 6], [5, 6]]


def test_a_type_octavo_does_not_know_is_refused_only_when_asked_for(tmp_path: Path, builder: Any) -> None:
    builder.tensor("exotic", [256, 1], 10, 192).tensor("future", [256, 1], 4711, 224)
    builder.data += bytes(200)
    file = GGUFFile.open(write(tmp_path / "m.gguf", builder.build()))
    assert file.unsupported_types == {"Q2_K": 1, "type 4711": 1}
    assert file.stored_weight("weight").out_features == 2
    with pytest.raises(UnsupportedModelError, match=r"Q2_K.*supported are F32.*Q6_K"):
        file.stored_weight("exotic")
    with pytest.raises(UnsupportedModelError, match="type 4711"):
        file.tensor("future")


def test_asking_for_what_is_not_there_names_what_is(tmp_path: Path, builder: Any) -> None:
    file = GGUFFile.open(write(tmp_path / "m.gguf", builder.build()))
    with pytest.raises(ModelFileError, match=r"'weigth' is missing \(it has weight"):
        file.stored_weight("weigth")
    with pytest.raises(ModelFileError, match="a matrix"):
        file.stored_weight("norm")
    with pytest.raises(UnsupportedModelError, match=r"stored as Q8_0.*F32, F16"):
        file.tensor("weight")


# ── malformed files ──────────────────────────────────────────────────────────────────────────────

HUGE = (1 << 64) - 1
Edit = Callable[[Any], Any]


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def nested(depth: int) -> bytes:
    return struct.pack("<IQ", ARRAY, 1) * (depth - 1) + struct.pack("<IQ", U32, 0)


MALFORMED: dict[str, tuple[Edit, str]] = {
    "magic": (lambda b: setattr(b, "magic", b"GGML"), "magic.*no GGUF file"),
    "version 1": (lambda b: setattr(b, "version", 1), "version.* 1, 2 or 3"),
    "version 4": (lambda b: setattr(b, "version", 4), "version.* 4, 2 or 3"),
    "version 0": (lambda b: setattr(b, "version", 0), "version"),
    "big-endian": (lambda b: setattr(b, "version", 3 << 24), "big-endian"),
    "tensor count": (lambda b: setattr(b, "num_tensors", HUGE), "number of tensors"),
    "tensor count, one more": (lambda b: setattr(b, "num_tensors", 3), "the name of tensor 2 .*it is empty"),
    "entry count": (lambda b: setattr(b, "num_entries", HUGE), "metadata entries"),
    "entry count, plausible": (lambda b: setattr(b, "num_entries", 12), "metadata entry"),
    "key length": (lambda b: b.entries.append(struct.pack("<Q", HUGE)), "key of metadata entry"),
    "key too long": (lambda b: b.entry("k" * 70_000, U32, u32(1)), "70000 bytes, at most 65535"),
    "key empty": (lambda b: b.entry("", U32, u32(1)), "key of metadata entry 4 .*it is empty"),
    "key not UTF-8": (lambda b: b.entry(b"\xff", U32, u32(1)), "not UTF-8"),
    "key twice": (lambda b: b.entry("llama.block_count", U32, u32(1)), "llama.block_count.*appears twice"),
    "value type": (lambda b: b.entry("k", 13, u32(1)), "value type 13"),
    "string length": (lambda b: b.entry("k", STRING, struct.pack("<Q", 1 << 40)), "a string of"),
    "string past the end": (lambda b: b.entry("k", STRING, struct.pack("<Q", 100_000)), "k .*100000 bytes"),
    "string not UTF-8": (lambda b: b.entry("k", STRING, string(b"\xc3\x28")), "not UTF-8"),
    "boolean of 2": (lambda b: b.entry("k", BOOL, b"\2"), "boolean of 2"),
    "boolean in array": (lambda b: b.array("k", BOOL, 2, b"\1\7"), "boolean of 7"),
    "array type": (lambda b: b.array("k", 99, 1, b"\0"), "value type 99"),
    "array count": (lambda b: b.array("k", U32, HUGE, b""), "k .*needs"),
    "array past the end": (lambda b: b.array("k", U32, 1000, b""), "k .*needs 4000 bytes"),
    "string array count": (lambda b: b.array("k", STRING, HUGE, b""), "count of"),
    "string in array": (lambda b: b.array("k", STRING, 1, struct.pack("<Q", HUGE)), "string 0 of 1"),
    "string array ends early": (
        lambda b: b.array("k", STRING, 2, string(b"x" * 10) + struct.pack("<Q", 1 << 20)),
        "string 1 of 2",
    ),
    "string in array not UTF-8": (lambda b: b.array("k", STRING, 1, string(b"\xff")), "string 0 is not UTF-8"),
    "nested array count": (lambda b: b.array("k", ARRAY, 1 << 40, b""), "count of"),
    "nesting": (lambda b: b.entry("k", ARRAY, nested(5)), "nested more than 4"),
    "nesting, very deep": (lambda b: b.entry("k", ARRAY, nested(5000)), "nested more than 4"),
    "alignment 0": (lambda b: b.entry("general.alignment", U32, u32(0)), "general.alignment.*power of two"),
    "alignment 48": (lambda b: b.entry("general.alignment", U32, u32(48)), "general.alignment.*power of two"),
    "alignment type": (lambda b: b.entry("general.alignment", STRING, string(b"32")), "general.alignment.*UINT32"),
    "alignment beyond the file": (lambda b: b.entry("general.alignment", U32, u32(1 << 31)), "norm|multiple"),
    "tensor name empty": (lambda b: b.tensor("", [8], 0, 0), "name of tensor 2 .*it is empty"),
    "tensor name long": (lambda b: b.tensor("n" * 300, [8], 0, 0), "300 bytes"),
    "tensor name twice": (lambda b: b.tensor("norm", [8], 0, 0), "norm.*appears twice"),
    "rank 0": (lambda b: b.tensor("t", [], 0, 0), "t .*0 dimensions"),
    "rank 5": (lambda b: b.tensor("t", [1] * 5, 0, 0), "t .*5 dimensions"),
    "dimension 0": (lambda b: b.tensor("t", [8, 0], 0, 0), "dimension must be 1"),
    "dimension overflow": (lambda b: b.tensor("t", [1 << 32, 1 << 32], 0, 0), "below 2⁶³"),
    "dimension beyond the file": (lambda b: b.tensor("t", [1 << 40], 0, 0), "t .*end beyond"),
    "row no multiple of the block": (lambda b: b.tensor("t", [33, 1], 8, 0), "t .*multiple of 32"),
    "row no multiple of 256": (lambda b: b.tensor("t", [128, 1], 12, 0), "t .*multiple of 256"),
    "offset alignment": (lambda b: b.tensor("t", [1], 0, 4), "offset 4 is not a multiple"),
    "offset beyond the file": (lambda b: b.tensor("t", [1], 0, 1 << 62), "t .*end beyond"),
    "offset of an unknown type": (lambda b: b.tensor("t", [1], 99, 1 << 62), "t .*end beyond"),
    "overlap": (lambda b: b.tensor("t", [4], 0, 64), "overlaps"),
    "overlap, same place": (lambda b: b.tensor("t", [8], 0, 0), "overlaps"),
    "data short by one byte": (lambda b: setattr(b, "data", b.data[:-1]), "weight .*end beyond"),
    "no data": (lambda b: setattr(b, "data", b""), "end beyond"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_field_is_named(case: str, tmp_path: Path, builder: Any) -> None:
    edit, expected = MALFORMED[case]
    edit(builder)
    path = write(tmp_path / "bad.gguf", builder.build())
    with pytest.raises(ModelFileError, match=f"(?s){expected}") as caught:
        GGUFFile.open(path)
    assert "bad.gguf" in caught.value.message
    assert len(caught.value.message) < 1000


def test_every_truncation_is_an_error(tmp_path: Path, builder: Any) -> None:
    content = builder.build()
    GGUFFile.open(write(tmp_path / "whole.gguf", content))
    for length in range(len(content)):
        with pytest.raises(ModelFileError):
            GGUFFile.open(write(tmp_path / "cut.gguf", content[:length]))


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="regular file"):
        GGUFFile.open(tmp_path)
    with pytest.raises(ModelFileError, match="regular file"):
        GGUFFile.open(tmp_path / "absent.gguf")


def test_a_big_endian_file_of_the_gguf_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match=r"big-endian"):
        GGUFFile.open(path)


def test_a_missing_architecture_is_named(tmp_path: Path, builder: Any) -> None:
    builder.entries.pop(0)
    file = GGUFFile.open(write(tmp_path / "m.gguf", builder.build()))
    with pytest.raises(ModelFileError, match=r"general\.architecture is None"):
        _ = file.architecture
