"""A real browser before a real web process. Everything a page complains of is kept, and a test fails by it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from marketdata.models import Universe
from tests.conftest import load_first_rows
from tests.dashboards.conftest import Web, web, web_process  # noqa: F401 - fixtures
from tests.people import PASSWORD, make_user

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # sync Playwright keeps an event loop in this thread
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
VIOLATIONS = "document.addEventListener('securitypolicyviolation', (event) => console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI))"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = next((path for path in CHROMIUM if Path(path).exists()), None)
    if chromium is None:
        pytest.fail("The browser tests need Debian's chromium: apt install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


@dataclass
class Reader:
    """Someone with a browser, and what its console said against our pages."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open a page."""
        self.page.goto(self.address + path)

    def sign_in(self, *, live: bool = True) -> None:
        """Come in by the door, and wait for the page's line."""
        self.go("/accounts/login/")
        self.page.fill("[name=username]", "ada")
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("button")
        words = self.page.locator("#line-words")
        expect(words).to_contain_text("This page: live" if live else "This page", timeout=20_000)

    def forgive(self, *words: str) -> None:
        """Forget complaints that a test provoked."""
        self.complaints[:] = [said for said in self.complaints if not any(word in said for word in words)]


def _is_complaint(said: ConsoleMessage) -> bool:
    """Whoever leaves a page before its socket is open makes the browser say so; that is no fault of the page."""
    return said.type in {"error", "warning"} and "closed before the connection is established" not in said.text


def _open(context: BrowserContext, address: str) -> Reader:
    context.add_init_script(VIOLATIONS)
    reader = Reader(context.new_page(), address)
    reader.page.on("console", lambda said: reader.complaints.append(said.text) if _is_complaint(said) else None)
    reader.page.on("pageerror", lambda error: reader.complaints.append(str(error)))
    return reader


@pytest.fixture
def reader(browser: Browser, web: Web) -> Iterator[Reader]:  # noqa: F811 - the fixture of that name
    if not Universe.objects.exists():  # another test has flushed them
        load_first_rows()
    make_user("ada")
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    reader = _open(context, f"http://{web.host}")
    yield reader
    context.close()
    assert reader.complaints == []
