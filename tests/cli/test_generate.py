"""`octavo generate`, `chat` and `info` from end to end, on a tiny model."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import octavo as octavo_package
from octavo.core.messages import OutputBatch
from octavo.engine.core import EngineCore

from .conftest import CONTEXT, VOCAB, Octavo


def test_the_answer_alone_is_on_stdout(octavo: Octavo, tiny_model: Path) -> None:
    result = octavo("generate", "Hello", "--model", str(tiny_model), "--max-tokens", "5", "--temperature", "0")
    assert result.code == 0
    assert result.out.endswith("\n")
    assert result.err == "cut off at 5 tokens (--max-tokens)\n"
    again = octavo(
        "generate", "--prompt", "Hello", "--model", str(tiny_model), "--max-tokens", "5", "--temperature", "0"
    )
    assert again.out == result.out


def test_json_has_the_whole_output(octavo: Octavo, tiny_model: Path) -> None:
    result = octavo(
        "generate", "Hello", "--model", str(tiny_model), "--max-tokens", "4", "--json", "--logprobs", "2", "--n", "2"
    )
    output = json.loads(result.out)
    assert output["prompt"] == "Hello"
    assert len(output["prompt_token_ids"]) == 5
    assert [len(sample["token_ids"]) for sample in output["outputs"]] == [4, 4]
    assert len(output["outputs"][0]["logprobs"]) == 4
    assert output["outputs"][0]["finish_reason"] == "length"
    assert output["metrics"]["ttft_s"] > 0


def test_streamed_and_whole_text_are_the_same(octavo: Octavo, tiny_model: Path) -> None:
    line = ["generate", "abc", "--model", str(tiny_model), "--max-tokens", "20", "--seed", "3"]
    streamed = octavo(*line).out
    whole = json.loads(octavo(*line, "--json").out)["outputs"][0]["text"]
    assert streamed == whole + "\n"


def test_several_samples(octavo: Octavo, tiny_model: Path) -> None:
    line = ["generate", "abc", "--model", str(tiny_model), "--max-tokens", "6", "--seed", "1", "--n", "3"]
    whole = [sample["text"] for sample in json.loads(octavo(*line, "--json").out)["outputs"]]
    assert octavo(*line).out == "\n".join(whole) + "\n"


def test_token_ids_in_and_out(octavo: Octavo, tiny_model: Path) -> None:
    result = octavo(
        "generate", "--prompt-token-ids", "1 2,3", "--skip-tokenizer-init", "--model", str(tiny_model),
        "--max-tokens", "4", "--temperature", "0", "--ignore-eos",
    )  # fmt: skip
    ids = [int(word) for word in result.out.split()]
    assert len(ids) == 4
    assert all(0 <= token < VOCAB for token in ids)


def test_a_prompt_from_stdin_through_the_chat_template(
    octavo: Octavo, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi"))
    line = ["--chat", "--system", "S", "--model", str(tiny_model), "--json", "--max-tokens", "2"]
    output = json.loads(octavo("generate", "--prompt", "-", *line).out)
    assert len(output["prompt_token_ids"]) == len("system: S\nuser: Hi\nassistant:")


def test_the_default_limit_fits_the_context(octavo: Octavo, tiny_model: Path) -> None:
    result = octavo("generate", "Hello", "--model", str(tiny_model), "--ignore-eos", "--json")
    assert len(json.loads(result.out)["outputs"][0]["token_ids"]) == CONTEXT - 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "one prompt is needed, none is given"),
        (["x", "--prompt", "y"], 2, "one prompt is needed, two are given"),
        (["--prompt-token-ids", "1 x"], 2, "--prompt-token-ids='1 x' is not a list of token ids"),
        (["x", "--system", "y"], 2, "--system needs --chat"),
        (["x", "--logprobs", "1"], 2, "add --json"),
        (["x", "--temperature", "-1"], 2, "temperature=-1.0"),
        (["x", "--max-tokens", "999"], 2, "--max-tokens=999 with a prompt of 1 tokens"),
        (["x", "--skip-tokenizer-init"], 2, "use --prompt-token-ids"),
        (["--prompt-token-ids", "1000"], 2, "token id 1000"),
        (["--prompt", ""], 2, "the prompt is empty"),
    ],
)
def test_errors(octavo: Octavo, tiny_model: Path, arguments: list[str], code: int, message: str) -> None:
    result = octavo("generate", *arguments, "--model", str(tiny_model))
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert len(result.err.splitlines()) == 1


_INTERRUPTED_IN_STEP_5 = """
import os, signal, sys
from octavo.engine.core import EngineCore
from octavo.cli.main import main

step, count = EngineCore.step, 0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored

def interrupted(self):
    global count
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self)

EngineCore.step = interrupted
main()
"""


@pytest.mark.parametrize(
    "command", [["generate", "x", "--ignore-eos"], ["bench", "latency", "--input-len", "9", "--output-len", "90"]]
)
def test_interrupt_ends_quietly_with_130(tiny_model: Path, command: list[str]) -> None:
    source = Path(octavo_package.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IN_STEP_5, *command, "--model", str(tiny_model)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert (result.returncode, result.stderr) == (130, "")


def test_interrupt_stops_an_answer_but_not_the_chat(
    octavo: Octavo, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, count = EngineCore.step, 0

    def interrupted(core: EngineCore) -> OutputBatch:
        nonlocal count
        count += 1
        if count == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(core)

    monkeypatch.setattr(EngineCore, "step", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\nAgain\n/stats\n"))
    result = octavo("chat", str(tiny_model), "--max-tokens", "8", "--ignore-eos", "--temperature", "0")
    assert result.code == 0
    assert result.err.startswith("(stopped)\n")
    assert "2 answers · 13 tokens" in result.err


def test_chat_from_a_pipe(octavo: Octavo, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("Hi\n/stats\n\nAgain\n/stats\n/nonsense\n/reset\n/stats\n/exit\nmore\n")
    )
    result = octavo("chat", str(tiny_model), "--temperature", "0", "--max-tokens", "3", "--ignore-eos")
    assert result.code == 0
    assert "prompt 19 tokens (0 cached)" in result.err
    assert "(16 cached)" in result.err
    assert "2 answers · 6 tokens" in result.err
    assert "there is no command /nonsense" in result.err
    assert "the conversation is forgotten" in result.err


def test_chat_needs_a_template_at_once(octavo: Octavo, tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    result = octavo("chat", str(tmp_path))
    assert (result.code, result.out) == (2, "")
    assert "no chat template" in result.err


def test_chat_leaves_at_an_error_in_a_pipe(octavo: Octavo, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * CONTEXT + "\nnever\n"))
    result = octavo("chat", str(tiny_model))
    assert (result.code, result.out) == (2, "")
    assert "shorten the prompt" in result.err


def test_info(octavo: Octavo, tiny_model: Path) -> None:
    result = octavo("info", str(tiny_model), "--kv-cache-memory", "1M", "--max-model-len", "64")
    assert result.code == 0
    for text in ("Llama (LlamaForCausalLM), 2 layers", "--max-model-len", "64", "given", "temperature 0.5"):
        assert text in result.out


def test_info_as_json_is_what_the_engine_says(octavo: Octavo, tiny_model: Path) -> None:
    from octavo import LLM

    result = json.loads(octavo("info", str(tiny_model), "--json", "--kv-cache-memory", "1M").out)
    with LLM(str(tiny_model), kv_cache_memory="1M") as llm:
        assert result["options"] == llm.info.options
        assert result["reasons"] == llm.info.reasons
        assert result["kv_cache_tokens"] == llm.info.num_blocks * llm.info.block_size
        assert result["model"]["num_parameters"] == llm.info.num_parameters
    assert result["sampling_defaults"] == {"temperature": 0.5}
