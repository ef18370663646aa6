"""Log-probabilities of chosen tokens, their ranks, and the most likely tokens beside them.

Shapes: R rows; V vocabulary; K top tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo import ops
from octavo.core.messages import TokenLogprobs
from octavo.sampling.tiles import Candidates, Tiles, rows_per_chunk


def token_logprobs(logits_RV: Tensor, token_ids_R: Sequence[int], num_top: Sequence[int]) -> list[TokenLogprobs]:
    """logprob = log_softmax(logits)[token], rank = 1 + #{logits > the token's}, and the `num_top` largest.

    `logits_RV` is fp32 and stays as it is; `token_ids_R` and `num_top` have an entry a row. Order among the top ones is
    that of the logits, the lower id first where they are equal, so the first is what greedy decoding takes. With more
    top ones asked for than there are tokens, all are given. A row whose logits hold NaN or +inf gets NaN.

    A row's result is bitwise the same in any batch, so a prompt's and a sampled token's logprobs agree. Temporaries are
    bounded by a chunk of rows.
    """
    vocab_size = logits_RV.shape[1]
    step = rows_per_chunk(vocab_size)
    num_top = [min(k, vocab_size) for k in num_top]
    result: list[TokenLogprobs] = []
    for start in range(0, len(token_ids_R), step):
        chunk = slice(start, start + step)
        result += _chunk_logprobs(logits_RV[chunk], list(token_ids_R[chunk]), num_top[chunk])
    return result


def _chunk_logprobs(logits_RV: Tensor, token_ids: list[int], num_top: list[int]) -> list[TokenLogprobs]:
    logprob_RV = ops.log_softmax(logits_RV)
    token_R1 = torch.tensor(token_ids, device=logits_RV.device)[:, None]
    own_R = logits_RV.gather(1, token_R1)[:, 0].cpu().numpy()
    own_logprob = logprob_RV.gather(1, token_R1)[:, 0].tolist()

    tiles = Tiles(logits_RV)
    bound_R = tiles.kth_bound(num_top)
    found = tiles.at_least(np.minimum(own_R, bound_R))
    top_ids = [_top(*args) for args in zip(found, bound_R.tolist(), num_top, strict=True)]
    rank = [1 + int(np.count_nonzero(row.logits > own)) for row, own in zip(found, own_R, strict=True)]

    padded_RK = [ids + [0] * (max(num_top) - len(ids)) for ids in top_ids]
    index_RK = torch.tensor(padded_RK, dtype=torch.int64, device=logits_RV.device)
    top_logprob = logprob_RV.gather(1, index_RK).tolist()
    return [
        TokenLogprobs(token_ids[i], own_logprob[i], rank[i], ids, top_logprob[i][: len(ids)])
        for i, ids in enumerate(top_ids)
    ]


def _top(row: Candidates, bound: float, k: int) -> list[int]:
    """Ids of the k largest of the row, given that at least k reach `bound`."""
    if k == 0:
        return []
    is_near = row.logits >= bound
    top: list[int] = Candidates(row.token_ids[is_near], row.logits[is_near]).ranked().token_ids[:k].tolist()
    return top
