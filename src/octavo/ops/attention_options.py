"""What attention does to a score on its way to a probability."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Probabilities are set to 0 with `probability`, the others divided by 1 − probability (Srivastava et al. 2014).

    Word j % 4 of Philox-4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3), with counter
    (j // 4, i, head, request) and key `seed`, decides for key j and row i of a request: dropped below probability · 2³². So
    the mask depends on positions alone, and a backward pass makes it again.
    """

    probability: float
    seed: int

    @property
    def threshold(self) -> int:
        """Words below it drop."""
        return min(round(self.probability * 2**32), 2**32 - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionOptions:
    """Row i of a request with n rows and m keys is at position p = i + m − n. It sees the keys p − window_left … p +
    window_right that there are (None: all on that side; `window_right=0` is causal), with probabilities

        softmax_j( cap(scale·q·k_j) − slope·|p − j| + bias_j ),   cap(s) = softcap·tanh(s / softcap), 0 for none.

    A sink adds e^sink to its head's denominator. A row that sees no key gets 0, and −∞ as its log-sum-exp.

    alibi_slopes  fp32 (H,) or (R, H); R requests, H query heads
    bias          fp32 (R or 1, H or 1, rows, keys), for the longest request's rows and keys at least
    sinks         (H,) of any float type
    k_scales      fp32 (K,) or (R, K): what a cache of fp8 or int8 is multiplied with; K KV heads
    v_scales      likewise
    """

    scale: float
    window_left: int | None = None
    window_right: int | None = None
    softcap: float = 0.0
    alibi_slopes: Tensor | None = None
    bias: Tensor | None = None
    sinks: Tensor | None = None
    k_scales: Tensor | None = None
    v_scales: Tensor | None = None
    dropout: Dropout | None = None
