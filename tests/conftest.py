"""Shared fixtures."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from checkpoints import real_model, tiny, tiny_with_tokenizer

__all__ = ["real_model", "tiny", "tiny_with_tokenizer"]
