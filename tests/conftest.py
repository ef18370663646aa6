"""Shared fixtures."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from checkpoints import real_model, tiny, tiny_with_tokenizer
from hypothesis import settings

if TYPE_CHECKING:
    import openai

settings.register_profile("octavo", derandomize=True, deadline=None)
settings.load_profile("octavo")  # each run has the same examples, as many as its test asks for


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="make the pictures of docs/images anew")


__all__ = ["real_model", "tiny", "tiny_with_tokenizer"]


@pytest.fixture
def openai_client() -> "Iterator[Callable[..., openai.OpenAI]]":
    """Makes the official client, unmodified, of the server at a base URL; it is closed when the test ends."""
    import openai  # takes a second, which other tests need not wait for

    with contextlib.ExitStack() as opened:
        yield lambda url, api_key="none": opened.enter_context(
            openai.OpenAI(base_url=url, api_key=api_key, max_retries=0)
        )
