"""`linear_activations="int8"` and `"bf16"` end to end: law 2, the paths of the kernels, and what it costs in quality."""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from octavo import LLM, RequestOutput, SamplingParams, ops
from octavo.core.errors import ConfigError
from octavo.ops.dispatch import NATIVE

TEXT = Path(__file__).parent.parent / "data" / "harbour.txt"
VOCAB_SIZE, HIDDEN, FFN, NUM_LAYERS, HEAD_DIM = 160, 256, 512, 2, 64
FORMATS = {  # a layer: stacked weights of one format, of two, and of three, one of them no block format
    0: {"attn_q": "Q4_K", "attn_k": "Q5_K", "attn_v": "Q6_K", "attn_output": "Q8_0", "ffn_gate": "Q4_0",
        "ffn_up": "Q4_0", "ffn_down": "Q4_1"},
    1: {"attn_q": "Q5_0", "attn_k": "Q5_0", "attn_v": "F16", "attn_output": "Q5_1", "ffn_gate": "Q6_K",
        "ffn_up": "Q8_0", "ffn_down": "Q4_K"},
}  # fmt: skip
SHAPES = {
    "attn_q": (256, HIDDEN), "attn_k": (128, HIDDEN), "attn_v": (128, HIDDEN), "attn_output": (HIDDEN, 256),
    "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
}  # fmt: skip
HALVES = {  # the fp16 fields of formats that the gguf package does not quantise to: offset → value
    "Q4_K": {0: 3e-4, 2: 3e-4 * 7.5},
    "Q5_K": {0: 1.5e-4, 2: 1.5e-4 * 15.5},
    "Q6_K": {208: 3e-5},
}


def encode(rng: np.random.Generator, weight_format: str, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A random weight, of a standard deviation of about 0.05, in the bytes of its format."""
    kind = gguf.GGMLQuantizationType[weight_format]
    if weight_format not in HALVES:
        return gguf.quants.quantize((0.05 * rng.standard_normal(shape)).astype(np.float32), kind)
    block_bytes = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (shape[0], shape[1] // 256, block_bytes), dtype=np.uint8)
    for offset, value in HALVES[weight_format].items():
        blocks[..., offset : offset + 2] = np.array([value], dtype=np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama as a GGUF file with every block format."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("quantised") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(NUM_LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HIDDEN // HEAD_DIM)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_token_list([f"t{i}" for i in range(VOCAB_SIZE)])

    def add(name: str, weight_format: str, shape: tuple[int, int]) -> None:
        kind = gguf.GGMLQuantizationType[weight_format]
        writer.add_tensor(name, encode(rng, weight_format, shape), raw_dtype=kind)

    def add_norm(name: str) -> None:
        writer.add_tensor(name, (1 + 0.2 * rng.standard_normal(HIDDEN)).astype(np.float32))

    add("token_embd.weight", "Q8_0", (VOCAB_SIZE, HIDDEN))
    add_norm("output_norm.weight")
    for layer, formats in FORMATS.items():
        add_norm(f"blk.{layer}.attn_norm.weight")
        add_norm(f"blk.{layer}.ffn_norm.weight")
        for name, weight_format in formats.items():
            add(f"blk.{layer}.{name}.weight", weight_format, SHAPES[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def int8_path() -> Iterator[Callable[[str], None]]:
    if NATIVE is None:
        pytest.skip("octavo._native is not built")
    yield NATIVE.force_int8_path
    NATIVE.force_int8_path("")


KINDS = ["int8", pytest.param("bf16", marks=pytest.mark.skipif(not ops.has_bf16_tiles(), reason="no AMX here"))]


def run(path: Path, requests: list[tuple[list[int], SamplingParams]], **options: Any) -> list[RequestOutput]:
    options = {"kv_cache_memory": "4M", "max_model_len": 256, "linear_activations": "int8", "threads": 1} | options
    with LLM(str(path), skip_tokenizer_init=True, **options) as llm:
        return llm.generate([prompt for prompt, _ in requests], [params for _, params in requests])


def answers(outputs: list[RequestOutput]) -> list[Any]:
    """Token ids and every log-probability, of prompts too."""
    return [
        (
            [(sample.token_ids, sample.logprobs) for sample in output.outputs],
            output.prompt_logprobs,
        )
        for output in outputs
    ]


def some_requests() -> list[tuple[list[int], SamplingParams]]:
    rng = random.Random(5)
    requests = []
    for index in range(10):
        prompt = [rng.randrange(VOCAB_SIZE) for _ in range(rng.choice([1, 3, 17, 40, 70, 130]))]
        temperature = 0.0 if index % 2 else 1.0
        params = SamplingParams(
            seed=index, temperature=temperature, max_tokens=12, logprobs=2, prompt_logprobs=1, ignore_eos=True
        )
        requests.append((prompt, params))
    return requests


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_running_gives_the_same_bits(kind: str, quantised: Path, int8_path: Callable[[str], None]) -> None:
    """Law 2, whichever kernel the number of rows chooses, and whichever is forced."""
    requests = some_requests()
    given: dict[str, Any] = {"linear_activations": kind}
    expected = [answers(run(quantised, [request], enable_prefix_caching=False, **given))[0] for request in requests]
    variants: list[dict[str, Any]] = [{}, {"threads": 2}, *({"max_num_batched_tokens": n} for n in (5, 37, 300))]
    for variant in [*variants, {"enforce_eager": True}]:
        assert answers(run(quantised, requests, **given, **variant)) == expected, variant
    if kind != "int8":
        return
    assert NATIVE is not None
    for path in NATIVE.int8_paths():
        int8_path(path)
        assert answers(run(quantised, requests)) == expected, path


def test_auto_is_bf16_where_there_are_tiles_for_it_and_int8_elsewhere(quantised: Path) -> None:
    requests = some_requests()
    kind = "bf16" if ops.has_bf16_tiles() else "int8"
    auto = run(quantised, requests, linear_activations="auto")
    assert answers(auto) == answers(run(quantised, requests, linear_activations=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_near_native_but_not_the_same(kind: str, quantised: Path) -> None:
    requests = some_requests()
    native = run(quantised, requests, linear_activations="native")
    errors = []
    for exact, got in zip(native, run(quantised, requests, linear_activations=kind), strict=True):
        for before, after in zip(exact.prompt_logprobs or (), got.prompt_logprobs or (), strict=True):
            if before and after:
                token = next(iter(before))  # the prompt's own
                errors.append(abs(before[token].logprob - after[token].logprob))
    assert 0 < sum(errors) / len(errors) < 0.02


def test_the_engine_says_what_it_does(quantised: Path) -> None:
    with LLM(str(quantised), skip_tokenizer_init=True, linear_activations="int8", kv_cache_memory="1M") as llm:
        assert llm.info.options["linear_activations"] == "int8"
        assert llm.info.reasons["linear_activations"] == "given; F32, F16 and BF16 weights keep native activations"


@pytest.mark.skipif(ops.has_bf16_tiles(), reason="AMX is here")
def test_bf16_without_amx_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a CPU with AMX"):
        LLM("smollm2", linear_activations="bf16")


def test_an_unknown_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="native, int8"):
        LLM("smollm2", linear_activations="int4")


def perplexity(path: Path, linear_activations: str) -> float:
    with LLM(str(path), linear_activations=linear_activations, kv_cache_memory="128M", max_model_len=1024) as llm:
        [output] = llm.generate(TEXT.read_text(), SamplingParams(max_tokens=1, prompt_logprobs=0))
    assert output.prompt_logprobs is not None
    scored = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    losses = [-entry[token].logprob for token, entry in scored if entry is not None]
    assert len(losses) > 300
    return math.exp(sum(losses) / len(losses))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alias", ["smollm2", "gemma3-270m"])
def test_perplexity_is_within_one_per_cent_of_native(alias: str, kind: str, real_model: Callable[[str], Path]) -> None:
    native, narrow = (perplexity(real_model(alias), each) for each in ("native", kind))
    print(f"{alias}: perplexity {native:.4f} native, {narrow:.4f} {kind} activations")
    assert native < 30
    assert abs(narrow - native) < 0.01 * native


def test_paris(real_model: Callable[[str], Path]) -> None:
    options = {"kv_cache_memory": "128M", "max_model_len": 1024, "linear_activations": "int8"}
    with LLM(str(real_model("smollm2")), **options) as llm:
        [answer] = llm.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=5))
        assert "Paris" in answer.outputs[0].text
