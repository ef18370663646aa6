"""The files of `docs/deployment` fit the server: what can be checked without systemd, containers or proxies."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from server.conftest import InProcess, SocketServer, chat_body
from server.fake_engine import FakeEngine

from octavo.cli import main
from octavo.config import EngineConfig
from octavo.config.quantities import parse_quantity
from octavo.config.server_config import ServerConfig
from octavo.engine.async_engine import SAY_GOODBYE_S, STOP_TIMEOUT_S
from octavo.engine.liveness import EngineState
from octavo.server import listener
from octavo.server.middleware import OPEN_PATHS
from octavo.server.tracing import EXPORT_TIMEOUT_S

DOCS = Path(__file__).parents[2] / "docs"
FILES = DOCS / "deployment"
AFTER_DRAIN_S = SAY_GOODBYE_S + STOP_TIMEOUT_S + listener.LAST_WORDS_S + listener._FORCED_EXIT_S
END_S = AFTER_DRAIN_S + EXPORT_TIMEOUT_S


def read(name: str) -> str:
    return (FILES / name).read_text()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `octavo serve` makes of its arguments."""
    taken: list[tuple[EngineConfig, ServerConfig]] = []
    monkeypatch.setattr("octavo.server.serve_forever", lambda *configs: taken.append(configs))

    def parse(arguments: list[str]) -> tuple[EngineConfig, ServerConfig]:
        assert main.run(["serve", *arguments]) == 0
        return taken.pop()

    return parse


def unit() -> dict[str, str]:
    joined = read("octavo.service").replace("\\\n", "")
    return dict(line.split("=", 1) for line in joined.splitlines() if "=" in line and not line.startswith("#"))


def container_command(name: str) -> list[str]:
    [command] = re.findall(rf"^{name} (\[.*\])$", read("Containerfile"), re.MULTILINE)
    return list(json.loads(command))


def pod() -> Any:
    return yaml.safe_load(read("kubernetes.yaml"))["spec"]["template"]["spec"]


def commented_command(text: str) -> list[str]:
    """The arguments after «octavo serve» in the comment at the head of a proxy's file."""
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    command = " ".join(lines).partition("octavo serve ")[2].partition(";")[0]
    return shlex.split(command)


def test_the_unit_starts_the_server(serve: Any) -> None:
    program, subcommand, *arguments = shlex.split(unit()["ExecStart"])
    assert (Path(program).name, subcommand) == ("octavo", "serve")
    _, server = serve(arguments)
    name, _, _ = unit()["LoadCredential"].partition(":")
    assert server.api_key_file == f"%d/{name}" and server.is_loopback


def test_the_unit_waits_for_the_drain_and_fits_the_exit_codes(serve: Any) -> None:
    _, server = serve(shlex.split(unit()["ExecStart"])[2:])
    assert float(unit()["TimeoutStopSec"]) > server.drain_timeout_s + END_S
    assert unit()["KillMode"] == "mixed" and unit()["Restart"] == "on-failure"
    assert unit()["RestartPreventExitStatus"] == str(main.run(["serve", "--no-such-option"]))
    assert int(unit()["LimitNOFILE"]) >= server.max_connections + listener.OTHER_FILES


def test_the_unit_is_started_when_the_model_is_loaded() -> None:
    assert (unit()["Type"], unit()["TimeoutStartSec"]) == ("notify", "infinity")


def test_the_unit_keeps_models_where_it_may_write() -> None:
    cache = f"/var/cache/{unit()['CacheDirectory']}"
    places = dict(entry.split("=") for entry in unit()["Environment"].split())
    assert places.keys() == {"OCTAVO_CACHE", "HF_HOME"} and all(path.startswith(cache) for path in places.values())


def test_the_container_serves_on_its_port(serve: Any) -> None:
    _, subcommand, *entry = container_command("ENTRYPOINT")
    config, server = serve([*entry, *container_command("CMD")])
    assert subcommand == "serve" and config == EngineConfig()
    assert not server.is_loopback and f"EXPOSE {server.port}\n" in read("Containerfile")
    [asked] = re.findall(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", read("Containerfile"))
    assert asked == (str(server.port), "/health/ready") and asked[1] in OPEN_PATHS


def test_the_container_is_run_as_its_comment_says(serve: Any) -> None:
    comment = " ".join(
        line.lstrip("# \\").rstrip("\\ ") for line in read("Containerfile").splitlines() if line[0:1] == "#"
    )
    options, _, arguments = comment.partition("podman run ")[2].partition(" octavo ")
    _, server = serve([*container_command("ENTRYPOINT")[2:], *arguments.partition(" # ")[0].split()[:3]])
    assert server.api_key_file == "/run/secrets/octavo-keys" and "--secret octavo-keys" in options
    [stop_s] = re.findall(r"--stop-timeout (\d+)", options)
    assert float(stop_s) > server.drain_timeout_s + END_S
    [files] = re.findall(r"--ulimit nofile=(\d+)", options)
    assert int(files) >= server.max_connections + listener.OTHER_FILES
    assert f"127.0.0.1:8000:{server.port}" in options


def test_the_containers_health_check_tells_ready_from_not() -> None:
    [command] = re.findall(r"^    CMD (\[.*\])$", read("Containerfile"), re.MULTILINE)
    _, *arguments = json.loads(command)
    with SocketServer(FakeEngine) as running:
        port = running.url.rpartition(":")[2]
        check = [sys.executable, *(argument.replace("8000", port) for argument in arguments)]
        assert subprocess.run(check, check=False).returncode == 0
        running.engine.state = EngineState.STALLED
        assert subprocess.run(check, check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_the_pod_asks_what_the_server_answers(serve: Any) -> None:
    [container] = pod()["containers"]
    _, server = serve([*container_command("ENTRYPOINT")[2:], *container["args"]])
    [port] = container["ports"]
    paths = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/health/ready"}
    assert set(paths.values()) == set(OPEN_PATHS) and port["containerPort"] == server.port
    _, wait_s = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod()["terminationGracePeriodSeconds"] > float(wait_s) + server.drain_timeout_s + END_S
    [user] = re.findall(r"^USER (\d+)$", read("Containerfile"), re.MULTILINE)
    assert pod()["securityContext"]["runAsUser"] == int(user)
    assert {"/models", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_a_proxy_fits_the_server(name: str, serve: Any) -> None:
    text = read(name)
    config, server = serve(commented_command(text))
    assert f"127.0.0.1:{server.port}" in text and server.host == "127.0.0.1"
    assert config.scheduling_policy == "fair"
    set_headers = re.findall(r"(?:proxy_set_header|header_up) ([\w-]+)", text)
    assert {server.client_header, "X-Request-Id"} <= set(set_headers)
    [size] = re.findall(r"(?:client_max_body_size|max_size) (\w+)", text)
    assert parse_quantity("size", size.upper().removesuffix("IB")) == server.body_limit_bytes
    [idle_s] = re.findall(r"keepalive(?:_timeout)? (\d+)s", text)
    assert float(idle_s) < server.keep_alive_s
    [silence_s] = re.findall(r"(?:proxy_read_timeout|response_header_timeout) (\d+)s", text)
    assert server.request_timeout is not None and float(silence_s) > server.request_timeout


def test_a_name_that_a_proxy_passes_on_is_answered_where_it_is_allowed() -> None:
    headers = {"host": "llm.example.org"}
    for allowed, status in (((), 421), (("llm.example.org",), 200)):
        assert InProcess(FakeEngine(), allowed_hosts=allowed).get("/v1/models", headers=headers).status_code == status


def test_streams_ask_proxies_not_to_buffer() -> None:
    headers = InProcess(FakeEngine()).post("/v1/chat/completions", chat_body(stream=True)).headers
    assert headers["x-accel-buffering"] == "no" and headers["content-type"].startswith("text/event-stream")


def test_times_that_the_page_states() -> None:
    page = (DOCS / "deployment.md").read_text()
    assert f"then up to {AFTER_DRAIN_S:.0f} s" in page and f"and {EXPORT_TIMEOUT_S:.0f} s for" in page
    assert ServerConfig().drain_timeout_s + END_S < 60
    assert f"(4096) and {listener.OTHER_FILES} more" in page and ServerConfig().max_connections == 4096


def test_processes_share_no_memory() -> None:
    source = DOCS.parent / "src" / "octavo"
    users = [
        path for path in source.rglob("*.py") if re.search(r"shared_memory|share_memory_|/dev/shm", path.read_text())
    ]
    assert [path.name for path in users if "triton" not in path.parts] == []
