"""A group's measurements as the JSON that is kept."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers.client import Sample
from peers.groups import Engine, Model, Row
from peers.limits import Limits, least_s
from peers.measure import (
    CACHE_BYTES,
    MAX_BATCH,
    MAX_LEN,
    NUM_GREEDY_TOKENS,
    START_PROMPT_LEN,
    WARMUP_OUTPUT_LEN,
    Plan,
    Record,
    common_prefix,
    rate,
    summary,
)

from octavo.bench.circumstances import hardware, software


def group_report(
    command: str, group: str, plan: Plan, records: Mapping[str, Record], limits: Limits, *, is_quick: bool
) -> dict[str, Any]:
    ours = records["octavo"].greedy_token_ids if "octavo" in records else []
    return {
        "benchmark": "compare",
        "group": group,
        "is_quick": is_quick,
        "command": command,
        "software": asdict(software()),
        "hardware": asdict(hardware()),
        "threads": plan.threads,
        "limits": dict(limits),
        "method": {
            "rounds": plan.rounds,
            "start_rounds": plan.start_rounds,
            "warmup": f"every row's batch once with at most {WARMUP_OUTPUT_LEN} tokens out",
            "max_len": MAX_LEN,
            "max_batch": MAX_BATCH,
            "cache_bytes": CACHE_BYTES,
            "start_prompt_len": START_PROMPT_LEN,
            "repeats_of_disturbed_samples": plan.max_repeats,
            "greedy_tokens": NUM_GREEDY_TOKENS,
        },
        "shapes": {key: asdict(row) for key, row in plan.rows.items()},
        "prompt": list(plan.model.prompt),
        "engines": {key: _engine(engine, plan, records[key], limits, ours) for key, engine in plan.engines.items()},
    }


def _engine(engine: Engine, plan: Plan, record: Record, limits: Limits, ours: list[int]) -> dict[str, Any]:
    about = {
        "name": engine.name,
        "is_octavo": engine.is_octavo,
        "file": engine.file.name,
        "weights": engine.weights,
        "options": dict(engine.options),
    }
    if record.refused is not None:
        return {**about, "refused": record.refused.replace(str(Path.home()), "~")}
    return {
        **about,
        "refused": None,
        **record.about,
        "weight_bytes": engine.weight_bytes,
        "rows": {
            key: _row(engine, record, plan.rows[key], plan.model, samples, limits)
            for key, samples in record.samples.items()
        },
        "start_s": _start(record.start_samples),
        "start_peak_bytes": record.start_peak_bytes,
        "peak_bytes": record.peak_bytes,
        "greedy": {
            "token_ids": record.greedy_token_ids,
            "common_prefix_with_octavo": common_prefix(record.greedy_token_ids, ours),
        },
    }


def _row(
    engine: Engine, record: Record, row: Row, model: Model, samples: list[Sample], limits: Limits
) -> dict[str, Any]:
    rates = [rate(row, sample) for sample in samples]
    bound_s = least_s(row, model, engine.weight_bytes, record.about["arithmetic"], limits)
    num_tokens = row.batch * (row.output_len - 1 if row.is_decode else row.input_len)
    limit = None if bound_s is None else num_tokens / bound_s
    figures = summary(rates)
    return {
        "unit": "tokens/s",
        **figures,
        "limit": limit,
        "percent_of_limit": None if limit is None else 100 * figures["median"] / limit,
        "num_disturbed": sum(sample.is_dirty for sample in samples),
        "samples": [_sample(sample, each) for sample, each in zip(samples, rates, strict=True)],
    }


def _start(samples: list[Sample]) -> dict[str, Any] | None:
    if not samples:
        return None
    return {
        "unit": "s",
        **summary([sample.total_s for sample in samples]),
        "num_disturbed": sum(sample.is_dirty for sample in samples),
        "samples": [_sample(sample, sample.total_s) for sample in samples],
    }


def _sample(sample: Sample, value: float) -> dict[str, Any]:
    return {
        "value": value,
        "first_s": sample.first_s,
        "total_s": sample.total_s,
        "foreign_cores": round(sample.foreign_cores, 3),
        "is_disturbed": sample.is_dirty,
    }
