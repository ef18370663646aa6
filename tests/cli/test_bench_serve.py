"""`octavo bench serve` from end to end, against a real server around a fake engine."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server.conftest import SocketServer
from server.fake_engine import FakeEngine

from .conftest import Octavo

KEY = "sk-secret-key"
SMALL = ["--num-prompts", "6", "--clients", "2", "--input-len", "9", "--output-len", "5", "--vocab-size", "200"]


@pytest.fixture(scope="module")
def server() -> Iterator[SocketServer]:
    with SocketServer(FakeEngine) as running:
        running.engine.reply = lambda prompt, sample: "abcdefgh"
        yield running


def report(octavo: Octavo, server: SocketServer, *arguments: str) -> dict[str, Any]:
    result = octavo("bench", "serve", server.url, "--json", "-", *arguments)
    assert result.code == 0, result.err
    read: dict[str, Any] = json.loads(result.out)
    return read


def test_the_figures(octavo: Octavo, server: SocketServer) -> None:
    read = report(octavo, server, *SMALL, "--goodput", "ttft:60000", "tpot:60000")
    assert (read["num_successful"], read["num_failed"]) == (6, 0)
    assert (read["num_input_tokens"], read["num_output_tokens"]) == (54, 30)
    assert read["output_tokens_per_s"] == pytest.approx(30 / read["duration_s"])
    assert read["goodput"]["requests_per_s"] == pytest.approx(6 / read["duration_s"])
    assert (read["num_uncounted"], read["tokens_per_chunk"]) == (0, 1.0)
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s"):
        assert 0 <= read[name]["min"] <= read[name]["median"] <= read[name]["p95"] <= read[name]["p99"]
    assert len(read["requests"]) == 6
    for request in read["requests"]:
        assert request["sent_s"] < request["output_s"][0] <= request["end_s"] + 1e-6
        assert len(request["output_s"]) == request["num_output_tokens"] == 5
    assert read["server"] == {"url": server.url, "endpoint": "/v1/completions", "model": "fake-model"}
    assert read["load"]["prompt_form"] == "token-ids"
    assert read["client"]["cpu_s"] > 0
    assert {"command", "date", "software", "hardware"} <= read.keys()
    assert server.engine.aborted == []


def test_the_table(octavo: Octavo, server: SocketServer, tmp_path: Path) -> None:
    result = octavo("bench", "serve", server.url, *SMALL, "--goodput", "ttft:60000", "--json", str(tmp_path / "r.json"))
    assert result.code == 0
    for line in ("successful requests", "failed requests", "duration", "input tokens", "output tokens", "requests/s"):
        assert f"\n{line}" in result.out
    for name in ("time to first token", "time per output token", "inter-token latency", "end to end"):
        assert f"\n{name}" in result.out
    assert "goodput (ttft:60000)" in result.out
    assert json.loads((tmp_path / "r.json").read_text())["num_successful"] == 6


def test_what_is_asked_of_the_engine(octavo: Octavo, server: SocketServer) -> None:
    server.engine.calls.clear()
    report(octavo, server, *SMALL, "--warmup", "0", "--seed", "3")
    first, *calls = server.engine.calls
    assert first[1].max_tokens == 1
    assert len(calls) == 6
    for token_ids, params, _, _ in calls:
        assert len(token_ids) == 9
        assert (params.max_tokens, params.ignore_eos, params.temperature) == (5, True, 0.0)
    again = [token_ids for token_ids, *_ in calls]
    server.engine.calls.clear()
    report(octavo, server, *SMALL, "--warmup", "0", "--seed", "3", "--no-ignore-eos", "--extra-body", '{"top_k": 7}')
    assert sorted(token_ids for token_ids, *_ in server.engine.calls[1:]) == sorted(again)
    assert {(params.ignore_eos, params.top_k) for _, params, _, _ in server.engine.calls} == {(False, 7)}


def test_a_prompt_that_warms_up_is_not_measured(octavo: Octavo, server: SocketServer) -> None:
    """It would be answered from the prefix cache."""
    server.engine.calls.clear()
    assert len(report(octavo, server, *SMALL, "--warmup", "3")["requests"]) == 6
    prompts = [tuple(token_ids) for token_ids, *_ in server.engine.calls[1:]]
    assert len(prompts) == len(set(prompts)) == 9


@pytest.mark.parametrize(
    "arrival",
    [
        ["--arrival", "burst", "--max-concurrency", "3"],
        ["--arrival", "constant", "--request-rate", "500"],
        ["--arrival", "poisson", "--request-rate", "500"],
        ["--arrival", "cameras", "--sources", "3", "--period", "0.01"],
    ],
)
def test_each_arrival_pattern(octavo: Octavo, server: SocketServer, arrival: list[str]) -> None:
    read = report(
        octavo, server, "--num-prompts", "6", "--input-len", "4", "--output-len", "2", "--vocab-size", "9", *arrival
    )
    assert read["num_successful"] == 6
    assert all(request["sent_s"] >= request["scheduled_s"] for request in read["requests"])


def test_a_chat_and_a_file(octavo: Octavo, server: SocketServer, tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    messages = [{"role": "user", "content": "Hi"}]
    file.write_text(json.dumps({"messages": messages, "max_tokens": 3}) + "\n" + json.dumps({"prompt": "Ho"}) + "\n")
    line = ["--endpoint", "chat", "--dataset", "jsonl", "--dataset-path", str(file), "--output-len", "4"]
    read = report(octavo, server, *line)
    assert sorted(request["num_output_tokens"] for request in read["requests"]) == [3, 4]
    assert read["server"]["endpoint"] == "/v1/chat/completions"


def test_prompts_with_a_shared_prefix(octavo: Octavo, server: SocketServer) -> None:
    server.engine.calls.clear()
    shared = ["--dataset", "shared-prefix", "--prefix-len", "16", "--num-prefixes", "2", "--warmup", "0"]
    report(octavo, server, *SMALL, *shared)
    prompts = [token_ids for token_ids, *_ in server.engine.calls[1:]]
    assert {len(token_ids) for token_ids in prompts} == {25}
    assert len({tuple(token_ids[:16]) for token_ids in prompts}) == 2


def test_failures_are_counted_and_shown(octavo: Octavo) -> None:
    with SocketServer(FakeEngine) as server:
        server.engine.reply = lambda prompt, sample: "abcdefgh"
        server.engine.fails_after = 3
        result = octavo("bench", "serve", server.url, *SMALL)
        assert result.code == 1
        assert "failed: 6 × stream: the step failed: RuntimeError: scripted" in result.out
        assert "2 requests of the warm-up failed" in result.out
        server.engine.fails_after = None
        too_long = octavo("bench", "serve", server.url, "--num-prompts", "2", "--input-len", "600", "--vocab-size", "9")
        assert too_long.code == 1
        assert "failed: 2 × status 400: " in too_long.out


def test_a_key(octavo: Octavo, monkeypatch: pytest.MonkeyPatch) -> None:
    with SocketServer(FakeEngine, api_key=(KEY,)) as server:
        refused = octavo("bench", "serve", server.url, *SMALL)
        assert refused.code == 1
        assert "answers 401: it wants a key; give it with --api-key" in refused.err
        for given in (["--api-key", KEY], [f"--api-key={KEY}"]):
            arguments = ["bench", "serve", server.url, *given, *SMALL, "--json", "-"]
            monkeypatch.setattr("sys.argv", ["octavo", *arguments])
            result = octavo(*arguments)
            assert result.code == 0, result.err
            assert KEY not in result.out + result.err
            assert "***" in json.loads(result.out)["command"]


def test_ctrl_c_ends_with_what_was_measured(octavo: Octavo) -> None:
    """Two clients, one of whose answers comes to nothing: the first request of the rest is waited for, then the signal."""
    with SocketServer(FakeEngine) as server:
        engine = server.engine
        engine.reply = lambda prompt, sample: "abcdefgh"

        def interrupt() -> None:
            while len(engine.calls) < 1 + 4:
                assert not done.wait(0.002)
            engine.is_held = True
            os.kill(os.getpid(), signal.SIGINT)

        done = threading.Event()
        thread = threading.Thread(target=interrupt)
        thread.start()
        line = ["--num-prompts", "2000", "--clients", "1", "--warmup", "0", *SMALL[4:], "--json", "-"]
        result = octavo("bench", "serve", server.url, *line)
        done.set()
        thread.join()
    assert result.code == 130
    read = json.loads(result.out)
    assert read["num_successful"] >= 3
    assert read["num_interrupted"] > 0
    assert read["num_successful"] + read["num_interrupted"] == 2000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["127.0.0.1:1"], 1, "there is no server at http://127.0.0.1:1"),
        (["ftp://host"], 2, "is not the URL of a server"),
        (["--goodput", "ttft:5", "tpot:fast"], 2, "--goodput='tpot:fast'"),
        (
            ["--request-rate", "3"],
            2,
            "--request-rate has no meaning with --arrival closed, only with constant, poisson",
        ),
        (["--arrival", "poisson"], 2, "--arrival=poisson needs --request-rate"),
        (["--json", "/nowhere/at/all.json"], 2, "there is no such directory"),
    ],
)
def test_errors(octavo: Octavo, arguments: list[str], code: int, message: str) -> None:
    result = octavo("bench", "serve", *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err


def test_several_objectives_may_stand_before_the_url(octavo: Octavo) -> None:
    result = octavo("bench", "serve", "--goodput", "ttft:5", "itl:6", "http://127.0.0.1:1")
    assert "there is no server at http://127.0.0.1:1" in result.err


def test_help(octavo: Octavo) -> None:
    text = octavo("bench", "serve", "--help").out
    titles = ["Benchmark", "Server", "Load", "Prompts", "Options"]
    positions = [text.index(f"\n{title}\n") for title in titles]
    assert positions == sorted(positions)
    for name in ("--arrival", "--goodput", "--request-rate", "--dataset-path", "--[no-]ignore-eos", "URL"):
        assert name in text
