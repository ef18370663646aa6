"""The chat page, as a person uses it."""

from typing import Any

from browser.chromium import Browser
from selenium.webdriver.common.keys import Keys

CHAT = "/v1/chat/completions"


class ChatPage:
    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        browser.open(f"{url}/")
        browser.until(lambda: browser.find("#prompt").is_displayed(), "the page did not start")

    def set(self, **settings: str | int | float) -> None:
        """Type settings, `system` among them, on a page wide enough to show them; "" empties one."""
        for name, value in settings.items():
            field = self.browser.find(f"#settings-form [name={name}]")
            field.clear()
            field.send_keys(str(value))

    def begin(self, text: str) -> None:
        """Send a message, and wait until its answer has begun to show."""
        before = len(self.answers)
        self.browser.find("#prompt").send_keys(text, Keys.ENTER)
        self.browser.until(lambda: len(self.answers) > before and self.answers[-1] != "", "no answer begins")

    def send(self, text: str) -> str:
        """Send a message; the answer."""
        self.browser.find("#prompt").send_keys(text, Keys.ENTER)
        return self.wait()

    def wait(self) -> str:
        """Wait until nothing more comes; the last answer."""
        self.browser.until(lambda: not self.is_busy, "the answer does not end")
        return self.answers[-1]

    @property
    def is_busy(self) -> bool:
        return bool(self.browser.run("return document.body.classList.contains('busy')"))

    @property
    def answers(self) -> list[str]:
        return self._texts(".answer > .prose")

    @property
    def said(self) -> list[str]:
        return self._texts(".said")

    @property
    def stats(self) -> list[str]:
        """Of the last answer."""
        return self._texts(".answer:last-child .stats span")

    @property
    def fault(self) -> str:
        """Of the last answer."""
        return self.browser.text(".answer:last-child .banner")

    def click(self, selector: str, at: int = -1) -> None:
        self.browser.find_all(selector)[at].click()

    def bodies(self, path: str = CHAT) -> list[Any]:
        """What the page has asked, oldest first."""
        return self.browser.sent_json(path)

    def _texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(node => node.innerText)"
        texts: list[str] = self.browser.run(script, selector)
        return texts
