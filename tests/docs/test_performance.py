"""`docs/performance.md` is what its writer makes of the results, and what it says of costs in words holds in them."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_results_say(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    writer = runpy.run_path(str(ROOT / "bench" / "performance.py"))
    assert writer["page"]() == (ROOT / "docs" / "performance.md").read_text(), "run python bench/performance.py --page"


def test_the_dashboard_costs_under_a_hundredth_of_a_step() -> None:
    step = json.loads((ROOT / "bench" / "results" / "dashboard-cost.json").read_text())["step"]
    assert step["num_requests"] == 32
    assert step["engine_share"] + step["server_share"] < 0.01
