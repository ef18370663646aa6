"""`import flash_attn` finds Octavo's functions, and transformers' FlashAttention 2 runs on a CPU with them."""

import importlib
import importlib.metadata
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest
import torch
from ops.flash_attn.formula import randn
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, modeling_flash_attention_utils
from transformers.utils import import_utils

from octavo import ops
from octavo.ops import OpArgumentError, patch_flash_attn

CONFIG = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture
def patch():
    with patch_flash_attn() as patch:
        yield patch


def models(**changes):
    """The same weights with eager attention and with FlashAttention 2."""
    torch.manual_seed(0)
    eager = LlamaForCausalLM(LlamaConfig(**CONFIG, **changes, attn_implementation="eager"))
    flash = LlamaForCausalLM(LlamaConfig(**CONFIG, **changes, attn_implementation="flash_attention_2"))
    flash.load_state_dict(eager.state_dict())
    return eager.eval(), flash.eval()


def prompt():
    ids = torch.randint(0, 96, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :6], mask[1, :1] = 0, 0
    return ids, mask


@torch.no_grad()
def test_logits_of_a_model(patch):
    eager, flash = models()
    ids, mask = prompt()
    torch.testing.assert_close(flash(ids).logits, eager(ids).logits, atol=1e-5, rtol=1e-5)
    seen = mask.bool()
    got, want = (model(ids, attention_mask=mask).logits[seen] for model in (flash, eager))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_windows_and_soft_caps_of_a_model(patch):
    config = {**CONFIG, "head_dim": 10, "sliding_window": 7, "attn_logit_softcapping": 2.0}
    torch.manual_seed(0)
    eager, flash = (
        Gemma2ForCausalLM(Gemma2Config(**config, attn_implementation=name)).eval()
        for name in ("eager", "flash_attention_2")
    )
    flash.load_state_dict(eager.state_dict())
    ids, _ = prompt()
    torch.testing.assert_close(flash(ids).logits, eager(ids).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_generation_with_padded_prompts(patch):
    eager, flash = models()
    ids, mask = prompt()
    arguments = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(flash.generate(ids, **arguments), eager.generate(ids, **arguments))


def test_sequences_packed_into_one(patch):
    """The varlen path that position ids lead to, without padding."""
    eager, flash = models()
    ids, _ = prompt()
    lens = (5, 9, 3)
    positions = torch.cat([torch.arange(n) for n in lens])[None]
    with torch.no_grad():
        got = flash(ids[:1], position_ids=positions).logits
        parts = [eager(part).logits for part in ids[:1].split(lens, dim=1)]
    torch.testing.assert_close(got, torch.cat(parts, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_padded", [False, True])
def test_gradients_of_a_model(patch, is_padded):
    eager, flash = (model.train() for model in models())
    ids, mask = prompt()
    follows_padding = torch.nn.functional.pad(mask, (1, 0), value=1)[:, :-1] == 0
    labels = ids.masked_fill((mask == 0) | follows_padding, -100)  # padding predicts something, but nobody says what
    for model in (eager, flash):
        model(ids, attention_mask=mask if is_padded else None, labels=labels).loss.backward()
    for (name, mine), want in zip(flash.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, want.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_training_with_dropout(patch):
    _, flash = models(attention_dropout=0.2)
    ids, _ = prompt()
    torch.manual_seed(0)
    first = flash.train()(ids).logits
    torch.manual_seed(0)
    assert torch.equal(flash(ids).logits, first)
    assert not torch.equal(flash(ids).logits, first)
    first.sum().backward()


def test_a_model_may_be_switched(patch):
    eager, flash = models()
    eager.set_attn_implementation("flash_attention_2")
    ids, _ = prompt()
    with torch.no_grad():
        assert torch.equal(eager(ids).logits, flash(ids).logits)


def test_names_are_found(patch):
    import flash_attn
    from flash_attn.bert_padding import index_first_axis, pad_input, unpad_input
    from flash_attn.flash_attn_interface import flash_attn_varlen_func
    from flash_attn.layers.rotary import apply_rotary_emb

    for name in flash_attn.flash_attn_interface.__all__:
        assert getattr(flash_attn, name) is getattr(ops, name)
    assert flash_attn.__version__ == importlib.metadata.version("flash-attn") == "2.8.3+octavo"
    assert "flash-attn" in importlib.metadata.packages_distributions()["flash_attn"]
    assert flash_attn_varlen_func is ops.flash_attn_varlen_func
    assert all(map(callable, (index_first_axis, pad_input, unpad_input, apply_rotary_emb)))
    with pytest.raises(ImportError, match="flash_attn_2_cuda"):
        importlib.import_module("flash_attn.flash_attn_2_cuda")
    with pytest.raises(ImportError, match="_flash_attn_forward"):
        from flash_attn.flash_attn_interface import _flash_attn_forward  # noqa: F401


def test_it_stays_until_the_last_call_is_undone():
    first = patch_flash_attn()
    with patch_flash_attn() as second:
        first.unpatch()
        first.unpatch()
        importlib.import_module("flash_attn.layers.rotary")
        third = patch_flash_attn()
    second.unpatch()
    importlib.import_module("flash_attn.layers.rotary")
    third.unpatch()
    assert find_spec("flash_attn") is None


def test_it_is_undone():
    real_check, path = import_utils.is_flash_attn_2_available, list(sys.meta_path)
    first = patch_flash_attn()
    assert import_utils.is_flash_attn_2_available()
    models()
    assert modeling_flash_attention_utils._loaded_implementation == "flash_attention_2"
    first.unpatch()
    first.unpatch()
    assert modeling_flash_attention_utils._loaded_implementation is None  # nobody keeps Octavo's functions
    assert import_utils.is_flash_attn_2_available is real_check
    assert sys.meta_path == path
    assert not [name for name in sys.modules if name.split(".")[0] == "flash_attn"]
    assert find_spec("flash_attn") is None
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("flash-attn")
    with pytest.raises(ImportError):
        LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="flash_attention_2"))


def test_a_real_package_is_replaced_only_when_asked(monkeypatch):
    real = types.ModuleType("flash_attn")
    monkeypatch.setitem(sys.modules, "flash_attn", real)
    with pytest.raises(OpArgumentError, match="replace=True"):
        patch_flash_attn()
    with patch_flash_attn(replace=True):
        assert sys.modules["flash_attn"] is not real
    assert sys.modules["flash_attn"] is real


def test_patched_before_transformers_is_imported():
    code = f"""
import sys
from octavo.ops import patch_flash_attn
assert "transformers" not in sys.modules
patch = patch_flash_attn()
from transformers import LlamaConfig, LlamaForCausalLM
import torch
model = LlamaForCausalLM(LlamaConfig(**{CONFIG}, attn_implementation="flash_attention_2"))
model(torch.zeros(1, 4, dtype=torch.long)).logits.sum().backward()
model.set_attn_implementation("flash_attention_2")
patch.unpatch()
from transformers.utils import is_flash_attn_2_available
assert not is_flash_attn_2_available()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_padding_and_back():
    from octavo.ops.flash_attn.bert_padding import index_first_axis, pad_input, unpad_input

    x = randn(3, 4, 2, 5, seed=0).requires_grad_()
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    rows = unpad_input(x, mask)
    assert torch.equal(rows.hidden_states, x[mask.bool()])
    assert rows.cu_seqlens.tolist() == [0, 2, 2, 5]
    assert rows.cu_seqlens.dtype == torch.int32
    assert rows.max_seqlen_in_batch == 3
    assert rows.seqused.tolist() == [2, 0, 3]
    padded = pad_input(rows.hidden_states, rows.indices, 3, 4)
    assert torch.equal(padded, x * mask[..., None, None])
    (grad,) = torch.autograd.grad(padded.sum(), [x])
    assert torch.equal(grad, mask[..., None, None].expand_as(x).float())
    assert torch.equal(index_first_axis(x.flatten(0, 1), rows.indices), rows.hidden_states)
    with_room = unpad_input(x, mask, torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert with_room.cu_seqlens.tolist() == [0, 3, 3, 6]
    assert with_room.seqused.tolist() == [2, 0, 3]
    with pytest.raises(OpArgumentError, match="attention_mask"):
        unpad_input(x, mask[:2])
    with pytest.raises(OpArgumentError, match="unused_mask"):
        unpad_input(x, mask, mask[:, :1])
    with pytest.raises(OpArgumentError, match="indices is out of range: got 11; allowed 0 to 7"):
        pad_input(rows.hidden_states, rows.indices, 2, 4)
    with pytest.raises(OpArgumentError, match="indices is out of range: got -1"):
        index_first_axis(x.flatten(0, 1), rows.indices - 1)
