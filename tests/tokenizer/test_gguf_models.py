"""Tokenizers rebuilt from real GGUF files: token for token what the models' own tokenizers give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from octavo.tokenizer.token_bytes import byte_letters
from octavo.tokenizer.tokenizer import Tokenizer

MANY = settings(max_examples=120, deadline=None, derandomize=True, database=None)

GEMMA3_VECTORS = (
    ("Hello world", [2, 9259, 1902]),
    (" " * 17, [2, 153]),
    (" " * 33, [2, 167, 138]),
    ("a" + " " * 31 + "b", [2, 236746, 167, 236763]),
    ("\n" * 33, [2, 137, 108]),
    ("\t\tx\n\n", [2, 255969, 236781, 108]),
    (
        "👩‍👩‍👧‍👦 🇩🇪",
        [2, 243767, 237243, 243767, 237243, 244814, 237243, 244990, 236743, 246841, 245562],
    ),
    ("你好，世界", [2, 144626, 236900, 12811]),
    ("안녕하세요", [2, 61659]),
    ("שלום مرحبا", [2, 82110, 42737, 150423]),
    ("e\u0301 ﬁ", [2, 236744, 238288, 97940]),
    ("<start_of_turn>user\nhi<end_of_turn>\n", [2, 105, 2364, 107, 2202, 106, 107]),
    ("def f(x):\n    return x", [2, 2063, 517, 236769, 236781, 1473, 107, 140, 2060, 1123]),
    ("3.14159", [2, 236800, 236761, 236770, 236812, 236770, 236810, 236819]),
    ("\x00\x01\U00010348", [2, 238, 249732, 478, 382, 379, 374]),
)
"""What the tokenizer.json that Google published with Gemma 3 gives."""


@pytest.fixture(scope="module")
def smollm2_reference(real_model: Callable[[str], Path]) -> Any:
    """transformers' conversion of the same file, with the digit split it leaves out put back."""
    transformers = pytest.importorskip("transformers")
    path = real_model("smollm2")
    reference = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    reference.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return reference


def test_smollm2_equals_transformers(smollm2: Tokenizer, smollm2_reference: Any, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert smollm2.encode(text) == smollm2_reference.encode(text), text
        ids = smollm2.encode(text)
        assert smollm2.decode(ids, skip_special_tokens=False) == smollm2_reference.decode(ids), text
        assert smollm2.decode(ids) == smollm2_reference.decode(ids, skip_special_tokens=True), text


@MANY
@given(text=st.text(max_size=80))
def test_smollm2_equals_transformers_on_any_text(smollm2: Tokenizer, smollm2_reference: Any, text: str) -> None:
    assert smollm2.encode(text) == smollm2_reference.encode(text)
    # The vocabulary lacks the bytes of some control characters; like the original, it leaves them out.
    letters = {value: letter for letter, value in byte_letters().items()}
    if all(smollm2.token_to_id(letters[byte]) is not None for byte in text.encode()):
        assert smollm2.decode(smollm2.encode(text, parse_special=False)) == text


def test_smollm2_facts(smollm2: Tokenizer) -> None:
    assert smollm2.vocab_size == 49152
    assert (smollm2.bos_token, smollm2.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert smollm2.eos_token_ids == {0, 2}
    assert smollm2.chat_template is not None and "<|im_start|>" in smollm2.chat_template
    assert smollm2.encode("<|im_end|>") == [2]
    assert 2 not in smollm2.encode("<|im_end|>", parse_special=False)


@pytest.mark.parametrize(("text", "expected"), GEMMA3_VECTORS)
def test_gemma3_equals_its_own_tokenizer(gemma3: Tokenizer, text: str, expected: list[int]) -> None:
    assert gemma3.encode(text) == expected
    assert gemma3.encode(text, add_special_tokens=False) == expected[1:]
    assert gemma3.decode(expected, skip_special_tokens=False) == "<bos>" + text


@MANY
@given(text=st.text(max_size=80))
def test_gemma3_gives_any_text_back(gemma3: Tokenizer, text: str) -> None:
    text = text.replace("▁", " ")  # SentencePiece spells a space so; the two cannot be told apart
    assert gemma3.decode(gemma3.encode(text, add_special_tokens=False), skip_special_tokens=False) == text


def test_gemma3_facts(gemma3: Tokenizer) -> None:
    assert gemma3.vocab_size == 262144
    assert gemma3.eos_token_ids == {1, 106}
    assert gemma3.bos_token_id == 2
    ids = gemma3.encode("<end_of_turn>", parse_special=False, add_special_tokens=False)
    assert 106 not in ids and gemma3.decode(ids) == "<end_of_turn>"


def test_merges_are_cached(gguf_metadata: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    metadata = gguf_metadata("gemma3")
    first = Tokenizer.from_gguf(metadata, cache_dir=tmp_path)
    (cached,) = tmp_path.iterdir()
    second = Tokenizer.from_gguf(metadata, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == [cached]
    for text, expected in GEMMA3_VECTORS:
        assert first.encode(text) == second.encode(text) == expected
