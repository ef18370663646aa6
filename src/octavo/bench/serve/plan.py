"""What a measurement does: the options, with all that they mean."""

from pathlib import Path
from typing import Any

import msgspec

from octavo.bench.serve.arrivals import Arrivals, Burst, Cameras, ClosedLoop, ConstantRate, Poisson
from octavo.bench.serve.datasets import Dataset, JsonlDataset, RandomDataset, SharedPrefixDataset
from octavo.bench.serve.goodput import parse_objectives
from octavo.bench.serve.http import Address
from octavo.bench.serve.measure import ServePlan
from octavo.bench.serve.options import (
    DEFAULT_CLIENTS,
    DEFAULT_INPUT_LEN,
    DEFAULT_NUM_PREFIXES,
    DEFAULT_OUTPUT_LEN,
    DEFAULT_PREFIX_LEN,
    DEFAULT_VOCAB_SIZE,
    LoadConfig,
    PromptConfig,
    TargetConfig,
)
from octavo.bench.serve.request_form import Endpoint, PromptForm
from octavo.core.errors import ConfigError


def make_plan(
    url: str, target: TargetConfig, load: LoadConfig, prompts: PromptConfig, goodput: str | None
) -> ServePlan:
    """Raises `ConfigError`."""
    endpoint = Endpoint(target.endpoint)
    return ServePlan(
        address=Address.parse(url),
        endpoint=endpoint,
        arrivals=_arrivals(load),
        dataset=_dataset(prompts),
        warmup_dataset=_random_dataset(prompts),
        num_warmup=load.warmup,
        num_prompts=load.num_prompts,
        form=_form(prompts, endpoint),
        max_in_flight=load.max_concurrency,
        ignores_eos=target.ignore_eos,
        extra_body=_extra_body(target),
        objectives=() if goodput is None else parse_objectives(goodput),
        model=target.model,
        api_key=target.api_key,
        timeout_s=target.timeout,
        seed=prompts.seed,
    )


def _arrivals(load: LoadConfig) -> Arrivals:
    if load.arrival == "closed":
        return ClosedLoop(num_clients=load.clients or DEFAULT_CLIENTS)
    if load.arrival == "constant":
        return ConstantRate(requests_per_s=_needed(load, "arrival", "request_rate"))
    if load.arrival == "poisson":
        return Poisson(requests_per_s=_needed(load, "arrival", "request_rate"))
    if load.arrival == "cameras":
        return Cameras(num_sources=_needed(load, "arrival", "sources"), period_s=_needed(load, "arrival", "period"))
    return Burst()


def _dataset(prompts: PromptConfig) -> Dataset:
    if prompts.dataset == "jsonl":
        path = Path(_needed(prompts, "dataset", "dataset_path"))
        return JsonlDataset(file=path, output_len=prompts.output_len or DEFAULT_OUTPUT_LEN)
    if prompts.dataset == "random":
        return _random_dataset(prompts)
    return SharedPrefixDataset(
        rest=_random_dataset(prompts),
        prefix_len=prompts.prefix_len or DEFAULT_PREFIX_LEN,
        num_prefixes=prompts.num_prefixes or DEFAULT_NUM_PREFIXES,
    )


def _random_dataset(prompts: PromptConfig) -> RandomDataset:
    return RandomDataset(
        input_len=prompts.input_len or DEFAULT_INPUT_LEN,
        output_len=prompts.output_len or DEFAULT_OUTPUT_LEN,
        range_ratio=prompts.range_ratio or 0.0,
        vocab_size=prompts.vocab_size or DEFAULT_VOCAB_SIZE,
    )


def _form(prompts: PromptConfig, endpoint: Endpoint) -> PromptForm | None:
    """None: what the server takes. A file's prompts are what they are."""
    if prompts.dataset == "jsonl":
        return PromptForm.TEXT
    if prompts.prompt_form == PromptForm.TOKEN_IDS and endpoint is Endpoint.CHAT:
        raise ConfigError("prompt_form=token-ids does not go into a chat; use text", param="prompt_form")
    return None if prompts.prompt_form == "auto" else PromptForm(prompts.prompt_form)


def _extra_body(target: TargetConfig) -> dict[str, Any]:
    if target.extra_body is None:
        return {}
    try:
        return msgspec.json.decode(target.extra_body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"extra_body={target.extra_body!r} is not a JSON object: {error}; write '{{\"top_p\": 0.9}}'",
            param="extra_body",
        ) from error


def _needed(config: LoadConfig | PromptConfig, chooser: str, name: str) -> Any:
    value = getattr(config, name)
    if value is None:
        raise ConfigError(f"{chooser}={getattr(config, chooser)} needs {name}; give it", param=name)
    return value
