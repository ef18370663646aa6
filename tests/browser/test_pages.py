"""What holds for every page: nothing from outside, nothing in the console, no width too small."""

import pytest
from browser.chromium import Browser
from selenium.webdriver.common.keys import Keys
from server.conftest import SocketServer

PAGES = ["/", "/docs"]


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
