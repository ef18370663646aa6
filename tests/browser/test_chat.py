"""The chat page against the real server and a small model."""

import re
from urllib.parse import urlsplit

import pytest
from browser.chat_page import ChatPage
from browser.chromium import Browser
from selenium.webdriver.common.keys import Keys
from server.served import MODEL, Served

LONG = "Tell me a long story about a ship and its crew."
RETRY, EDIT = ".answer [aria-label='Retry answer']", "[aria-label='Edit message']"


@pytest.fixture
def page(browser: Browser, served: Served) -> ChatPage:
    browser.resize(1440)
    return ChatPage(browser, served.url)


def test_a_whole_chat(page: ChatPage, browser: Browser, served: Served) -> None:
    page.set(temperature=0, max_tokens=40)
    answer = page.send("What is the capital of Italy?")
    assert page.stats[0].startswith("TTFT ") and re.fullmatch(r"[\d.]+ tokens/s", page.stats[1])
    assert re.fullmatch(r"\d+ in, \d+ cached", page.stats[2]) and re.fullmatch(r"\d+ out", page.stats[3])

    page.send("And of Spain? Answer in one short sentence.")
    first, second = page.bodies()
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0] == first["messages"][0] and second["messages"][1]["content"] == answer
    cached = int(page.stats[2].split()[2])
    assert cached >= 16

    page.click(RETRY)
    page.wait()
    assert page.bodies()[2] == second and len(page.answers) == 2

    page.click(EDIT, 0)
    editor = browser.find(".editor textarea")
    editor.send_keys(Keys.CONTROL, "a")
    editor.send_keys("What is the capital of France?", Keys.ENTER)
    assert "Paris" in page.wait()
    assert page.said == ["What is the capital of France?"] and len(page.answers) == 1
    assert [message["content"] for message in page.bodies()[3]["messages"]] == ["What is the capital of France?"]
    assert browser.outside_requests(served.url) == []


def test_the_answer_streams_and_can_be_stopped(page: ChatPage, browser: Browser) -> None:
    page.set(temperature=0)
    page.begin(LONG)
    beginning = page.answers[-1]
    browser.until(lambda: len(page.answers[-1]) > len(beginning), "the text does not grow")
    assert page.is_busy and not browser.find("#send").is_displayed()
    browser.find("#stop").click()
    stopped = page.wait()
    assert stopped.startswith(beginning)
    assert page.stats[-1] == "stopped" and re.fullmatch(r"\d+ out", page.stats[-2])
    page.send("Thanks. Say yes.")
    assert page.bodies()[-1]["messages"][1]["role"] == "assistant"


def test_settings_reach_the_request_and_hold(page: ChatPage, browser: Browser) -> None:
    settings = {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 30,
        "min_p": 0.02,
        "max_tokens": 5,
        "seed": 11,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.1,
    }
    assert browser.find("#setting-temperature").get_attribute("placeholder") == "1"
    page.set(system="You are a pirate.", **settings)
    first = page.send("Who are you?")
    [body] = page.bodies()
    assert {name: body[name] for name in settings} == settings
    assert body["model"] == MODEL and body["messages"][0] == {"role": "system", "content": "You are a pirate."}
    assert page.stats[-2:] == ["5 out", "cut off at its token limit"]
    browser.driver.refresh()
    browser.until(lambda: page.answers == [first], "the chat is gone")
    page.click(RETRY)
    assert page.wait() == first
    assert page.bodies()[-1] == body


def test_a_setting_out_of_range_is_not_sent(page: ChatPage, browser: Browser) -> None:
    page.set(top_p=1.5)
    browser.find("#prompt").send_keys("Hello", Keys.ENTER)
    focused = "return document.activeElement.name"
    assert browser.run(focused) == "top_p"
    assert page.bodies() == [] and browser.find("#prompt").get_property("value") == "Hello"


def test_by_keyboard_alone(page: ChatPage, browser: Browser) -> None:
    """From the field, where the focus is at first, to every button and back."""
    page.set(max_tokens=400)
    browser.find("#prompt").click()
    browser.press("One line", Keys.SHIFT + Keys.ENTER, Keys.NULL, LONG)
    assert browser.find("#prompt").get_property("value") == f"One line\n{LONG}"
    browser.press(Keys.ENTER)
    browser.until(lambda: page.answers and page.answers[-1] != "")
    browser.press(Keys.ESCAPE)
    page.wait()
    assert page.stats[-1] == "stopped"
    reached = []
    for _ in range(40):
        browser.press_tab()
        label = "const e = document.activeElement; return e.ariaLabel || e.id || e.innerText"
        reached.append(browser.run(label))
    wanted = {"Edit message", "Copy message", "Retry answer", "Copy answer", "prompt", "send", "new-chat", "system"}
    assert wanted | {"setting-seed", "Chat", "Dashboard", "API", "Skip to content", "Conversation"} <= set(reached)
    while browser.run("return document.activeElement.ariaLabel") != "Edit message":
        browser.press_tab()
    browser.press(Keys.ENTER)
    browser.press(Keys.ESCAPE)
    assert browser.run("return document.activeElement.ariaLabel") == "Edit message"
    browser.press(Keys.ENTER)
    browser.press(Keys.CONTROL + "a", Keys.NULL, "Say hello.", Keys.ENTER)
    page.wait()
    assert page.said == ["Say hello."]


def test_a_server_that_dies_and_comes_back(browser: Browser, served: Served) -> None:
    """`served`, for the model to be there."""
    browser.resize(1440)
    dying = Served()
    port = str(urlsplit(dying.url).port)
    try:
        page = ChatPage(browser, dying.url)
        page.set(temperature=0, max_tokens=300)
        page.begin(LONG)
    finally:
        dying.process.kill()
        dying.process.wait()
    part = page.wait()
    assert part != "" and page.fault.startswith("The connection was lost What had come is kept.")
    page.click(RETRY)
    page.wait()
    assert page.fault.startswith("The server cannot be reached")
    assert browser.take_errors()
    page.set(max_tokens=20)
    again = Served("--port", port)
    try:
        page.click(RETRY)
        assert page.wait() != "" and not browser.find(".answer .banner").is_displayed()
    finally:
        again.end()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_a_chat_fits_any_width(browser: Browser, served: Served, width: int, scheme: str) -> None:
    browser.resize(1440)
    page = ChatPage(browser, served.url)
    page.set(temperature=0, max_tokens=60)
    browser.emulate(prefers_color_scheme=scheme)
    browser.resize(width, 780)
    page.send("Write a Python function `add_two_numbers_and_return_the_sum` in a code block.")
    assert not browser.scrolls_sideways
    inside = (
        "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.left, b.right, b.bottom]"
    )
    for selector in ("#composer", ".said", ".answer"):
        left, right, _ = browser.run(inside, selector)
        assert 0 <= left < right <= width
    assert browser.run(inside, "#send")[2] <= 780
    if width == 360:
        browser.find(".bar [popovertarget=chats]").click()
        assert browser.find("#new-chat").is_displayed()
        browser.press(Keys.ESCAPE)
        assert not browser.find("#new-chat").is_displayed()
        browser.find(".bar [popovertarget=settings]").click()
        assert browser.find("#setting-seed").is_displayed() and not browser.scrolls_sideways
