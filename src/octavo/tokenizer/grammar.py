"""Grammars that answers are held to, compiled by llguidance to matchers over a tokenizer's vocabulary.

A grammar is read and compiled in a thread of its own, while the step loop goes on. Requests that have the same one share
it, and it is kept for the next.
`_LIMITS` bounds what a compiled grammar may cost; compiling itself can take exponential time, which is why a server lets
a process of its own try first (`octavo.engine.grammar_check`).
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llguidance
from llguidance.gbnf_to_lark import gbnf_to_lark

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
_SHORT_CLASSES: dict[str, str] = {
    r"\d": "[0-9]", r"\D": "[^0-9]", r"\w": "[0-9A-Za-z_]", r"\W": "[^0-9A-Za-z_]",
}  # fmt: skip
"""What a schema's `pattern` takes them for; llguidance, left to itself, takes digits of every script for `\\d`."""
_REGEX_PART = re.compile(r"\\?.", re.DOTALL)
_REGEX_SYNTAX = frozenset(r"\.+*?()|[]{}^$#&-~/ ")
MAX_REASON_CHARS = 500
_LARK = re.compile(r"^[^\S\n]*(%llguidance\b|start\s*:)", re.MULTILINE)
"""By which a grammar is known to be Lark's; what is neither is read as GBNF."""
_NUM_BYTES = 256
_MOST_TOKENS = 1 << 18
"""Where a grammar names tokens by their ids («<[5]>»), as many are supposed to exist."""
MAX_KEPT = 128
"""Grammars that are kept for requests to come."""


def grammar_text(outputs: StructuredOutputs) -> str:
    """The grammar as llguidance reads it. Raises `InvalidRequestError` for a schema or GBNF that cannot be read."""
    matcher = llguidance.LLMatcher
    if outputs.json is not None:
        try:
            return matcher.grammar_from_json_schema(outputs.json, overrides=JSON_OPTIONS)
        except ValueError as error:
            raise bad_grammar(str(error)) from error
    if outputs.json_object is not None:
        return matcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_OPTIONS)
    if outputs.regex is not None:
        return matcher.grammar_from_regex(_with_ascii_classes(outputs.regex))
    if outputs.choice is not None:
        return matcher.grammar_from_regex("|".join(map(_literal, outputs.choice)))
    assert outputs.grammar is not None
    try:
        is_lark = _LARK.search(outputs.grammar) is not None
        return matcher.grammar_from_lark(outputs.grammar if is_lark else gbnf_to_lark(outputs.grammar))
    except Exception as error:  # the conversion has no error of its own
        raise bad_grammar(f"neither Lark nor GBNF: {error}") from error


def check_grammar(outputs: StructuredOutputs) -> None:
    """Raises `InvalidRequestError` for what no answer can follow, or what takes too much work to follow."""
    text = grammar_text(outputs)
    vocabulary = _bytes_vocabulary(_MOST_TOKENS if "<[" in text else _NUM_BYTES + 1)
    _first_mask(llguidance.LLMatcher(vocabulary, text, log_level=0, limits=_LIMITS), outputs)


@dataclass(slots=True, eq=False)
class _Grammar:
    outputs: StructuredOutputs
    compiling: "Future[llguidance.LLMatcher]"
    num_requests: int = 0
    """Open ones that have it."""


class Grammars:
    """The grammars of one engine's open requests, by the requests' ids. Not thread-safe: the step loop's.

    `load_tokenizer` is called once, when the first grammar is compiled.
    """

    def __init__(self, load_tokenizer: Callable[[], Tokenizer]) -> None:
        self._load_tokenizer = load_tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._of_request: dict[str, _Grammar] = {}
        self._kept: OrderedDict[StructuredOutputs, _Grammar] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="octavo-grammar")

    def prepare(self, request_id: str, outputs: StructuredOutputs) -> "Future[llguidance.LLMatcher]":
        """Have it compiled, and hold it until `release`. The future is for waiting; it fails with `InvalidRequestError`."""
        grammar = self._kept.get(outputs)
        if grammar is None:
            grammar = self._kept[outputs] = _Grammar(outputs, self._thread.submit(self._compile, outputs))
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(outputs)
        grammar.num_requests += 1
        self._of_request[request_id] = grammar
        return grammar.compiling

    def matcher(self, request_id: str) -> llguidance.LLMatcher:
        """One at the beginning of an answer, for a request whose grammar has been compiled."""
        return self._of_request[request_id].compiling.result(timeout=0).deep_copy()

    def release(self, request_id: str) -> None:
        """The request has ended; what was to be compiled for it alone is not."""
        grammar = self._of_request.pop(request_id, None)
        if grammar is None:
            return
        grammar.num_requests -= 1
        if grammar.num_requests == 0 and grammar.compiling.cancel() and self._kept.get(grammar.outputs) is grammar:
            del self._kept[grammar.outputs]

    def close(self) -> None:
        """Compile nothing more; idempotent."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compile(self, outputs: StructuredOutputs) -> llguidance.LLMatcher:
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self._load_tokenizer())
        matcher = llguidance.LLMatcher(self._vocabulary, grammar_text(outputs), log_level=0, limits=_LIMITS)
        _first_mask(matcher, outputs)
        return matcher


def _first_mask(matcher: llguidance.LLMatcher, outputs: StructuredOutputs) -> None:
    """Some grammars show only here that they have no sentence."""
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        reason = matcher.get_error()
        raise bad_grammar(reason if outputs.regex is None else _of_regex(reason))


def _of_regex(reason: str) -> str:
    """Without the grammar that llguidance made around the expression, which nobody sent."""
    said = reason.rpartition(" (in regex): ")[2].partition("\n   1 | start: ")[0]
    return said.rpartition("\nerror: ")[2]


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


def _with_ascii_classes(regex: str) -> str:
    r"""`\d` and `\w`, where they stand and inside brackets, where a class may hold another one.

    A «-» before them is no range, which would end at the bracket of what they become; «--» inside brackets is «without».
    """
    written: list[str] = []
    for part in _REGEX_PART.findall(regex):
        if part in _SHORT_CLASSES and written[-1:] == ["-"] and written[-2:] != ["-", "-"]:
            written[-1] = r"\-"
        written.append(_SHORT_CLASSES.get(part, part))
    return "".join(written)


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
