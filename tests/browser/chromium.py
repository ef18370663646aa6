"""Headless Chromium, driven by Debian's chromedriver: what a test does with a page, and what the browser saw of it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 60.0
"""What takes longer does not happen: a small model answers in seconds."""
LOCAL_SCHEMES = frozenset(("data", "blob", "about", "chrome"))

Found = TypeVar("Found")


def start_chromium(profile: Path) -> Chrome:
    """Skips, saying why, where there is no Chromium or no driver for it. Nothing is ever fetched."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        missing = "chromium" if program is None else "chromedriver"
        pytest.skip(f"{missing} is not here; on Debian: apt install chromium chromium-driver")
    os.environ["SE_OFFLINE"] = "true"
    options = ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests may run as root, as in a container
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--no-proxy-server",
        "--force-color-profile=srgb",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options, ChromeService(executable_path=driver))


class Browser:
    """One tab. Each test has it clean: no storage, no emulation, no logs."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._messages: list[dict[str, Any]] = []
        self._errors: list[str] = []

    def reset(self) -> None:
        self.driver.get("about:blank")
        for name in (
            "Network.clearBrowserCookies",
            "Network.clearBrowserCache",
            "Emulation.clearDeviceMetricsOverride",
        ):
            self.driver.execute_cdp_cmd(name, {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self._read_logs()
        self._messages.clear()
        self._errors.clear()

    def open(self, url: str) -> None:
        """Open a page with nothing stored for its origin. `self.driver.get` keeps what is stored."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        self.driver.get(url)

    def resize(self, width: int, height: int = 900) -> None:
        """In CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def emulate(self, **features: str) -> None:
        """Media features: `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that `script` returns."""
        return self.driver.execute_script(script, *arguments)

    def run_async(self, script: str, *arguments: Any) -> Any:
        """What the body of an async function returns; it may import the page's modules. Raises what it throws."""
        wrapped = (
            "const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);"
            f"(async () => {{{script}}})().then(value => done({{value}}), error => done({{error: String(error)}}))"
        )
        answer = self.driver.execute_async_script(wrapped, *arguments)
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def until(self, condition: Callable[[], Found], what: str = "") -> Found:
        """Wait for what the page is about to show; an element that is gone meanwhile is looked for again."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        passing = (NoSuchElementException, StaleElementReferenceException)
        wait = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.02, ignored_exceptions=passing)
        found: Found = wait.until(lambda _: condition(), what)
        return found

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def press_tab(self, times: int = 1) -> None:
        for _ in range(times):
            self.press(Keys.TAB)

    @property
    def scrolls_sideways(self) -> bool:
        return bool(self.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def take_errors(self) -> list[str]:
        """What the console has had at level SEVERE or WARNING since the last call."""
        self._read_logs()
        errors, self._errors = self._errors, []
        return errors

    def requests(self) -> list[dict[str, Any]]:
        """Every request the tab has made in this test: DevTools' `Network.requestWillBeSent`."""
        self._read_logs()
        return [message["params"] for message in self._messages if message["method"] == "Network.requestWillBeSent"]

    def outside_requests(self, url: str) -> list[str]:
        """The URLs that are not of `url`'s origin."""
        asked = [request["request"]["url"] for request in self.requests()]
        own = urlsplit(url).netloc
        return [
            one
            for one in asked
            if urlsplit(one).scheme not in LOCAL_SCHEMES and urlsplit(one).netloc.split("@")[-1] != own
        ]

    def sent_json(self, path: str) -> list[Any]:
        """The bodies of the POSTs to `path`, oldest first."""
        posts = [request["request"] for request in self.requests() if request["request"]["method"] == "POST"]
        return [json.loads(post["postData"]) for post in posts if urlsplit(post["url"]).path == path]

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert self.driver.save_screenshot(str(path))

    def _read_logs(self) -> None:
        """Chromedriver hands each entry out once."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"].startswith("Network."):
                self._messages.append(message)
        for entry in self.driver.get_log("browser"):
            if entry["level"] in ("SEVERE", "WARNING"):
                self._errors.append(entry["message"])
