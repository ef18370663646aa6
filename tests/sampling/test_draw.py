"""Draws against a full sort in float64, against transformers' warpers, and by their statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.core.sampling_params import SamplingParams
from octavo.sampling import Sampler, SamplingRow, draw
from octavo.sampling.tiles import Candidates, Tiles

GRID = (np.arange(4000) + 0.5) / 4000


def normals(num_rows, vocab_size, seed=0, scale=3.0):
    return torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(seed)) * scale


def kept(logits_V, params):
    """(ids, probabilities) that the cuts leave, the most likely first: the definition, by a full sort in float64."""
    logits = logits_V.double().numpy()
    order = np.lexsort((np.arange(len(logits)), -logits))
    weights = np.exp((logits[order] - logits[order[0]]) / params.temperature)
    count = len(weights)
    if params.min_p > 0:
        count = int((weights >= params.min_p).sum())
    if params.top_k > 0:
        count = min(count, params.top_k)
    shares = weights[:count] / weights[:count].sum()
    if params.top_p < 1:
        count = min(count, int((shares.cumsum() < params.top_p).sum()) + 1)
    return order[:count], weights[:count] / weights[:count].sum()


def drawn_by_definition(logits_V, params, u):
    ids, shares = kept(logits_V, params)
    return int(ids[min(int((shares.cumsum() <= u * shares.sum()).sum()), len(ids) - 1)])


def name(params):
    """Only what differs from the defaults."""
    fields = ("temperature", "top_k", "top_p", "min_p")
    return ",".join(f"{f}={getattr(params, f)}" for f in fields if getattr(params, f) != getattr(SamplingParams(), f))


CUTS = [
    SamplingParams(top_k=1),
    SamplingParams(top_k=50, temperature=0.7),
    SamplingParams(top_k=2000),
    SamplingParams(top_k=1 << 30),
    SamplingParams(top_p=0.9),
    SamplingParams(top_p=0.9, temperature=0.6),
    SamplingParams(top_p=0.5, temperature=30.0),
    SamplingParams(top_p=1e-9),
    SamplingParams(top_p=0.999999, temperature=2.0),
    SamplingParams(min_p=0.05),
    SamplingParams(min_p=1.0),
    SamplingParams(min_p=1e-12, temperature=3.0),
    SamplingParams(top_k=20, top_p=0.95, temperature=0.6),
    SamplingParams(min_p=0.2, top_p=0.6, temperature=4.0),
    SamplingParams(top_k=40, min_p=0.1, top_p=0.8, temperature=1.5),
]


@pytest.mark.parametrize("params", CUTS, ids=name)
@pytest.mark.parametrize("vocab_size", [1, 5, 128, 1000, 50_257])
def test_cut_draws_are_those_of_a_full_sort(vocab_size, params):
    u = np.random.default_rng(1).random(5)
    logits = normals(5, vocab_size, seed=vocab_size)
    expected = [drawn_by_definition(row, params, u_i) for row, u_i in zip(logits, u, strict=True)]
    assert draw.draw_cut(logits, [params] * 5, u) == expected


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_top_k_and_min_p_with_ties_take_the_lower_id(data):
    vocab_size = data.draw(st.sampled_from([3, 130, 700]))
    seed = data.draw(st.integers(0, 1000))
    logits = torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, (1, vocab_size)).astype(np.float32) / 2)
    params = SamplingParams(
        top_k=data.draw(st.integers(1, 800)),
        min_p=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        temperature=data.draw(st.sampled_from([0.5, 1.0, 7.0])),
    )
    u = data.draw(st.floats(0, 1, exclude_max=True, allow_subnormal=False))
    ids, shares = kept(logits[0], params)
    (token,) = draw.draw_cut(logits, [params], np.array([u]))
    place = ids.tolist().index(token)
    before = shares[:place].sum()
    assert before - 1e-9 <= u <= before + shares[place] + 1e-9


@pytest.mark.parametrize("vocab_size", [1000, 49_152])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_quick_and_the_thorough_search_agree(monkeypatch, vocab_size, temperature):
    """However few candidates are tried first, and however many admitted, the draws are the same."""
    logits = normals(8, vocab_size, seed=5)
    params = [SamplingParams(top_p=p, temperature=temperature) for p in (0.1, 0.5, 0.9, 0.99)] * 2
    u = np.random.default_rng(2).random(8)
    expected = draw.draw_cut(logits, params, u)
    for guess in (1, 40, 10**9):
        monkeypatch.setattr(draw, "_NUCLEUS_GUESS", guess)
        assert draw.draw_cut(logits, params, u) == expected
    monkeypatch.setattr(draw, "_limit", lambda *_: -np.inf)
    assert draw.draw_cut(logits, params, u) == expected


def test_the_quick_search_is_enough_for_a_peaked_row(monkeypatch):
    seen = []
    whole = draw._draw_candidates

    def spy(row, *args):
        seen.append(len(row.logits))
        return whole(row, *args)

    monkeypatch.setattr(draw, "_draw_candidates", spy)
    draw.draw_cut(normals(1, 262_144) * 2, [SamplingParams(top_p=0.5)], np.array([0.5]))
    assert len(seen) == 1
    assert seen[0] < 1000


@pytest.mark.parametrize("vocab_size", [1, 5, 128, 1000, 49_152, 50_257])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_whole_draws_invert_the_cumulative_distribution(vocab_size, temperature):
    u = np.concatenate([np.random.default_rng(3).random(6), [0.0, 1 - 2.0**-53]])
    logits = normals(8, vocab_size, seed=7)
    tokens = draw.draw_whole(logits, [SamplingParams(temperature=temperature)] * 8, u)
    for row, token, u_i in zip(logits.double().numpy(), tokens, u, strict=True):
        cumulative = np.exp((row - row.max()) / temperature).cumsum()
        cumulative = np.concatenate([[0.0], cumulative / cumulative[-1]])
        assert cumulative[token] - 2e-6 <= u_i <= cumulative[token + 1] + 2e-6


def test_whole_draws_never_take_a_forbidden_token():
    logits = torch.full((64, 1000), -torch.inf)
    logits[:, 300], logits[:, 777] = 0.0, 1.0
    tokens = draw.draw_whole(logits, [SamplingParams()] * 64, np.concatenate([GRID[::64], [1 - 2.0**-53]]))
    assert set(tokens) == {300, 777}


@pytest.mark.parametrize("way", [draw.draw_whole, draw.draw_cut])
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-30, 1e-6])
def test_a_tiny_temperature_is_greedy(way, temperature):
    logits = normals(4, 1000) * 30
    params = [SamplingParams(temperature=temperature, top_p=0.9 if way is draw.draw_cut else 1.0)] * 4
    assert way(logits, params, np.array([0.0, 0.3, 0.9, 1 - 2.0**-53])) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("fill", [0.0, -3.0, 1e4])
def test_greedy_takes_the_lowest_id_of_equals(fill):
    logits = torch.full((3, 5000), fill)
    logits[1, 4000] = logits[1, 4999] = fill + 1
    logits[2, 0] = fill - 1
    assert draw.greedy(logits) == [0, 4000, 1]


def test_top_k_1_is_greedy_even_where_exp_cannot_tell():
    logits = torch.zeros(1, 500)
    logits[0, 450] = 1e-30
    assert draw.greedy(logits) == draw.draw_cut(logits, [SamplingParams(top_k=1)], np.array([0.99])) == [450]


def test_a_u_on_the_border_belongs_to_the_next_token():
    logits, u = torch.zeros(4, 200), np.array([0.0, 0.25, 0.5, 0.75])
    assert draw.draw_cut(logits, [SamplingParams(top_k=4)] * 4, u) == [0, 1, 2, 3]
    logits[:, 4:] = -torch.inf
    assert draw.draw_whole(logits, [SamplingParams()] * 4, u) == [0, 1, 2, 3]


def test_negative_zero_equals_zero():
    row = Candidates(np.array([2, 5, 9, 11]), np.array([-0.0, 0.0, 1.5, -2.0], dtype=np.float32))
    assert row.ranked().token_ids.tolist() == [9, 2, 5, 11]
    assert row.ranked().logits.tolist() == [1.5, 0.0, 0.0, -2.0]


@pytest.mark.parametrize("k", [1, 7, 8, 9, 500, 1000])
def test_kth_bound_is_a_bound_and_near(k):
    logits = normals(3, 1000, seed=9)
    bound = Tiles(logits).kth_bound([k] * 3)
    kth = logits.topk(k).values[:, -1].double().numpy()
    assert (bound <= kth).all()
    assert k <= 8 or (bound == kth).all()


@pytest.fixture(scope="module")
def reference():
    return pytest.importorskip("transformers.generation.logits_process")


class TestAgainstTransformers:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("params", CUTS[:8] + CUTS[9:11] + CUTS[12:13], ids=name)
    def test_support_and_frequencies(self, reference, params, seed):
        logits = normals(1, 12, seed=seed, scale=1.0)
        scores = reference.TemperatureLogitsWarper(params.temperature)(None, logits)
        if params.top_k:
            scores = reference.TopKLogitsWarper(params.top_k)(None, scores)
        if params.top_p < 1:
            scores = reference.TopPLogitsWarper(params.top_p)(None, scores)
        if params.min_p:
            scores = reference.MinPLogitsWarper(params.min_p)(None, scores)
        tokens = draw.draw_cut(logits.expand(4000, 12), [params] * 4000, GRID)
        observed = np.bincount(tokens, minlength=12) / 4000
        assert np.abs(observed - torch.softmax(scores, -1)[0].numpy()).max() <= 1 / 4000


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=3.0),
        SamplingParams(top_k=4),
        SamplingParams(top_p=0.8, temperature=1.3),
        SamplingParams(min_p=0.2),
        SamplingParams(top_k=6, top_p=0.9, min_p=0.01, temperature=0.8),
    ],
    ids=name,
)
def test_draws_follow_the_distribution(params):
    count, vocab_size = 6000, 10
    logits = normals(1, vocab_size, seed=11, scale=1.0)
    rows = [
        SamplingRow(params=params, seed=17, position=i, prompt_token_ids=[], output_token_ids=[]) for i in range(count)
    ]
    sampled = Sampler(vocab_size).sample(logits.expand(count, vocab_size), rows)
    observed = np.bincount([token.token_id for token in sampled], minlength=vocab_size)
    ids, shares = kept(logits[0], params)
    assert observed.sum() == observed[ids].sum()
    chi_square = ((observed[ids] - count * shares) ** 2 / (count * shares)).sum()
    freedom = len(ids) - 1
    # Wilson and Hilferty 1931: the 99.9 % quantile of chi-square.
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.09 * np.sqrt(2 / (9 * freedom))) ** 3
