"""Answers held to a grammar, token by token.

    matcher ──┬─▶ which tokens may come next (a bit a token)
       ▲      └─▶ whether any may
       └── the tokens that came

Shapes: V vocabulary.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.tokenizer.grammar import RequestGrammar, bad_grammar


class GrammarState:
    """How far one sequence has come in its grammar."""

    def __init__(self, grammar: RequestGrammar) -> None:
        self._grammar = grammar
        self._matcher = grammar.matcher()
        self._num_taken = 0

    def forbid_others(self, logits_V: Tensor, output_token_ids: Sequence[int]) -> None:
        """−∞ for the logits of all tokens that cannot follow the output, in place.

        Raises `InvalidRequestError` where the grammar takes more work than is allowed.
        """
        # Those that came before this state was made, where a sequence goes on that had begun elsewhere.
        self._take(output_token_ids[self._num_taken :])
        begin_s = time.thread_time()
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise bad_grammar(self._matcher.get_error())
        self._grammar.charge(time.thread_time() - begin_s)
        is_allowed = np.unpackbits(bits, count=len(logits_V), bitorder="little").view(np.bool_)
        logits_V.masked_fill_(torch.from_numpy(~is_allowed).to(logits_V.device), -torch.inf)

    def is_complete_with(self, token_id: int) -> bool:
        """Take the next token; whether nothing can follow it but an end of the text. Raises as `forbid_others` does."""
        self._take([token_id])
        return self._matcher.is_stopped()

    def _take(self, token_ids: Sequence[int]) -> None:
        self._num_taken += len(token_ids)
        if not self._matcher.consume_tokens([int(token) for token in token_ids]):
            raise bad_grammar(self._matcher.get_error())
