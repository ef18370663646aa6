"""From config.json's rotary parameters, in their older and newer forms, to a `RopeSpec`."""

from collections.abc import Mapping
from dataclasses import replace
from reprlib import repr as shown
from typing import Any

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.layers.rope import RopeRule, RopeSpec, yarn_attention_factor
from octavo.models.config_fields import field, number, section, size

DEFAULT_THETA = 10_000.0


def rope_parameters(config: Mapping[str, Any], kind: str | None = None) -> Mapping[str, Any]:
    """`rope_parameters` as new checkpoints have it, or built from the older `rope_theta` and `rope_scaling`.

    `kind` picks the parameters of one kind of layers, where the config has them apart.
    """
    newer, older = section(config, "rope_parameters"), section(config, "rope_scaling")
    if newer and any(newer.get(name) != value for name, value in older.items()):
        raise ModelFileError(
            f"the model's config has rope_scaling={shown(older)}, which contradicts its "
            f"rope_parameters={shown(newer)}; remove one of them",
            param="rope_scaling",
        )
    given = (newer or older) if kind is None else section(newer, kind)
    shared = {name: config.get(name) for name in ("rope_theta", "partial_rotary_factor")}
    return {**shared, **{name: value for name, value in given.items() if value is not None}}


def rope_spec(
    head_dim: int, parameters: Mapping[str, Any], max_position: int, *, default_theta: float = DEFAULT_THETA
) -> RopeSpec:
    """From `rope_theta` and the scaling rule's own parameters.

    Raises `UnsupportedModelError` for a rule or a partial rotation, which are not built.
    """
    rule = _rule(parameters)
    if number(parameters, "partial_rotary_factor", 1.0, least=0.0, most=1.0) != 1.0:
        raise UnsupportedModelError(
            f"partial_rotary_factor={parameters['partial_rotary_factor']}: rotating a part of each head is not built "
            "yet; 1 is",
            param="partial_rotary_factor",
        )
    theta = number(parameters, "rope_theta", default_theta, least=1.0, most=1e12)
    if rule is RopeRule.DEFAULT:
        _check_unscaled(parameters)
        return RopeSpec(dim=head_dim, theta=theta)
    factor = number(parameters, "factor", least=1e-3, most=1e6)
    original = size(parameters, "original_max_position_embeddings", max_position)
    spec = RopeSpec(dim=head_dim, theta=theta, rule=rule, factor=factor, original_max_position=original)
    if rule is RopeRule.YARN:
        return _yarn(spec, parameters)
    if field(parameters, "attention_factor", float, 1.0) != 1.0:
        raise UnsupportedModelError(
            f"attention_factor={shown(parameters['attention_factor'])} with rope scaling {rule}: it belongs to "
            f"{RopeRule.YARN}; remove it",
            param="attention_factor",
        )
    return _llama3(spec, parameters) if rule is RopeRule.LLAMA3 else spec


def _rule(parameters: Mapping[str, Any]) -> RopeRule:
    name = field(parameters, "rope_type", str, field(parameters, "type", str, RopeRule.DEFAULT.value))
    if name not in list(RopeRule):
        raise UnsupportedModelError(
            f"rope scaling {shown(name)} is not built yet; {', '.join(RopeRule)} are", param="rope_scaling"
        )
    return RopeRule(name)


def _check_unscaled(parameters: Mapping[str, Any]) -> None:
    for name in ("factor", "attention_factor"):
        if field(parameters, name, float, 1.0) != 1.0:
            raise ModelFileError(
                f"the rope parameters have {name}={shown(parameters[name])}, but no rope_type that uses it; "
                f"name one of {', '.join(RopeRule)}, or remove it",
                param=name,
            )


def _llama3(spec: RopeSpec, parameters: Mapping[str, Any]) -> RopeSpec:
    low = number(parameters, "low_freq_factor", least=1e-3, most=1e6)
    high = number(parameters, "high_freq_factor", least=1e-3, most=1e6)
    if high <= low:
        raise ModelFileError(
            f"the rope parameters have high_freq_factor={high}; allowed is more than low_freq_factor={low}",
            param="high_freq_factor",
        )
    return replace(spec, low_freq_factor=low, high_freq_factor=high)


def _yarn(spec: RopeSpec, parameters: Mapping[str, Any]) -> RopeSpec:
    fast = number(parameters, "beta_fast", 32.0, least=1e-3, most=1e6)
    slow = number(parameters, "beta_slow", 1.0, least=1e-3, most=1e6)
    if fast <= slow:
        raise ModelFileError(
            f"the rope parameters have beta_fast={fast}; allowed is more than beta_slow={slow}", param="beta_fast"
        )
    if spec.theta <= 1.0:
        raise ModelFileError(
            f"the rope parameters have rope_theta={spec.theta}; yarn needs more than 1", param="rope_theta"
        )
    mscale = number(parameters, "mscale", 0.0, least=0.0, most=1e3)
    mscale_all_dim = number(parameters, "mscale_all_dim", 0.0, least=0.0, most=1e3)
    by_rule = yarn_attention_factor(spec.factor, mscale, mscale_all_dim)
    return replace(
        spec,
        beta_fast=fast,
        beta_slow=slow,
        is_truncated=field(parameters, "truncate", bool, True),
        attention_factor=number(parameters, "attention_factor", by_rule, least=1e-3, most=1e3),
    )
