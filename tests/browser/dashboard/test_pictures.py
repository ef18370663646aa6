"""The pictures of docs/dashboard.md: a real server that has something to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser.chromium import Browser
from browser.dashboard.watched import newest_snapshot, traffic
from server.served import Served


@pytest.mark.parametrize(
    ("name", "scheme", "width", "height"),
    [
        ("dashboard-light", "light", 1440, 1030),
        ("dashboard-dark", "dark", 1440, 1030),
        ("dashboard-phone", "light", 390, 2150),
    ],
)
def test_picture(
    browser: Browser,
    served: Served,
    picture: Callable[[str], Path],
    name: str,
    scheme: str,
    width: int,
    height: int,
) -> None:
    file = picture(name)
    browser.resize(width, height)
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(f"{served.url}/dashboard")
    with traffic(served.url, 8):
        enough = newest_snapshot(served.url)["id"] + 100
        browser.until(lambda: newest_snapshot(served.url)["id"] > enough, "half a minute of work")
        browser.until(lambda: newest_snapshot(served.url)["blocks"]["shared"] > 0, "a prefix in common")
        browser.screenshot(file)
