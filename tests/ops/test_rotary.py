import pytest
import torch

from octavo import ops
from octavo.ops import OpArgumentError, reference


def table(num_positions: int, rotary_size: int) -> torch.Tensor:
    inverse = 10000.0 ** (-torch.arange(0, rotary_size, 2) / max(1, rotary_size))
    angles = torch.arange(num_positions)[:, None] * inverse
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def run(backend: str, *args) -> None:
    (reference if backend == "reference" else ops).apply_rotary(*args)


def rotated(x_THD, cos_sin_PR, positions_T):
    """As complex numbers a + ib times cos + i·sin."""
    half = cos_sin_PR.shape[1] // 2
    cos_sin = cos_sin_PR[positions_T].double()[:, None]
    pair = torch.complex(x_THD[..., :half].double(), x_THD[..., half : 2 * half].double())
    pair = pair * torch.complex(cos_sin[..., :half], cos_sin[..., half:])
    return torch.cat((pair.real, pair.imag, x_THD[..., 2 * half :].double()), dim=-1)


@pytest.mark.parametrize(("num_tokens", "head_size", "rotary_size"), [
    (0, 8, 8), (1, 64, 64), (5, 64, 64), (70, 128, 128), (3, 80, 32), (4, 59, 18), (2, 7, 2), (2, 6, 0),
])  # fmt: skip
def test_rotates(num_tokens, head_size, rotary_size, backend):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(num_tokens, 6, head_size, generator=generator)
    k = torch.randn(num_tokens, 2, head_size, generator=generator)
    cos_sin, positions = table(100, rotary_size), torch.arange(num_tokens) * 37 % 100
    want_q, want_k = rotated(q, cos_sin, positions), rotated(k, cos_sin, positions)
    run(backend, q, k, cos_sin, positions)
    torch.testing.assert_close(q.double(), want_q, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(k.double(), want_k, atol=1e-6, rtol=1e-6)


def test_views_of_a_fused_projection_are_rotated_in_place(backend):
    qkv = torch.randn(5, (6 + 2 + 2) * 16, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.unflatten(1, (-1, 16)) for part in qkv.split((96, 32, 32), dim=1))
    dense_q, dense_k, kept_v = q.clone(), k.clone(), v.clone()
    args = (table(9, 16), torch.tensor([8, 0, 3, 3, 1], dtype=torch.int32))
    run(backend, dense_q, dense_k, *args)
    run(backend, q, k, *args)
    assert torch.equal(q, dense_q)
    assert torch.equal(k, dense_k)
    assert torch.equal(v, kept_v)
    transposed = k.clone().transpose(1, 2).contiguous().transpose(1, 2)
    again = k.clone()
    run(backend, q, transposed, *args)
    run(backend, dense_q, again, *args)
    assert torch.equal(transposed, again)


def test_arguments_are_checked():
    q, k, cos_sin, positions = torch.zeros(2, 4, 8), torch.zeros(2, 2, 8), table(5, 8), torch.tensor([0, 4])
    for args in (
        (q[0], k, cos_sin, positions),
        (q, k[:1], cos_sin, positions),
        (q, k[..., :6], cos_sin, positions),
        (q, k, table(5, 10), positions),
        (q, k, cos_sin[:, :7], positions),
        (q, k, cos_sin.double(), positions),
        (q, k, cos_sin, torch.tensor([0, 5])),
        (q, k, cos_sin, torch.tensor([-1, 0])),
        (q, k, cos_sin, positions[:1]),
        (q, k.double(), cos_sin, positions),
    ):
        with pytest.raises(OpArgumentError):
            ops.apply_rotary(*args)
    assert not q.any()
