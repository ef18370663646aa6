"""Goodput: the requests a second whose latencies all keep to what was promised (Zhong et al. 2024, arXiv 2401.09670)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.bench.serve.record import RequestRecord
from octavo.core.errors import ConfigError
from octavo.core.strenum import StrEnum

_OBJECTIVE = re.compile(r"^([a-z0-9]+):(\d+(?:\.\d+)?)$")


class Metric(StrEnum):
    TTFT = "ttft"
    TPOT = "tpot"
    ITL = "itl"
    E2E = "e2e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A latency's most. Of ITL a request has many: their P99 counts."""

    metric: Metric
    max_ms: float

    def is_kept(self, record: RequestRecord) -> bool:
        """A latency that an answer of one token does not have is kept."""
        value_s = _latency_s(record, self.metric)
        return value_s is None or value_s * 1e3 <= self.max_ms


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """«ttft:500 tpot:50», in milliseconds, apart by spaces or commas. Raises `ConfigError`."""
    objectives = [_parse(part) for part in re.split(r"[\s,]+", text.strip())]
    metrics = [objective.metric for objective in objectives]
    if len(set(metrics)) < len(metrics):
        raise ConfigError(f"goodput={text!r} names a latency twice; give each once", param="goodput")
    return tuple(objectives)


def num_good(records: Sequence[RequestRecord], objectives: Sequence[Objective]) -> int:
    """Successful requests that keep every objective."""
    return sum(
        record.is_successful and all(objective.is_kept(record) for objective in objectives) for record in records
    )


def _parse(part: str) -> Objective:
    match = _OBJECTIVE.match(part)
    names = [metric.value for metric in Metric]
    if match is None or match[1] not in names:
        raise ConfigError(
            f"goodput={part!r} is no objective; allowed are {', '.join(names)}, each with milliseconds: ttft:500 tpot:50",
            param="goodput",
        )
    return Objective(metric=Metric(match[1]), max_ms=float(match[2]))


def _latency_s(record: RequestRecord, metric: Metric) -> float | None:
    if metric is Metric.TTFT:
        return record.ttft_s
    if metric is Metric.TPOT:
        return record.tpot_s
    if metric is Metric.E2E:
        return record.e2e_s
    gaps_s = sorted(record.itl_s)
    return gaps_s[min(len(gaps_s) - 1, int(0.99 * len(gaps_s)))] if gaps_s else None
