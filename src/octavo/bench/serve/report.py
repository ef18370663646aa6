"""The JSON of a run: its figures, every request, and all that is needed to judge or repeat it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from octavo.bench.circumstances import circumstances
from octavo.bench.serve.measure import Measurement, ServePlan
from octavo.bench.serve.record import RequestRecord
from octavo.bench.statistics import Summary

_LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s")


def serve_report(command: str, plan: ServePlan, measurement: Measurement) -> dict[str, Any]:
    """The fields of `ServeResult`; its latencies' samples are in `requests`, where the key of the API never is."""
    result = measurement.result
    return {
        "benchmark": "serve",
        **asdict(result),
        **{name: _figures(getattr(result, name)) for name in _LATENCIES},
        "num_failed_warmup": measurement.num_failed_warmup,
        "server": {"url": plan.address.url, "endpoint": plan.endpoint.path, "model": measurement.model},
        "load": {
            "arrivals": _described(plan.arrivals),
            "dataset": _described(plan.dataset),
            "prompt_form": measurement.form.form,
            "why_text": measurement.form.why_text,
            "num_warmup": plan.num_warmup,
            "max_concurrency": plan.max_in_flight,
            "ignore_eos": plan.ignores_eos,
            "extra_body": dict(plan.extra_body),
            "timeout_s": plan.timeout_s,
            "seed": plan.seed,
        },
        "requests": [_request(record) for record in measurement.records],
        **circumstances(command),
    }


def _described(choice: Any) -> dict[str, Any]:
    """A pattern or dataset by its name and settings."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(choice).items()}
    return {"kind": type(choice).__name__, **settings}


def _figures(summary: Summary | None) -> dict[str, float] | None:
    if summary is None:
        return None
    return {name: value for name, value in asdict(summary).items() if name != "samples"}


def _request(record: RequestRecord) -> dict[str, Any]:
    """Times from the start of the run; the gaps between chunks are those of `output_s`."""
    return {
        "scheduled_s": record.scheduled_s,
        "released_s": record.released_s,
        "sent_s": record.sent_s,
        "output_s": [round(each_s, 6) for each_s in record.output_s],
        "end_s": record.end_s,
        "num_input_tokens": record.num_prompt_tokens,
        "num_cached_tokens": record.num_cached_tokens,
        "num_output_tokens": record.num_output_tokens,
        "is_finished": record.is_finished,
        "failure": None if record.failure is None else asdict(record.failure),
    }
