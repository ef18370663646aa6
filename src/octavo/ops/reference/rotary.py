"""Rotary position embedding. Legend: T tokens, H query heads, K KV heads, D head size, P positions, R rotary size."""

from torch import Tensor


def apply_rotary(q_THD: Tensor, k_TKD: Tensor, cos_sin_PR: Tensor, positions_T: Tensor) -> None:
    """Rotates the first R elements of every head, in place; the rest is left.

    With (a, b) = (x[i], x[i + R/2]): x[i] = a·cos − b·sin, x[i + R/2] = b·cos + a·sin (half-split form).
    Su et al. 2021, arXiv 2104.09864, section 3.4.2.
    """
    half = cos_sin_PR.shape[1] // 2
    row = cos_sin_PR.index_select(0, positions_T.long()).float()[:, None, :]
    cos, sin = row[..., :half], row[..., half:]
    for x in (q_THD, k_TKD):
        a, b = x[..., :half].float(), x[..., half : 2 * half].float()
        first, second = a * cos - b * sin, b * cos + a * sin  # both before either is written: a and b may be views
        x[..., :half] = first.to(x.dtype)
        x[..., half : 2 * half] = second.to(x.dtype)
