"""How an option is declared: a dataclass field that carries its help, its choices and whether it is built."""

from dataclasses import Field, field
from typing import Any

from octavo.core.errors import ConfigError

_ALLOWED_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    bool: (bool,),
    float: (float, int),
    int | str: (int, str),
    int | None: (int, type(None)),
    str | None: (str, type(None)),
    float | None: (float, int, type(None)),
    int | str | None: (int, str, type(None)),
    tuple[str, ...]: (tuple,),
}


def option_field(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    not_built: bool = False,
    not_built_values: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    """A dataclass field for an option.

    `choices` are its allowed values; `not_built` refuses all but the default; a secret is never shown.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "not_built": not_built,
        "not_built_values": not_built_values,
        "is_secret": is_secret,
    }
    return field(default=default, metadata=metadata, repr=not is_secret)


def check_option(option: Field[Any], value: Any) -> None:
    """Refuse a value whose type is not the option's, or that is not among its choices. Raises `ConfigError`."""
    allowed = _ALLOWED_TYPES[option.type]
    is_allowed = isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed)
    if not is_allowed:
        shown = "" if option.metadata["is_secret"] else f"={value!r}"
        raise ConfigError(
            f"{option.name}{shown} has type {type(value).__name__}; expected {type_name(option)}", param=option.name
        )
    choices = option.metadata["choices"]
    if choices and value is not None and value not in choices:
        raise ConfigError(f"{option.name}={value!r} is not one of {', '.join(choices)}", param=option.name)


def type_name(option: Field[Any]) -> str:
    """The option's type as a person reads it: «int | None»."""
    return option.type.__name__ if isinstance(option.type, type) else str(option.type)
