"""Tokenizers trained on the spot, exported as GGUF metadata, and rebuilt: the same ids again."""

import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from octavo.core.errors import ModelFileError, OctavoError, UnsupportedModelError
from octavo.tokenizer.pre_tokenizers import _STYLES
from octavo.tokenizer.tokenizer import Tokenizer

MANY = settings(max_examples=120, deadline=None, derandomize=True, database=None)

CORPUS = [
    "the cat sat on the mat",
    "a hat and a cat, that sat flat",
    "über den Hügel 12 34 5678",
    "naïve café 你好 世界",
] * 20


def export_sentencepiece(model: sentencepiece.SentencePieceProcessor, kind: str) -> dict[str, Any]:
    ids = range(model.get_piece_size())

    def token_type(index: int) -> int:
        if model.is_unknown(index):
            return 2
        if model.is_control(index):
            return 3
        return 6 if model.is_byte(index) else 1

    types = [token_type(index) for index in ids]
    return {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": [model.id_to_piece(index) for index in ids],
        "tokenizer.ggml.scores": np.array([model.get_score(index) for index in ids], dtype=np.float32),
        "tokenizer.ggml.token_type": np.array(types, dtype=np.int32),
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }


def train(kind: str, **options: Any) -> sentencepiece.SentencePieceProcessor:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        model_type=kind,
        normalization_rule_name="identity",
        minloglevel=2,
        hard_vocab_limit=False,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


@pytest.fixture(scope="module", params=[True, False], ids=["space prefix", "no space prefix"])
def bpe(request: pytest.FixtureRequest) -> tuple[sentencepiece.SentencePieceProcessor, Tokenizer]:
    options = {"add_dummy_prefix": request.param, "remove_extra_whitespaces": False, "byte_fallback": True}
    model = train("bpe", vocab_size=360, **options)
    metadata = export_sentencepiece(model, "llama") | {"tokenizer.ggml.add_space_prefix": request.param}
    return model, Tokenizer.from_gguf(metadata)


def without_spellings(text: str) -> str:
    """Without the spellings of control tokens, which SentencePiece does not read in text, and of the space."""
    for spelling in ("<s>", "</s>", "<unk>", "▁"):
        text = text.replace(spelling, "")
    return text


def test_sentencepiece_bpe_equals_the_original(
    bpe: tuple[sentencepiece.SentencePieceProcessor, Tokenizer], texts: tuple[str, ...]
) -> None:
    model, tokenizer = bpe
    for text in (*map(without_spellings, texts), *CORPUS):
        if "\0" in text:  # SentencePiece's Python module cuts texts there
            continue
        ids = tokenizer.encode(text)
        assert ids == model.encode(text), text
        assert tokenizer.decode(ids) == text


@MANY
@given(text=st.text(alphabet="the cat\n\thü 你5<>", max_size=60))
def test_sentencepiece_bpe_equals_the_original_on_any_text(
    bpe: tuple[sentencepiece.SentencePieceProcessor, Tokenizer], text: str
) -> None:
    model, tokenizer = bpe
    assert tokenizer.encode(text) == model.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("removes_spaces", [True, False])
def test_unigram_equals_the_original(texts: tuple[str, ...], removes_spaces: bool) -> None:
    options = {"remove_extra_whitespaces": removes_spaces, "byte_fallback": not removes_spaces}
    model = train("unigram", vocab_size=360 if not removes_spaces else 90, **options)
    metadata = export_sentencepiece(model, "t5") | {"tokenizer.ggml.remove_extra_whitespaces": removes_spaces}
    tokenizer = Tokenizer.from_gguf(metadata)
    for text in (*map(without_spellings, texts), *CORPUS):
        if "\0" not in text:
            assert tokenizer.encode(text) == model.encode(text), text


def test_byte_level_equals_the_original(
    tiny_bpe: Tokenizer, byte_level_backend: Backend, texts: tuple[str, ...]
) -> None:
    for text in (*texts, "a<tool é>b<s><|im_end|>"):
        ids = tiny_bpe.encode(text)
        assert ids == byte_level_backend.encode(text).ids, text
        assert tiny_bpe.decode(ids, skip_special_tokens=False) == text
        assert b"".join(map(tiny_bpe.token_bytes, ids)) == text.encode()


@pytest.mark.parametrize("pre", sorted(_STYLES))
def test_every_known_split_loses_nothing(pre: str, byte_level_metadata: dict[str, Any], texts: tuple[str, ...]) -> None:
    tokenizer = Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.pre": pre})
    for text in texts:
        expected = unicodedata.normalize("NFC", text) if _STYLES[pre].is_nfc else text
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=False) == expected


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["I", "'m", " 123", "  ", " x"]),
        ("smollm", ["I", "'m", " ", "1", "2", "3", "  ", " x"]),
        ("llama-bpe", ["I", "'m", " ", "123", "  ", " x"]),
        ("qwen2", ["I", "'m", " ", "1", "2", "3", "  ", " x"]),
        ("falcon", ["I", "'", "m", " ", "123", "  ", " x"]),
        ("deepseek-v3", ["I", "'m", " ", "123", "  ", " x"]),
    ],
)
def test_splits(pre: str, words: list[str]) -> None:
    from octavo.tokenizer.token_bytes import byte_letters

    letters = byte_letters()
    split = _STYLES[pre].pre_tokenizer().pre_tokenize_str("I'm 123   x")
    assert [bytes(letters[letter] for letter in word).decode() for word, _ in split] == words


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({}, []), ({"bos": True}, [0]), ({"bos": True, "eos": True}, [0, 1]), ({"bos": False}, [])],
)
def test_bos_and_eos(byte_level_metadata: dict[str, Any], flags: dict[str, bool], expected: list[int]) -> None:
    given_flags = {f"tokenizer.ggml.add_{name}_token": value for name, value in flags.items()}
    tokenizer = Tokenizer.from_gguf(byte_level_metadata | given_flags)
    assert [token_id for token_id in tokenizer.encode("cat") if token_id in (0, 1)] == expected
    assert tokenizer.encode("cat", add_special_tokens=False) == tokenizer.encode("cat")[bool(expected) :][:1]


def test_special_text_stays_plain_when_asked(tiny_bpe: Tokenizer) -> None:
    ids = tiny_bpe.encode("a<|im_end|>b<tool é>", parse_special=False)
    assert not tiny_bpe.special_token_ids & set(ids)
    assert tiny_bpe.token_to_id("<tool é>") in ids  # not special: part of the language
    assert tiny_bpe.decode(ids) == "a<|im_end|>b<tool é>"


def test_special_tokens_are_skipped(tiny_bpe: Tokenizer) -> None:
    ids = tiny_bpe.encode("<s>a<|im_end|>")
    assert tiny_bpe.decode(ids) == "a"
    assert tiny_bpe.decode(ids, skip_special_tokens=False) == "<s>a<|im_end|>"
    assert tiny_bpe.eos_token_ids == {1}


def test_token_bytes(tiny_sentencepiece: Tokenizer) -> None:
    assert tiny_sentencepiece.token_bytes(3 + 0xC3) == b"\xc3"
    assert tiny_sentencepiece.token_bytes(tiny_sentencepiece.token_to_id("▁a") or 0) == b" a"
    assert tiny_sentencepiece.token_bytes(10**6) == tiny_sentencepiece.token_bytes(-1) == b""


def test_a_space_goes_before_the_text_and_is_taken_away_again(tiny_sentencepiece: Tokenizer) -> None:
    ids = tiny_sentencepiece.encode("ab", add_special_tokens=False)
    assert [tiny_sentencepiece.id_to_token(token_id) for token_id in ids] == ["▁a", "b"]
    assert tiny_sentencepiece.decode(ids) == "ab"
    assert tiny_sentencepiece.decode(ids, is_continuation=True) == " ab"


def test_lone_surrogates_are_refused(tiny_bpe: Tokenizer) -> None:
    with pytest.raises(OctavoError, match="surrogates"):
        tiny_bpe.encode("a\ud800")


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"tokenizer.ggml.model": None}, "model"),
    ({"tokenizer.ggml.tokens": None}, "tokens"),
    ({"tokenizer.ggml.tokens": []}, "tokens"),
    ({"tokenizer.ggml.tokens": ["a", "a"]}, "twice"),
    ({"tokenizer.ggml.tokens": "abc"}, "not an array"),
    ({"tokenizer.ggml.tokens": ["a", 1]}, "not only strings"),
    ({"tokenizer.ggml.merges": None}, "merges"),
    ({"tokenizer.ggml.merges": ["ab"]}, "merges"),
    ({"tokenizer.ggml.merges": ["a nonsense"]}, "merges"),
    ({"tokenizer.ggml.token_type": [1, 1]}, "must agree"),
    ({"tokenizer.ggml.token_type": 3}, "not an array"),
    ({"tokenizer.ggml.bos_token_id": 10**6}, "bos_token_id"),
    ({"tokenizer.ggml.eos_token_id": -1}, "eos_token_id"),
    ({"tokenizer.ggml.eot_token_id": "x"}, "eot_token_id"),
    ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}, "bos_token_id"),
    ({"tokenizer.ggml.add_bos_token": 3}, "not true or false"),
    ({"tokenizer.chat_template": 3}, "not a string"),
    ({"tokenizer.ggml.model": "llama"}, "scores"),
    ({"tokenizer.ggml.model": "t5"}, "scores"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_malformed_metadata_is_refused(
    byte_level_metadata: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    if change.get("tokenizer.ggml.model") == "llama":
        change = change | {"tokenizer.ggml.merges": None}
    with pytest.raises(ModelFileError, match=reason):
        Tokenizer.from_gguf(byte_level_metadata | change)


def test_token_types_and_scores_out_of_range(byte_level_metadata: dict[str, Any]) -> None:
    num_tokens = len(byte_level_metadata["tokenizer.ggml.tokens"])
    with pytest.raises(ModelFileError, match="0 to 6"):
        Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.token_type": [9] * num_tokens})
    with pytest.raises(ModelFileError, match="not finite"):
        Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.scores": [float("nan")] * num_tokens})


@pytest.mark.parametrize("model", ["bert", "rwkv", "plamo2", "none"])
def test_unknown_models_are_refused_by_name(byte_level_metadata: dict[str, Any], model: str) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"'{model}'.*gpt2, llama, t5"):
        Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.model": model})


def test_unknown_pre_tokenizers_are_refused_by_name(byte_level_metadata: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'gpt-9'.*smollm"):
        Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.pre": "gpt-9"})


def test_a_missing_pre_tokenizer_is_logged(
    byte_level_metadata: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.pre": None})
    assert "tokenizer.ggml.pre" in caplog.text


JUNK = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=4), st.lists(st.integers(-3, 9), max_size=4),
    st.lists(st.text(max_size=3), max_size=4), st.booleans(), st.binary(max_size=8),
)  # fmt: skip


@MANY
@given(data=st.data())
def test_junk_never_crashes(byte_level_metadata: dict[str, Any], data: st.DataObject) -> None:
    keys = [*byte_level_metadata, "tokenizer.ggml.scores", "tokenizer.ggml.precompiled_charsmap"]
    changes = data.draw(st.dictionaries(st.sampled_from(keys), JUNK, min_size=1, max_size=3))
    kind = data.draw(st.sampled_from(["gpt2", "llama", "t5"]))
    try:
        tokenizer = Tokenizer.from_gguf(byte_level_metadata | {"tokenizer.ggml.model": kind} | changes)
    except OctavoError:
        return
    tokenizer.decode(tokenizer.encode("the cat"))


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00junk"])
def test_a_broken_cache_is_not_used(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    model = train("bpe", vocab_size=360, byte_fallback=True)
    metadata = export_sentencepiece(model, "llama")
    expected = Tokenizer.from_gguf(metadata, cache_dir=tmp_path).encode("the cat sat")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert Tokenizer.from_gguf(metadata, cache_dir=tmp_path).encode("the cat sat") == expected
    assert "derived again" in caplog.text
    assert file.read_bytes() != content
