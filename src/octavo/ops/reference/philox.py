"""Philox-4x32-10, the counter-based generator behind dropout (Salmon et al. 2011, section 3)."""

import torch
from torch import Tensor

from octavo.ops.attention_options import Dropout

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words for each counter of four; int64 tensors of values below 2³², broadcast together."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & _MASK, seed >> 32 & _MASK
    for _ in range(10):
        low, high = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # modulo 2⁶⁴; the shifts' signs are masked
        c0, c1 = (high >> 32 & _MASK) ^ c1 ^ k0, high & _MASK
        c2, c3 = (low >> 32 & _MASK) ^ c3 ^ k1, low & _MASK
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def keep_mask(dropout: Dropout, request: int, heads: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
    """Which probabilities stay: bool (heads, rows, keys) for those heads, rows of the request and keys."""
    counter = (keys[None, None, :] // 4, rows[None, :, None], heads[:, None, None], torch.full_like(keys, request))
    words = torch.stack(torch.broadcast_tensors(*philox(counter, dropout.seed)), dim=-1)
    word = (keys % 4).expand(words.shape[:-1])[..., None]
    return words.gather(-1, word)[..., 0] >= dropout.threshold
