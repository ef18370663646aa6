"""The chat page against answers that a test writes: faults, hostile texts, reasoning, a base model, keys, what is kept."""

import dataclasses
import re
from collections.abc import Iterator

import pytest
from browser.chat_page import ChatPage
from browser.chromium import Browser
from selenium.webdriver.common.keys import Keys
from server.conftest import SocketServer
from server.fake_engine import FakeEngine

KEY = "sk-octavo-123"
HOSTILE = '<img src=x onerror="document.title=1"> [a](javascript:alert(1)) <script>document.title=1</script>'
RETRY = "[aria-label='Retry answer']"


@pytest.fixture
def page(browser: Browser, scripted: SocketServer) -> ChatPage:
    browser.resize(1440)
    return ChatPage(browser, scripted.url)


def say(server: SocketServer, text: str, tokens_per_step: int = 8) -> None:
    server.engine.reply = lambda prompt, sample: text
    server.engine.tokens_per_step = tokens_per_step


def test_hostile_texts_are_shown_as_they_are(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    title = browser.driver.title
    say(scripted, HOSTILE)
    assert page.send(HOSTILE) == HOSTILE
    assert page.said == [HOSTILE]
    assert browser.text(".chat-list .open").startswith("<img src=x")
    browser.driver.refresh()
    browser.until(lambda: page.answers == [HOSTILE], "the chat is gone")
    assert browser.find_all("#messages img, #messages script, #messages a, #chats img") == []
    assert browser.driver.title == title
    assert browser.outside_requests(scripted.url) == []


def test_markdown_is_shown_while_it_comes(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    say(scripted, "Some **bold** words.\n\n```python\nprint(1)\n```\n\n1. one\n2. two", tokens_per_step=1)
    scripted.engine.is_held, scripted.engine.hold_after = True, 24
    page.begin("Go")
    browser.until(lambda: browser.find_all(".answer strong"), "nothing is bold yet")
    assert page.is_busy
    scripted.engine.is_held = False
    page.wait()
    assert [node.text for node in browser.find_all(".answer li")] == ["one", "two"]
    browser.find(".code button").click()
    browser.until(lambda: browser.text(".code button") in ("Copied", "Not allowed"))
    assert browser.text(".code code") == "print(1)"


def test_reasoning_is_folded(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    say(scripted, "<think>Two and two.\n\n- four</think>\n\nFour.")
    assert page.send("2 + 2?") == "Four."
    details = browser.find(".reasoning")
    assert details.get_property("open") is False and details.text == "Reasoning"
    browser.find(".reasoning summary").click()
    assert browser.text(".reasoning .prose") == "Two and two.\nfour"
    page.send("Sure?")
    assert page.bodies()[1]["messages"][1] == {"role": "assistant", "content": "Four."}


def test_a_failure_within_the_answer_is_said(page: ChatPage, scripted: SocketServer) -> None:
    say(scripted, "All of the answer.", tokens_per_step=1)
    scripted.engine.fails_after = 6
    assert page.send("Go") == "All o"
    assert page.fault.startswith("The server failed") and "the step failed" in page.fault.lower()


def test_a_conversation_that_is_too_long_says_what_to_do(page: ChatPage, browser: Browser) -> None:
    browser.run("document.getElementById('prompt').value = 'x'.repeat(600)")
    page.send(" ")
    assert page.fault.startswith("The conversation is too long") and "begin a new chat" in page.fault
    assert "512" in page.fault
    [error] = browser.take_errors()
    assert "400" in error


def test_a_full_queue_says_when_to_come_back(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    engine = scripted.engine
    places = engine.admission.take(engine.info.max_num_seqs + engine.info.max_num_queued_reqs)
    try:
        page.send("Go")
    finally:
        places.give_back(engine.info.max_num_seqs + engine.info.max_num_queued_reqs)
    assert re.search(r"^The server is busy .*Retry in \d+ s\.$", page.fault)
    assert "503" in browser.take_errors()[0]
    page.click(RETRY)
    assert page.wait() != ""


def test_what_is_heard_comes_in_parts(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    say(scripted, "First part.\n\nSecond part.", tokens_per_step=1)
    page.send("Go")
    heard = browser.find_all("#announcer p")
    texts = [node.get_property("textContent") for node in heard]
    assert texts == ["Answering", "First part.", "Second part.", "End of the answer, 26 tokens"]
    region = browser.find("#announcer")
    assert (region.get_attribute("aria-live"), region.get_attribute("role")) == ("polite", "status")


def test_chats_are_kept_opened_and_deleted(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    say(scripted, "One.")
    page.send("First chat")
    browser.find("#new-chat").click()
    assert page.said == [] and browser.find("#greeting").is_displayed()
    say(scripted, "Two.")
    page.send("Second chat")
    titles = lambda: [node.text for node in browser.find_all(".chat-list .open")]  # noqa: E731
    assert titles() == ["Second chat", "First chat"]
    page.click(".chat-list .open", 1)
    assert (page.said, page.answers) == (["First chat"], ["One."])
    assert page.stats[0].startswith("TTFT")
    browser.driver.refresh()
    browser.until(lambda: page.said == ["First chat"])
    page.click(".chat-list .drop", 1)
    assert titles() == ["Second chat"] and page.said == []


def test_another_chat_stops_the_answer(page: ChatPage, browser: Browser, scripted: SocketServer) -> None:
    say(scripted, "All of the answer.", tokens_per_step=1)
    scripted.engine.is_held, scripted.engine.hold_after = True, 6
    page.begin("First chat")
    browser.find("#new-chat").click()
    browser.until(lambda: not page.is_busy)
    assert page.answers == [] and browser.find("#greeting").is_displayed()
    browser.until(lambda: scripted.engine.open_ids == set(), "the request goes on")
    page.click(".chat-list .open")
    assert page.answers == ["All of"] and page.stats[-1] == "stopped"


def test_a_chat_that_is_deleted_while_it_is_answered_is_gone(
    page: ChatPage, browser: Browser, scripted: SocketServer
) -> None:
    say(scripted, "All of the answer.", tokens_per_step=1)
    scripted.engine.is_held, scripted.engine.hold_after = True, 6
    page.begin("Go")
    page.click(".chat-list .drop")
    browser.until(lambda: not page.is_busy)
    assert browser.find_all(".chat-list li") == [] and page.said == []


def test_all_chats_are_deleted_when_that_is_meant(page: ChatPage, browser: Browser) -> None:
    page.send("Go")
    for answer in ("dismiss", "accept"):
        assert browser.find_all(".chat-list li")
        browser.find("#delete-all").click()
        getattr(browser.driver.switch_to.alert, answer)()
    assert browser.find_all(".chat-list li") == [] and page.said == []
    assert browser.run("return localStorage.getItem('octavo.chats')") is None


def test_the_store_is_bounded(browser: Browser, scripted: SocketServer) -> None:
    browser.open(f"{scripted.url}/")
    kept = browser.run_async(
        """
        const { ChatStore, MAX_CHARS } = await import("/web/chat/store.js");
        const { MemoryStorage } = await import("/web/chat/storage.js");
        const storage = new MemoryStorage(), store = new ChatStore(storage);
        const chat = (id, size) => ({ id, title: id, messages: [{ role: "user", text: "x".repeat(size) }] });
        for (let i = 0; i < 60; i++) store.save(chat(`c${i}`, 10));
        const many = store.list().map(({ id }) => id);
        const isSaved = store.save(chat("large", MAX_CHARS - 500));
        const few = store.list().map(({ id }) => id);
        const isTooLarge = store.save(chat("huge", MAX_CHARS));
        const small = new ChatStore({ getItem: () => null, setItem: () => { throw new Error("full"); }, removeItem() {} });
        const strange = new ChatStore({ getItem: () => '{"not": "ours"}' });
        return { many, isSaved, few, isTooLarge, size: storage.getItem("octavo.chats").length,
                 isFull: small.save(chat("a", 1)), strange: strange.list() };
        """
    )
    assert kept["many"] == [f"c{number}" for number in range(59, 9, -1)]
    assert kept["isSaved"] and kept["few"][0] == "large" and len(kept["few"]) < 10
    assert kept["isTooLarge"] is False and kept["isFull"] is False and kept["strange"] == []
    assert kept["size"] <= 2_000_000


@pytest.fixture(scope="module")
def base_model() -> Iterator[SocketServer]:
    def make() -> FakeEngine:
        engine = FakeEngine()
        engine.front_end = dataclasses.replace(engine.front_end, chat_template=None)  # type: ignore[arg-type]
        engine.reply = lambda prompt, sample: " and *so* on"
        return engine

    with SocketServer(make) as running:
        yield running


def test_a_base_model_continues_text(browser: Browser, base_model: SocketServer) -> None:
    browser.resize(1440)
    page = ChatPage(browser, base_model.url)
    assert "no chat template" in browser.text("#base-note")
    assert not browser.find("#system").is_displayed()
    assert page.send("Once").strip() == "and *so* on"
    page.send(", then")
    asked = page.bodies("/v1/completions")
    assert [body["prompt"] for body in asked] == ["Once", "Once and *so* on, then"]
    assert asked[0]["max_tokens"] == 256 and page.bodies() == []


@pytest.fixture(scope="module")
def locked() -> Iterator[SocketServer]:
    with SocketServer(FakeEngine, api_key=(KEY,)) as running:
        yield running


def test_with_the_key_as_a_password_all_goes_on(browser: Browser, locked: SocketServer) -> None:
    browser.driver.get(f"{locked.url}/")
    assert browser.find_all("#prompt") == []
    browser.take_errors()
    page = ChatPage(browser, locked.url.replace("//", f"//anybody:{KEY}@"))
    assert page.send("Hello") != ""
    page = ChatPage(browser, locked.url)
    assert page.send("Hello") != ""
    assert browser.outside_requests(locked.url) == []


def test_a_server_that_is_away_at_first(browser: Browser, scripted: SocketServer) -> None:
    browser.open(f"{scripted.url}/docs")
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/models"]})
    browser.driver.get(f"{scripted.url}/")
    browser.until(lambda: browser.find("#start-fault").is_displayed())
    assert "cannot be reached" in browser.text("#start-fault")
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    browser.press_tab()
    browser.find("#start-fault button").send_keys(Keys.ENTER)
    browser.until(lambda: browser.find("#prompt").is_displayed())
    assert not browser.find("#start-fault").is_displayed()
    browser.take_errors()
