"""Mutated model files: only typed errors come out, each within a second, and no memory beyond what the file warrants.

`OCTAVO_FUZZ_MUTANTS=5000 pytest tests/loader/test_fuzz.py` runs more than the ordinary few hundred.
"""

import json
import os
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from server.attack_classes.limits import limited_memory

from octavo.core.errors import OctavoError
from octavo.loader.checkpoint import open_checkpoint

NUM_MUTANTS = int(os.environ.get("OCTAVO_FUZZ_MUTANTS", "300"))
MAX_S = 1.0
MAX_BYTES = 4 << 20
"""For files of a few KiB."""
EXTREMES = [0, 1, 2, 7, 8, 31, 127, 128, 255, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
EXTREMES += [1 << 32, 1 << 40, (1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 32]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to four of: flipped bits, extreme integers, cuts, insertions, copies of one part over another."""
    mutant = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(mutant)) if mutant else 0
        match rng.randrange(7):
            case 0 if mutant:
                mutant[at] ^= 1 << rng.randrange(8)
            case 1 if mutant:
                mutant[at] = rng.randrange(256)
            case 2:
                width = rng.choice([1, 2, 4, 8])
                value = rng.choice(EXTREMES) % (1 << 8 * width)
                mutant[at : at + width] = value.to_bytes(width, "little")
            case 3:
                del mutant[at : at + rng.choice([1, 4, 8, 64])]
            case 4:
                mutant[at:at] = rng.randbytes(rng.choice([1, 4, 8, 64]))
            case 5:
                length, source = rng.randint(1, 64), rng.randrange(len(mutant) + 1)
                mutant[at : at + length] = mutant[source : source + length]
            case 6:
                del mutant[at:]
    return bytes(mutant)


def use(path: Path) -> None:
    """What a family does with a checkpoint: open it, ask for every tensor in both ways."""
    try:
        checkpoint = open_checkpoint(path)
    except OctavoError as error:
        assert error.message.isprintable() or "\n" not in error.message.split(";")[0]
        return
    checkpoint.content_key()
    for name in checkpoint.tensor_names:
        assert all(size > 0 for size in checkpoint.shape(name)) or checkpoint.kind == "safetensors"
        for ask in (checkpoint.weight, checkpoint.tensor):
            try:
                ask(name)
            except OctavoError:
                continue
    checkpoint.close()


def check(path: Path, seed: int) -> None:
    tracemalloc.reset_peak()
    before, start_s = tracemalloc.get_traced_memory()[0], time.perf_counter()
    use(path)
    elapsed_s, peak = time.perf_counter() - start_s, tracemalloc.get_traced_memory()[1] - before
    assert elapsed_s < MAX_S, f"mutant {seed} took {elapsed_s:.2f} s"
    assert peak < MAX_BYTES, f"mutant {seed} took {peak} bytes"


@pytest.fixture
def traced() -> Any:
    tracemalloc.start()
    with limited_memory():
        yield
    tracemalloc.stop()


def test_mutated_gguf(tmp_path: Path, builder: Any, traced: None) -> None:
    content, path = builder.build(), tmp_path / "m.gguf"
    path.write_bytes(content)
    use(path)  # imports what is imported late
    for seed in range(NUM_MUTANTS):
        path.write_bytes(mutate(content, random.Random(seed)))
        check(path, seed)


def test_mutated_safetensors(make_model: Any, traced: None) -> None:
    shards = [{"a": torch.ones(4, 4), "n": torch.ones(4)}, {"b": torch.ones(4, 4).half()}]
    directory = make_model(*shards)
    (directory / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "eos_token_id": [1, 2]}))
    use(directory)
    files = {path: path.read_bytes() for path in sorted(directory.iterdir())}
    targets = list(files) + [path for path in files if path.suffix == ".safetensors"] * 3
    for seed in range(NUM_MUTANTS):
        rng = random.Random(seed)
        target = rng.choice(targets)
        # A new file, not the old one rewritten: a mapping of the old one may still be alive.
        target.unlink()
        target.write_bytes(mutate(files[target], rng))
        check(directory, seed)
        target.unlink()
        target.write_bytes(files[target])
