"""What is one's own, by hand in a browser: no page of it complains, and each leads on."""

import re

import pytest
from playwright.sync_api import expect

from tests.people import PASSWORD, code_of

pytestmark = pytest.mark.browser


def test_a_person_turns_on_the_second_factor_and_makes_a_token(reader):
    reader.sign_in()
    page = reader.page

    reader.go("/accounts/")
    page.click("text=Turn on")
    page.fill("main [name=password]", PASSWORD)
    page.click("main button")
    expect(page.locator("img.qr")).to_be_visible()
    page.fill("main [name=code]", code_of(page.inner_text("code.key")))
    page.click("main button")
    expect(page.locator(".codes li")).to_have_count(10)

    page.click("text=Back to the account")
    expect(page.locator("main")).to_contain_text("10 recovery codes left")
    page.click("text=Make and revoke")
    page.fill("main [name=name]", "my script")
    page.click("text=Make the token")
    expect(page.locator(".secret input")).to_have_value(re.compile(r"^ts_\w{10}_\w{43}$"))
    page.click("text=Back to the account")
    page.click("text=See and end")
    expect(page.locator("main")).to_contain_text("this one")
