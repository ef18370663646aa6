"""Figures that are tests run at their full size: 9, 11, 12 and 15."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from client import CHAT, COMPLETIONS, MESSAGES, RESPONSES, serving
from finding import Effort, Finding

ROOT = Path(__file__).parents[2]
_ROUTES = (COMPLETIONS, CHAT, RESPONSES, MESSAGES, "/v1/messages/count_tokens", "/tokenize", "/detokenize")


def _tests(path: str, **environment: str) -> dict[str, object]:
    """How many of them passed and failed."""
    command = [sys.executable, "-m", "pytest", path, "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error|skipped)", result.stdout)}
    if result.returncode and not counts.get("failed"):
        counts["error"] = counts.get("error", 0) + 1
        print(result.stdout[-2000:], result.stderr[-2000:], file=sys.stderr)
    return {"tests": path, **counts}


def _are_met(measured: dict[str, object]) -> bool:
    return bool(measured.get("passed")) and not any(measured.get(what) for what in ("failed", "error", "skipped"))


def isolation(effort: Effort) -> Finding:
    measured = _tests("tests/engine/test_isolation.py")
    return Finding(
        asked="an exception injected into one request's processing fails that request alone",
        measured=measured,
        is_met=_are_met(measured),
    )


def openapi(effort: Effort) -> Finding:
    """By the command line tool, against the real server; its context is short, so that no answer is long."""

    async def main() -> Finding:
        async with serving("--max-model-len", "64", "--log-format", "json") as client:
            await client.choices({"prompt": "Hi", "max_tokens": 1})
            code, said = await _schemathesis(client.served.url, effort.of(100, 3))
            num_held = (await client.scrape()).blocks()["held"]
            answered = _answered(client.served.lines)
        cases = re.search(r"(\d[\d,]*) generated", said)
        num_cases = int(cases[1].replace(",", "")) if cases else 0
        return Finding(
            asked="schemathesis over the OpenAPI document, all checks: 0 failures",
            measured={
                "exit_code": code,
                "cases": num_cases,
                "answered": dict(answered),
                "blocks_held_at_the_end": num_held,
            },
            is_met=code == 0 and num_cases > 0 and all(answered.get(path) for path in _ROUTES) and num_held == 0,
        )

    return asyncio.run(main())


async def _schemathesis(url: str, max_examples: int) -> tuple[int | None, str]:
    """Exit code and output. What it keeps for itself goes with its directory."""
    config = str(Path(__file__).with_name("schemathesis.toml"))
    command = ["run", f"{url}/openapi.json", "--checks", "all", "--seed", "1", "--no-color", "--continue-on-failure"]
    paths = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT / "src")]
    with tempfile.TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config),
            *(*command, "--max-examples", str(max_examples)),
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
            stdout=asyncio.subprocess.PIPE,
        )
        said = (await process.communicate())[0].decode()
    if process.returncode:
        print(said[-20_000:], file=sys.stderr)
    return process.returncode, said


def _answered(lines: list[str]) -> dict[str, int]:
    """How many requests to each route got what they asked for, by the server's log: a server that refuses all shows nothing."""
    entries = [json.loads(line) for line in lines]
    return Counter(
        entry["path"] for entry in entries if entry.get("path") in _ROUTES and 200 <= entry.get("status", 0) < 300
    )


def model_files(effort: Effort) -> Finding:
    num_mutants = effort.of(5000)
    measured = _tests("tests/loader/test_fuzz.py", OCTAVO_FUZZ_MUTANTS=str(num_mutants))
    return Finding(
        asked="5,000 mutated GGUF and 5,000 mutated safetensors files: no crash, hang or over-allocation",
        measured={"mutants_of_each": num_mutants, **measured},
        is_met=_are_met(measured),
    )


def streaming(effort: Effort) -> Finding:
    """Texts of every kind come from a model that is a script; what a model says itself is compared beside it."""
    num_cases, num_real = effort.of(2000, 10), effort.of(100, 4)
    measured = _tests("tests/server/test_streamed_equals_whole.py", OCTAVO_STREAM_CASES=str(num_cases))

    async def different() -> int:
        async with serving() as client:
            count = 0
            for seed in range(num_real):
                body = {
                    "prompt": "日本 👋 is",
                    "n": 1 + seed % 4,
                    "seed": seed,
                    "max_tokens": 24,
                    "stop": ["e 日", "the"],
                }
                whole = [choice["text"] for choice in await client.choices(body)]
                joined = [""] * len(whole)
                async for chunk in client.stream(COMPLETIONS, body):
                    for choice in chunk["choices"]:
                        joined[choice["index"]] += choice["text"]
                count += joined != whole
            return count

    num_different = asyncio.run(different())
    return Finding(
        asked="streamed = not streamed, 2,000 cases with emoji, CJK, split stop strings, n = 4, tools",
        measured={"cases": num_cases, **measured, "cases_of_a_real_model": num_real, "different": num_different},
        is_met=_are_met(measured) and num_different == 0,
    )
