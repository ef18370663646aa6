"""Logits processors: each edits one row of logits for one sequence, in place.

`process` applies those a row asks for in the order of `_PROCESSORS`, which is vLLM's; a new one
is one function and one line there. All are elementwise over the ids they name, so that a row's bits depend on the row
alone. Temperature, min_p, top_k and top_p belong to the draw (`draw.py`).

Shapes: V vocabulary; N token ids.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.core.errors import InvalidRequestError
from octavo.sampling.row import SamplingRow

_FORBIDDEN = -torch.inf

Ids = NDArray[np.int64]


def allow_only(logits_V: Tensor, token_ids: Sequence[int]) -> None:
    """Forbid every token but `token_ids`. Raises `InvalidRequestError` for an id outside the vocabulary."""
    ids_N = _known(token_ids, len(logits_V), "allowed_token_ids").to(logits_V.device)
    kept_N = logits_V[ids_N]
    logits_V.fill_(_FORBIDDEN)
    logits_V[ids_N] = kept_N


def forbid(logits_V: Tensor, token_ids: Sequence[int]) -> None:
    """Forbid `token_ids`. Ids outside the vocabulary cannot be chosen anyway, and are passed over."""
    ids_N = _within(_array(token_ids), len(logits_V))
    logits_V[torch.from_numpy(ids_N).to(logits_V.device)] = _FORBIDDEN


def forbid_bad_words(
    logits_V: Tensor, words: Sequence[Sequence[int]], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> None:
    """Forbid the last token of each word whose other tokens end the sequence prompt + output."""
    most = max((len(word) for word in words), default=0) - 1
    tail = _tail(prompt_ids, output_ids, most)
    ends = [word[-1] for word in words if word and tail[len(tail) - len(word) + 1 :] == list(word[:-1])]
    forbid(logits_V, ends)


def add_bias(logits_V: Tensor, bias: Mapping[int, float]) -> None:
    """logits[id] += bias[id]. Raises `InvalidRequestError` for an id outside the vocabulary."""
    ids_N = _known(list(bias), len(logits_V), "logit_bias").to(logits_V.device)
    logits_V[ids_N] += torch.tensor(list(bias.values()), dtype=logits_V.dtype, device=logits_V.device)


def penalise_repetition(logits_V: Tensor, penalty: float, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> None:
    """For every token of prompt + output: logit / penalty where it is positive, logit · penalty elsewhere.

    Keskar et al. 2019, «CTRL», arXiv:1909.05858, §4.1, which takes generated tokens alone and divides always.
    """
    used_N = np.concatenate([_array(prompt_ids), _array(output_ids)])
    ids_N = torch.from_numpy(_within(used_N, len(logits_V))).to(logits_V.device)
    seen_N = logits_V[ids_N]
    # An id may occur often: each of its occurrences writes the same value.
    logits_V[ids_N] = torch.where(seen_N > 0, seen_N / penalty, seen_N * penalty)


def penalise_frequency(logits_V: Tensor, frequency: float, presence: float, output_ids: Sequence[int]) -> None:
    """logit −= frequency · (times the token was output) + presence, for every token output at least once."""
    ids_N, count_N = np.unique(_within(_array(output_ids), len(logits_V)), return_counts=True)
    penalty_N = (frequency * count_N + presence).astype(np.float32)
    device = logits_V.device
    logits_V[torch.from_numpy(ids_N).to(device)] -= torch.from_numpy(penalty_N).to(device)


def _follow_grammar(logits_V: Tensor, row: SamplingRow) -> None:
    assert row.grammar is not None
    row.grammar.forbid_others(logits_V, row.output_token_ids)


def _allow_only(logits_V: Tensor, row: SamplingRow) -> None:
    assert row.allowed_token_ids is not None
    allow_only(logits_V, row.allowed_token_ids)


def _forbid_bad_words(logits_V: Tensor, row: SamplingRow) -> None:
    forbid_bad_words(logits_V, row.params.bad_word_token_ids, row.prompt_token_ids, row.output_token_ids)


def _forbid_stop(logits_V: Tensor, row: SamplingRow) -> None:
    forbid(logits_V, row.stop_token_ids)


def _add_bias(logits_V: Tensor, row: SamplingRow) -> None:
    add_bias(logits_V, row.params.logit_bias or {})


def _penalise_repetition(logits_V: Tensor, row: SamplingRow) -> None:
    penalise_repetition(logits_V, row.params.repetition_penalty, row.prompt_token_ids, row.output_token_ids)


def _penalise_frequency(logits_V: Tensor, row: SamplingRow) -> None:
    params = row.params
    penalise_frequency(logits_V, params.frequency_penalty, params.presence_penalty, row.output_token_ids)


_PROCESSORS: tuple[tuple[Callable[[SamplingRow], bool], Callable[[Tensor, SamplingRow], None]], ...] = (
    (lambda row: row.grammar is not None, _follow_grammar),
    (lambda row: row.allowed_token_ids is not None, _allow_only),
    (lambda row: bool(row.params.bad_word_token_ids), _forbid_bad_words),
    (lambda row: len(row.output_token_ids) < row.params.min_tokens and len(row.stop_token_ids) > 0, _forbid_stop),
    (lambda row: bool(row.params.logit_bias), _add_bias),
    (lambda row: row.params.repetition_penalty != 1.0, _penalise_repetition),
    (lambda row: row.params.frequency_penalty != 0.0 or row.params.presence_penalty != 0.0, _penalise_frequency),
)
"""In order: whether a row asks for it, and what it does."""


def is_processed(row: SamplingRow) -> bool:
    """Whether any processor would touch the row's logits at this step."""
    return any(is_on(row) for is_on, _ in _PROCESSORS)


def process(logits_V: Tensor, row: SamplingRow) -> None:
    """Apply, in place, the processors the row asks for. Raises `InvalidRequestError` for what they cannot do."""
    for is_on, apply in _PROCESSORS:
        if is_on(row):
            apply(logits_V, row)


def _array(token_ids: Sequence[int]) -> Ids:
    return np.asarray(token_ids, dtype=np.int64)


def _within(ids_N: Ids, num_vocab: int) -> Ids:
    """The ids that have a logit: a prompt may also hold placeholders, of images for one, beyond the vocabulary."""
    return ids_N[(ids_N >= 0) & (ids_N < num_vocab)]


def _known(token_ids: Sequence[int], num_vocab: int, param: str) -> Tensor:
    ids_N = _array(token_ids)
    beyond = ids_N[(ids_N < 0) | (ids_N >= num_vocab)]
    if beyond.size:
        raise InvalidRequestError(
            f"{param} names token id {beyond[0]}, but the vocabulary has {num_vocab} tokens; "
            f"use ids from 0 to {num_vocab - 1}.",
            param=param,
        )
    return torch.from_numpy(ids_N)


def _tail(prompt_ids: Sequence[int], output_ids: Sequence[int], length: int) -> list[int]:
    """The last `length` tokens of prompt + output, or all of them where there are fewer."""
    if length <= 0:
        return []
    tail = list(output_ids[-length:])
    missing = length - len(tail)
    return (list(prompt_ids[-missing:]) if missing else []) + tail
