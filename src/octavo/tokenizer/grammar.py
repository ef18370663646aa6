"""Grammars that answers are held to, compiled by llguidance to matchers over a tokenizer's vocabulary.

A grammar is compiled in a thread of its own, while the step loop goes on, and kept for the next request that has it.
`_LIMITS` bounds what a compiled grammar may cost; compiling itself can take exponential time, which is why a server lets
a process of its own try first (`octavo.engine.grammar_check`).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import llguidance
import msgspec
from llguidance.gbnf_to_lark import any_to_lark

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import StructuredOutputs
from octavo.tokenizer.tokenizer import Tokenizer

_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,  # 20 ms
    step_lexer_fuel=100_000,  # 7 ms a step
    step_max_items=20_000,
    max_lexer_states=20_000,  # 40 MB
    max_grammar_size=100_000,
    verbose_errors=False,
)
JSON_OPTIONS: Any = {"whitespace_pattern": r"( |\n[ ]{0,64})?"}
"""One space, or a line and its indent, where JSON allows any: a model cannot go on with blanks for ever."""
_REGEX_SYNTAX = frozenset(r"\.+*?()|[]{}^$#&-~/ ")
MAX_REASON_CHARS = 500
_NUM_BYTES = 256
_MOST_TOKENS = 1 << 18
"""Where a grammar names tokens by their ids («<[5]>»), as many are supposed to exist."""
MAX_KEPT = 128
"""Compiled grammars that are kept."""


def grammar_text(outputs: StructuredOutputs) -> str:
    """The grammar as llguidance reads it. Raises `InvalidRequestError` for a schema or GBNF that cannot be read."""
    matcher = llguidance.LLMatcher
    if outputs.json is not None:
        schema = outputs.json if isinstance(outputs.json, str) else msgspec.json.encode(outputs.json).decode()
        try:
            return matcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS)
        except ValueError as error:
            raise bad_grammar(str(error)) from error
    if outputs.json_object is not None:
        return matcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_OPTIONS)
    if outputs.regex is not None:
        return matcher.grammar_from_regex(outputs.regex)
    if outputs.choice is not None:
        return matcher.grammar_from_regex("|".join(map(_literal, outputs.choice)))
    assert outputs.grammar is not None
    try:
        return matcher.grammar_from_lark(any_to_lark(outputs.grammar))
    except Exception as error:  # the conversion has no error of its own
        raise bad_grammar(f"neither Lark nor GBNF: {error}") from error


def check_grammar(outputs: StructuredOutputs) -> None:
    """Raises `InvalidRequestError` for what no answer can follow, or what takes too much work to follow."""
    text = grammar_text(outputs)
    vocabulary = _bytes_vocabulary(_MOST_TOKENS if "<[" in text else _NUM_BYTES + 1)
    _first_mask(llguidance.LLMatcher(vocabulary, text, log_level=0, limits=_LIMITS))


class Grammars:
    """Compiled grammars of one engine, by their text. Thread-safe.

    `load_tokenizer` is called once, when the first grammar is compiled.
    """

    def __init__(self, load_tokenizer: Callable[[], Tokenizer]) -> None:
        self._load_tokenizer = load_tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._kept: OrderedDict[str, Future[llguidance.LLMatcher]] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="octavo-grammar")

    def prepare(self, outputs: StructuredOutputs) -> "Future[llguidance.LLMatcher]":
        """Compile it, where that has not been done; the result is the beginning of every answer. Fails with `InvalidRequestError`."""
        text = grammar_text(outputs)
        with self._lock:
            compiling = self._kept.get(text)
            if compiling is None:
                compiling = self._kept[text] = self._thread.submit(self._compile, text)
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(text)
            return compiling

    def matcher(self, outputs: StructuredOutputs) -> llguidance.LLMatcher:
        """One at the beginning of an answer. Waits for the grammar where it was not prepared; raises as `prepare` fails."""
        return self.prepare(outputs).result().deep_copy()

    def _compile(self, text: str) -> llguidance.LLMatcher:
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self._load_tokenizer())
        matcher = llguidance.LLMatcher(self._vocabulary, text, log_level=0, limits=_LIMITS)
        _first_mask(matcher)
        return matcher


def _first_mask(matcher: llguidance.LLMatcher) -> None:
    """Some grammars show only here that they have no sentence."""
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        raise bad_grammar(matcher.get_error())


class _Words:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True

    def __init__(
        self,
        tokens: list[bytes],
        special_token_ids: list[int],
        bos_token_id: int | None,
        eos_token_id: int,
        encode: Callable[[str], list[int]],
    ) -> None:
        self.tokens = tokens
        self.special_token_ids = special_token_ids
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self._encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def _vocabulary(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    ends = sorted(tokenizer.eos_token_ids)
    if not ends:
        raise InvalidRequestError(
            "structured_outputs need a token that ends an answer, and this model has none; leave them out",
            param="structured_outputs",
        )
    words = _Words(
        [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)],
        sorted(tokenizer.special_token_ids | tokenizer.eos_token_ids),
        tokenizer.bos_token_id,
        ends[0],
        lambda text: tokenizer.encode(text, add_special_tokens=False, parse_special=False),
    )
    return llguidance.LLTokenizer(words, eos_token=ends)  # type: ignore[arg-type]  # it asks for what _Words has


@lru_cache(maxsize=2)
def _bytes_vocabulary(num_tokens: int) -> llguidance.LLTokenizer:
    """A token a byte, then the end, then tokens without text: for grammars that are only checked."""
    tokens = [bytes([byte]) for byte in range(_NUM_BYTES)]
    padding = [b""] * (num_tokens - _NUM_BYTES - 1)
    words = _Words([*tokens, b"<end>", *padding], [_NUM_BYTES], None, _NUM_BYTES, lambda text: list(text.encode()))
    return llguidance.LLTokenizer(words)  # type: ignore[arg-type]


def _literal(text: str) -> str:
    return "".join(f"\\{char}" if char in _REGEX_SYNTAX else char for char in text)


def bad_grammar(reason: str) -> InvalidRequestError:
    """llguidance's reason as an error of the request."""
    said = reason.partition("\n<")[0].strip()[:MAX_REASON_CHARS]
    if said.startswith("NoExtension"):
        said = "there is no text that it allows"
    return InvalidRequestError(
        f"structured_outputs cannot be followed: {said}; change or simplify it", param="structured_outputs"
    )
