"""Every tensor of a file is used, or the file is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.conftest import generate, load
from models.gguf_writer import Edits
from safetensors.torch import load_file, save_file

from octavo import LLM
from octavo.core.errors import ModelFileError, OctavoError, UnsupportedModelError
from octavo.loader.checkpoint import open_checkpoint

EditTensors = Callable[[dict[str, torch.Tensor]], object]


def edited(source: Path, target: Path, edit: EditTensors = lambda tensors: None, **config: Any) -> Path:
    """A copy with other tensors and config fields."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    edit(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return target


def run(path: Path) -> list[int]:
    return generate(load(open_checkpoint(path)), 6)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "model.layers.0.self_attn.q_proj.bias"),
        ("llama", "model.layers.1.mlp.down_proj.bias"),
        ("qwen2", "model.layers.2.self_attn.o_proj.bias"),
        ("qwen3", "model.layers.3.input_layernorm.weight"),
        ("llama", "rope_freqs.weight"),
        ("gemma3", "vision_tower.patch.weight"),
    ],
)
def test_weights_without_a_place_are_named(name: str, tensor: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    path = edited(tiny(name), tmp_path / "m", lambda tensors: tensors.update({tensor: torch.ones(48)}))
    with pytest.raises(ModelFileError, match=tensor):
        run(path)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_fewer_layers_than_the_file_has(name: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.layers\.2\."):
        run(edited(tiny(name), tmp_path / "m", num_hidden_layers=2, layer_types=None))


def test_known_buffers_are_no_weights(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6),
        "model.rotary_emb.inv_freq": torch.ones(6),
        "model.position_ids": torch.zeros(2, 2, dtype=torch.int64),
    }
    path = edited(tiny("llama"), tmp_path / "m", lambda tensors: tensors.update(buffers))
    assert run(path) == run(tiny("llama"))
    with LLM(str(path), skip_tokenizer_init=True, kv_cache_memory="4M", threads=1) as llm:
        assert llm.info.weight_formats == {"F32": llm.info.weight_formats["F32"]}


def test_an_untied_head_must_be_there(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"lm_head\.weight is missing"):
        run(edited(tiny("llama"), tmp_path / "m", lambda tensors: tensors.pop("lm_head.weight")))


def test_a_tied_head_that_is_written_out(
    tiny: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the reference has it: an equal head is the embedding, another one counts, with a warning."""

    def equal(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    assert run(edited(tiny("llama-biased"), tmp_path / "equal", equal)) == run(tiny("llama-biased"))
    assert not caplog.records

    def other(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0)

    tied = edited(tiny("llama-biased"), tmp_path / "tied", other)
    untied = edited(tiny("llama-biased"), tmp_path / "untied", other, tie_word_embeddings=False)
    assert run(tied) == run(untied) != run(tiny("llama-biased"))
    assert "head that differs" in caplog.text


@pytest.mark.parametrize(("name", "architecture"), [("llama", "llama"), ("gemma3", "gemma3"), ("qwen3", "qwen3")])
def test_gguf_heads_are_tied_where_there_is_none(name: str, architecture: str, tiny_gguf: Callable[..., Path]) -> None:
    own = np.random.default_rng(0).standard_normal((160, 48)).astype(np.float32)
    with_head = run(tiny_gguf(name, architecture, Edits(added={"output.weight": own})))
    assert with_head != run(tiny_gguf(name, architecture, Edits(left_out=("output.weight",))))


@pytest.mark.parametrize(
    ("metadata", "error", "named"),
    [
        ({"expert_count": 8}, UnsupportedModelError, "expert_count"),
        ({"block_count": 2}, ModelFileError, r"blk\.2\."),
        ({"rope.dimension_count": 6}, UnsupportedModelError, "dimension_count"),
        ({"attention.value_length": 16}, UnsupportedModelError, "value_length"),
        ({"attention.head_count_kv": [2, 2, 1]}, UnsupportedModelError, "head_count_kv"),
        ({"attention.head_count_kv": [2, 2]}, ModelFileError, "head_count_kv"),
        ({"vocab_size": [160, 2]}, ModelFileError, "vocab_size"),
        ({"rope.scaling.type": [1, 2]}, ModelFileError, "scaling.type"),
        ({"rope.scaling.type": "longrope"}, UnsupportedModelError, "longrope"),
        ({"rope.scaling.type": "linear"}, ModelFileError, "factor"),
        ({"rope.freq_base": "x"}, ModelFileError, "freq_base"),
        ({"attention.sliding_window": 5}, UnsupportedModelError, "sliding_window"),
        ({"attention.layer_norm_rms_epsilon": None}, ModelFileError, "epsilon"),
    ],
)
def test_gguf_metadata_that_is_refused(
    metadata: dict[str, Any], error: type[OctavoError], named: str, tiny_gguf: Callable[..., Path]
) -> None:
    path = tiny_gguf("llama", "llama", Edits(metadata=metadata))
    with pytest.raises(error, match=named):
        run(path)


def test_gguf_sizes_given_layer_by_layer(tiny_gguf: Callable[..., Path], tiny: Callable[[str], Path]) -> None:
    per_layer = {
        "attention.head_count": [4] * 3,
        "attention.head_count_kv": [2] * 3,
        "feed_forward_length": [72] * 3,
    }
    assert run(tiny_gguf("llama", "llama", Edits(metadata=per_layer))) == run(tiny("llama"))


@pytest.mark.parametrize("values", [np.ones(5), np.ones((2, 3)), np.zeros(6), np.full(6, np.nan)])
def test_rope_freqs_must_fit_the_heads(values: np.ndarray, tiny_gguf: Callable[..., Path]) -> None:
    path = tiny_gguf("llama", "llama", Edits(added={"rope_freqs.weight": values.astype(np.float32)}))
    with pytest.raises(ModelFileError, match="rope_freqs"):
        run(path)


def test_rope_freqs_elsewhere_have_no_place(tiny_gguf: Callable[..., Path]) -> None:
    path = tiny_gguf("qwen2", "qwen2", Edits(added={"rope_freqs.weight": np.ones(6, np.float32)}))
    with pytest.raises(ModelFileError, match="rope_freqs"):
        run(path)
