"""One interface over both formats, and what a model directory can get wrong."""

import json
import logging
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octavo.core.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from octavo.core.weights import WeightFormat
from octavo.loader.checkpoint import Checkpoint, open_checkpoint

INDEX = "model.safetensors.index.json"


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=generator),
        "half": torch.randn(3, 4, generator=generator).half(),
        "bf": torch.randn(2, 4, generator=generator).bfloat16(),
        "norm": torch.ones(4),
    }


# ── GGUF ─────────────────────────────────────────────────────────────────────────────────────────


def test_gguf(tmp_path: Path, builder: Any) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(builder.build())
    checkpoint: Checkpoint = open_checkpoint(path)
    assert (checkpoint.kind, checkpoint.path, checkpoint.architecture) == ("gguf", path, "llama")
    assert checkpoint.metadata["llama.block_count"] == 1
    assert checkpoint.config == {}
    assert checkpoint.generation_config == {}
    assert checkpoint.tensor_names == {"norm", "weight"}
    assert checkpoint.shape("weight") == (2, 64)
    assert checkpoint.num_bytes == 32 + 136
    assert checkpoint.weight("weight").format is WeightFormat.Q8_0
    assert checkpoint.tensor("norm").tolist() == list(range(8))
    for ask in (checkpoint.shape, checkpoint.weight, checkpoint.tensor):
        with pytest.raises(ModelFileError, match=r"'norn' is missing.*norm"):
            ask("norn")
    checkpoint.release_pages()
    assert checkpoint.tensor("norm").tolist() == list(range(8))
    checkpoint.close()
    checkpoint.close()


def test_gguf_with_unknown_types_is_refused_with_their_list(tmp_path: Path, builder: Any) -> None:
    builder.tensor("a", [256, 1], 10, 192).tensor("b", [256, 1], 10, 224).tensor("c", [256, 1], 23, 256)
    builder.data += bytes(200)
    path = tmp_path / "m.gguf"
    path.write_bytes(builder.build())
    with pytest.raises(UnsupportedModelError, match=r"IQ4_XS \(1 tensor\), Q2_K \(2 tensors\)"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "kind", "payload", "expected"),
    [
        ("general.type", 8, struct.pack("<Q", 7) + b"adapter", "adapter"),
        ("general.type", 9, struct.pack("<IQ3I", 4, 3, 1, 2, 3), "general.type"),
        ("split.count", 2, struct.pack("<H", 3), "one of 3 pieces"),
        ("split.count", 9, struct.pack("<IQ3I", 4, 3, 1, 2, 3), "pieces"),
    ],
)
def test_gguf_that_is_no_whole_model(
    key: str, kind: int, payload: bytes, expected: str, tmp_path: Path, builder: Any
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(builder.entry(key, kind, payload).build())
    with pytest.raises(UnsupportedModelError, match=expected):
        open_checkpoint(path)


def test_gguf_without_tensors(tmp_path: Path, builder: Any) -> None:
    builder.tensors.clear()
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(builder.build())
    with pytest.raises(ModelFileError, match="no tensors"):
        open_checkpoint(path)


# ── safetensors ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("num_shards", [1, 2])
def test_safetensors(num_shards: int, make_model: Any) -> None:
    expected = tensors()
    names = list(expected)
    shards = [{name: expected[name] for name in names[i::num_shards]} for i in range(num_shards)]
    directory = make_model(*shards)
    (directory / "generation_config.json").write_text('{"temperature": 0.6}')
    checkpoint: Checkpoint = open_checkpoint(directory)
    assert (checkpoint.kind, checkpoint.path, checkpoint.architecture) == ("safetensors", directory, "LlamaForCausalLM")
    assert checkpoint.config["hidden_size"] == 4
    assert checkpoint.generation_config == {"temperature": 0.6}
    assert checkpoint.metadata == {}
    assert checkpoint.tensor_names == set(names)
    assert checkpoint.num_bytes == sum(t.numel() * t.element_size() for t in expected.values())
    for name, tensor in expected.items():
        assert checkpoint.shape(name) == tensor.shape
        read = checkpoint.tensor(name)
        assert read.dtype is tensor.dtype
        assert torch.equal(read, tensor)
    weight = checkpoint.weight("bf")
    assert (weight.format, weight.out_features, weight.in_features) == (WeightFormat.BF16, 2, 4)
    assert torch.equal(weight.data, expected["bf"])
    with pytest.raises(ModelFileError, match="a matrix"):
        checkpoint.weight("norm")
    for ask in (checkpoint.shape, checkpoint.weight, checkpoint.tensor):
        with pytest.raises(ModelFileError, match=r"'weigth' is missing.*weight"):
            ask("weigth")
    kept = checkpoint.tensor("norm")
    checkpoint.release_pages()
    assert torch.equal(checkpoint.tensor("bf"), expected["bf"])
    checkpoint.close()
    assert kept.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float64, "F64"), (torch.int64, "I64"), (torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")],
)
def test_an_element_type_octavo_does_not_know_is_refused_when_asked_for(
    dtype: torch.dtype, name: str, make_model: Any
) -> None:
    checkpoint = open_checkpoint(make_model({"odd": torch.ones(2, 2).to(dtype), "norm": torch.ones(2)}))
    assert checkpoint.tensor("norm").tolist() == [1, 1]
    for ask in (checkpoint.weight, checkpoint.tensor):
        with pytest.raises(UnsupportedModelError, match=f"stored as {name}; F32, F16, BF16"):
            ask("odd")


def test_an_empty_tensor_is_refused(make_model: Any) -> None:
    checkpoint = open_checkpoint(make_model({"empty": torch.ones(0, 2)}))
    with pytest.raises(ModelFileError, match="empty"):
        checkpoint.weight("empty")


def test_shards_and_index_must_agree(make_model: Any) -> None:
    def fresh() -> tuple[Path, dict[str, Any]]:
        directory = make_model({"a": torch.ones(2, 2)}, {"b": torch.ones(2, 2)})
        return directory, json.loads((directory / INDEX).read_text())

    directory, index = fresh()
    index["weight_map"]["c"] = index["weight_map"]["a"]
    (directory / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelFileError, match="promises tensor c"):
        open_checkpoint(directory)

    directory, index = fresh()
    index["weight_map"]["a"] = index["weight_map"]["b"]
    (directory / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelFileError, match="promises tensor a"):
        open_checkpoint(directory)

    directory, index = fresh()
    save_file({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, directory / index["weight_map"]["b"])
    with pytest.raises(ModelFileError, match="tensor a is also in"):
        open_checkpoint(directory)

    directory, index = fresh()
    (directory / index["weight_map"]["b"]).unlink()
    with pytest.raises(ModelFileError, match=r"model-00002-of-00002\.safetensors, which is missing"):
        open_checkpoint(directory)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "model.bin", 7, ""])
def test_an_index_cannot_reach_elsewhere(shard: object, make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2, 2)})
    (directory / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelFileError, match=r"not the name of a \.safetensors file"):
        open_checkpoint(directory)


def entry(dtype: str = "F32", shape: object = (2,), begin: object = 0, end: object = 8) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data_bytes", "expected"),
    [
        (b"", 0, "JSON"),
        (b"[]", 0, "a JSON object was expected"),
        (b"{" * 100_000, 0, "JSON"),
        (b"[" * 100_000, 0, "JSON"),
        (b'{"\xff": 1}', 0, "JSON"),
        (b'{"a": {}}', 8, "exactly dtype"),
        (b'{"a": 1}', 8, "exactly dtype"),
        (json.dumps({"a": entry(dtype="F33")}), 8, "F33"),
        (json.dumps({"a": entry(shape=[3])}), 8, "does not take the 8 bytes"),
        (json.dumps({"a": entry(dtype="F64")}), 8, "does not take the 8 bytes"),
        (json.dumps({"a": entry(shape=[-2])}), 8, "shape"),
        (json.dumps({"a": entry(shape=[2.0])}), 8, "shape"),
        (json.dumps({"a": entry(shape=[True, 2])}), 8, "shape"),
        (json.dumps({"a": entry(shape=[1] * 40)}), 8, "shape"),
        (json.dumps({"a": entry(shape=[1 << 62, 1 << 62])}), 8, "does not take"),
        (json.dumps({"a": entry(end=16)}), 8, "data_offsets"),
        (json.dumps({"a": entry(begin=8, end=0)}), 8, "data_offsets"),
        (json.dumps({"a": entry(begin=0, end=1 << 70)}), 8, "data_offsets"),
        (json.dumps({"a": entry(), "b": entry(begin=4, end=12)}), 12, "offset"),
        (json.dumps({"a": entry(), "b": entry(begin=12, end=20)}), 20, "offset"),
        (json.dumps({"a": entry()}), 16, "not fully covered"),
        (f'{{"a": {json.dumps(entry())}, "a": {json.dumps(entry())}}}', 8, "'a' appears twice"),
        (json.dumps({"__metadata__": {"k": 3}, "a": entry()}), 8, "JSON|string"),
        (json.dumps({}), 0, "no tensors"),
    ],
)
def test_a_malformed_safetensors_header_is_named(
    header: str | bytes, data_bytes: int, expected: str, make_model: Any
) -> None:
    directory = make_model({"a": torch.ones(2)})
    raw = header.encode() if isinstance(header, str) else header
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data_bytes))
    with pytest.raises(ModelFileError, match=f"(?s){expected}"):
        open_checkpoint(directory)


@pytest.mark.parametrize("content", [b"", b"\1\0\0", struct.pack("<Q", 1 << 63), struct.pack("<Q", 100) + b"{}"])
def test_a_truncated_safetensors_file(content: bytes, make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2)})
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="truncated"):
        open_checkpoint(directory)


# ── directories ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused_with_a_remedy(name: str, make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2)})
    (directory / "model.safetensors").rename(directory / name)
    with pytest.raises(UnsupportedModelError, match=f"{name}.*pickle.*safetensors"):
        open_checkpoint(directory)
    with pytest.raises(UnsupportedModelError, match="pickle"):
        open_checkpoint(directory / name)


def test_which_safetensors_file(make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2)})
    (directory / "model.safetensors").rename(directory / "other.safetensors")
    assert open_checkpoint(directory).tensor_names == {"a"}
    save_file({"b": torch.ones(2)}, directory / "another.safetensors")
    with pytest.raises(ModelFileError, match=r"2 safetensors files.*no model\.safetensors\.index\.json"):
        open_checkpoint(directory)
    for path in directory.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ModelFileError, match="no weights"):
        open_checkpoint(directory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "JSON"),
        ("[1]", "a JSON object"),
        ("[" * 100_000, "JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "JSON"),
        ('{"architectures": ["A"], "architectures": ["B"]}', "appears twice"),
        ("{}", "architectures is None"),
        ('{"architectures": []}', "architectures is"),
        ('{"architectures": [3]}', "architectures is"),
        ('{"architectures": "Llama"}', "architectures is"),
    ],
)
def test_a_malformed_config(text: str, expected: str, make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2)})
    (directory / "config.json").write_text(text)
    with pytest.raises(ModelFileError, match=expected):
        open_checkpoint(directory)


def test_a_missing_config_points_at_a_gguf_beside_it(make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2)})
    (directory / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"no config\.json; download"):
        open_checkpoint(directory)
    (directory / "m.gguf").touch()
    with pytest.raises(ModelFileError, match=r"name the file itself: .*m\.gguf"):
        open_checkpoint(directory)


def test_auto_map_is_ignored_with_one_line(make_model: Any, caplog: pytest.LogCaptureFixture) -> None:
    config = {"architectures": ["X"], "auto_map": {"AutoModel": "modeling_x.X"}}
    directory = make_model({"a": torch.ones(2)}, config=config)
    (directory / "modeling_x.py").write_text("raise SystemExit('code of a model was run')")
    with caplog.at_level(logging.INFO, logger="octavo"):
        assert open_checkpoint(directory).architecture == "X"
    assert [record.getMessage() for record in caplog.records if "auto_map" in record.getMessage()] != []
    assert len(caplog.records) == 1


def test_quantised_safetensors_are_refused_by_name(make_model: Any) -> None:
    config = {"architectures": ["X"], "quantization_config": {"quant_method": "awq"}}
    with pytest.raises(UnsupportedModelError, match=r"'awq'.*GGUF"):
        open_checkpoint(make_model({"a": torch.ones(2)}, config=config))


def test_paths_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        open_checkpoint(tmp_path / "absent.gguf")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UnsupportedModelError, match=r"name a \.gguf file"):
        open_checkpoint(tmp_path / "notes.txt")
    (tmp_path / "m.safetensors").touch()
    with pytest.raises(UnsupportedModelError, match="name the directory"):
        open_checkpoint(tmp_path / "m.safetensors")


# ── content keys ─────────────────────────────────────────────────────────────────────────────────


def test_a_content_key_follows_the_content_not_the_place(tmp_path: Path, builder: Any) -> None:
    def key_of(folder: str, content: bytes, changed_ns: int) -> str:
        path = tmp_path / folder / "m.gguf"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(changed_ns, changed_ns))
        return open_checkpoint(path).content_key()

    content = builder.build()
    key = key_of("a", content, 10**18)
    assert len(bytes.fromhex(key)) == 32
    assert key_of("b", content, 10**18) == key
    assert key_of("b", content, 10**18 + 1) != key
    assert key_of("b", content + b"\0", 10**18) != key
    assert key_of("b", content.replace(b"norm", b"nurm"), 10**18) != key


def test_a_content_key_covers_the_config(make_model: Any) -> None:
    directory = make_model({"a": torch.ones(2)})
    stamp = (directory / "config.json").stat().st_mtime_ns
    keys = set()
    for size in (4, 8):
        (directory / "config.json").write_text(json.dumps({"architectures": ["X"], "hidden_size": size}))
        os.utime(directory / "config.json", ns=(stamp, stamp))
        keys.add(open_checkpoint(directory).content_key())
    assert len(keys) == 2
