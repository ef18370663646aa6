"""The path a GPU takes, on a CPU: reference operations, weights expanded, bf16 and fp16 activations and cache."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import sys, torch
from octavo.cache import KVCacheManager, plan_layout
from octavo.core.cache_spec import KVDtype
from octavo.core.messages import EngineRequest
from octavo.core.sampling_params import SamplingParams
from octavo.engine.core import EngineCore
from octavo.loader.checkpoint import open_checkpoint
from octavo.models.registry import load_decoder, read_spec
from octavo.quantization import AsStored
from octavo.scheduler import Scheduler, SchedulerLimits
from octavo.scheduler.policy import POLICIES
from octavo.tokenizer.grammar import Grammars
from octavo.worker import ModelRunner, RunnerLimits
from pathlib import Path

path, dtype, kv_dtype = sys.argv[1:4]
checkpoint = open_checkpoint(Path(path))
spec = read_spec(checkpoint)
device = torch.device("cpu")
model = load_decoder(checkpoint, spec, AsStored(device, getattr(torch, dtype)), max_position=128, device=device)
layout = plan_layout(spec.cache_specs(16, KVDtype(kv_dtype)))
limits = SchedulerLimits(max_num_seqs=4, max_num_batched_tokens=16)
runner_limits = RunnerLimits(max_num_batched_tokens=16, max_num_seqs=4, num_threads=1)
grammars = Grammars(lambda: None)
runner = ModelRunner(model, layout, 64, device, runner_limits, grammars)
core = EngineCore(Scheduler(limits, KVCacheManager(layout, 64), POLICIES["fcfs"]()), runner, grammars)
for index in range(3):
    params = SamplingParams(max_tokens=6, temperature=0.0 if index else 1.0, ignore_eos=True, logprobs=1)
    core.add(EngineRequest(str(index), list(range(3, 30 + index)), params, index, 6, [], 0.0))
tokens = {}
while core.has_work():
    for event in core.step().events:
        assert event.error is None, event.error
        tokens.setdefault(event.request_id, []).extend(event.token_ids)
print(tokens)
assert [len(ids) for ids in tokens.values()] == [6, 6, 6]
"""


@pytest.mark.parametrize("model", ["gemma3", "qwen2"])
@pytest.mark.parametrize(("dtype", "kv_dtype"), [("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16")])
def test_reference_operations_run_the_engine(
    model: str, dtype: str, kv_dtype: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_OPS", "reference")
    command = [sys.executable, "-c", SCRIPT, str(tiny(model)), dtype, kv_dtype]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
