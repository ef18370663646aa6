"""From a step's logits to its tokens.

raw logits ─┬─▶ log-probabilities, where asked for
            └─▶ processors (on a copy, where asked for) ─▶ greedy | draw from the whole | draw from a cut distribution

Rows of a kind are chosen together; no row's answer depends on which others those are (law 2).

Shapes: R rows; V vocabulary.
"""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from octavo.core.errors import OctavoError
from octavo.core.request import RequestFailure
from octavo.sampling import draw, processors
from octavo.sampling.logprobs import token_logprobs
from octavo.sampling.rng import seed_word, uniforms
from octavo.sampling.row import SampledToken, SamplingRow
from octavo.sampling.tiles import Floats, rows_per_chunk

logger = logging.getLogger(__name__)

_Choose = Callable[[Tensor, list[SamplingRow]], draw.Choices]


class Sampler:
    """Chooses the next token of each row; keeps no state between calls."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._rows_per_chunk = rows_per_chunk(vocab_size)

    def sample(self, logits_RV: Tensor, rows: Sequence[SamplingRow]) -> list[SampledToken]:
        """One answer a row, in order.

        `logits_RV` is fp32, may be strided, and is not changed. The order of operations is vLLM's: log-probabilities
        of the raw logits; grammar, allowed tokens, bad words, min_tokens, bias, penalties; temperature, min_p, top_k,
        top_p; draw. Then a row's grammar is told of its token. A row that fails (an id beyond the vocabulary, every
        token forbidden, NaN, an exception in its processors or grammar) has its `error` set and does not touch the
        others.
        """
        assert logits_RV.shape == (len(rows), self._vocab_size), (
            f"{logits_RV.shape=}, {len(rows)=}, {self._vocab_size=}"
        )
        assert logits_RV.dtype == torch.float32, f"{logits_RV.dtype=}"
        sampled = [SampledToken() for _ in rows]
        plain: list[int] = []
        changed: list[int] = []
        for i, row in enumerate(rows):
            (changed if processors.is_processed(row) else plain).append(i)
        self._choose_all(logits_RV, {i: i for i in plain}, rows, sampled)
        if changed:
            changed_RV = _processed(logits_RV, rows, changed, sampled)
            self._choose_all(changed_RV, {i: j for j, i in enumerate(changed)}, rows, sampled)
        _add_logprobs(logits_RV, rows, sampled)
        _tell_grammars(rows, changed, sampled)
        return sampled

    def _choose_all(
        self, logits_RV: Tensor, place: dict[int, int], rows: Sequence[SamplingRow], sampled: list[SampledToken]
    ) -> None:
        """Fill `sampled[i]` from row `place[i]` of the logits, for every i that has no error yet."""
        groups: dict[_Choose, list[int]] = {}
        for i in place:
            if sampled[i].error is None:
                groups.setdefault(_way(rows[i]), []).append(i)
        for choose, group in groups.items():
            step = len(group) if choose is _greedy else self._rows_per_chunk
            for start in range(0, len(group), step):
                chunk = group[start : start + step]
                chunk_RV = _take(logits_RV, [place[i] for i in chunk])
                choices = choose(chunk_RV, [rows[i] for i in chunk])
                for c, (i, token_id) in enumerate(zip(chunk, choices, strict=True)):
                    if token_id is None:
                        sampled[i].error = _why_none(chunk_RV[c])
                    else:
                        sampled[i].token_id = token_id


def _way(row: SamplingRow) -> _Choose:
    if row.params.is_greedy:
        return _greedy
    return _draw_cut if draw.is_cut(row.params) else _draw_whole


def _greedy(logits_RV: Tensor, rows: list[SamplingRow]) -> draw.Choices:
    return draw.greedy(logits_RV)


def _draw_whole(logits_RV: Tensor, rows: list[SamplingRow]) -> draw.Choices:
    return draw.draw_whole(logits_RV, [row.params for row in rows], _uniforms(rows))


def _draw_cut(logits_RV: Tensor, rows: list[SamplingRow]) -> draw.Choices:
    return draw.draw_cut(logits_RV, [row.params for row in rows], _uniforms(rows))


def _uniforms(rows: list[SamplingRow]) -> Floats:
    return uniforms([seed_word(row.seed) for row in rows], [row.position for row in rows])


def _take(logits_RV: Tensor, indices: list[int]) -> Tensor:
    """The rows at `indices` (ascending): the tensor itself, or a view, where they follow one another; else a copy."""
    first, last = indices[0], indices[-1]
    if last - first + 1 == len(indices):
        return logits_RV[first : last + 1]
    return logits_RV[torch.tensor(indices, device=logits_RV.device)]


def _processed(
    logits_RV: Tensor, rows: Sequence[SamplingRow], indices: list[int], sampled: list[SampledToken]
) -> Tensor:
    """A copy of the rows at `indices` with their processors applied; a row that fails gets its error."""
    changed_RV = logits_RV[torch.tensor(indices, device=logits_RV.device)]
    for logits_V, i in zip(changed_RV, indices, strict=True):
        try:
            processors.process(logits_V, rows[i])
        except Exception as error:  # noqa: BLE001  (logged by `_failure`)
            sampled[i].error = _failure(error)
    return changed_RV


def _add_logprobs(logits_RV: Tensor, rows: Sequence[SamplingRow], sampled: list[SampledToken]) -> None:
    wanted: list[int] = []
    token_ids: list[int] = []
    num_top: list[int] = []
    for i, (row, answer) in enumerate(zip(rows, sampled, strict=True)):
        if row.params.logprobs is not None and answer.token_id is not None:
            wanted.append(i)
            token_ids.append(answer.token_id)
            num_top.append(row.params.logprobs)
    if not wanted:
        return
    for i, logprobs in zip(wanted, token_logprobs(_take(logits_RV, wanted), token_ids, num_top), strict=True):
        if math.isnan(logprobs.logprob):
            sampled[i] = SampledToken(error=_why_none(logits_RV[i]))
        else:
            sampled[i].logprobs = logprobs


def _tell_grammars(rows: Sequence[SamplingRow], changed: list[int], sampled: list[SampledToken]) -> None:
    """Rows with a grammar are among those whose logits were changed, at `changed`."""
    for i in changed:
        grammar, token_id = rows[i].grammar, sampled[i].token_id
        if grammar is None or token_id is None:
            continue
        try:
            sampled[i].is_complete = grammar.is_complete_with(token_id)
        except Exception as error:  # noqa: BLE001  (logged by `_failure`)
            sampled[i] = SampledToken(error=_failure(error))


def _failure(error: Exception) -> RequestFailure:
    if not isinstance(error, OctavoError):
        logger.error("a request's token could not be sampled", exc_info=error)
    return RequestFailure.of(error)


def _why_none(logits_V: Tensor) -> RequestFailure:
    if bool(torch.isneginf(logits_V).all()):
        message = (
            "no token could be sampled: every token is forbidden (all logits are -inf); relax the request's limits."
        )
        return RequestFailure(message, is_of_request=True)
    return RequestFailure(
        "no token could be sampled: the logits hold NaN or +inf; the model's weights or numeric type are at fault."
    )
