"""Tokenizers read from model directories: the same ids and flags as transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, processors

from octavo.core.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from octavo.tokenizer.tokenizer import Tokenizer

CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|im_end|>"}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, byte_level_backend: Backend) -> Write:
    """Write a model directory: tokenizer.json, changed by `change`, and files given by name."""

    def write_files(files: dict[str, Any], change: Callable[[Backend], None] | None = None) -> Path:
        backend = Backend.from_str(byte_level_backend.to_str())
        if change is not None:
            change(backend)
        backend.save(str(tmp_path / "tokenizer.json"))
        for name, content in files.items():
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write_files


def with_bos(backend: Backend) -> None:
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])


@pytest.mark.parametrize("change", [None, with_bos], ids=["no rule", "BOS rule"])
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"add_bos_token": True},
        {"add_bos_token": False},
        {"add_eos_token": True},
        {"add_bos_token": True, "add_eos_token": True},
        {"add_bos_token": True, "bos_token": None},
    ],
)
def test_ids_equal_transformers(
    write: Write, texts: tuple[str, ...], flags: dict[str, Any], change: Callable[[Backend], None] | None
) -> None:
    transformers = pytest.importorskip("transformers")
    path = write({"tokenizer_config.json": CONFIG | flags}, change)
    reference = transformers.AutoTokenizer.from_pretrained(str(path))
    tokenizer = Tokenizer.from_directory(path)
    for text in (*texts, "a<tool é>b<s><|im_end|>"):
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        assert tokenizer.encode(text, add_special_tokens=False) == reference.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True).replace("<tool �>", "<tool é>")
    assert tokenizer.bos_token_id == reference.bos_token_id
    assert tokenizer.eos_token_id == reference.eos_token_id
    assert tokenizer.vocab_size == len(reference)


def test_a_flag_that_contradicts_the_file_is_logged(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    Tokenizer.from_directory(write({"tokenizer_config.json": CONFIG | {"add_bos_token": True}}, with_bos))
    assert "add_bos_token" not in caplog.text
    Tokenizer.from_directory(write({"tokenizer_config.json": CONFIG | {"add_bos_token": True}}))
    assert "add_bos_token=True" in caplog.text


def test_tokens_listed_in_the_config_are_added(write: Write) -> None:
    backend_size = Tokenizer.from_directory(write({})).vocab_size
    listed = {str(backend_size): {"content": "<extra>", "special": True, "normalized": False}}
    config = CONFIG | {"added_tokens_decoder": listed, "additional_special_tokens": ["<more>"]}
    tokenizer = Tokenizer.from_directory(write({"tokenizer_config.json": config}))
    assert tokenizer.encode("<extra><more>") == [backend_size, backend_size + 1]
    assert tokenizer.decode(tokenizer.encode("a<extra><more>")) == "a"


def test_a_named_token_becomes_special(write: Write) -> None:
    config = CONFIG | {"eos_token": {"content": "<tool é>", "lstrip": False}}
    tokenizer = Tokenizer.from_directory(write({"tokenizer_config.json": config}))
    assert tokenizer.eos_token_id in tokenizer.special_token_ids
    assert tokenizer.eos_token == "<tool é>"


def test_special_tokens_map_fills_in(write: Write) -> None:
    files = {"tokenizer_config.json": {"bos_token": "<s>"}, "special_tokens_map.json": {"eos_token": "<|im_end|>"}}
    tokenizer = Tokenizer.from_directory(write(files))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "<|im_end|>")


@pytest.mark.parametrize(("listed", "expected"), [(None, {1}), (0, {0, 1}), ([0, 5], {0, 1, 5})])
def test_end_tokens(write: Write, listed: Any, expected: set[int]) -> None:
    path = write({"tokenizer_config.json": CONFIG, "generation_config.json": {"eos_token_id": listed}})
    assert Tokenizer.from_directory(path).eos_token_ids == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": "A"}}, "A"),
        ({"tokenizer_config.json": {"chat_template": "A"}, "chat_template.jinja": "B"}, "B"),
        ({"chat_template.json": {"chat_template": "C"}}, "C"),
        (
            {"tokenizer_config.json": {"chat_template": [{"name": "x", "template": "X"}, {"name": "default", "template": "D"}]}},
            "D",
        ),
        ({"tokenizer_config.json": {"chat_template": [{"name": "x", "template": "X"}]}}, None),
    ],
)  # fmt: skip
def test_chat_template_is_found(write: Write, files: dict[str, Any], expected: str | None) -> None:
    assert Tokenizer.from_directory(write(files)).chat_template == expected


def test_truncation_in_the_file_is_not_applied(write: Write) -> None:
    tokenizer = Tokenizer.from_directory(write({}, lambda backend: backend.enable_truncation(2)))
    assert len(tokenizer.encode("a b c d e f g")) > 2


def test_only_sentencepiece_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match=r"tokenizer.model.*save_pretrained"):
        Tokenizer.from_directory(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer.json": "{"},
        {"tokenizer.json": "[]"},
        {"tokenizer_config.json": "{"},
        {"tokenizer_config.json": "[1]"},
        {"tokenizer_config.json": {"added_tokens_decoder": {"x": "y"}}},
        {"tokenizer_config.json": {"added_tokens_decoder": {"9999": "<far>"}}},
        {"tokenizer_config.json": {"added_tokens_decoder": {"1": 5}}},
        {"tokenizer_config.json": {"chat_template": 5}},
        {"generation_config.json": {"eos_token_id": "x"}},
    ],
)
def test_malformed_files_are_refused(write: Write, files: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError):
        Tokenizer.from_directory(write(files))


@pytest.mark.parametrize("decoder", [decoders.WordPiece(), decoders.CTC(), decoders.Strip(" ", 0, 1)])
def test_decoders_that_do_not_work_token_by_token_are_refused(write: Write, decoder: Any) -> None:
    def change(backend: Backend) -> None:
        backend.decoder = decoder

    with pytest.raises(UnsupportedModelError, match="token by token"):
        Tokenizer.from_directory(write({}, change))
