"""Figure 11: what the server does is what its OpenAPI document says, for generated requests, good and bad."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from server.conftest import InProcess
from server.fake_engine import FakeEngine

schemathesis: Any = pytest.importorskip("schemathesis")

CONFIG = Path(__file__).parents[2] / "bench/reliability/schemathesis.toml"
SERVER = InProcess(FakeEngine(max_model_len=128), allowed_hosts=("testserver",))
DOCUMENT = schemathesis.openapi.from_asgi("/openapi.json", SERVER.app, config=schemathesis.Config.from_path(CONFIG))


@DOCUMENT.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_check(case: Any) -> None:
    case.call_and_validate(base_url="http://testserver")
