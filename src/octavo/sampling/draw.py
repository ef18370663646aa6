"""Choosing one token a row from processed logits: the largest, or a draw from the whole or a cut distribution.

A draw inverts the cumulative distribution at u, uniform in [0, 1): the first token whose cumulative weight exceeds
u · total. Tokens are cumulated by id where the distribution is whole, and from the most likely on (the lower id first
where logits are equal) where min_p, top_k or top_p cuts it. A row's answer depends on its logits, parameters and u
alone: what is reduced over the vocabulary is reduced a row or a tile of 128 at a time, in the same order whatever
shares the batch (law 2; `tests/sampling/test_invariance.py`).

No function here changes its logits. Each returns a token id a row, or None where the logits allow no choice: all are
−inf, or one is NaN or +inf.

Shapes: R rows; V vocabulary; N tiles of E = 128 tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo import ops
from octavo.core.sampling_params import SamplingParams
from octavo.sampling.tiles import TILE_SIZE, Candidates, Floats, Tiles, take_tiles, tiled

_LEAST_TEMPERATURE = 1e-20
"""Below it logits / temperature would overflow, and above it unequal logits of any model are already further apart
than exp can tell: raising a temperature to it changes no draw."""
_SLACK = 4e-6
"""Relative: more than fp32 rounding can move a threshold; a lower one only admits candidates that are then cut."""
_NUCLEUS_GUESS = 256
_FP32_MAX = float(np.finfo(np.float32).max)

Choices = list[int | None]


def is_cut(params: SamplingParams) -> bool:
    """Whether min_p, top_k or top_p leaves out part of the distribution."""
    return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0


def greedy(logits_RV: Tensor) -> Choices:
    """The largest logit, the lowest id where several are equal."""
    return Tiles(logits_RV).argmax()


def draw_whole(logits_RV: Tensor, params: Sequence[SamplingParams], u_R: Floats) -> Choices:
    """Draw from softmax(logits / temperature): the tile where the cumulative sum passes u, then the token in it."""
    weight_RNE = _softmax_tiles(logits_RV, params)
    cumulative_RN = _tile_sums(weight_RNE).cumsum(axis=1)
    total_R = cumulative_RN[:, -1]
    goal_R = u_R * total_R
    num_tiles = cumulative_RN.shape[1]
    rows = np.arange(len(params))

    tile_R = (cumulative_RN <= goal_R[:, None]).sum(axis=1).clip(max=num_tiles - 1)
    before_R = np.where(tile_R > 0, cumulative_RN[rows, tile_R - 1], 0.0)
    tile_RE = take_tiles(weight_RNE, rows, tile_R).astype(np.float64)
    token_R = (tile_RE.cumsum(axis=1) <= (goal_R - before_R)[:, None]).sum(axis=1)
    # The tile's fp32 sum may exceed its fp64 one by a rounding: then its last token of any weight is meant.
    last_R = TILE_SIZE - 1 - (tile_RE[:, ::-1] > 0).argmax(axis=1)
    chosen_R = tile_R * TILE_SIZE + np.minimum(token_R, last_R)
    is_sound = np.isfinite(total_R).tolist()
    return [token if sound else None for token, sound in zip(chosen_R.tolist(), is_sound, strict=True)]


def draw_cut(logits_RV: Tensor, params: Sequence[SamplingParams], u_R: Floats) -> Choices:
    """Draw from softmax(logits / temperature) cut by min_p, then top_k, then top_p, each where it is on.

    min_p keeps p ≥ min_p · max p; top_k keeps the k largest; top_p keeps, of what is left, the smallest set of the most
    likely tokens whose share reaches top_p (at least one). Only candidates that can be kept are looked at and sorted;
    where none can be left out (an even distribution, a huge top_k) that is the whole row.
    """
    vocab_size = logits_RV.shape[1]
    tiles = Tiles(logits_RV)
    max_R = tiles.row_max()
    total_R = _nucleus_totals(logits_RV, params)
    of_row = zip(params, max_R.tolist(), total_R.tolist(), strict=True)
    limit_R = np.array([_limit(p, most, total, vocab_size) for p, most, total in of_row])
    # top_p alone: most nuclei lie among a few hundred logits, and those that do not show it and are tried again.
    guess = max(1, min(_NUCLEUS_GUESS, tiles.num_tiles // 2))
    k = [guess if _is_nucleus_only(p) else min(p.top_k, vocab_size) for p in params]
    bound_R = np.where(np.array(k) > 0, tiles.kth_bound(k), -np.inf)

    choices: Choices = [None] * len(params)
    is_open_R = np.isfinite(max_R)
    for threshold_R in (np.maximum(limit_R, bound_R), limit_R):
        found = tiles.at_least(np.where(is_open_R, threshold_R, np.inf))
        for i in np.flatnonzero(is_open_R).tolist():
            is_complete = bool(threshold_R[i] == limit_R[i]) or not _is_nucleus_only(params[i])
            choices[i] = _draw_candidates(found[i], params[i], float(total_R[i]), float(u_R[i]), is_complete)
            is_open_R[i] = choices[i] is None
        if not is_open_R.any():
            break
    return choices


def _softmax_tiles(logits_RV: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """softmax(logits / temperature), fp32 [R, N, E]; zero beyond the vocabulary."""
    temperature = [max(p.temperature, _LEAST_TEMPERATURE) for p in params]
    temperature_R = torch.tensor(temperature, dtype=torch.float32, device=logits_RV.device)
    return tiled(ops.softmax(logits_RV, temperature_R), 0.0)


def _tile_sums(weight_RNE: Tensor) -> Floats:
    sums: Floats = weight_RNE.sum(-1).double().cpu().numpy()
    return sums


def _nucleus_totals(logits_RV: Tensor, params: Sequence[SamplingParams]) -> Floats:
    """Σ exp((logit − max) / temperature) over the vocabulary for rows that only top_p cuts; NaN for others."""
    total_R = np.full(len(params), np.nan)
    rows = [i for i, p in enumerate(params) if _is_nucleus_only(p)]
    if rows:
        chosen_RV = logits_RV if len(rows) == len(params) else logits_RV[rows]
        weight_RNE = _softmax_tiles(chosen_RV, [params[i] for i in rows])
        most_R = weight_RNE.amax(dim=(1, 2)).double().cpu().numpy()
        total_R[rows] = _tile_sums(weight_RNE).cumsum(axis=1)[:, -1] / most_R
    return total_R


def _is_nucleus_only(params: SamplingParams) -> bool:
    return params.top_p < 1.0 and params.top_k == 0 and params.min_p == 0.0


def _limit(params: SamplingParams, most: float, total: float, vocab_size: int) -> float:
    """A logit below which no token is kept by min_p, or by top_p where it cuts alone; −inf where neither says so.

    min_p: exp((z − most) / T) ≥ min_p. top_p: tokens with a share below (1 − top_p) / V have less than 1 − top_p
    together, so the others hold the nucleus; half of that leaves room for rounding.
    """
    if params.min_p > 0.0:
        least_weight = params.min_p
    elif _is_nucleus_only(params):
        least_weight = (1.0 - params.top_p) * total / (2 * vocab_size)
    else:
        return -np.inf
    depth = params.temperature * float(np.log(least_weight))
    return max(most + depth - _SLACK * (abs(most) + abs(depth)), -_FP32_MAX)


def _draw_candidates(row: Candidates, params: SamplingParams, total: float, u: float, is_complete: bool) -> int | None:
    """Cut and draw, in fp64, from the row's largest logits; `total`: see `_nucleus_totals`.

    None where they are not all that could be kept (`is_complete`) and top_p wants more.
    """
    ranked = row.ranked()
    most = len(row.logits) if params.top_k == 0 else params.top_k
    logits = ranked.logits[:most].astype(np.float64)
    weights = np.exp((logits - logits[0]) / max(params.temperature, _LEAST_TEMPERATURE))
    if params.min_p > 0.0:
        weights = weights[weights >= params.min_p]
    cumulative = weights.cumsum()
    if params.top_p < 1.0:
        goal = params.top_p * (total if _is_nucleus_only(params) else cumulative[-1])
        if cumulative[-1] < goal and not is_complete:
            return None
        cumulative = cumulative[: int(cumulative.searchsorted(goal, side="left")) + 1]
    drawn = int(cumulative.searchsorted(u * cumulative[-1], side="right"))
    return int(ranked.token_ids[min(drawn, len(cumulative) - 1)])
