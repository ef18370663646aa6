"""Figure 11: what the server does is what its OpenAPI document says, for generated requests, good and bad."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from server.conftest import MODEL, InProcess, chat_body
from server.fake_engine import FakeEngine
from server.generated import fit

CONFIG = Path(__file__).parents[2] / "bench/reliability/schemathesis.toml"
SERVER = InProcess(FakeEngine(max_model_len=128), allowed_hosts=("testserver",))
DOCUMENT = schemathesis.openapi.from_asgi(
    "/openapi.json", SERVER.app, config=schemathesis.Config.from_path(CONFIG)
).exclude(
    path="/dashboard/events"  # it does not end
)


@pytest.fixture(scope="module")
def answered() -> Iterator[Counter[str]]:
    """Counts the answers of each route: one that refuses all shows nothing. Of an id that is generated there is nothing."""
    counts: Counter[str] = Counter()
    yield counts
    assert all(count for route, count in counts.items() if "{" not in route), counts


@DOCUMENT.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_check(case: Any, answered: Counter[str]) -> None:
    fit(case, MODEL)
    reply = case.call_and_validate(base_url="http://testserver")
    answered[case.operation.label] += reply.status_code < 300


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": MODEL, "prompt": "Hi", "max_tokens": 100}),
        ("/v1/chat/completions", chat_body(max_tokens=100)),
        ("/v1/responses", {"model": MODEL, "input": "Hi"}),
        ("/v1/messages", chat_body(max_tokens=100)),
    ],
)
@pytest.mark.parametrize("fails_after", [None, 3])
def test_what_is_streamed(path: str, body: dict[str, Any], fails_after: int | None) -> None:
    engine = FakeEngine()
    engine.fails_after = fails_after
    server = InProcess(engine)
    document = server.get("/openapi.json").json()
    content = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    done, chunk = content["schema"]["properties"]["data"]["anyOf"]
    validator = jsonschema.Draft202012Validator({**chunk["contentSchema"], "components": document["components"]})
    lines = [
        line for line in server.post(path, {**body, "stream": True}).text.splitlines() if line.startswith("data: ")
    ]
    events = [json.loads(line[6:]) for line in lines if line[6:] != done["const"]]
    assert len(events) >= 3 and ("scripted" in str(events[-2:])) is (fails_after is not None)
    for event in events:
        validator.validate(event)
