"""Recorded passes: the bits of the ops run one by one, whatever the number of rows; what cannot be recorded is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import ops
from octavo.ops import (
    AttentionOptions,
    AttentionPlan,
    NotRecordableError,
    OpArgumentError,
    Recording,
    RowSet,
    WeightFormat,
)

if not ops.can_replay(torch.device("cpu")):
    pytest.skip("octavo._native is not built", allow_module_level=True)

HEADS, KV_HEADS, HEAD_SIZE, BLOCK_SIZE, NUM_BLOCKS, VOCABULARY = 4, 2, 32, 4, 12, 50
HIDDEN, FEATURES = HEADS * HEAD_SIZE, 96
MAX_TOKENS, MAX_SAMPLED = 40, 8


class Layer:
    """A transformer's layer in ops: every kernel that a pass has."""

    def __init__(self, stored_weight, weight_format, *, has_qk_norm: bool, activations: str) -> None:
        def weight(n, k, seed):
            return ops.pack_weight(stored_weight(weight_format, n, k, seed), device="cpu")

        generator = torch.Generator().manual_seed(3)
        self.activations, self.has_qk_norm = activations, has_qk_norm
        self.embedding = weight(VOCABULARY, HIDDEN, 0)
        self.qk = weight((HEADS + KV_HEADS) * HEAD_SIZE, HIDDEN, 1)
        self.v = weight(KV_HEADS * HEAD_SIZE, HIDDEN, 2)
        self.gate_up, self.down = weight(2 * FEATURES, HIDDEN, 3), weight(HIDDEN, FEATURES, 4)
        self.norm = torch.rand(HIDDEN, generator=generator) + 0.5
        self.q_norm, self.k_norm = torch.rand(2, HEAD_SIZE, generator=generator) + 0.5
        self.cos_sin = torch.randn(64, HEAD_SIZE, generator=generator)
        self.k_cache, self.v_cache = torch.zeros(2, NUM_BLOCKS, BLOCK_SIZE, KV_HEADS, HEAD_SIZE, dtype=torch.bfloat16)

    def clear(self):
        self.k_cache.zero_()
        self.v_cache.zero_()

    def linear(self, x, weight, out=None):
        if self.activations == "int8":
            return ops.linear_int8(ops.quantize_activations(x), weight, out=out)
        if self.activations == "bf16":
            return ops.linear_bf16(ops.round_bf16(x), weight, out=out)
        return ops.linear(x, weight, out=out)

    def __call__(self, ids_T, positions_T, slots_T, plan, rows_R):
        stream = ops.embedding(ids_T, self.embedding, 1.5)
        x = ops.rms_norm(stream, self.norm, 1e-5)
        qkv = x.new_empty(x.shape[0], (HEADS + 2 * KV_HEADS) * HEAD_SIZE)
        qk_size = (HEADS + KV_HEADS) * HEAD_SIZE
        self.linear(x, self.qk, qkv[:, :qk_size])
        self.linear(x, self.v, qkv[:, qk_size:])
        heads = qkv.unflatten(-1, (HEADS + 2 * KV_HEADS, HEAD_SIZE))
        q, k, v = heads.split([HEADS, KV_HEADS, KV_HEADS], dim=1)
        if self.has_qk_norm:
            q, k = ops.rms_norm(q, self.q_norm, 1e-5), ops.rms_norm(k, self.k_norm, 1e-5)
        ops.apply_rotary(q, k, self.cos_sin, positions_T)
        ops.store_kv(k, v, self.k_cache, self.v_cache, slots_T)
        attended = ops.paged_attention(
            q, self.k_cache, self.v_cache, plan, AttentionOptions(scale=0.2, window_right=0)
        ).flatten(-2)
        x, stream = ops.add_rms_norm(attended, stream, self.norm, 1e-5)
        hidden = ops.add(stream, self.linear(ops.silu_mul(self.linear(x, self.gate_up)), self.down))
        taken = ops.layer_norm(ops.take_rows(hidden, rows_R), self.norm, None, 1e-5)
        return hidden, ops.softcap(self.linear(taken, self.embedding), 3.0)


def record(layer: Layer, *, is_fused: bool = True):
    recording = Recording()
    ids, positions, slots = (recording.add_input(RowSet.TOKENS) for _ in range(3))
    rows, plan = recording.add_input(RowSet.SAMPLED), recording.add_plan(BLOCK_SIZE)
    outputs = layer(ids, positions, slots, plan, rows)
    return ops.make_program(
        recording, outputs, max_tokens=MAX_TOKENS, max_sampled=MAX_SAMPLED, is_fused=is_fused
    )  # fmt: skip


def step(num_tokens: int, num_sampled: int, seed: int = 0):
    """Inputs of one request of `num_tokens` tokens after three that are in its cache."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (num_tokens,), generator=generator)
    positions = torch.arange(num_tokens) + 3
    rows = torch.randint(0, max(1, num_tokens), (num_sampled,), generator=generator)
    plan = AttentionPlan(
        query_starts=torch.tensor([0, num_tokens], dtype=torch.int32),
        seq_lens=torch.tensor([num_tokens + 3], dtype=torch.int32),
        block_tables=torch.arange(1, NUM_BLOCKS, dtype=torch.int32)[None],
        block_size=BLOCK_SIZE,
    )
    return ids, positions, positions + BLOCK_SIZE, plan, rows


def replay(program, ids, positions, slots, plan, rows):
    for memory, values in zip(program.inputs, (ids, positions, slots, rows), strict=True):
        memory[: len(values)] = values
    return [output.clone() for output in program.replay(len(ids), len(rows), [plan])]


@pytest.fixture(
    scope="module", params=[(norm, kind) for norm in (False, True) for kind in ("native", "int8", "bf16")], ids=str
)
def layer(request, stored_weight):
    has_qk_norm, activations = request.param
    if activations == "bf16" and not ops.has_bf16_tiles():
        pytest.skip("this processor has no AMX")
    return Layer(stored_weight, WeightFormat.Q8_0, has_qk_norm=has_qk_norm, activations=activations)


@pytest.mark.parametrize("is_fused", [True, False])
def test_replays_give_the_bits_of_the_ops(layer, is_fused, isa):
    if layer.activations == "bf16" and not ops.has_bf16_tiles():
        pytest.skip("bf16 is recorded on AMX's tiles alone")
    program = record(layer, is_fused=is_fused)

    @settings(max_examples=15, deadline=None)
    @given(num_tokens=st.integers(1, MAX_TOKENS), num_sampled=st.integers(0, MAX_SAMPLED), seed=st.integers(0, 9))
    def check(num_tokens, num_sampled, seed):
        inputs = step(num_tokens, num_sampled, seed)
        layer.clear()
        wanted = layer(*inputs)
        caches = layer.k_cache.clone(), layer.v_cache.clone()
        layer.clear()
        for got, want in zip(replay(program, *inputs), wanted, strict=True):
            assert torch.equal(got, want)
        assert torch.equal(layer.k_cache, caches[0])
        assert torch.equal(layer.v_cache, caches[1])

    check()


def test_fusion_leaves_fewer_launches(layer):
    fused, plain = record(layer), record(layer, is_fused=False)
    kernels = [facts.kernel for facts, _ in fused.time(0, 0, [step(0, 0)[3]])]
    unfused = [facts.kernel for facts, _ in plain.time(0, 0, [step(0, 0)[3]])]
    assert {"rotary", "store"} <= set(unfused)
    assert not {"rotary", "store"} & set(kernels)
    assert kernels.count("heads") == 1
    narrow = {"native": "", "int8": "quantize_groups", "bf16": "round"}[layer.activations]
    if narrow:  # left are the sampled rows after a layer norm, and v's x again
        assert unfused.count(narrow) - kernels.count(narrow) == 3


def test_buffers_that_live_together_do_not_overlap(layer):
    """Every replay starts on an arena of NaN, so that a value read before it was written would show."""
    program = record(layer)
    for num_tokens in (1, 7, MAX_TOKENS):
        program._arena.fill_(0xFF)
        for output in replay(program, *step(num_tokens, 2)):
            assert output.isfinite().all()


def test_sizes_and_inputs_are_checked_before_anything_is_written(layer):
    program = record(layer)
    ids, positions, slots, plan, rows = step(5, 2)
    before = layer.k_cache.clone()
    wrong = [
        (ids.clone().fill_(VOCABULARY), positions, slots, plan, rows),
        (ids, positions + 64, slots, plan, rows),
        (ids, positions, slots + NUM_BLOCKS * BLOCK_SIZE, plan, rows),
        (ids, positions, slots - 99, plan, rows),
        (ids, positions, slots, plan, rows + 5),
        (ids, positions, slots, step(4, 1)[3], rows),
    ]
    for inputs in wrong:
        with pytest.raises(OpArgumentError):
            replay(program, *inputs)
    for num_tokens, num_sampled, plans in ((MAX_TOKENS + 1, 0, [plan]), (5, MAX_SAMPLED + 1, [plan]), (5, 2, [])):
        with pytest.raises(OpArgumentError):
            program.replay(num_tokens, num_sampled, plans)
    assert torch.equal(layer.k_cache, before)


@pytest.mark.parametrize(
    "use", [lambda x: x + 1, lambda x: x.mul_(2), lambda x: torch.cat([x, x]), lambda x: x.tolist(), lambda x: x[:, 0].contiguous()]
)  # fmt: skip
def test_what_is_no_op_cannot_be_recorded(use, stored_weight):
    recording = Recording()
    weight = ops.pack_weight(stored_weight(WeightFormat.F32, 8, 16), device="cpu")
    x = ops.embedding(recording.add_input(RowSet.TOKENS), weight)
    with pytest.raises(NotRecordableError):
        use(x)
