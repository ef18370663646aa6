"""A browser, and servers to open pages of: one with a small model, and one whose answers are scripted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser.chromium import WAIT_S, Browser, start_chromium
from selenium.webdriver import Chrome
from server.conftest import SocketServer
from server.fake_engine import REPLY, FakeEngine
from server.served import MODEL, Served

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    driver.set_script_timeout(WAIT_S)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Iterator[Browser]:
    """Clean; at its end nothing may stand in the console that the test has not taken."""
    tab = Browser(chromium)
    tab.reset()
    yield tab
    assert tab.take_errors() == []


@pytest.fixture(scope="session")
def served(real_model: Callable[[str], Path]) -> Iterator[Served]:
    """The real server, as users start it."""
    real_model(MODEL)
    running = Served()
    yield running
    assert running.end() == 0, "".join(running.lines)


@pytest.fixture(scope="session")
def shared_scripted_server() -> Iterator[SocketServer]:
    with SocketServer(FakeEngine) as running:
        yield running


@pytest.fixture
def scripted(shared_scripted_server: SocketServer) -> Iterator[SocketServer]:
    """`scripted.engine` says what a test wants; changes are undone."""
    engine = shared_scripted_server.engine
    yield shared_scripted_server
    engine.reply = lambda prompt, sample: REPLY
    engine.is_held, engine.hold_after, engine.fails_after = False, 0, None
    engine.num_cached_tokens, engine.tokens_per_step = 0, 1


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Name → its file in docs/images; skips unless --screenshots asks for them."""
    if not request.config.getoption("--screenshots"):
        pytest.skip("pictures are made with --screenshots")
    return lambda name: ROOT / "docs" / "images" / f"{name}.png"
