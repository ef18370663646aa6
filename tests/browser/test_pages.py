"""What holds for every page: nothing from outside, nothing in the console, no width too small."""

import pytest
from browser.chat_page import ChatPage
from browser.chromium import Browser
from selenium.webdriver.common.keys import Keys
from server.conftest import SocketServer

PAGES = ["/", "/dashboard", "/docs"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_and_loads_nothing_from_outside(
    browser: Browser, scripted: SocketServer, path: str, width: int, scheme: str
) -> None:
    browser.resize(width)
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(scripted.url + path)
    assert not browser.scrolls_sideways
    red, green, blue = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red + green + blue > 384) == (scheme == "light")
    loaded = {request["request"]["url"] for request in browser.requests()}
    assert f"{scripted.url}/web/base.css" in loaded
    assert browser.outside_requests(scripted.url) == []


@pytest.mark.parametrize("path", PAGES)
def test_the_first_tab_skips_to_the_content(browser: Browser, scripted: SocketServer, path: str) -> None:
    """The page may have put the focus elsewhere: the first is then the one that no other comes before."""
    browser.open(scripted.url + path)
    skip = browser.find("a, button, input, textarea, [tabindex]")
    top = "return document.querySelector('.skip').getBoundingClientRect().top"
    assert skip.get_attribute("class") == "skip" and browser.run(top) < 0
    skip.send_keys(Keys.TAB, Keys.SHIFT + Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip" and browser.run(top) >= 0
    browser.press(Keys.ENTER)
    assert browser.run("return location.hash") == "#main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(browser: Browser, scripted: SocketServer, scheme: str) -> None:
    """Contrast of at least 4.5 : 1 (WCAG 2.2, 1.4.3), for every pair of colours in which text is written."""
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(f"{scripted.url}/docs")
    style = "const s = getComputedStyle(document.documentElement); return arguments[0].map(n => s.getPropertyValue(n).trim())"
    behind = ("--paper", "--surface", "--sunk")
    pairs = [
        (ink, paper) for ink in ("--ink", "--ink-soft", "--rubric", "--good", "--warn", "--bad") for paper in behind
    ]
    pairs += [("--on-rubric", "--rubric"), *(("--ink", f"--{name}-soft") for name in ("rubric", "warn", "bad"))]
    for pair in pairs:
        darker, lighter = sorted(luminance(colour) for colour in browser.run(style, pair))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, pair


def luminance(colour: str) -> float:
    """Of «#rrggbb», relative to white."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_who_wants_no_motion_sees_none(browser: Browser, scripted: SocketServer) -> None:
    scripted.engine.is_held = True
    animation = "return getComputedStyle(document.querySelector('.stats'), '::before').animationName"
    seen = []
    for wanted in ("no-preference", "reduce"):
        browser.emulate(prefers_reduced_motion=wanted)
        page = ChatPage(browser, scripted.url)
        browser.find("#prompt").send_keys("Go", Keys.ENTER)
        browser.until(lambda: browser.find_all(".answer"))
        seen.append(browser.run(animation))
        browser.find("#stop").click()
        page.wait()
    assert seen == ["breathe", "none"]
