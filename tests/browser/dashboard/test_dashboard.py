"""The dashboard of a real server: true figures, a lost server, keys, widths."""

import json
import re
import socket

import httpx
import pytest
from browser.chromium import Browser
from browser.dashboard.watched import differences, kept_snapshots, newest_snapshot, shown_figures, traffic
from selenium.webdriver.common.keys import Keys
from server.conftest import SocketServer, chat_body
from server.fake_engine import FakeEngine
from server.served import MODEL, Served


def ask(url: str, text: str = "Hello!", max_tokens: int = 16) -> None:
    body = chat_body(text, max_tokens=max_tokens) | {"model": MODEL}
    assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200


def open_dashboard(browser: Browser, url: str) -> None:
    browser.open(f"{url}/dashboard")
    browser.until(lambda: browser.text("[data-figure=step]") != "–", "a snapshot is shown")


def is_at_rest(browser: Browser, url: str) -> bool:
    """Whether the server does nothing more, and the page shows that."""
    newest = newest_snapshot(url)
    return newest["throughput"] == {"generated": 0, "prefilled": 0} and not differences(shown_figures(browser), newest)


def test_figures_are_those_of_the_snapshot_of_the_same_step(browser: Browser, served: Served) -> None:
    open_dashboard(browser, served.url)
    seen = []
    with traffic(served.url, 4):
        for _ in range(5):
            step = browser.text("[data-figure=step]")
            browser.until(lambda: browser.text("[data-figure=step]") != step, "a newer step is shown")  # noqa: B023
            seen.append(shown_figures(browser))
        snapshots = kept_snapshots(served.url)
    for shown in seen:
        same = [one for one in snapshots if f"{one['step']:,}" == shown["step"][0]]
        assert same, f"step {shown['step']} is in no snapshot"
        assert {} in [differences(shown, one) for one in same], [differences(shown, one) for one in same]
    browser.until(
        lambda: (
            newest_snapshot(served.url)["throughput"] == {"generated": 0, "prefilled": 0}
            and differences(shown_figures(browser), newest_snapshot(served.url)) == {}
        ),
        "an idle server's last snapshot",
    )
    blocks = newest_snapshot(served.url)["blocks"]
    assert blocks["private"] == blocks["shared"] == 0
    label = browser.find("#pool").get_attribute("aria-label")
    assert label == f"KV blocks: 0 shared, 0 private, {blocks['cached']:,} cached, {blocks['free']:,} free"
    assert browser.outside_requests(served.url) == []


def test_the_grid_has_a_cell_for_each_block_in_its_colour(browser: Browser, served: Served) -> None:
    ask(served.url)
    browser.resize(1440)
    open_dashboard(browser, served.url)
    browser.until(lambda: browser.find("#pool").get_attribute("aria-label").startswith("KV blocks: 0 "), "it is drawn")
    cells = newest_snapshot(served.url)["blocks"]["cells"]
    filled = browser.run(
        """
        const canvas = document.getElementById("pool"), count = arguments[0], width = canvas.width;
        const size = [24, 23, 22, 21, 20].find(s => Math.ceil(count / Math.floor(width / s)) * s === canvas.height);
        const columns = Math.floor(width / size), data = canvas.getContext("2d").getImageData(0, 0, width, canvas.height).data;
        return Array.from({length: count}, (_, i) => {
          const x = (i % columns) * size + size / 2, y = Math.floor(i / columns) * size + size - 5;
          return data[4 * (Math.floor(y) * width + Math.floor(x)) + 3] > 0;
        });
        """,
        len(cells),
    )
    assert {"c", "f"} <= set(cells)
    assert filled == [state != "f" for state in cells]


def test_a_restart_is_told_and_survived(browser: Browser) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = Served("--port", str(port))
    try:
        ask(first.url)
        open_dashboard(browser, first.url)
        browser.until(lambda: int(browser.text("[data-figure=step]")) > 0)
        boot_id, last_step = newest_snapshot(first.url)["boot_id"], browser.text("[data-figure=step]")
    finally:
        assert first.end() == 0
    browser.until(lambda: "Trying again in" in browser.text("#lost"), "the loss is told")
    assert re.search(r"What you see is of \d", browser.text("#lost"))
    assert browser.text("[data-figure=step]") == last_step
    second = Served("--port", str(port))
    try:
        browser.until(lambda: not browser.find("#lost").is_displayed(), "it is back")
        assert newest_snapshot(second.url)["boot_id"] != boot_id
        browser.until(lambda: browser.text("[data-figure=step]") == "0", "it starts afresh")
        browser.until(lambda: "No step yet" in browser.text("#step-said"))
        ask(second.url)
        browser.until(lambda: differences(shown_figures(browser), newest_snapshot(second.url)) == {}, "it goes on")
    finally:
        assert second.end() == 0
    lost = browser.take_errors()  # the browser itself notes each request that fails
    assert lost and all("/dashboard/events" in line for line in lost)


def test_by_keys_alone(browser: Browser, served: Served) -> None:
    ask(served.url)
    open_dashboard(browser, served.url)
    browser.until(lambda: browser.text("#step-said").startswith("Step"), "steps are drawn")
    browser.run("document.activeElement.blur()")
    reached = []
    for _ in range(8):
        browser.press_tab()
        reached.append(
            browser.run("const e = document.activeElement; return e.id || e.className || e.pathname || e.localName")
        )
        assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == ["skip", "brand", "/", "/dashboard", "/docs", "hold", "steps", "summary"]
    browser.press(Keys.ENTER)
    rows = browser.until(
        lambda: [row.text for row in browser.find_all("#step-table tbody tr") if row.text.strip()], "the table"
    )
    steps = newest_snapshot(served.url)["steps"]
    assert rows[0].split()[:4] == [
        str(steps[name][-1]) for name in ("step", "requests", "decode_tokens", "prefill_tokens")
    ]
    browser.run("document.getElementById('steps').focus()")
    for key, index in (
        (Keys.END, -1),
        (Keys.ARROW_LEFT, -2),
        (Keys.ARROW_LEFT, -3),
        (Keys.ARROW_RIGHT, -2),
        (Keys.HOME, 0),
    ):
        browser.press(key)
        said = f"Step {steps['step'][index]:,}: {steps['decode_tokens'][index]:,} decode + {steps['prefill_tokens'][index]:,} prefill"
        browser.until(lambda: browser.text("#step-said").startswith(said), said)  # noqa: B023


def test_a_held_picture_stands_and_then_goes_on_where_it_was(browser: Browser, served: Served) -> None:
    open_dashboard(browser, served.url)
    browser.find("#hold").send_keys(Keys.SPACE)
    assert browser.find("#hold").get_attribute("aria-pressed") == "true"
    before = browser.text("[data-figure=step]")
    ask(served.url)
    asked = newest_snapshot(served.url)["step"]
    assert browser.text("[data-figure=step]") == before and not browser.find("#lost").is_displayed()
    browser.find("#hold").send_keys(Keys.SPACE)
    browser.until(lambda: int(browser.text("[data-figure=step]").replace(",", "")) >= asked, "it has caught up")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_of_it_fits_any_width(browser: Browser, served: Served, width: int, scheme: str) -> None:
    ask(served.url)
    browser.resize(width)
    browser.emulate(prefers_color_scheme=scheme)
    open_dashboard(browser, served.url)
    browser.find("summary").click()
    assert not browser.scrolls_sideways
    for selector in ("#rate", "#steps", "#pool", ".times table"):
        left, right = browser.run(
            "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return [r.left, r.right]", selector
        )
        assert 0 <= left < right <= width


def test_a_hidden_tab_draws_nothing(browser: Browser, served: Served) -> None:
    open_dashboard(browser, served.url)
    browser.until(lambda: is_at_rest(browser, served.url), "what was asked before is over and shown")
    browser.run(
        """
        Object.defineProperty(document, "hidden", {value: true, configurable: true});
        const parse = JSON.parse;
        JSON.parse = text => { const value = parse(text); window.lastRead = value.step; return value; };
        """
    )
    before = browser.text("[data-figure=step]")
    ask(served.url)
    shown = int(before.replace(",", ""))
    browser.until(lambda: (browser.run("return window.lastRead") or 0) > shown, "the page has read a new snapshot")
    assert browser.text("[data-figure=step]") == before
    browser.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    browser.until(lambda: browser.text("[data-figure=step]") != before, "it is drawn when it is seen again")


def test_with_the_key_as_the_browsers_password(browser: Browser) -> None:
    with SocketServer(FakeEngine, api_key=("sk-octavo-123",)) as locked:
        browser.driver.get(locked.url.replace("http://", "http://me:sk-octavo-123@") + "/dashboard")
        browser.until(lambda: browser.text("[data-figure=model]") == "fake-model", "the stream is read")
        assert not browser.find("#lost").is_displayed()
        browser.driver.get("about:blank")


def test_an_error_of_the_page_is_no_loss_of_the_server(browser: Browser, served: Served) -> None:
    open_dashboard(browser, served.url)
    browser.run("JSON.parse = () => { throw new Error('a defect'); }")
    ask(served.url)
    browser.until(lambda: "This page has failed" in browser.text("#lost"), "it is told")
    [error] = browser.take_errors()
    assert "a defect" in error


def test_snapshots_are_small(served: Served) -> None:
    assert len(json.dumps(newest_snapshot(served.url))) < 8192
