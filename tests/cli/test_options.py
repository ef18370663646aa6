"""Options come from their tables, whole, and reach the configuration as they were given."""

import inspect
from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from octavo.cli.options import PANELS, ConfigOptions, engine_options, flag
from octavo.cli.sampling_options import _FROM_MODEL, _HELP, SamplingOptions
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError, NotBuiltError
from octavo.core.sampling_params import SamplingParams


def parse(arguments: list[str], group: Any) -> Any:
    """What a command line gives for a group of options."""
    values: dict[str, Any] = {}

    def function(**given: Any) -> None:
        values.update(given)

    function.__signature__ = inspect.Signature(group.parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in group.parameters}
    app = typer.Typer()
    app.command()(function)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return group.collect(values)


def engine(*arguments: str, **changes: Any) -> EngineConfig:
    config: EngineConfig = parse(list(arguments), engine_options(**changes))
    return config


def test_nothing_given_is_the_default_configuration() -> None:
    assert engine() == EngineConfig()
    assert parse([], ConfigOptions(ServerConfig, panel="Server")) == ServerConfig()


def test_a_command_line_of_vllm() -> None:
    line = (
        "smollm2 --tensor-parallel-size 1 --gpu-memory-utilization 0.7 --max-model-len 4K "
        "--max-num-batched-tokens 4K --enable-chunked-prefill --enable-prefix-caching --max-num-seqs 1K"
    )
    config = engine(*line.split(), has_model_argument=True)
    assert config == EngineConfig(
        model="smollm2",
        gpu_memory_utilization=0.7,
        max_model_len="4K",
        max_num_batched_tokens="4K",
        max_num_seqs=1024,
    )


def test_every_engine_option_has_a_flag_a_panel_and_takes_a_value() -> None:
    in_panels = [name for names in PANELS.values() for name in names]
    assert len(in_panels) == len(set(in_panels))
    for option in fields(EngineConfig):
        assert option.name in in_panels or option.metadata["not_built"], f"{option.name} has no panel"
    flags = set(in_panels) - {option.name for option in fields(EngineConfig)}
    assert not flags, f"panels name what is no option: {flags}"


@pytest.mark.parametrize("option", [o for o in fields(EngineConfig) if o.metadata["not_built"]], ids=lambda o: o.name)
def test_what_is_not_built_is_refused_by_name(option: Any) -> None:
    arguments = [flag(option.name)] + ([] if option.type is bool else ["2"])
    with pytest.raises(NotBuiltError, match=flag(option.name)):
        engine(*arguments)


def test_flags_can_be_switched_off() -> None:
    config = engine("--no-enable-prefix-caching", "--no-enable-chunked-prefill")
    assert not config.enable_prefix_caching
    assert not config.enable_chunked_prefill


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-num-seqs", "many"], "max_num_seqs='many' is not a number"),
        (["--gpu-memory-utilization", "10m"], "gpu_memory_utilization='10m' is not a number; write it without a unit"),
        (["--device", "tpu"], "device='tpu' is not one of auto, cpu, cuda"),
        (["--max-model-len", "4X"], "max_model_len='4X' is not a number"),
    ],
)
def test_values_that_are_wrong(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        engine(*arguments)


def test_the_model_may_be_given_once_either_way() -> None:
    assert engine("a/b", has_model_argument=True).model == "a/b"
    assert engine("--model", "a/b", has_model_argument=True).model == "a/b"
    assert engine("a/b", "--model", "a/b", has_model_argument=True).model == "a/b"
    with pytest.raises(ConfigError, match="two models are given, c and --model a/b"):
        engine("c", "--model", "a/b", has_model_argument=True)


def test_a_commands_own_default_gives_way() -> None:
    changes: dict[str, Any] = {"defaults": {"enable_prefix_caching": False}}
    assert not engine(**changes).enable_prefix_caching
    assert engine("--enable-prefix-caching", **changes).enable_prefix_caching


def test_server_options() -> None:
    arguments = ["--port", "0", "--served-model-name", "a", "--served-model-name", "b", "--keep-alive-s", "2.5"]
    config = parse(arguments, ConfigOptions(ServerConfig, panel="Server"))
    assert config == ServerConfig(port=0, served_model_name=("a", "b"), keep_alive_s=2.5)


def test_sampling_options() -> None:
    arguments = ["--temperature", "0", "--top-k", "5", "--stop", "a", "--stop", "b", "--stop-token-ids", "7"]
    arguments += ["--logit-bias", '{"3":-1}', "--no-skip-special-tokens", "--presence-penalty", "-1"]
    given = parse(arguments, SamplingOptions())
    assert given == {
        "temperature": 0.0,
        "top_k": 5,
        "stop": ("a", "b"),
        "stop_token_ids": (7,),
        "logit_bias": {3: -1.0},
        "skip_special_tokens": False,
        "presence_penalty": -1.0,
    }


def test_sampling_options_not_given_are_left_to_the_model() -> None:
    assert parse([], SamplingOptions()) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "temperature=-1.0 is not a number in"),
        (["--top-p", "0"], "top_p=0.0"),
        (["--logit-bias", "x"], "logit_bias='x' is not what it takes"),
        (["--logit-bias", "[1]"], "logit_bias"),
        (["--structured-outputs", "{}"], "give exactly one of"),
        (["--structured-outputs", "yes"], "structured_outputs='yes' is not what it takes"),
    ],
)
def test_sampling_values_that_are_wrong(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(arguments, SamplingOptions())


def test_sampling_options_are_those_of_sampling_params() -> None:
    from octavo.engine.front_end import _SAMPLING_DEFAULTS

    left_out = {"detokenize", "bad_word_token_ids", "shown_special_token_ids"}  # of no use on a command line
    assert set(_HELP) == set(SamplingParams.__struct_fields__) - left_out
    assert set(_FROM_MODEL) == set(_SAMPLING_DEFAULTS)
