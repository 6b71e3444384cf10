"""Every page, wide and narrow, on each ground and in each palette: nothing for axe, the console or the content policy to complain of."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings

from dashboards.templatetags.places import PLACES
from marketdata.models import Gap
from tests.browser.test_walk import MINUTE, close_minute, find, store, this_minute

pytestmark = pytest.mark.browser
OURS = [place.address for place in PLACES if not place.address.startswith(("/admin/", "/api/"))]
UNKNOWN = "/symbols/NOSUCH/"
PAGES = [*OURS, "/symbols/AAPL/", UNKNOWN]
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LEVELS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "resultTypes": ["violations"]}


def faults(page, where: str, options: dict) -> list[str]:
    found = Axe().run(page, options=options).response["violations"]
    return [f"{where}: {one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


def test_no_page_has_a_fault_of_access_on_any_ground_in_any_palette(reader):
    newest = this_minute() - MINUTE
    for back in range(30, 0, -1):
        store(newest - back * MINUTE, 100 + back / 50, "AAPL", "MSFT")
    close_minute(newest, 101.0)
    find("AAPL", newest)
    Gap.objects.create(
        symbol_id="AAPL", first_minute=newest - 40 * MINUTE, last_minute=newest - 35 * MINUTE, cause="feed_down", opened_at=newest
    )
    reader.sign_in()
    page = reader.page
    complaints: list[str] = []
    for size, name, ground, other in ((WIDE, "wide", "dark", "light"), (PHONE, "phone", "light", "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=ground, reduced_motion="reduce")  # a colour on its way to another would be neither
        for path in PAGES:
            answer = page.goto(reader.address + path)
            if answer.status == 404 and path != UNKNOWN:
                continue  # a place that this installation has not
            page.wait_for_selector("html[data-line=live]")
            complaints += faults(page, f"{name} {ground} {path}", LEVELS)
            page.evaluate("(theme) => Object.assign(document.documentElement.dataset, { theme, palette: 'classic' })", other)
            complaints += faults(page, f"{name} {other} classic {path}", COLOURS)
            sideways = page.evaluate("document.documentElement.scrollWidth")
            complaints += [f"{name} {path} is {sideways} wide"] if sideways > size["width"] else []
    reader.forgive("404")  # the page of an unknown symbol is one

    assert not complaints, "\n".join(complaints)
    assert settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]["script-src"] == ["'self'"]
