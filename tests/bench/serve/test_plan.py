"""Options and the plans that they make."""

from pathlib import Path
from typing import Any

import pytest

from octavo.bench.serve.arrivals import Burst, Cameras, ClosedLoop, ConstantRate, Poisson
from octavo.bench.serve.datasets import JsonlDataset, RandomDataset, SharedPrefixDataset
from octavo.bench.serve.measure import ServePlan
from octavo.bench.serve.options import LoadConfig, PromptConfig, TargetConfig
from octavo.bench.serve.plan import make_plan
from octavo.bench.serve.request_form import Endpoint, PromptForm
from octavo.core.errors import ConfigError


def plan(
    *,
    target: dict[str, Any] | None = None,
    load: dict[str, Any] | None = None,
    prompts: dict[str, Any] | None = None,
    goodput: str | None = None,
) -> ServePlan:
    return make_plan(
        "http://host:1", TargetConfig(**target or {}), LoadConfig(**load or {}), PromptConfig(**prompts or {}), goodput
    )


def test_nothing_given() -> None:
    made = plan()
    assert made.arrivals == ClosedLoop(num_clients=8)
    assert made.dataset == made.warmup_dataset
    assert made.dataset == RandomDataset(input_len=512, output_len=128, range_ratio=0.0, vocab_size=32_000)
    assert (made.endpoint, made.form, made.ignores_eos, made.objectives) == (Endpoint.COMPLETIONS, None, True, ())


@pytest.mark.parametrize(
    ("load", "arrivals"),
    [
        ({"arrival": "burst"}, Burst()),
        ({"arrival": "closed", "clients": 3}, ClosedLoop(num_clients=3)),
        ({"arrival": "constant", "request_rate": 0.5}, ConstantRate(requests_per_s=0.5)),
        ({"arrival": "poisson", "request_rate": 2.0}, Poisson(requests_per_s=2.0)),
        ({"arrival": "cameras", "sources": 4, "period": 1.5}, Cameras(num_sources=4, period_s=1.5)),
    ],
)
def test_arrivals(load: dict[str, Any], arrivals: Any) -> None:
    assert plan(load=load).arrivals == arrivals


def test_datasets() -> None:
    lengths = {"input_len": 5, "output_len": 6, "range_ratio": 0.5, "vocab_size": 7}
    random = RandomDataset(**lengths)
    assert plan(prompts=lengths).dataset == random
    shared = {"dataset": "shared-prefix", "prefix_len": 8, "num_prefixes": 9, **lengths}
    assert plan(prompts=shared).dataset == SharedPrefixDataset(rest=random, prefix_len=8, num_prefixes=9)
    file = {"dataset": "jsonl", "dataset_path": "a.jsonl", "output_len": 3}
    made = plan(prompts=file)
    assert made.dataset == JsonlDataset(file=Path("a.jsonl"), output_len=3)
    assert made.form is PromptForm.TEXT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"load": {"arrival": "burst", "clients": 3}}, "clients has no meaning with --arrival burst, only with closed"),
        ({"load": {"max_concurrency": 3}}, "max_concurrency has no meaning with --arrival closed"),
        ({"load": {"arrival": "poisson"}}, "arrival=poisson needs request_rate"),
        ({"load": {"arrival": "cameras", "sources": 2}}, "arrival=cameras needs period"),
        ({"load": {"arrival": "sometimes"}}, "arrival='sometimes' is not one of"),
        ({"load": {"clients": 0}}, "clients=0 is not above 0"),
        ({"load": {"warmup": -1}}, "warmup=-1 is not in"),
        ({"load": {"arrival": "poisson", "request_rate": float("nan")}}, "request_rate=nan"),
        ({"prompts": {"dataset": "jsonl"}}, "dataset=jsonl needs dataset_path"),
        ({"prompts": {"dataset_path": "a"}}, "dataset_path has no meaning with --dataset random, only with jsonl"),
        ({"prompts": {"prefix_len": 5}}, "prefix_len has no meaning with --dataset random, only with shared-prefix"),
        ({"prompts": {"dataset": "jsonl", "dataset_path": "a", "input_len": 5}}, "input_len has no meaning"),
        ({"prompts": {"seed": -1}}, "seed=-1 is not in"),
        ({"prompts": {"prompt_form": "token-ids"}, "target": {"endpoint": "chat"}}, "does not go into a chat"),
        ({"target": {"extra_body": "[1]"}}, "is not a JSON object"),
        ({"target": {"api_key": "a\nb"}}, "visible ASCII"),
        ({"target": {"timeout": 0.0}}, "timeout=0.0 is not above 0"),
        ({"goodput": "fast"}, "goodput='fast' is no objective"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**options)


def test_the_key_is_never_shown() -> None:
    made = plan(target={"api_key": "sk-secret"})
    assert made.api_key == "sk-secret"
    assert "sk-secret" not in repr(made) + repr(TargetConfig(api_key="sk-secret"))


def test_extra_fields() -> None:
    assert plan(target={"extra_body": '{"top_p": 0.9, "a": {}}'}).extra_body == {"top_p": 0.9, "a": {}}
