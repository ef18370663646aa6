"""Rotary positions by complex numbers."""

import torch


def rotated(x, positions, angles, interleaved):
    """x (S, H, D) as complex numbers, turned; the tables' rounding included."""
    cos, sin = (f(angles).to(x.dtype)[positions] for f in (torch.cos, torch.sin))
    turn = torch.complex(cos.double(), sin.double())[:, None]
    size = 2 * angles.shape[1]
    part = x[..., :size].double()
    if interleaved:
        pairs = torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous())
        turned = torch.view_as_real(pairs * turn).flatten(-2)
    else:
        turned = torch.complex(part[..., : size // 2], part[..., size // 2 :]) * turn
        turned = torch.cat((turned.real, turned.imag), -1)
    return torch.cat((turned.to(x.dtype), x[..., size:]), -1)
