"""Each technique on a tiny model: what is counted is right, what is timed is there, and both sides give the same."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import TINY

from octavo.bench.techniques.chunked_prefill import CHUNKED_PREFILL, NUM_RUNNING
from octavo.bench.techniques.comparison import compare
from octavo.bench.techniques.continuous_batching import CONTINUOUS_BATCHING
from octavo.bench.techniques.flash_attention import FLASH_ATTENTION
from octavo.bench.techniques.int8_activations import INT8_ACTIVATIONS
from octavo.bench.techniques.kv_cache import KV_CACHE
from octavo.bench.techniques.paged_kv import NUM_PIECES, PAGED_KV
from octavo.bench.techniques.prefix_caching import NUM_QUESTIONS, PREFIX_CACHING
from octavo.bench.techniques.registry import TECHNIQUES
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Sample, Technique

from .conftest import BUDGET, CONTEXT, SIZES, make_subject


def both(technique: Technique, subject: Subject, seed: int = 0) -> tuple[Sample, Sample]:
    """(on, off)"""
    with technique.open(subject) as measure:
        return measure(True, seed), measure(False, seed)


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_every_technique_gives_its_figures_and_curves(technique: Technique, subject: Subject) -> None:
    result = compare(technique, subject, repeats=1)
    assert result.missing is None
    assert [each.figure for each in result.figures] == list(technique.figures)
    for each in result.figures:
        assert each.on.median > 0
        assert each.off.median > 0
    for plot in result.plots:
        assert plot.on
        assert plot.off
    assert result.is_same is (None if technique.same is None else True)
    assert result.because.endswith(".")
    assert result.why.endswith(".")


def test_without_a_kv_cache_every_token_is_computed_again(subject: Subject) -> None:
    on, off = both(KV_CACHE, subject)
    prompt_len, output_len = SIZES["prompt_len"], SIZES["output_len"]
    assert on.values["num_computed_tokens"] == prompt_len + output_len - 1
    assert off.values["num_computed_tokens"] == sum(prompt_len + done for done in range(output_len))
    assert on.outcome == off.outcome


def test_blocks_let_more_requests_into_the_same_memory(subject: Subject) -> None:
    on, off = both(PAGED_KV, subject)
    assert off.values["num_running"] == NUM_PIECES
    assert on.values["num_running"] > 1.2 * NUM_PIECES
    assert 0 < on.values["waste"] < 1 / 4 < off.values["waste"] < 1


def test_a_window_holds_no_more_than_it_reads(tmp_path: Path) -> None:
    windowed = TINY["gemma3"]
    model = replace(windowed, options={**windowed.options, "max_position_embeddings": CONTEXT}).write(tmp_path)
    on, off = both(PAGED_KV, make_subject(model))
    assert on.values["num_running"] > off.values["num_running"]
    assert 0 < on.values["waste"] < off.values["waste"] < 1


def test_static_batches_leave_seats_empty(subject: Subject) -> None:
    on, off = both(CONTINUOUS_BATCHING, subject)
    assert off.values["seats"] < on.values["seats"] <= 1
    assert len(on.curves["seats"]) < len(off.curves["seats"])  # fewer steps for the same tokens
    assert max(point.y for point in on.curves["seats"]) == SIZES["max_num_seqs"]
    assert on.outcome == off.outcome


def test_a_short_request_waits_for_two_chunks_or_for_the_whole_prompt(subject: Subject) -> None:
    on, off = both(CHUNKED_PREFILL, subject)
    assert on.values["num_tokens_before"] <= 2 * BUDGET
    assert off.values["num_tokens_before"] >= SIZES["long_prompt_len"] + NUM_RUNNING
    assert len(off.curves["waiting"]) == 3  # one tooth
    assert len(on.curves["waiting"]) >= 3 * math.ceil(SIZES["long_prompt_len"] / BUDGET)
    assert on.outcome == off.outcome


def test_a_shared_prefix_is_computed_once(subject: Subject) -> None:
    on, off = both(PREFIX_CACHING, subject)
    saved = (NUM_QUESTIONS - 1) * SIZES["prefix_len"]
    assert off.values["num_prompt_tokens"] - on.values["num_prompt_tokens"] == saved
    assert on.outcome == off.outcome


def test_each_seed_has_a_prefix_of_its_own(subject: Subject) -> None:
    with PREFIX_CACHING.open(subject) as measure:
        counts = [measure(True, seed).values["num_prompt_tokens"] for seed in (0, 1)]
    assert counts[0] == counts[1]


def test_standard_attention_takes_more_memory(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.bench.techniques.flash_attention.lengths", lambda subject: [256, 1024])
    on, off = both(FLASH_ATTENTION, subject)
    scores_bytes = 2 * 2 * 1024**2  # s and p of one head, in bf16
    assert off.values["peak_bytes"] >= scores_bytes
    assert on.values["peak_bytes"] < scores_bytes / 2
    assert [point.x for point in on.curves["memory"]] == [256, 1024]


def test_what_a_model_cannot_show_is_said(long_llama: Path) -> None:
    missing = INT8_ACTIVATIONS.missing(make_subject(long_llama))
    assert missing is not None
    assert "the model's weights are F32" in missing
    assert "quantization=int8" in missing
    long_step = CHUNKED_PREFILL.missing(make_subject(long_llama, max_num_batched_tokens=700))
    assert long_step is not None
    assert "the long prompt of 700 tokens fits one step of 700" in long_step
    no_room = CHUNKED_PREFILL.missing(make_subject(long_llama, max_num_batched_tokens=NUM_RUNNING))
    assert no_room is not None
    assert "a step of 4 tokens has none left beside 4 that decode" in no_room
    narrow = make_subject(long_llama, max_num_batched_tokens=NUM_RUNNING + 1)
    endless = CHUNKED_PREFILL.missing(replace(narrow, sizes=replace(narrow.sizes, long_prompt_len=1020)))
    assert endless is not None
    assert "raise max_num_batched_tokens or give a shorter long_prompt_len" in endless
