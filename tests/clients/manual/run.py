"""Run clients that the tests do not install against `octavo serve smollm2`, each in an environment of its own.

    python tests/clients/manual/run.py [openai-node] [litellm] [lm-eval]

They are installed under `build/clients`; what is there already is used. One line a client says how it went; the exit
status is 1 where one failed or could not be installed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.served import MODEL, Served

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "clients"
MIN_ACCURACY = 0.75


class ClientError(Exception):
    """A client failed, or is missing; the message says why."""


def main() -> int:
    names = sys.argv[1:] or list(CLIENTS)
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        print(f"{', '.join(unknown)}: not among {', '.join(CLIENTS)}", file=sys.stderr)
        return 2
    num_failed = 0
    server = Served()
    try:
        for name in names:
            try:
                print(f"{name}: {CLIENTS[name](f'{server.url}/v1')}", flush=True)
            except ClientError as error:
                num_failed += 1
                print(f"{name}: failed: {error}", flush=True)
    finally:
        server.end()
    return 1 if num_failed else 0


def openai_node(url: str) -> str:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise ClientError(f"{program} is not on this machine; install Node.js 20 or later")
    directory = BUILD / "node"
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "node_modules" / "openai").is_dir():
        run(["npm", "install", "--prefix", str(directory), "--no-fund", "--no-audit", "openai"])
    script = shutil.copy(HERE / "openai_node.mjs", directory)  # beside node_modules, where Node looks for packages
    run(["node", str(script), url, MODEL])
    version = json.loads((directory / "node_modules" / "openai" / "package.json").read_text())["version"]
    return f"passed with openai {version}"


def litellm(url: str) -> str:
    python = python_with("litellm", "litellm[mcp]")  # a call with tools imports it
    run([python, str(HERE / "litellm_client.py"), url, MODEL], {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    return f"passed with litellm {version_of(python, 'litellm')}"


def lm_eval(url: str) -> str:
    """A task of our own, since those that come with it are fetched: choices compared by echoed log-probabilities."""
    python = python_with("lm-eval", "lm-eval[api]")
    tasks = BUILD / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    task = (HERE / "tasks" / "capitals.yaml").read_text()
    (tasks / "capitals.yaml").write_text(task.replace("CAPITALS_JSONL", str(HERE / "tasks" / "capitals.jsonl")))
    arguments = f"model={MODEL},base_url={url}/completions,tokenizer_backend=remote,num_concurrent=2,max_retries=1"
    results = BUILD / "lm-eval-results"
    shutil.rmtree(results, ignore_errors=True)
    options = ["--tasks", "octavo_capitals", "--include_path", str(tasks), "--output_path", str(results)]
    run(
        [python, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments, *options],
        {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"},
    )
    [written] = results.rglob("results_*.json")
    accuracy = json.loads(written.read_text())["results"]["octavo_capitals"]["acc,none"]
    if accuracy < MIN_ACCURACY:
        raise ClientError(f"accuracy {accuracy:g} is below {MIN_ACCURACY:g}: the log-probabilities are read wrongly")
    return f"passed with lm-eval {version_of(python, 'lm_eval')}, accuracy {accuracy:g}"


CLIENTS: Mapping[str, Callable[[str], str]] = {"openai-node": openai_node, "litellm": litellm, "lm-eval": lm_eval}


def python_with(name: str, requirement: str) -> str:
    """The interpreter of an environment that has it."""
    directory = BUILD / name
    python = str(directory / "bin" / "python")
    stamp = directory / "installed.txt"
    if not stamp.exists():
        run([sys.executable, "-m", "venv", str(directory)])
        run([python, "-m", "pip", "install", "--quiet", requirement])
        stamp.write_text(requirement)
    return python


def version_of(python: str, package: str) -> str:
    return run([python, "-c", f"import importlib.metadata; print(importlib.metadata.version('{package}'))"]).strip()


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What it prints. Raises `ClientError`."""
    result = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip() or f"status {result.returncode}").splitlines()[-1]
        raise ClientError(f"{Path(command[0]).name}: {last}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
