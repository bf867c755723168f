"""Logging in and out as people do: a real browser, with and without script, and two people on one server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest
from browser import ask, findings, finished, serving, watched
from conftest import make_records, write_jsonl

from assistant import Assistant, Config
from assistant.accounts import Accounts
from assistant.throttle import FREE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASSWORD = "correct horse battery"
QUESTION = "What does method m2 reach?"


class Site(NamedTuple):
    """A server that asks for a login."""

    url: str
    data: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("login")
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "a.jsonl", make_records(8))])
    accounts = Accounts(folder / "data/assistant/accounts.sqlite")
    for name in ("anna", "bert", "carl"):
        accounts.add_user(name, PASSWORD)
    with serving(folder, "--library", folder / "library") as url:
        yield Site(url, folder / "data/assistant")


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Fill in the form that is shown."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_each_user_sees_their_own_conversations_in_every_browser_and_nobody_elses(
    site: Site, chromium: Browser
) -> None:
    with watched(chromium) as page:
        page.goto(site.url)
        assert page.url == f"{site.url}/login" and page.title() == "Log in · Paper Assistant"
        log_in(page, "anna")
        page.get_by_role("link", name="Log out").wait_for()
        assert "logged in as anna" in page.locator("#header").inner_text()
        finished(page, ask(page, QUESTION))
        page.wait_for_url("**/?c=*")
        permalink = page.url
        cookies = page.context.cookies()
        assert [(each["name"], each.get("httpOnly"), each.get("sameSite")) for each in cookies] == [
            ("assistant_login", True, "Lax")
        ]
    with watched(chromium) as page:  # a link leads over the login to where it led
        page.goto(permalink)
        assert page.url.startswith(f"{site.url}/login?next=")
        log_in(page, "anna")
        page.get_by_text(QUESTION).first.wait_for()
        assert page.url == permalink
        page.get_by_role("tab", name="Saved").click()
        page.locator("#saved-list").get_by_text(QUESTION).first.wait_for()
    with watched(chromium) as page:
        page.goto(permalink)
        log_in(page, "bert")
        page.locator("#voice").get_by_text("This conversation is not among yours").wait_for()
        assert page.get_by_text(QUESTION).count() == 0
        page.get_by_role("tab", name="Saved").click()
        page.locator("#saved-list").wait_for()
        assert QUESTION not in page.locator("#saved").inner_text()


def test_whoever_logs_out_is_out_in_every_tab(site: Site, chromium: Browser) -> None:
    with watched(chromium) as page:
        page.goto(site.url)
        log_in(page, "bert")
        page.get_by_role("link", name="Log out").click()
        page.get_by_text("You are logged in as bert").wait_for()
        assert findings(page) == []
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        assert page.context.cookies() == []
        page.goto(f"{site.url}/?paper=x")
        assert page.url.startswith(f"{site.url}/login?next=")
    deeds = [json.loads(line)["deed"] for line in (site.data / "audit.jsonl").read_text().splitlines()]
    assert deeds[-1] == "logout" and "login" in deeds


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_works_without_script_on_a_phone_for_everybody(
    site: Site, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    with watched(chromium, viewport={"width": 390, "height": 844}, color_scheme=scheme) as page:
        page.goto(f"{site.url}/login")
        assert findings(page) == [] and page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("document.activeElement.id") == "name"
    context = chromium.new_context(java_script_enabled=False, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{site.url}/?c=abc")
    page.get_by_label("Name").fill("anna")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?c=abc")
    context.close()


def test_a_wrong_password_is_told_in_words_and_too_many_with_the_time_to_wait(site: Site, chromium: Browser) -> None:
    context = chromium.new_context()  # not watched: a browser writes each refusal to its console
    page = context.new_page()
    page.goto(site.url)
    for _ in range(FREE["name"]):
        log_in(page, "carl", "not the one")
        told = page.get_by_role("alert")
        assert told.inner_text() == "The name or the password is wrong; check both, and whether Caps Lock is on."
        assert page.get_by_label("Name").input_value() == "carl" and page.get_by_label("Password").input_value() == ""
    assert findings(page) == []
    for _ in range(9):  # of which one comes before its time, however slow the machine is
        log_in(page, "carl", "not the one")
        if "Too many logins failed; try again in" in page.get_by_role("alert").inner_text():
            break
    else:
        pytest.fail("nobody had to wait")
    log_in(page, "anna")  # nobody else has to wait
    page.get_by_role("link", name="Log out").wait_for()
    context.close()
