"""Grammars that answers are held to, compiled by llguidance to matchers over a tokenizer's vocabulary.

A grammar is read and compiled in a thread of its own, while the step loop goes on; each request has it compiled anew,
because copies of a matcher share its lexer, and whoever uses that up would use it up for all.
`_LIMITS` bounds what a compiled grammar may cost; compiling itself can take exponential time, which is why a server lets
a process of its own try first (`octavo.engine.grammar_check`).
"""

import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import llguidance
from llguidance.gbnf_to_lark import gbnf_to_lark

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import MAX_GRAMMAR_CHARS, StructuredOutputs
from octavo.core.turns import Turns
from octavo.tokenizer.tokenizer import Tokenizer

_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,  # 20 ms
    step_lexer_fuel=100_000,  # 7 ms a step
    step_max_items=10_000,  # 16 ms a step, where all is ambiguous; an object takes 90 for each optional property
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
MAX_KEPT_BYTES = 16 << 20
"""Of texts that were turned to Lark, which takes long, for requests to come."""
FREE_WORK_S = 0.1
WORK_PER_TOKEN_S = 0.002
"""Processor time that masks may take: of a request's own, and for each of its tokens; those of schemas take 0.1 ms."""


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
    return matcher.grammar_from_lark(lark_text(outputs.grammar))


def lark_text(grammar: str) -> str:
    """GBNF as Lark, which may take seconds of Python; Lark as it is. Raises `InvalidRequestError`."""
    if _LARK.search(grammar) is not None:
        return grammar
    try:
        text = gbnf_to_lark(grammar)
    except Exception as error:  # the conversion has no error of its own
        raise bad_grammar(f"neither Lark nor GBNF: {error}") from error
    if len(text) > MAX_GRAMMAR_CHARS:
        raise bad_grammar(f"GBNF that has {len(text)} characters as Lark, of which {MAX_GRAMMAR_CHARS} are allowed")
    return text


def check_grammar(outputs: StructuredOutputs) -> None:
    """Raises `InvalidRequestError` for what no answer can follow, or what takes too much work to follow."""
    text = grammar_text(outputs)
    vocabulary = _bytes_vocabulary(_MOST_TOKENS if "<[" in text else _NUM_BYTES + 1)
    matcher = llguidance.LLMatcher(vocabulary, text, log_level=0, limits=_LIMITS)
    mask = int.from_bytes(_first_mask(matcher, outputs), "little")
    if mask & ~(1 << _NUM_BYTES) == 0:  # nothing, or the end alone
        raise bad_grammar("NoExtension")
    if not matcher.consume_tokens(matcher.compute_ff_tokens()[:1]):  # what has to follow, where that has no end
        raise bad_grammar(matcher.get_error())


class RequestGrammar:
    """One request's own: its samples, and nobody else, share its lexer and the time that its masks may take."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher
        self._work_s = 0.0
        self._num_masks = 0

    def matcher(self) -> llguidance.LLMatcher:
        """One at the beginning of an answer."""
        return self._matcher.deep_copy()

    def charge(self, seconds: float) -> None:
        """A mask took so much processor time. Raises `InvalidRequestError` where all took far more than others' do."""
        self._work_s += seconds
        self._num_masks += 1
        if self._work_s > FREE_WORK_S + WORK_PER_TOKEN_S * self._num_masks:
            raise bad_grammar(
                f"it took {self._work_s:.2g} s for {self._num_masks} tokens, more than {FREE_WORK_S:g} s and "
                f"{WORK_PER_TOKEN_S * 1000:g} ms a token"
            )


class _Job(NamedTuple):
    outputs: StructuredOutputs
    compiling: "Future[RequestGrammar]"


class Grammars:
    """The grammars of one engine's open requests, by the requests' ids. Not thread-safe: the step loop's.

    Clients whose grammars wait to be compiled take turns. `load_tokenizer` is called once, when the first is compiled.
    """

    def __init__(self, load_tokenizer: Callable[[], Tokenizer]) -> None:
        self._load_tokenizer = load_tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._of_request: dict[str, Future[RequestGrammar]] = {}
        self._texts: OrderedDict[str, str] = OrderedDict()
        """GBNF, and Lark, as it was given → as it is read; the thread's."""
        self._num_text_bytes = 0
        self._jobs: Turns[_Job] = Turns()
        self._jobs_lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="octavo-grammar")

    def prepare(self, request_id: str, outputs: StructuredOutputs, client: str = "") -> "Future[RequestGrammar]":
        """Have it compiled, and hold it until `release`. The future is for waiting; it fails with `InvalidRequestError`."""
        compiling = self._of_request[request_id] = Future[RequestGrammar]()
        with self._jobs_lock:
            self._jobs.put(client, _Job(outputs, compiling))
        self._thread.submit(self._compile_next)
        return compiling

    def of(self, request_id: str) -> RequestGrammar:
        """For a request whose grammar has been compiled."""
        return self._of_request[request_id].result(timeout=0)

    def release(self, request_id: str) -> None:
        """The request has ended; what was yet to be compiled for it is not."""
        compiling = self._of_request.pop(request_id, None)
        if compiling is not None:
            compiling.cancel()

    def close(self) -> None:
        """Compile nothing more; idempotent."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compile_next(self) -> None:
        with self._jobs_lock:
            outputs, compiling = self._jobs.take()
        if not compiling.set_running_or_notify_cancel():
            return
        try:
            compiling.set_result(self._compile(outputs))
        except BaseException as error:  # noqa: BLE001  (raised again by whoever waits for it)
            compiling.set_exception(error)

    def _compile(self, outputs: StructuredOutputs) -> RequestGrammar:
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self._load_tokenizer())
        matcher = llguidance.LLMatcher(self._vocabulary, self._text(outputs), log_level=0, limits=_LIMITS)
        _first_mask(matcher, outputs)
        return RequestGrammar(matcher)

    def _text(self, outputs: StructuredOutputs) -> str:
        given = outputs.grammar
        if given is None:
            return grammar_text(outputs)
        text = self._texts.get(given)
        if text is None:
            text = self._texts[given] = grammar_text(outputs)
            self._num_text_bytes += _num_bytes(given, text)
            while self._num_text_bytes > MAX_KEPT_BYTES:
                self._num_text_bytes -= _num_bytes(*self._texts.popitem(last=False))
        else:
            self._texts.move_to_end(given)
        return text


def _num_bytes(*texts: str) -> int:
    return sum(map(sys.getsizeof, texts))


def _first_mask(matcher: llguidance.LLMatcher, outputs: StructuredOutputs) -> bytes:
    """Some grammars show only here that they have no sentence."""
    mask = b"" if matcher.is_error() else matcher.compute_bitmask()
    if matcher.is_error():
        reason = matcher.get_error()
        raise bad_grammar(reason if outputs.regex is None else _of_regex(reason))
    return mask


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
    elif "too many states" in said:
        said = "the text so far takes too much memory: where characters are counted, as by maxLength, some 2000 can be"
    return InvalidRequestError(
        f"structured_outputs cannot be followed: {said}; change or simplify it", param="structured_outputs"
    )
