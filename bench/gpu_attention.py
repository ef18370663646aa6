"""What attention reaches on an NVIDIA GPU: Octavo's Triton kernels beside torch's, on the same tensors in turn.

    python bench/gpu_attention.py [--json FILE] [--seconds S] [--only prefill|decode|gpt2] [--skip-checks]

First the contract's grid of correctness (tests/ops/triton/test_on_gpu.py), then:

prefill  forward and backward of 16k tokens in sequences of 4k to 16k, hidden size 2048, as in Dao 2023 (arXiv 2307.08691,
         section 4.1), beside scaled_dot_product_attention's backends. TFLOP/s are 4·D·H·S² a sequence forward, half if
         causal, 2.5 times that backward.
decode   one row a request through a paged cache of blocks of 16: GB/s of keys and values, and their share of the bandwidth
         of a copy in the same run.
gpt2     sequences of 1k, heads of 64, as in Dao et al. 2022 (arXiv 2205.14135, figure 1): FlashAttention-2, -1, and standard
         attention with its scores in memory.

Times are of the device, by events; medians of rounds in which all run in turn.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import summary, timed_on_gpu
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from octavo import ops
from octavo.ops import AttentionOptions, AttentionPlan

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "gpu-attention.json"
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
HIDDEN_SIZE = 2048
TOKENS = 16384
BLOCK_SIZE = 16
COPIED_BYTES = 1 << 30

Run = Callable[[], object]


def require_gpu() -> None:
    if not torch.cuda.is_available():
        sys.exit(
            f"{Path(__file__).name}: needs an NVIDIA GPU; torch {torch.__version__} sees none (torch.cuda.is_available() is False); "
            "run it on a machine that has one, with a CUDA build of torch. bench/gpu_resources.py needs none."
        )


def dense_plan(batch: int, tokens: int) -> AttentionPlan:
    return AttentionPlan(
        query_starts=(torch.arange(batch + 1) * tokens).int().cuda(),
        seq_lens=torch.full((batch,), tokens, dtype=torch.int32).cuda(),
        block_tables=torch.arange(batch, dtype=torch.int32)[:, None].cuda(),
        block_size=tokens,
        max_query_rows=tokens,
        max_keys=tokens,
    )


class Dense:
    """Random q, k, v and dO (B, S, H, D), and runs over them."""

    def __init__(self, batch: int, tokens: int, heads: int, size: int, dtype: torch.dtype, is_causal: bool) -> None:
        self.q, self.k, self.v, self.do = (
            torch.randn(batch, tokens, heads, size, device="cuda", dtype=dtype) for _ in range(4)
        )
        self.is_causal = is_causal
        self.plan = dense_plan(batch, tokens)
        self.options = AttentionOptions(scale=size**-0.5, window_right=0 if is_causal else None)
        self.lse = torch.empty(heads, batch * tokens, device="cuda")

    @property
    def flops(self) -> float:
        batch, tokens, heads, size = self.q.shape
        return 4.0 * batch * heads * size * tokens**2 / (2 if self.is_causal else 1)

    def octavo(self) -> tuple[Run, Run]:
        """Forward and backward."""
        q, do, o = (x.flatten(0, 1) for x in (self.q, self.do, torch.empty_like(self.q)))

        def forward() -> object:
            return ops.paged_attention(q, self.k, self.v, self.plan, self.options, out=o, lse_HT=self.lse)

        def backward() -> object:
            return ops.attention_backward(do, q, self.k, self.v, o, self.lse, self.plan, self.options)

        return forward, backward

    def torch(self, backend: SDPBackend) -> tuple[Run, Run]:
        q, k, v = (x.transpose(1, 2).contiguous().requires_grad_() for x in (self.q, self.k, self.v))
        do = self.do.transpose(1, 2).contiguous()

        def forward() -> Tensor:
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(q, k, v, is_causal=self.is_causal)

        o = forward()

        def backward() -> object:
            return torch.autograd.grad(o, (q, k, v), do, retain_graph=True)

        return forward, backward


def possible(make: Callable[[], tuple[Run, Run]]) -> tuple[Run, Run] | str:
    """The runs, or why there are none: no kernel for these tensors, or not enough memory."""
    try:
        runs = make()
        for run in runs:
            run()
        torch.cuda.synchronize()
        return runs
    except (RuntimeError, torch.OutOfMemoryError) as error:
        torch.cuda.empty_cache()
        return f"{type(error).__name__}: {error}".splitlines()[0]


def prefill(tokens: int, size: int, dtype: str, is_causal: bool, seconds: float) -> dict[str, object]:
    problem = Dense(TOKENS // tokens, tokens, HIDDEN_SIZE // size, size, DTYPES[dtype], is_causal)
    made: dict[str, tuple[Run, Run] | str] = {"octavo": problem.octavo()}
    for name, backend in BACKENDS.items():
        made[name] = possible(lambda backend=backend: problem.torch(backend))
    runs = {name: each for name, each in made.items() if not isinstance(each, str)}
    result: dict[str, object] = {
        "case": "prefill", "dtype": dtype, "batch": TOKENS // tokens, "tokens": tokens, "heads": HIDDEN_SIZE // size,
        "head_size": size, "is_causal": is_causal, "missing": {n: each for n, each in made.items() if isinstance(each, str)},
    }  # fmt: skip
    for index, (direction, factor) in enumerate((("forward", 1.0), ("backward", 2.5))):
        times = timed_on_gpu([each[index] for each in runs.values()], seconds)
        measured = {name: summary(own) for name, own in zip(runs, times, strict=True)}
        rates = {name: factor * problem.flops / each["median_ms"] / 1e9 for name, each in measured.items()}
        result[direction] = {"times": measured, "TFLOP_s": rates}
        line = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        kind = "causal" if is_causal else "full"
        print(f"{dtype} D={size:<4}{tokens:6} tokens {kind:7}{direction:9} TFLOP/s: {line}", flush=True)
    return result


def decode(
    requests: int, keys: int, heads: int, kv_heads: int, size: int, cache: str, seconds: float, bandwidth: float
) -> dict[str, object]:
    blocks = requests * keys // BLOCK_SIZE
    shape = (blocks, BLOCK_SIZE, kv_heads, size)
    k_cache, v_cache = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    scales = None
    if cache == "fp8":
        k_cache, v_cache = k_cache.to(torch.float8_e4m3fn), v_cache.to(torch.float8_e4m3fn)
        scales = torch.ones(kv_heads, device="cuda")
    plan = AttentionPlan(
        query_starts=torch.arange(requests + 1, dtype=torch.int32, device="cuda"),
        seq_lens=torch.full((requests,), keys, dtype=torch.int32, device="cuda"),
        block_tables=torch.randperm(blocks, device="cuda").int().view(requests, -1),
        block_size=BLOCK_SIZE,
        max_query_rows=1,
        max_keys=keys,
    )
    q = torch.randn(requests, heads, size, device="cuda", dtype=torch.bfloat16)
    out = torch.empty_like(q)
    options = AttentionOptions(scale=size**-0.5, window_right=0, k_scales=scales, v_scales=scales)
    (times,) = timed_on_gpu([lambda: ops.paged_attention(q, k_cache, v_cache, plan, options, out=out)], seconds)
    measured = summary(times)
    read = 2 * k_cache.numel() * k_cache.element_size()
    rate = read / measured["median_ms"] / 1e6
    print(
        f"{cache} D={size:<4}H={heads}/{kv_heads} {requests:4} × {keys:6} keys: {rate:7.0f} GB/s, {rate / bandwidth:.0%} of a copy",
        flush=True,
    )
    return {
        "case": "decode", "cache": cache, "requests": requests, "keys": keys, "heads": heads, "kv_heads": kv_heads,
        "head_size": size, "block_size": BLOCK_SIZE, "octavo": measured, "MB": read / 1e6, "GB_s": rate,
        "share_of_copy": rate / bandwidth,
    }  # fmt: skip


def copy_bandwidth(seconds: float) -> float:
    """GB/s read and written by a copy of 1 GiB."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    (times,) = timed_on_gpu([lambda: target.copy_(source)], seconds)
    return 2 * COPIED_BYTES / summary(times)["median_ms"] / 1e6


def gpt2(is_causal: bool, seconds: float) -> dict[str, object]:
    from flash_attention_1_kernel import flash_attention_1

    batch, tokens, heads, size = 16, 1024, 16, 64
    problem = Dense(batch, tokens, heads, size, torch.float16, is_causal)
    q, k, v = (x.transpose(1, 2).contiguous() for x in (problem.q, problem.k, problem.v))
    hidden = torch.ones(tokens, tokens, dtype=torch.bool, device="cuda").triu(1) if is_causal else None

    def standard() -> Tensor:
        s = (q @ k.transpose(2, 3)) * problem.options.scale
        if hidden is not None:
            s = s.masked_fill(hidden, -math.inf)
        return torch.softmax(s, -1) @ v

    runs: dict[str, Run] = {
        "FlashAttention-2": problem.octavo()[0],
        "FlashAttention-1": lambda: flash_attention_1(
            problem.q, problem.k, problem.v, problem.options.scale, is_causal
        ),
        "standard": standard,
    }
    times = timed_on_gpu(list(runs.values()), seconds)
    measured = {name: summary(own) for name, own in zip(runs, times, strict=True)}
    print(
        f"GPT-2 {'causal' if is_causal else 'full'}: "
        + ", ".join(f"{n} {m['median_ms']:.3f} ms" for n, m in measured.items())
    )
    return {
        "case": "gpt2", "dtype": "fp16", "batch": batch, "tokens": tokens, "heads": heads, "head_size": size,
        "is_causal": is_causal, "forward": measured,
    }  # fmt: skip


def machine() -> dict[str, object]:
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "memory_GB": properties.total_memory / 1e9,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "is_dirty": bool(_git("status", "--porcelain")),
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()


def check() -> None:
    """The contract's grid; the program ends where it fails."""
    command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "ops" / "triton" / "test_on_gpu.py")]
    if subprocess.run(command, check=False, cwd=ROOT).returncode:
        sys.exit("the kernels are wrong on this device: nothing is measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=1.0, help="a case, at least five rounds")
    parser.add_argument("--only", choices=("prefill", "decode", "gpt2"))
    parser.add_argument("--skip-checks", action="store_true", help="measure without the grid of correctness")
    arguments = parser.parse_args()
    require_gpu()
    if not arguments.skip_checks:
        check()
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(arguments.seconds)
    print(f"{torch.cuda.get_device_name(0)}; a copy moves {bandwidth:.0f} GB/s", flush=True)
    results: list[dict[str, object]] = []
    if arguments.only in (None, "prefill"):
        for dtype in DTYPES:
            for size in (64, 128):
                for is_causal in (True, False):
                    for tokens in (4096, 8192, 16384):
                        results.append(prefill(tokens, size, dtype, is_causal, arguments.seconds))
    if arguments.only in (None, "decode"):
        for cache in ("bf16", "fp8"):
            for heads, kv_heads in ((32, 8), (16, 16)):
                for requests, keys in ((1, 4096), (1, 131072), (16, 8192), (128, 2048)):
                    results.append(decode(requests, keys, heads, kv_heads, 128, cache, arguments.seconds, bandwidth))
    if arguments.only in (None, "gpt2"):
        results += [gpt2(is_causal, arguments.seconds) for is_causal in (True, False)]
    arguments.json.write_text(
        json.dumps(
            {
                "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
                "machine": machine(),
                "copy_GB_s": bandwidth,
                "results": results,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
