"""Sizes fit the context, by themselves or by an error."""

from dataclasses import asdict

import pytest

from octavo.bench.techniques.sizes import Sizes, fit_sizes
from octavo.core.errors import ConfigError


def test_a_long_context_changes_nothing() -> None:
    assert fit_sizes(8192, {"prompt_len": None}) == Sizes()


@pytest.mark.parametrize("context", [1, 16, 128, 2048])
def test_a_short_context_makes_the_defaults_smaller(context: int) -> None:
    sizes = fit_sizes(context, {})
    assert all(value >= 1 for value in asdict(sizes).values())
    assert sizes.long_prompt_len <= max(1, 3 * context // 4)
    assert sizes.prompt_len + sizes.output_len <= max(2, context)
    assert sizes.num_requests == Sizes().num_requests


def test_what_is_given_is_kept_or_refused() -> None:
    assert fit_sizes(128, {"long_prompt_len": 96, "num_requests": 3}).long_prompt_len == 96
    with pytest.raises(
        ConfigError, match=r"long_prompt_len=97 is more than 75% of the context of 128 tokens; give at most 96"
    ):
        fit_sizes(128, {"long_prompt_len": 97})
