"""Figures that are tests run at their full size: 9, 11, 12 and 15."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from client import COMPLETIONS, serving
from finding import Effort, Finding

ROOT = Path(__file__).parents[2]


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
        async with serving("--max-model-len", "64") as client:
            await client.choices({"prompt": "Hi", "max_tokens": 1})
            command = ["run", f"{client.served.url}/openapi.json", "--checks", "all", "--seed", "1", "--no-color"]
            command += ["--max-examples", str(effort.of(100, 3)), "--continue-on-failure"]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", "bench/reliability/schemathesis.toml"),
                *command,
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            said = (await process.communicate())[0].decode()
            blocks = await client.blocks()
        if process.returncode:
            print(said[-20_000:], file=sys.stderr)
        cases = re.search(r"(\d[\d,]*) generated", said)
        return Finding(
            asked="schemathesis over the OpenAPI document, all checks: 0 failures",
            measured={
                "exit_code": process.returncode,
                "cases": cases[1] if cases else None,
                "blocks_held_at_the_end": blocks["held"],
            },
            is_met=process.returncode == 0 and blocks["held"] == 0,
        )

    return asyncio.run(main())


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
