"""Command-line options made from the tables that define them, so that no name, default or help is written twice.

    EngineConfig's fields ─┐
    ServerConfig's fields ─┼─▶ inspect.Parameter … ─▶ typer ─▶ values ─▶ EngineConfig, ServerConfig, dict
    SamplingParams' fields ┘

An option that is not given is not passed on: the defaults stay with their table.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from types import MappingProxyType
from typing import Annotated, Any, Protocol, TypeVar, get_args, get_origin

import typer

from octavo.cli.failures import reported
from octavo.config import EngineConfig
from octavo.config.quantities import parse_quantity
from octavo.core.errors import ConfigError

NOT_BUILT = "Not built yet"
OTHER = "Other"
PANELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Model": (
            "model",
            "device",
            "dtype",
            "linear_activations",
            "quantization",
            "threads",
            "enforce_eager",
            "chat_template",
            "skip_tokenizer_init",
            "trust_remote_code",
        ),
        "Memory and context": (
            "max_model_len",
            "kv_cache_memory",
            "kv_cache_dtype",
            "block_size",
            "enable_prefix_caching",
            "gpu_memory_utilization",
        ),
        "Scheduling": (
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_num_queued_reqs",
            "enable_chunked_prefill",
            "batching",
            "scheduling_policy",
        ),
        "Sampling": ("seed",),
    }
)
"""Where `--help` shows an engine option."""

_PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}
_MODEL_ARGUMENT = "model_argument"

T = TypeVar("T", covariant=True)
Values = dict[str, Any]
"""Parameter name → what the command line gave; None where it gave nothing."""


class OptionGroup(Protocol[T]):
    """A set of options that becomes one argument of a command's function."""

    @property
    def parameters(self) -> Sequence[inspect.Parameter]: ...

    def collect(self, values: Values) -> T:
        """Take this group's values out of `values` and make the argument. Raises `OctavoError`."""


def with_options(**groups: OptionGroup[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `groups`: each becomes the keyword argument of that name.

    Errors a person can act on end the command with one line on stderr; `--debug` shows where they came from.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for name, p in inspect.signature(function, eval_str=True).parameters.items() if name not in groups]
        added = [parameter for group in groups.values() for parameter in group.parameters]
        debug = keyword("debug", bool, False, typer.Option("--debug", help="Show where an error came from."))

        signature = inspect.Signature([*own, *added, debug])

        @functools.wraps(function)
        def command(**values: Any) -> None:
            with reported(list(signature.parameters), debug=values.pop("debug")):
                collected = {name: group.collect(values) for name, group in groups.items()}
                function(**values, **collected)

        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return command

    return decorate


def keyword(name: str, annotation: Any, default: Any, info: Any) -> inspect.Parameter:
    """A parameter as typer reads it."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


def flag(name: str) -> str:
    """max_model_len → --max-model-len."""
    return "--" + name.replace("_", "-")


MAX_METAVAR_CHARS = 36
"""Beyond it the choices stand in the help, where lines are wrapped."""


@dataclass(frozen=True)
class ConfigOptions:
    """The fields of a configuration dataclass whose metadata holds `help`, `choices` and what is not built."""

    config_class: type[Any]
    panel: str | None = None
    """One panel for all; otherwise `PANELS`."""
    has_model_argument: bool = False
    """Whether MODEL may also be given without its flag."""
    shows_not_built: bool = False
    left_out: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Where a command's default differs from the table's."""

    @functools.cached_property
    def options(self) -> tuple["Field[Any]", ...]:
        shown = [option for option in fields(self.config_class) if option.name not in self.left_out]
        order = [name for names in PANELS.values() for name in names]
        if self.panel is None:
            shown.sort(key=lambda option: order.index(option.name) if option.name in order else len(order))
        return tuple(shown)

    @functools.cached_property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        made = [self._parameter(option) for option in self.options]
        if self.has_model_argument:
            info = typer.Argument(metavar="MODEL", show_default=False, hidden=True)
            made.insert(0, keyword(_MODEL_ARGUMENT, str | None, None, info))
        return tuple(made)

    def collect(self, values: Values) -> Any:
        given = {}
        for option in self.options:
            value = values.pop(option.name)
            if value is not None and value != []:
                given[option.name] = _typed(option, value)
        model = values.pop(_MODEL_ARGUMENT, None)
        if model is not None:
            if given.get("model", model) != model:
                raise ConfigError(
                    f"two models are given, {model} and --model {given['model']}; give one", param="model"
                )
            given["model"] = model
        return self.config_class(**{**self.defaults, **given})

    def _parameter(self, option: "Field[Any]") -> inspect.Parameter:
        metadata = option.metadata
        is_built = not metadata.get("not_built", False)
        choices = [c for c in metadata.get("choices", ()) if c not in metadata.get("not_built_values", ())]
        annotation: Any = str | None
        declaration = flag(option.name)
        metavar: str | None = "|".join(choices) or _metavar(option)
        text = _help(option, self.defaults.get(option.name, option.default) if is_built else None)
        if choices and len("|".join(choices)) > MAX_METAVAR_CHARS:
            metavar, text = "NAME", f"{text} One of {', '.join(choices)}."
        if option.type is bool:
            annotation, metavar = bool | None, None
            if is_built and option.name != "trust_remote_code":
                declaration += f"/--no-{declaration[2:]}"
        elif get_origin(option.type) is tuple:
            annotation = list[str] | None
        info = typer.Option(
            declaration,
            help=text,
            metavar=metavar,
            show_default=False,
            hidden=not (is_built or self.shows_not_built),
            rich_help_panel=(self.panel or _PANEL_OF.get(option.name, OTHER)) if is_built else NOT_BUILT,
            autocompletion=_completer(choices) if choices else None,
        )
        return keyword(option.name, annotation, None, info)


def engine_options(**changes: Any) -> ConfigOptions:
    """The engine's options; `changes` are `ConfigOptions`' fields."""
    return ConfigOptions(EngineConfig, **changes)


def _completer(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def _alternatives(option: "Field[Any]") -> tuple[Any, ...]:
    """`int | None` → (int, NoneType)."""
    return (option.type,) if isinstance(option.type, type) else get_args(option.type)


def _metavar(option: "Field[Any]") -> str:
    if int in _alternatives(option):
        return "N"
    if float in _alternatives(option):
        return "X"
    return option.name.upper() if option.name in ("model", "host") else "TEXT"


def _help(option: "Field[Any]", default: Any) -> str:
    metadata = option.metadata
    text = str(metadata["help"])
    if metadata.get("not_built_values"):
        text += f" ({', '.join(metadata['not_built_values'])}: not built yet)"
    if isinstance(default, bool):
        return text + (" [default: on]" if default else "")
    return text if default in (None, ()) else f"{text} [default: {default}]"


def _typed(option: "Field[Any]", value: Any) -> Any:
    """The text of the command line as the field's type; a field that takes text too checks it itself."""
    kinds = _alternatives(option)
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str) or str in kinds:
        return value
    if int in kinds:
        return parse_quantity(option.name, value)
    try:
        return float(value)
    except ValueError:
        raise ConfigError(
            f"{option.name}={value!r} is not a number; write it without a unit, such as 600 or 0.9", param=option.name
        ) from None
