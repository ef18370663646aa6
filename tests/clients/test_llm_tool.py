"""The command-line tool `llm`, unmodified, as its users start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clients.conftest import Script
from clients.weather import PARIS, QUESTION, Weather, call
from server.conftest import MODEL


class Tool:
    """`llm` with a directory of its own, and one server in it."""

    def __init__(self, directory: Path, url: str, model: str) -> None:
        self._environment = {**os.environ, "LLM_USER_PATH": str(directory), "LLM_LOAD_PLUGINS": ""}
        self._model = model
        entry = {
            "model_id": model,
            "model_name": model,
            "api_base": url,
            "supports_schema": True,
            "supports_tools": True,
        }
        (directory / "extra-openai-models.yaml").write_text(json.dumps([entry]))  # YAML too

    def run(self, *arguments: str, text: str | None = None) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env=self._environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def prompt(self, *arguments: str) -> str:
        return self.run("prompt", "-m", self._model, *arguments)

    def chat(self, *lines: str) -> str:
        return self.run("chat", "-m", self._model, text="\n".join((*lines, "quit", "")))


@pytest.fixture
def tool(tmp_path: Path, script: Script) -> Tool:
    return Tool(tmp_path, script.url, MODEL)


def test_prompt(tool: Tool, script: Script) -> None:
    script.say("Rain. 👋🏽", "Rain. 👋🏽", "Still.")
    for options in ((), ("--no-stream",)):
        assert tool.prompt(*options, "-s", "Be brief.", "-o", "temperature", "0.5", QUESTION) == "Rain. 👋🏽\n"
        assert "Be brief." in script.prompts[-1] and script.params.temperature == 0.5
    assert tool.prompt("--continue", "And now?") == "Still.\n"
    assert QUESTION in script.prompts[-1] and "Rain. 👋🏽" in script.prompts[-1]


def test_chat(tool: Tool, script: Script) -> None:
    script.say("Rain.", "Still.")
    printed = tool.chat(QUESTION, "And now?")
    assert "Rain." in printed and "Still." in printed
    assert "Rain." in script.prompts[-1]


def test_schema(tool: Tool, script: Script) -> None:
    script.say(PARIS)
    assert json.loads(tool.prompt("--schema", json.dumps(Weather.model_json_schema()), QUESTION)) == json.loads(PARIS)
    assert script.params.structured_outputs is not None


def test_tools(tool: Tool, script: Script) -> None:
    script.say(call("{}", "llm_version"), "That version.")
    assert tool.prompt("-T", "llm_version", "Which version?") == "That version.\n"
    assert "<tool_response>" in script.prompts[-1]


def test_a_small_model(tmp_path: Path, smollm2: str) -> None:
    tool = Tool(tmp_path, smollm2, "smollm2")
    assert "Paris" in tool.prompt("-o", "temperature", "0", "What is the capital of France?")
    schema = json.dumps(Weather.model_json_schema())
    Weather.model_validate_json(tool.prompt("-o", "seed", "1", "--schema", schema, QUESTION))
