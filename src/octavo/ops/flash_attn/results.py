"""What a call of attention gives back."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor


class AttentionAndLse(NamedTuple):
    """With `return_softmax_lse=True`."""

    out: Tensor
    softmax_lse: Tensor


class AttentionAndProbabilities(NamedTuple):
    """With `return_attn_probs=True`. `S_dmask` is empty, (0,), where there is no dropout."""

    out: Tensor
    softmax_lse: Tensor
    S_dmask: Tensor


AttentionResult: TypeAlias = Tensor | AttentionAndLse | AttentionAndProbabilities


def lse_by_request(lse_HT: Tensor, batch_and_rows: Sequence[int]) -> Tensor:
    """(B, H, S), contiguous, of requests whose rows lie end to end."""
    return lse_HT.unflatten(1, batch_and_rows).transpose(0, 1).contiguous()
