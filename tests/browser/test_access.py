"""Every page, wide and narrow, on each ground and in each palette: nothing for axe, the console or the content policy to complain of."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from playwright.sync_api import Page, expect

from accounts.models import Invitation, Role, User
from dashboards.templatetags.places import PLACES
from marketdata.models import Gap
from tests.browser.test_walk import MINUTE, close_minute, find, store, this_minute
from tests.people import PASSWORD, code_of, make_token

pytestmark = pytest.mark.browser
OURS = [place.address for place in PLACES if not place.address.startswith(("/admin/", "/api/"))]
UNKNOWN = "/symbols/NOSUCH/"
PAGES = [
    *OURS,
    "/symbols/AAPL/",
    UNKNOWN,
    "/accounts/",
    "/accounts/password/",
    "/accounts/sessions/",
    "/accounts/tokens/",
    "/accounts/people/",
]
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
SIZES = ((WIDE, "wide", "dark", "light"), (PHONE, "phone", "light", "dark"))
LEVELS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "resultTypes": ["violations"]}
RUN = "(options) => axe.run(options).then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map((node) => [id, node.html.slice(0, 160)])))"


def faults(page: Page, where: str, *, size: dict[str, int], ground: str, other: str) -> list[str]:
    """Hold the loaded page against all rules on one ground, and its colours once more on the other in the classic palette."""
    page.evaluate(Axe().axe_script)
    found = [f"{where} {ground}: {rule}: {node}" for rule, node in page.evaluate(RUN, LEVELS)]
    page.evaluate("(theme) => Object.assign(document.documentElement.dataset, { theme, palette: 'classic' })", other)
    found += [f"{where} {other} classic: {rule}: {node}" for rule, node in page.evaluate(RUN, COLOURS)]
    sideways = page.evaluate("document.documentElement.scrollWidth")
    return found + ([f"{where} is {sideways} wide"] if sideways > size["width"] else [])


def look_at(reader, steps: Iterable[tuple[str, Callable[[Page], object] | None]]) -> list[str]:
    """Open each address, do its step, and hold what then stands there in both sizes: one load a page and size."""
    complaints = []
    for path, step in steps:
        for size, name, ground, other in SIZES:
            reader.page.set_viewport_size(size)
            reader.page.emulate_media(color_scheme=ground, reduced_motion="reduce")  # a colour on its way to another would be neither
            answer = reader.page.goto(reader.address + path)
            if answer.status == 404 and path in OURS:
                break  # a place that this installation has not
            if step:
                step(reader.page)
            complaints += faults(reader.page, f"{name} {path}", size=size, ground=ground, other=other)
    return complaints


def is_live(page: Page) -> None:
    page.wait_for_selector("html[data-line=live]")


def test_no_page_has_a_fault_of_access_on_any_ground_in_any_palette(reader):
    newest = this_minute() - MINUTE
    for back in range(30, 0, -1):
        store(newest - back * MINUTE, 100 + back / 50, "AAPL", "MSFT")
    close_minute(newest, 101.0)
    find("AAPL", newest)
    Gap.objects.create(
        symbol_id="AAPL", first_minute=newest - 40 * MINUTE, last_minute=newest - 35 * MINUTE, cause="feed_down", opened_at=newest
    )
    ada = User.objects.get(username="ada")
    ada.take_role(Role.ADMIN)
    make_token(ada)
    Invitation.objects.issue(by=ada, role=Role.VIEWER, email="bob@example.com", at=datetime.now(UTC))
    reader.sign_in()

    complaints = look_at(reader, [(path, is_live) for path in PAGES])
    reader.forgive("404")  # the page of an unknown symbol is one

    assert not complaints, "\n".join(complaints)
    assert settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]["script-src"] == ["'self'"]


def test_the_door_has_no_fault_of_access(reader):
    ada = User.objects.get(username="ada")
    _, secret = Invitation.objects.issue(by=ada, role=Role.VIEWER, email="bob@example.com", at=datetime.now(UTC))
    number, token = urlsafe_base64_encode(force_bytes(ada.pk)), default_token_generator.make_token(ada)

    def refuse(page: Page) -> None:
        page.fill("[name=username]", "nobody")
        page.fill("[name=password]", "wrong")
        page.click("button")
        expect(page.locator("#fault")).to_be_visible()

    complaints = look_at(
        reader,
        [
            ("/accounts/login/", None),
            ("/accounts/login/", refuse),
            (f"/accounts/invitation/{secret}/", None),
            ("/accounts/invitation/over/", None),
            ("/accounts/password/reset/", None),
            ("/accounts/password/reset/sent/", None),
            (f"/accounts/password/reset/{number}/{token}/", None),
            (f"/accounts/password/reset/{number}/no-token/", None),
        ],
    )
    reader.forgive("404", "400")

    assert not complaints, "\n".join(complaints)


def test_the_pages_of_the_second_factor_have_no_fault_of_access(reader):
    reader.sign_in()
    page = reader.page

    complaints = look_at(reader, [("/accounts/second-factor/on/", None)])  # asks for the password again
    reader.go("/accounts/second-factor/on/")
    page.fill("main [name=password]", PASSWORD)
    page.click("main button")
    complaints += look_at(reader, [("/accounts/second-factor/on/", None)])
    page.fill("main [name=code]", code_of(page.inner_text("code.key")))
    page.click("main button")
    expect(page.locator(".codes li")).to_have_count(10)
    complaints += look_at(
        reader, [(f"/accounts/second-factor/{name}/", None) for name in ("codes", "codes/new", "off")] + [("/accounts/", None)]
    )
    page.context.clear_cookies()
    complaints += look_at(reader, [("/accounts/login/", _to_the_code)])

    assert not complaints, "\n".join(complaints)


def _to_the_code(page: Page) -> None:
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", PASSWORD)
    page.click("button")
    expect(page.locator("[name=code]")).to_be_visible()
