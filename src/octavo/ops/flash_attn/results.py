"""What a call of attention gives back."""

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
