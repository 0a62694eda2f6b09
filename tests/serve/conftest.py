"""The page of the server, open in headless Chromium."""

from collections.abc import Iterator

import pytest

from chromium import CHROMIUM, Chromium, Tab
from page_actions import READY
from page_server import PageServer


@pytest.fixture(scope="session")
def page_server() -> Iterator[PageServer]:
    server = PageServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def tab(browser: Chromium) -> Iterator[Tab]:
    with browser.tab() as tab:
        yield tab


@pytest.fixture
def page(page_server: PageServer, tab: Tab) -> Iterator[Tab]:
    """The page, loaded again; no test may leave an exception, or break the content security policy."""
    page_server.reset()
    tab.reset()
    tab.open(page_server.url, ready=READY)
    yield tab
    tab.evaluate("sessionStorage.clear()")
    assert [event["params"] for event in tab.events if event["method"] == "Runtime.exceptionThrown"] == []
    entries = [event["params"]["entry"] for event in tab.events if event["method"] == "Log.entryAdded"]
    assert [entry for entry in entries if entry["source"] in ("security", "javascript", "violation")] == []
