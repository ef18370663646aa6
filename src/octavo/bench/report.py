"""The JSON of a benchmark: the result, and all that is needed to judge or repeat it."""

from dataclasses import asdict
from typing import Any

from octavo.bench.circumstances import circumstances
from octavo.bench.latency import LatencyResult, LatencyShape
from octavo.bench.throughput import ThroughputResult, ThroughputShape
from octavo.engine.info import EngineInfo


def latency_report(command: str, info: EngineInfo, shape: LatencyShape, result: LatencyResult) -> dict[str, Any]:
    """Medians under their plain names, every figure with its spread and samples under «summaries»."""
    summaries = {
        "prefill_tokens_per_s": result.prefill_tokens_per_s,
        "decode_tokens_per_s": result.decode_tokens_per_s,
        "ttft_s": result.ttft_s,
        "tpot_s": result.tpot_s,
        "total_s": result.total_s,
    }
    return {
        "benchmark": "latency",
        **{name: None if summary is None else summary.median for name, summary in summaries.items()},
        "num_prefill_steps": result.num_prefill_steps,
        "summaries": {name: None if summary is None else asdict(summary) for name, summary in summaries.items()},
        "shape": asdict(shape),
        **engine_circumstances(command, info),
    }


def throughput_report(
    command: str, info: EngineInfo, shape: ThroughputShape, result: ThroughputResult
) -> dict[str, Any]:
    """The fields of `ThroughputResult`, and the circumstances."""
    return {
        "benchmark": "throughput",
        **asdict(result),
        "shape": asdict(shape),
        **engine_circumstances(command, info),
    }


def engine_circumstances(command: str, info: EngineInfo) -> dict[str, Any]:
    """Where, when, with which software, model and options something was measured."""
    return {
        **circumstances(command),
        "isa": info.isa,
        "threads": info.options["threads"],
        "dtype": info.options["dtype"],
        "model": {
            "name": info.model,
            "architecture": info.architecture,
            "num_parameters": info.num_parameters,
            "weight_bytes": info.weight_bytes,
            "weight_formats": info.weight_formats,
        },
        "options": info.options,
    }
