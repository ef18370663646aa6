"""Rotary position embedding: checked signature."""

import torch
from torch import Tensor

from octavo.ops import table
from octavo.ops.checks import FLOAT_DTYPES, INDEX_DTYPES, check_indices, check_rank_3, check_tensor
from octavo.ops.errors import OpArgumentError


def apply_rotary(q_THD: Tensor, k_TKD: Tensor, cos_sin_PR: Tensor, positions_T: Tensor) -> None:
    """Rotates the first R ≤ D elements of every head of q and k by its token's position, in place.

    With (a, b) = (x[i], x[i + R/2]), i < R/2: x[i] = a·cos − b·sin, x[i + R/2] = b·cos + a·sin.
    q (T, H, D), k (T, K, D) of one dtype; cos_sin (P, R) fp32, row p = [cos (R/2) | sin (R/2)];
    positions (T,) int32 or int64, below P. Su et al. 2021, arXiv 2104.09864, section 3.4.2.
    """
    num_tokens, _, head_size = check_rank_3("q", q_THD)
    check_tensor("q", q_THD, (None, None, None), FLOAT_DTYPES, q_THD.device)
    check_tensor("k", k_TKD, (num_tokens, None, head_size), (q_THD.dtype,), q_THD.device)
    check_tensor("cos_sin", cos_sin_PR, (None, None), (torch.float32,), q_THD.device)
    check_tensor("positions", positions_T, (num_tokens,), INDEX_DTYPES, q_THD.device)
    rotary_size = cos_sin_PR.shape[1]
    if rotary_size % 2 or rotary_size > head_size:
        raise OpArgumentError(
            f"cos_sin has the wrong width: got {rotary_size}; allowed even numbers up to the head size {head_size}",
            param="cos_sin",
        )
    check_indices("positions", positions_T, cos_sin_PR.shape[0])
    table.APPLY_ROTARY(q_THD, k_TKD, cos_sin_PR, positions_T)
