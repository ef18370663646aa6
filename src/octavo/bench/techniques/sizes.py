"""How much the techniques are given to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from octavo.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Tokens and requests; the defaults suit a small model on a small machine."""

    prompt_len: int = 256
    output_len: int = 64
    num_requests: int = 32
    max_num_seqs: int = 8
    """Requests in one step, where batches are compared."""
    long_prompt_len: int = 6000
    """Of the prompt that others wait for."""
    prefix_len: int = 1024
    """Of the shared system prompt."""


_MOST_OF_CONTEXT = {"prompt_len": 1 / 2, "output_len": 1 / 4, "long_prompt_len": 3 / 4, "prefix_len": 1 / 2}
"""Share of the model's context, so that what is asked behind them fits too."""


def fit_sizes(context: int, given: Mapping[str, int | None]) -> Sizes:
    """The defaults, made smaller for a short context, changed by what is given. Raises `ConfigError` where that does not fit."""
    values, defaults = {}, asdict(Sizes())
    for size in fields(Sizes):
        most = max(1, int(context * _MOST_OF_CONTEXT[size.name])) if size.name in _MOST_OF_CONTEXT else None
        value = given.get(size.name)
        if value is None:
            value = defaults[size.name] if most is None else min(defaults[size.name], most)
        elif most is not None and value > most:
            raise ConfigError(
                f"{size.name}={value} is more than {_MOST_OF_CONTEXT[size.name]:.0%} of the context of {context} tokens; "
                f"give at most {most}, or raise max_model_len",
                param=size.name,
            )
        values[size.name] = value
    return Sizes(**values)
