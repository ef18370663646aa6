"""The Makefile: every command that it announces is there."""

import re
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_every_phony_target_has_a_rule_that_help_lists() -> None:
    text = MAKEFILE.read_text()
    [phony] = re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
