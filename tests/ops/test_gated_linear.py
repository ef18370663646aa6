"""A gated layer fused on AMX's tiles: the bits of its three ops, for every format and number of rows."""

import pytest
import torch
from ops.tensors import randn, same_bits

from octavo import ops
from octavo.ops import Recording, RowSet, WeightFormat

if not ops.can_replay(torch.device("cpu")) or not ops.has_bf16_tiles():
    pytest.skip("gated layers are fused on AMX's tiles alone", allow_module_level=True)

VOCABULARY, MAX_TOKENS = 600, 600


class GatedMlp:
    """down(act(gate)·up) of rows of a table."""

    def __init__(
        self,
        stored_weight,
        weight_format: WeightFormat,
        hidden: int,
        features: int,
        activation: str,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.table = ops.pack_weight(stored_weight(WeightFormat.F32, VOCABULARY, hidden, 1), device="cpu")
        self.gate_up = ops.pack_weight(stored_weight(weight_format, 2 * features, hidden, 2), device="cpu", dtype=dtype)
        self.down = ops.pack_weight(stored_weight(WeightFormat.BF16, 40, features, 3), device="cpu")
        self.bias: torch.Tensor | None = None
        self.act = getattr(ops, activation)

    def __call__(self, ids_T: torch.Tensor) -> torch.Tensor:
        x = ops.round_bf16(ops.embedding(ids_T, self.table))
        return ops.linear_bf16(ops.round_bf16(self.act(ops.linear_bf16(x, self.gate_up, self.bias))), self.down)


def record(mlp: GatedMlp) -> tuple[object, list[str]]:
    recording = Recording()
    output = mlp(recording.add_input(RowSet.TOKENS))
    program = ops.make_program(recording, [output], max_tokens=MAX_TOKENS, max_sampled=1)
    return program, [facts.kernel for facts, _ in program.time(0, 0, [])]


def replay(program, ids_T: torch.Tensor) -> torch.Tensor:
    program.inputs[0][: len(ids_T)] = ids_T
    return program.replay(len(ids_T), 0, [])[0]


@pytest.mark.parametrize(
    ("weight_format", "dtype"), [*((f, None) for f in WeightFormat), (WeightFormat.BF16, torch.bfloat16)]
)
@pytest.mark.parametrize("activation", ["silu_mul", "gelu_tanh_mul"])
def test_its_bits_are_those_of_its_ops(weight_format, dtype, activation, stored_weight, threads):
    mlp = GatedMlp(stored_weight, weight_format, 1280, 96, activation, dtype)
    program, kernels = record(mlp)
    assert kernels.count("gated_linear") == 1
    assert "gated" not in kernels
    ids_T = torch.randint(0, VOCABULARY, (MAX_TOKENS,), generator=torch.Generator().manual_seed(4))
    for num_threads in (1, 2, 7):
        threads(num_threads)
        for size in (1, 2, 15, 16, 17, 31, 32, 33, 48, 511, 512, 513, 600):
            assert same_bits(replay(program, ids_T[:size]), mlp(ids_T[:size]))


@pytest.mark.parametrize("hidden", [32, 96, 640, 2112])
@pytest.mark.parametrize("features", [32, 160])
def test_any_depth(hidden, features, stored_weight):
    mlp = GatedMlp(stored_weight, WeightFormat.Q4_0, hidden, features, "silu_mul")
    program, _ = record(mlp)
    for size in (1, 5, 20, 70, 96, 100, 230):
        ids_T = torch.arange(size)
        assert same_bits(replay(program, ids_T), mlp(ids_T))


def test_what_is_not_finite_stays_in_its_row(stored_weight):
    mlp = GatedMlp(stored_weight, WeightFormat.Q4_1, 64, 32, "silu_mul")
    table = randn(VOCABULARY, 64)
    table[3, 5], table[9, 63] = torch.nan, torch.inf
    mlp.table = ops.pack_weight(ops.StoredWeight(table, WeightFormat.F32, VOCABULARY, 64), device="cpu")
    program, _ = record(mlp)
    got = replay(program, torch.arange(40)).clone()
    assert not got[[3, 9]].isfinite().any()
    others = [row for row in range(40) if row not in (3, 9)]
    assert same_bits(got[others], replay(program, torch.tensor(others)))


def test_a_layer_with_a_bias_stays_apart(stored_weight):
    mlp = GatedMlp(stored_weight, WeightFormat.Q8_0, 64, 32, "silu_mul")
    mlp.bias = torch.linspace(-1, 1, 64)
    program, kernels = record(mlp)
    assert "gated_linear" not in kernels
    assert same_bits(replay(program, torch.arange(7)), mlp(torch.arange(7)))
