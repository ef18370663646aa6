"""The pictures of the documentation, made with --screenshots: a real model's answer, as it looks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser.chat_page import ChatPage
from browser.chromium import Browser
from server.served import Served

SIZES = {"chat-light": (1280, 840, "light"), "chat-dark": (1280, 840, "dark"), "chat-phone": (390, 844, "light")}
ASKED = (
    "Give me three tips for writing clear emails, as a numbered list.",
    "Write a Python function that returns the square of a number.",
)


@pytest.mark.parametrize("name", SIZES)
def test_a_chat(picture: Callable[[str], Path], browser: Browser, served: Served, name: str) -> None:
    width, height, scheme = SIZES[name]
    browser.resize(1440)
    browser.emulate(prefers_color_scheme=scheme)
    page = ChatPage(browser, served.url)
    page.set(temperature=0, max_tokens=400)
    page.send("What is a KV cache?")
    browser.find("#new-chat").click()
    for text in ASKED:
        page.send(text)
    browser.resize(width, height)
    browser.find("#prompt").click()
    browser.screenshot(picture(name))
