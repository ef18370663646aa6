"""Models that may be on the machine, tiny tokenizers made on the spot, and texts that break naive tokenisers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from octavo.loader.gguf import GGUFFile
from octavo.tokenizer.tokenizer import Tokenizer

TEXTS = (
    "",
    " ",
    "Hello world",
    "I'm we'LL they'Ve don't  DON'T it's",
    "def f(x):\n\treturn x  +  1\n\n\n\n# ok\r\n\r\n",
    'if (a[0] != b->c) { return "\\n"; } // éà',
    "你好，世界！ 漢字とカナ 안녕하세요 세계",
    "שלום עולם مرحبا بالعالم हिन्दी क्षत्रिय",
    "👩‍👩‍👧‍👦 family 🇩🇪 👍🏽 😀😀",
    "e\u0301 a\u0308 ﬁ Å\u030a",
    "1234567890 3.14159 ٣٤٥ ²³ Ⅷ 7x8",
    "    " * 10 + "\n" * 40 + "\t" * 35,
    *(" " * count for count in (2, 3, 16, 17, 31, 32, 33, 64)),
    "  leading and trailing  ",
    "\u0000\u0001\ufeff\u200b\u00a0\u3000",
    "a" * 200,
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|></s><bos><start_of_turn>",
)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return TEXTS


@pytest.fixture(scope="session")
def gguf_metadata(real_model: Callable[[str], Path]) -> Callable[[str], dict[str, Any]]:
    def read(name: str) -> dict[str, Any]:
        file = GGUFFile.open(real_model(name))
        metadata = dict(file.metadata)
        file.close()
        return metadata

    return read


@pytest.fixture(scope="session")
def smollm2(gguf_metadata: Callable[[str], dict[str, Any]]) -> Tokenizer:
    return Tokenizer.from_gguf(gguf_metadata("smollm2"))


@pytest.fixture(scope="session")
def gemma3(gguf_metadata: Callable[[str], dict[str, Any]]) -> Tokenizer:
    return Tokenizer.from_gguf(gguf_metadata("gemma3-270m"))


@pytest.fixture(scope="session")
def byte_level_backend() -> Backend:
    """A tiny byte-level BPE with two special tokens and one that is not."""
    backend = Backend(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*TEXTS[:-1], "the cat sat on the mat and the hat " * 5], trainer)
    backend.add_tokens([AddedToken("<tool é>", normalized=False)])
    return backend


@pytest.fixture(scope="session")
def byte_level_metadata(byte_level_backend: Backend) -> dict[str, Any]:
    """The same as GGUF metadata."""
    return export_byte_level(byte_level_backend, "gpt-2")


def export_byte_level(backend: Backend, pre: str) -> dict[str, Any]:
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    added = backend.get_added_tokens_decoder()
    merges = json.loads(backend.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [
            (3 if added[index].special else 4) if index in added else 1 for index in range(len(tokens))
        ],
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": vocabulary["<s>"],
        "tokenizer.ggml.eos_token_id": vocabulary["<|im_end|>"],
    }


@pytest.fixture(scope="session")
def tiny_bpe(byte_level_metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_gguf(byte_level_metadata)


@pytest.fixture(scope="session")
def tiny_sentencepiece() -> Tokenizer:
    """Every byte as a token, a few pieces, and a space before the text: all that SentencePiece spelling has."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "é", "▁▁"]
    types = [2, 3, 3, *([6] * 256), *([1] * 7)]
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": pieces,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.scores": [0.0] * 259 + [-10.0, -11.0, -12.0, -1.0, -2.0, -13.0, -3.0],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
        }
    )
