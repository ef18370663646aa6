"""Text to token ids and back, one class for tokenizer.json directories and GGUF files."""

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from octavo.core.errors import ContextLengthError, InvalidRequestError, ModelFileError
from octavo.core.pieces import in_pieces
from octavo.tokenizer.directory import read_directory
from octavo.tokenizer.end_tokens import end_of_turn_ids
from octavo.tokenizer.gguf_backend import build_backend
from octavo.tokenizer.gguf_vocabulary import read_vocabulary
from octavo.tokenizer.token_bytes import read_spelling

MAX_VOCAB_SIZE = 1 << 22


class Tokenizer:
    """A model's tokenizer. Immutable, and safe to use from several threads.

    Text is decoded as the tokens' bytes joined, then `bytes.decode("utf-8", errors="replace")`:
    what a byte sequence means never depends on how it was cut into tokens.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        vocab_size: int,
        bos_token_id: int | None,
        eos_token_id: int | None,
        eos_token_ids: frozenset[int],
        chat_template: str | None,
    ) -> None:
        self.name = name
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.eos_token_ids = eos_token_ids
        """Every id that ends an answer: EOS and end-of-turn tokens."""
        self.chat_template = chat_template
        self._backend = backend
        self._plain_backend: Backend | None = None
        self._plain_lock = threading.Lock()
        self._added = backend.get_added_tokens_decoder()
        self.special_token_ids = frozenset(token_id for token_id, token in self._added.items() if token.special)
        self.vocab_size = vocab_size
        """One more than the largest id. A model's logits may be padded beyond it."""
        self._spelling = read_spelling(backend.decoder)
        self._bytes: list[bytes | None] = [None] * self.vocab_size

    @classmethod
    def from_directory(cls, path: Path | str) -> "Tokenizer":
        """The tokenizer of a Hugging Face model directory.

        Raises `ModelNotFoundError`, `UnsupportedModelError` or `ModelFileError`.
        """
        path = Path(path)
        found = read_directory(path)
        vocab_size = 1 + max(found.backend.get_vocab(with_added_tokens=True).values(), default=-1)
        if vocab_size > MAX_VOCAB_SIZE:
            raise ModelFileError(
                f"{path}: tokenizer.json has a token id of {vocab_size - 1}; ids up to {MAX_VOCAB_SIZE - 1} are allowed"
            )
        if found.generation_eos_token_ids:
            end_ids = frozenset(found.generation_eos_token_ids)
        else:
            end_ids = end_of_turn_ids(_special_tokens(found.backend))
        return cls(
            found.backend,
            name=path.resolve().name,
            vocab_size=vocab_size,
            bos_token_id=found.bos_token_id,
            eos_token_id=found.eos_token_id,
            eos_token_ids=end_ids | _present(found.eos_token_id),
            chat_template=found.chat_template,
        )

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], *, cache_dir: Path | None = None) -> "Tokenizer":
        """The tokenizer that a GGUF file's metadata describes (`tokenizer.*`, `general.*`).

        With `cache_dir`, merges derived from SentencePiece scores are kept there for the next start.
        Raises `ModelFileError` for metadata that is malformed, `UnsupportedModelError` for a kind
        of tokenizer that is not known.
        """
        vocabulary = read_vocabulary(metadata)
        backend = build_backend(vocabulary, cache_dir)
        return cls(
            backend,
            name=vocabulary.name,
            vocab_size=len(vocabulary.tokens),
            bos_token_id=vocabulary.bos_token_id,
            eos_token_id=vocabulary.eos_token_id,
            eos_token_ids=end_of_turn_ids(_special_tokens(backend))
            | frozenset(vocabulary.eot_token_ids)
            | _present(vocabulary.eos_token_id),
            chat_template=vocabulary.chat_template,
        )

    @property
    def bos_token(self) -> str | None:
        return None if self.bos_token_id is None else self.id_to_token(self.bos_token_id)

    @property
    def eos_token(self) -> str | None:
        return None if self.eos_token_id is None else self.id_to_token(self.eos_token_id)

    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
        max_tokens: int | None = None,
    ) -> list[int]:
        """Token ids of `text`.

        `add_special_tokens` puts BOS/EOS around it, as the model wants. Without `parse_special`,
        the text of a special token, such as «<|im_end|>», is plain text and never becomes that token.
        Raises `InvalidRequestError` for text that is not Unicode, or where plain text could not
        be kept from becoming a special token, and `ContextLengthError` for one of more than `max_tokens`.
        """
        backend = self._backend if parse_special else self._without_special_parsing()
        encoding = _encoding(backend, text, add_special_tokens)
        if max_tokens is not None and len(encoding) > max_tokens:
            raise ContextLengthError(
                f"the text has {len(encoding)} tokens; the ids of at most {max_tokens} are listed at a time; send it in "
                "parts, or have them only counted",
                param="prompt",
            )
        if not parse_special:
            in_text = (
                token_id
                for token_id, added in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
                if not added
            )
            self._require_plain(in_text)
        return encoding.ids

    def count(self, text: str, *, add_special_tokens: bool = True) -> int:
        """How many `encode` would list. Raises `InvalidRequestError` for text that is not Unicode."""
        return len(_encoding(self._backend, text, add_special_tokens))

    def decode(
        self, token_ids: Iterable[int], *, skip_special_tokens: bool = True, is_continuation: bool = False
    ) -> str:
        """The text of `token_ids`.

        A tokenizer that puts a space before a text takes it away again here, unless the tokens
        continue a text (`is_continuation`), as a model's output continues its prompt.
        """
        skipped = self.special_token_ids if skip_special_tokens else frozenset()
        parts = (self.token_bytes(token_id) for token_id in token_ids if token_id not in skipped)
        data = b"".join(map(b"".join, in_pieces(parts)))
        text = data.decode("utf-8", "replace")
        if self._spelling.strips_first_space and not is_continuation:
            return text.removeprefix(" ")
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token contributes to the text; none for an id that is no token."""
        if not 0 <= token_id < self.vocab_size:
            return b""
        data = self._bytes[token_id]
        if data is None:
            token = self._backend.id_to_token(token_id)
            data = b"" if token is None else self._spelling.to_bytes(token, is_added=token_id in self._added)
            self._bytes[token_id] = data
        return data

    def id_to_token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it, not as text; None for an id that is no token."""
        return self._backend.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None

    def token_to_id(self, token: str) -> int | None:
        return self._backend.token_to_id(token)

    def _without_special_parsing(self) -> Backend:
        """A second backend that shares the model but matches no special tokens; made at first use."""
        with self._plain_lock:
            if self._plain_backend is None:
                self._plain_backend = _shared_copy(self._backend)
                self._plain_backend.encode_special_tokens = True
            return self._plain_backend

    def _require_plain(self, token_ids: Iterable[int]) -> None:
        for token_id in token_ids:
            if token_id in self.special_token_ids and self.token_bytes(token_id):
                raise InvalidRequestError(
                    f"text holds {self.id_to_token(token_id)!r}, which this tokenizer cannot keep as plain text; "
                    "leave it out"
                )


def _encoding(backend: Backend, text: str, add_special_tokens: bool) -> Encoding:
    try:
        # A batch of one: `encode` would hold the interpreter's lock, and with it every other thread, to its end. The
        # fast one finds no offsets, which nobody reads: half the time, and half as long with the lock at its end.
        [encoding] = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidRequestError(
            f"text cannot be tokenised: {error}; it must be Unicode without lone surrogates"
        ) from error
    return encoding


def _shared_copy(backend: Backend) -> Backend:
    """A backend of its own that shares the (large) model with `backend`."""
    copy = Backend(backend.model)
    copy.normalizer = backend.normalizer
    copy.pre_tokenizer = backend.pre_tokenizer
    copy.post_processor = backend.post_processor
    copy.decoder = backend.decoder
    # In the order of ids, so that tokens beyond the model's vocabulary get the same ids again.
    added = backend.get_added_tokens_decoder()
    copy.add_tokens([added[token_id] for token_id in sorted(added)])
    assert copy.get_added_tokens_decoder().keys() == added.keys()
    return copy


def _special_tokens(backend: Backend) -> dict[str, int]:
    added = backend.get_added_tokens_decoder()
    return {token.content: token_id for token_id, token in added.items() if token.special}


def _present(token_id: int | None) -> frozenset[int]:
    return frozenset() if token_id is None else frozenset((token_id,))
