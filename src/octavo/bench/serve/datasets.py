"""What is sent: prompts of random tokens, with or without a shared beginning, or those of a JSONL file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from octavo.bench.serve.request_form import PromptForm
from octavo.bench.workload import BenchRequest, random_requests
from octavo.core.errors import ConfigError

WORDS = (
    *("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state"),
    *("family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system"),
    *("program", "question", "work", "night", "point", "home", "water", "room", "mother", "area", "money", "story"),
    *("fact", "month", "lot", "right", "study", "book", "eye", "job", "word", "business", "issue", "side", "kind"),
    *("head", "house", "service", "friend", "father", "power", "hour", "game", "line", "end", "member", "law", "car"),
)
"""With a space before it each is one token of nearly every vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request's input: token ids, text, or the messages of a chat."""

    content: list[int] | str | list[dict[str, Any]]
    max_tokens: int

    @property
    def num_tokens(self) -> int | None:
        """None where only the server's tokenizer knows."""
        is_ids = isinstance(self.content, list) and all(isinstance(token, int) for token in self.content)
        return len(self.content) if is_ids else None


class Dataset(Protocol):
    """Where prompts come from."""

    def prompts(self, count: int | None, form: PromptForm, seed: int) -> list[Prompt]:
        """`count` of them, or as many as the dataset has by itself. Raises `ConfigError`."""


DEFAULT_COUNT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomDataset:
    """Nothing is looked up, nothing is shared. As text a token is a word, so lengths are near what was asked."""

    input_len: int
    output_len: int
    range_ratio: float
    vocab_size: int

    def prompts(self, count: int | None, form: PromptForm, seed: int) -> list[Prompt]:
        return [_prompt([], request, form) for request in self.requests(count, form, seed)]

    def requests(self, count: int | None, form: PromptForm, seed: int) -> list[BenchRequest]:
        return random_requests(
            DEFAULT_COUNT if count is None else count,
            input_len=self.input_len,
            output_len=self.output_len,
            vocab_size=_vocab_size(self.vocab_size, form),
            seed=seed,
            range_ratio=self.range_ratio,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefixDataset:
    """One of `num_prefixes` beginnings of `prefix_len` tokens, in turn, before a random rest."""

    rest: RandomDataset
    prefix_len: int
    num_prefixes: int

    def prompts(self, count: int | None, form: PromptForm, seed: int) -> list[Prompt]:
        random = np.random.default_rng([seed, 1])
        vocab_size = _vocab_size(self.rest.vocab_size, form)
        prefixes = [random.integers(0, vocab_size, self.prefix_len).tolist() for _ in range(self.num_prefixes)]
        requests = self.rest.requests(count, form, seed)
        return [_prompt(prefixes[number % self.num_prefixes], request, form) for number, request in enumerate(requests)]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str | list[int] | None = None
    messages: list[dict[str, Any]] | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlDataset:
    """Lines of JSON objects with `prompt` (text or token ids) or `messages`, and `max_tokens` where it is not the default."""

    file: Path
    output_len: int

    def prompts(self, count: int | None, form: PromptForm, seed: int) -> list[Prompt]:
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"dataset_path {self.file} cannot be read: {error}", param="dataset_path") from error
        prompts = [self._prompt(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not prompts:
            raise ConfigError(f"dataset_path {self.file} has no lines", param="dataset_path")
        if count is not None and count > len(prompts):
            raise ConfigError(
                f"num_prompts={count} is more than the {len(prompts)} lines of {self.file}; ask for fewer, or leave it "
                "out to send them all",
                param="num_prompts",
            )
        return prompts[:count]

    def _prompt(self, number: int, line: str) -> Prompt:
        try:
            fields = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"line {number} of {self.file} is not a request: {error}; write an object with prompt or messages, and "
                "optionally max_tokens",
                param="dataset_path",
            ) from error
        content = fields.prompt if fields.messages is None else fields.messages
        if (fields.prompt is None) == (fields.messages is None) or not content:
            raise ConfigError(
                f"line {number} of {self.file} needs either prompt or messages, not empty", param="dataset_path"
            )
        max_tokens = self.output_len if fields.max_tokens is None else fields.max_tokens
        if max_tokens < 1:
            raise ConfigError(
                f"line {number} of {self.file} has max_tokens {max_tokens}; write at least 1", param="dataset_path"
            )
        return Prompt(content=content, max_tokens=max_tokens)


def _vocab_size(vocab_size: int, form: PromptForm) -> int:
    return vocab_size if form is PromptForm.TOKEN_IDS else len(WORDS)


def _prompt(prefix: Sequence[int], request: BenchRequest, form: PromptForm) -> Prompt:
    token_ids = [*prefix, *request.prompt_token_ids]
    content = token_ids if form is PromptForm.TOKEN_IDS else "".join(" " + WORDS[token] for token in token_ids)
    return Prompt(content=content, max_tokens=request.output_len)
