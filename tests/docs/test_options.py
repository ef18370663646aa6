"""`docs/options.md` is what its writer makes of the options there are, so that it cannot go stale."""

import runpy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def writer() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "options.py"))


def test_the_page_is_what_the_options_say(writer: dict[str, Any]) -> None:
    assert (DOCS / "options.md").read_text() == writer["page"](), "run python docs/options.py"


def test_every_option_has_its_when_or_is_not_built(writer: dict[str, Any]) -> None:
    built = {option.name for option in fields(EngineConfig) if not option.metadata["not_built"]}
    assert writer["ENGINE"].keys() == built
    assert writer["SERVER"].keys() == {option.name for option in fields(ServerConfig)}


def test_what_is_not_built_is_listed_as_refused(writer: dict[str, Any]) -> None:
    refused = writer["page"]().partition("## Not built yet")[2]
    for option in fields(EngineConfig):
        assert (f"`--{option.name.replace('_', '-')}`" in refused) == option.metadata["not_built"]
    assert "`--kv-cache-dtype fp8`" in refused
