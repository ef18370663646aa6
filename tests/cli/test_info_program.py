"""`octavo info --program`: the recorded pass, timed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octavo import ops

from .conftest import Octavo

if not ops.can_replay(torch.device("cpu")):
    pytest.skip("octavo._native is not built", allow_module_level=True)


SMALL = ("--kv-cache-memory", "1M", "--max-model-len", "128")


def test_it_names_every_kernel_and_its_share(octavo: Octavo, tiny: Callable[[str], Path]) -> None:
    result = octavo("info", str(tiny("gemma3")), *SMALL, "--program", "--requests", "3", "--context", "100")
    assert result.code == 0, result.err
    for word in (
        "attention",
        "heads",
        "rms_norm",
        "linear",
        "embedding",
        "3 requests",
        "1 of 100 tokens",
        "launches",
        "share",
    ):
        assert word in result.out


@pytest.mark.parametrize("new_tokens", [1, 100])
def test_its_json_adds_up(new_tokens: int, octavo: Octavo, tiny: Callable[[str], Path]) -> None:
    options = ("--json", "--context", "100", "--new-tokens", str(new_tokens))
    result = octavo("info", str(tiny("llama")), *SMALL, "--program", *options)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["new_tokens"] == new_tokens
    assert sum(group["count"] for group in report["groups"]) == report["num_launches"]
    assert sum(group["seconds"] for group in report["groups"]) == pytest.approx(report["seconds"])
    assert all(group["seconds"] >= 0 for group in report["groups"])


@pytest.mark.parametrize(
    "options",
    [
        ("--requests", "9999"),
        ("--context", "9999"),
        ("--context", "50", "--new-tokens", "51"),
        ("--context", "128", "--requests", "8", "--new-tokens", "128"),
        ("--enforce-eager",),
    ],
)
def test_what_there_is_none_of_is_refused(
    options: tuple[str, ...], octavo: Octavo, tiny: Callable[[str], Path]
) -> None:
    result = octavo("info", str(tiny("llama")), *SMALL, "--program", *options)
    assert result.code == 2
    assert "error" in result.err
