"""Load a checkpoint and generate with it, without an engine's options between."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models.gguf_writer import Edits, write_gguf

from octavo.layers.attention import LayerCache
from octavo.layers.context import ForwardContext, GroupStep
from octavo.loader.checkpoint import Checkpoint
from octavo.models.decoder import Decoder
from octavo.models.registry import load_decoder, read_spec
from octavo.ops import AttentionPlan
from octavo.quantization import AsStored

CPU = torch.device("cpu")
BLOCK_SIZE = 16


def load(checkpoint: Checkpoint) -> Decoder:
    spec = read_spec(checkpoint)
    method = AsStored(CPU, torch.float32)
    return load_decoder(checkpoint, spec, method, max_position=BLOCK_SIZE, device=CPU)


@torch.inference_mode()
def generate(decoder: Decoder, num_tokens: int = 2) -> list[int]:
    """Greedy tokens after a prompt of three, all in block 1 of a cache of its own for each layer."""
    for group, layer in enumerate(decoder.layers):
        shape = (2, BLOCK_SIZE, layer.mixer.shape.num_kv_heads, layer.mixer.shape.head_dim)
        layer.mixer.cache = LayerCache(group, torch.zeros(shape), torch.zeros(shape))
    tokens = [3, 4, 5]
    start = 0
    while len(tokens) < 3 + num_tokens:
        positions_T = torch.arange(start, len(tokens))
        plan = AttentionPlan(
            query_starts=torch.tensor([0, len(positions_T)], dtype=torch.int32),
            seq_lens=torch.tensor([len(tokens)], dtype=torch.int32),
            block_tables=torch.tensor([[1]], dtype=torch.int32),
            block_size=BLOCK_SIZE,
        )
        step = GroupStep(plan, BLOCK_SIZE + positions_T)
        context = ForwardContext(positions_T, (step,) * len(decoder.layers))
        logits_V = decoder.logits(
            decoder(torch.tensor(tokens[start:]), context), torch.tensor([len(tokens) - start - 1])
        )[0]
        assert logits_V.isfinite().all(), "the logits hold NaN or infinity"
        start = len(tokens)
        tokens.append(int(logits_V.argmax()))
    return tokens[3:]


@pytest.fixture(scope="session")
def tiny_gguf(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(name in `TINY`, architecture, edits) → a GGUF file."""

    def path_of(name: str, architecture: str, edits: Edits | None = None) -> Path:
        return write_gguf(tiny(name), tmp_path_factory.mktemp("gguf") / "model.gguf", architecture, edits=edits)

    return path_of
