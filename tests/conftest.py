"""Shared fixtures."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from checkpoints import real_model, tiny, tiny_with_tokenizer
from hypothesis import settings

settings.register_profile("octavo", derandomize=True, deadline=None)
settings.load_profile("octavo")  # each run has the same examples, as many as its test asks for

__all__ = ["real_model", "tiny", "tiny_with_tokenizer"]
