"""What a call asks of attention, beside its tensors."""

import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple, SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions, Dropout
from octavo.ops.checks import MAX_INT32, check_dropout, check_scale, check_softcap
from octavo.ops.errors import OpArgumentError


class Settings(NamedTuple):
    """The numbers among the arguments, checked and resolved: causal is a window of 0 to the right, None is no bound.

    In the order in which the operators of `torch.ops.octavo` take them.
    """

    scale: float
    window_left: int | None
    window_right: int | None
    softcap: float
    dropout_p: float = 0.0

    @property
    def is_local(self) -> bool:
        """Does a row's position decide which keys it sees?"""
        return self.window_left is not None or self.window_right is not None

    def options(
        self,
        alibi_slopes: Tensor | None,
        seed: Tensor | None = None,
        k_scales: Tensor | None = None,
        v_scales: Tensor | None = None,
    ) -> AttentionOptions:
        return AttentionOptions(
            scale=self.scale,
            window_left=self.window_left,
            window_right=self.window_right,
            softcap=self.softcap,
            alibi_slopes=alibi_slopes,
            k_scales=k_scales,
            v_scales=v_scales,
            dropout=None if seed is None else Dropout(probability=self.dropout_p, seed=int(seed)),
        )


def resolve_settings(
    head_size: int,
    *,
    softmax_scale: float | None,
    causal: bool,
    window_size: Sequence[int] | None,
    softcap: float,
    dropout_p: float = 0.0,
) -> Settings:
    """The scale is 1/√head_size where none is given. Raises `OpArgumentError` for a number out of its range."""
    scale = head_size**-0.5 if softmax_scale is None else _number("softmax_scale", softmax_scale)
    check_scale("softmax_scale", scale)
    softcap = _number("softcap", softcap)
    check_softcap(softcap)
    check_flags(causal=causal)
    dropout_p = _number("dropout_p", dropout_p)
    check_dropout("dropout_p", dropout_p)
    if dropout_p > 0.0 and not torch.is_grad_enabled():
        raise OpArgumentError(
            f"dropout_p: got {dropout_p} without gradients; allowed 0; dropout is of training only, so pass 0 in evaluation",
            param="dropout_p",
        )
    left, right = _windows(window_size)
    return Settings(
        scale=scale,
        window_left=left,
        window_right=0 if causal else right,
        softcap=softcap,
        dropout_p=dropout_p,
    )


def draw_seed(settings: Settings) -> Tensor | None:
    """The key of a call's dropout, from torch's generator of the CPU, so that `torch.manual_seed` repeats it."""
    if settings.dropout_p == 0.0:
        return None
    return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device="cpu")


def check_flags(**flags: object) -> None:
    """A string, say, is no answer, though Python takes it for yes."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise OpArgumentError(f"{name}: got {flag!r}; allowed True or False; call bool() on it", param=name)


def index(name: str, value: SupportsIndex) -> int:
    """A count of 64 bits, also of a tensor or array of one integer. A compiled call's, which may stand for any, is left as it is."""
    if not isinstance(value, (int, torch.SymInt)):
        try:
            value = operator.index(value)
        except TypeError as error:
            raise OpArgumentError(f"{name}: got {value!r}; allowed an integer", param=name) from error
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OpArgumentError(f"{name}: got {value}; allowed integers of 64 bits", param=name)
    return cast("int", value)


def _windows(window_size: Iterable[SupportsIndex] | None) -> tuple[int | None, int | None]:
    """None is no bound on either side, as in vLLM."""
    if window_size is None:
        return None, None
    try:
        left, right = window_size
    except (TypeError, ValueError) as error:
        raise OpArgumentError(
            f"window_size: got {window_size!r}; allowed (left, right), or None", param="window_size"
        ) from error
    return _window(left), _window(right)


def _window(value: SupportsIndex) -> int | None:
    bound = index("window_size", value)
    if not -1 <= bound <= MAX_INT32:
        raise OpArgumentError(
            f"window_size: got {bound}; allowed 0 to {MAX_INT32:,}, or -1 for no bound", param="window_size"
        )
    return None if bound == -1 else bound


def _number(name: str, value: object) -> float:
    if isinstance(value, (int, float, np.floating, np.integer)):
        return float(value)
    raise OpArgumentError(f"{name}: got {value!r}; allowed a number; call float() on it", param=name)
