"""What a dashboard shows, and requests that give it something to show."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from browser.chromium import Browser
from server.conftest import chat_body

SHARED_PROMPT = "You answer in short sentences, as a lighthouse keeper would. " * 12


def format_figure(value: Any, how: str | None) -> str:
    """As the page formats it."""
    if value is None:
        return "–"
    if how == "percent":
        return f"{100 * value:.1f}%"
    if how == "count":
        return f"{value:,.1f}".removesuffix(".0")
    if how == "time":
        for least, unit in ((9950, "{:.1f} s"), (995, "{:.2f} s")):
            if value >= least:
                return unit.format(value / 1000)
        return f"{value:.0f} ms" if value >= 99.5 else f"{value:.1f} ms"
    return str(value)


def shown_figures(browser: Browser) -> dict[str, tuple[str, str | None]]:
    """Path in the snapshot → the text that the page shows, and its format; of one moment."""
    script = "return [...document.querySelectorAll('[data-figure]')].map(e => [e.dataset.figure, e.textContent, e.dataset.as])"
    return {path: (text, how) for path, text, how in browser.run(script)}


def differences(shown: dict[str, tuple[str, str | None]], snapshot: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Figure → (what the page shows, what the snapshot says), where they differ."""
    found = {}
    for path, (text, how) in shown.items():
        value: Any = snapshot
        for name in path.split("."):
            value = value[name]
        if text != format_figure(value, how):
            found[path] = (text, format_figure(value, how))
    return found


def kept_snapshots(url: str) -> list[dict[str, Any]]:
    """Those in the server's ring, up to what is now the newest."""
    last = newest_snapshot(url)["id"]
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{url}/dashboard/events", timeout=10) as reply:
        lines = (line for line in reply.iter_lines() if line.startswith("data: "))
        while not found or found[-1]["id"] < last:
            found.append(json.loads(next(lines)[6:]))
    return found


def newest_snapshot(url: str) -> dict[str, Any]:
    snapshot: dict[str, Any] = httpx.get(f"{url}/dashboard/snapshot").json()
    return snapshot


@contextmanager
def traffic(url: str, num_clients: int, model: str = "smollm2") -> Iterator[None]:
    """Clients that ask one thing after the other, a prefix in common."""
    is_over = threading.Event()

    def ask(number: int) -> None:
        rng = random.Random(number)
        with httpx.Client(base_url=url, timeout=60) as client:
            while not is_over.is_set():
                words = "Tell me of the sea and of the ships. " * rng.randrange(1, 24)
                body = chat_body(f"{SHARED_PROMPT}{rng.random()}: {words}", max_tokens=rng.randrange(8, 48))
                client.post("/v1/chat/completions", json=body | {"model": model})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(num_clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
