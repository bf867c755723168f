"""The settings of the page: what they change, what a test of the connection finds, and where keys never go."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from browser import ask, findings, finished, serving, watched
from conftest import write_jsonl
from endpoint import Endpoint, Reply, answer, completion, error, raw

from assistant import Assistant, Config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

SERVER_KEY, TYPED_KEY = "sk-of-the-server-0123456789", "sk-typed-by-hand-9876543210"
QUESTION = "How often do detectors find zebras?"
OK = answer("The detectors find zebras in 90 % of images [1].")
PAPERS: list[object] = [
    {
        "title": f"Zebra detection {n}",
        "abstract": f"Detector {n} finds zebras in {90 + n} % of images. It has {n} eyes.",
    }
    for n in range(5)
]
MODELS = {"object": "list", "data": [{"id": "zebra-1-small"}, {"id": "default-1"}, {"id": "something-else"}]}


class Site(NamedTuple):
    """A page whose server has an endpoint and a key of its own, and another endpoint."""

    url: str
    own: Endpoint
    other: Endpoint


def listing(reply: Reply) -> Callable[[dict[str, Any]], Reply]:
    """List models, and answer so when one is asked."""
    return lambda body: reply if "messages" in body else raw(json.dumps(MODELS).encode(), "application/json")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("settings")
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "papers.jsonl", PAPERS)])
    with Endpoint(OK) as own, Endpoint(OK) as other:
        arguments = ("--library", folder / "library", "--llm", own.url, "--model", "scripted")
        with serving(folder, *arguments, ASSISTANT_LLM_API_KEY=SERVER_KEY) as url:
            yield Site(url, own, other)


@pytest.fixture
def site(running: Site) -> Site:
    """Both endpoints answer, and know of no request."""
    running.own.become(listing(OK))
    running.other.become(listing(OK))
    return running


def reopened(page: Page) -> Page:
    """Return a new page in the same browser: Gradio complains when one is left while an event of it is under way."""
    new = page.context.new_page()
    page.close()
    return new


class Settings:
    """The tab, as a person uses it."""

    def __init__(self, page: Page, site: Site) -> None:
        self.site, self.page = site, page
        self._open()

    def open_again(self) -> None:
        self.page = reopened(self.page)
        self._open()

    def _open(self) -> None:
        self.page.goto(self.site.url)
        self.page.get_by_role("tab", name="Settings").click()
        self.key.and_(self.page.locator("[placeholder$='key is set.']")).wait_for()

    @property
    def url(self) -> Locator:
        return self.page.get_by_label(re.compile(r"^\s*Address of the endpoint"))

    @property
    def model(self) -> Locator:
        return self.page.get_by_label(re.compile(r"^\s*Model\b"))

    @property
    def key(self) -> Locator:
        return self.page.get_by_label(re.compile(r"^\s*Key\b"))

    @property
    def k(self) -> Locator:
        return self.page.get_by_label("number input for Sources")

    @property
    def extractive(self) -> Locator:
        return self.page.get_by_label("Sentences of the abstracts alone")

    def combobox(self, label: str) -> Locator:
        return self.page.get_by_role("combobox", name=label)

    def choose(self, label: str, option: str) -> None:
        self.combobox(label).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def save(self) -> str:
        return self._press("Save")

    def test(self) -> str:
        return self._press("Save and test the connection")

    def _press(self, button: str) -> str:
        outcome = self.page.locator("#settings-outcome")
        outcome.evaluate("element => element.querySelector('p')?.setAttribute('hidden', '')")
        self.page.get_by_role("button", name=button, exact=True).click()
        told = outcome.locator("p:not([hidden])").filter(has_not_text="Testing the connection…")
        told.wait_for()
        return told.inner_text()

    def ask(self) -> str:
        self.page.get_by_role("tab", name="Ask").click()
        text = finished(self.page, ask(self.page, QUESTION))
        self.page.get_by_role("tab", name="Settings").click()
        return text


def keys(endpoint: Endpoint) -> set[str]:
    """Return what came with the requests to an endpoint in place of a key."""
    return {str(request["headers"].get("authorization")) for request in endpoint.requests}


# --- The connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "model", "told"),
    [
        (error(401, "Incorrect API key provided."), "default-1", r".* does not accept the key: status 401, .*"),
        (
            error(404, "The model `zebra-1-smal` does not exist", code="model_not_found"),
            "zebra-1-smal",
            r".* does not have the model 'zebra-1-smal': .* Did you mean zebra-1-small\?",
        ),
        (
            completion("ready"),
            "default-1",
            r"The model 'default-1' .* answers, but all at once: .* streaming on .*",
        ),
        (OK, "default-1", r"The model 'default-1' at http://127\.0\.0\.1:\d+/v1 answers; its first words .*"),
    ],
    ids=["wrong key", "unknown model", "no streaming", "good"],
)
def test_a_test_of_the_connection_tells_exactly_what_is_wrong(
    site: Site, tab: Page, reply: Reply, model: str, told: str
) -> None:
    site.other.become(listing(reply))
    settings = Settings(tab, site)
    settings.url.fill(site.other.url)
    settings.model.fill(model)
    settings.key.fill(TYPED_KEY)
    said = settings.test()
    assert re.fullmatch(told, said) and site.other.url in said
    assert "llm_" not in said and TYPED_KEY not in said
    is_fault = tab.locator("#settings-outcome .fault").count() == 1
    assert is_fault == ("not" in told)


def test_a_connection_to_nothing_is_told_so(site: Site, tab: Page) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    settings = Settings(tab, site)
    settings.url.fill(address)
    said = settings.test()
    assert said.startswith(f"Nothing can be reached at {address}: ") and "correct the address" in said
    settings.url.fill("no address")
    assert settings.save().startswith("The address is 'no address'; give an http or https address")
    settings.open_again()
    assert settings.url.input_value() == address
    text = settings.ask()
    assert "The language model did not answer" in text and address.removesuffix("/v1") in text


# --- What they change -------------------------------------------------------------------------------------------------


def test_the_next_question_is_answered_by_the_model_that_was_chosen(site: Site, tab: Page) -> None:
    settings = Settings(tab, site)
    settings.url.fill(site.other.url)
    settings.model.fill("default-1")
    assert settings.save() == f"Saved. Answers are written by default-1 at {site.other.url}."
    tab.get_by_text("answers by default-1").wait_for()  # in the head of the page
    assert "Written by default-1" in settings.ask()
    assert [request["body"]["model"] for request in site.other.requests] == ["default-1"]
    assert site.own.requests == []


def test_sources_length_and_language_reach_the_endpoint_and_come_back_after_a_reload(site: Site, tab: Page) -> None:
    settings = Settings(tab, site)
    settings.k.fill("3")
    settings.choose("Length of an answer", "short")
    settings.choose("Language of an answer", "Deutsch")
    settings.save()
    text = settings.ask()
    assert "read 3 abstracts" in text
    [request] = site.own.requests
    assert request["body"]["max_tokens"] == 300
    assert "Answer in Deutsch." in request["body"]["messages"][0]["content"]
    assert len(re.findall(r"^\[\d\] Zebra", request["body"]["messages"][-1]["content"], re.MULTILINE)) == 3
    settings.open_again()
    assert settings.k.input_value() == "3"
    assert settings.combobox("Length of an answer").input_value() == "short"
    assert settings.combobox("Language of an answer").input_value() == "Deutsch"
    settings.combobox("Language of an answer").fill("Old  Norse $x$")
    settings.page.keyboard.press("Enter")
    settings.save()
    settings.ask()
    assert "Answer in Old Norse $x$." in site.own.requests[-1]["body"]["messages"][0]["content"]
    settings.open_again()
    assert settings.combobox("Language of an answer").input_value() == "Old Norse $x$"
    settings.choose("Language of an answer", "as the question")
    settings.save()
    settings.ask()
    assert "Answer in the language of the question." in site.own.requests[-1]["body"]["messages"][0]["content"]


def test_extractive_answers_ask_no_endpoint_and_leave_the_model_named(site: Site, tab: Page) -> None:
    settings = Settings(tab, site)
    settings.extractive.check()
    assert settings.save() == "Saved. Answers are sentences of the abstracts, word for word."
    assert "no language model was asked" in settings.ask()
    assert site.own.requests == []
    settings.open_again()
    assert settings.extractive.is_checked() and settings.model.input_value() == "scripted"
    assert "It is not asked" in settings.test()
    settings.extractive.uncheck()
    settings.save()
    site.own.become(OK)
    assert "Written by scripted" in settings.ask()
    settings.model.fill("")
    assert settings.save() == "Saved. Answers are sentences of the abstracts, word for word."
    settings.open_again()
    assert settings.model.input_value() == "" and not settings.extractive.is_checked()


def test_settings_are_those_of_one_browser(site: Site, tab: Page, chromium: Browser) -> None:
    settings = Settings(tab, site)
    settings.url.fill(site.other.url)
    settings.model.fill("mine")
    settings.key.fill(TYPED_KEY)
    settings.k.fill("2")
    settings.save()
    with watched(chromium) as page:
        theirs = Settings(page, site)
        assert (theirs.url.input_value(), theirs.model.input_value()) == (site.own.url, "scripted")
        assert theirs.k.input_value() == "8"
        assert "Written by scripted" in theirs.ask()
        theirs.url.fill(site.other.url)
        theirs.save()
        theirs.ask()
    assert "Written by mine" in settings.ask()
    assert keys(site.own) == {f"Bearer {SERVER_KEY}"}
    assert [TYPED_KEY in request["headers"]["authorization"] for request in site.other.requests] == [False, True]


# --- Keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_used_and_never_comes_back_to_the_browser(site: Site, tab: Page) -> None:
    settings = Settings(tab, site)
    settings.url.fill(site.other.url)
    settings.key.fill(TYPED_KEY)
    settings.test()
    settings.ask()
    assert keys(site.other) == {f"Bearer {TYPED_KEY}"}
    settings.open_again()
    assert settings.url.input_value() == site.other.url
    assert settings.key.input_value() == "" and settings.key.get_attribute("placeholder") == "A key is set."
    settings.save()  # a field that is left empty keeps it
    site.other.become(OK)
    settings.ask()
    assert keys(site.other) == {f"Bearer {TYPED_KEY}"}
    kept = settings.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    replies = [settings.page.request.get(site.url + path).text() for path in ("/", "/config", "/gradio_api/info")]
    for text in (kept, settings.page.content(), *replies):
        assert TYPED_KEY not in text and SERVER_KEY not in text


def test_a_key_of_the_server_goes_to_its_own_endpoint_alone(site: Site, tab: Page) -> None:
    settings = Settings(tab, site)
    assert settings.key.get_attribute("placeholder") == "A key is set."
    for address in (site.other.url, f"{site.own.url}/../../v1", site.own.url.replace("127.0.0.1", "localhost")):
        settings.url.fill(address)
        settings.test()
        settings.ask()
        assert settings.key.get_attribute("placeholder") == "No key is set."
    assert site.other.requests
    assert not any(SERVER_KEY in json.dumps(each) for each in (*site.other.requests, *site.own.requests))
    settings.url.fill(site.own.url)
    settings.save()
    assert settings.key.get_attribute("placeholder") == "A key is set."
    site.own.become(OK)
    settings.ask()
    assert keys(site.own) == {f"Bearer {SERVER_KEY}"}


# --- Light and dark, for everybody ------------------------------------------------------------------------------------


def test_light_or_dark_is_remembered_and_nothing_else(site: Site, tab: Page) -> None:
    page, is_dark = tab, []
    for _ in range(3):
        page.goto(site.url)
        button = page.get_by_role("button", name="Light or dark")
        button.wait_for()
        is_dark.append(page.locator("body.dark").count() == 1)
        button.click()
        is_dark.append(page.locator("body.dark").count() == 1)
        page.get_by_text("5 papers · ").wait_for()
        assert page.evaluate("Object.keys(localStorage)") == ["scheme"]
        page = reopened(page)
    assert is_dark == [False, True, True, False, False, True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_settings_can_be_used_by_everybody_on_any_screen(site: Site, chromium: Browser, scheme: str) -> None:
    with watched(chromium, color_scheme=scheme) as page:
        settings = Settings(page, site)
        settings.model.fill("an-endless-name-of-a-model" * 4)
        settings.save()
        assert findings(page) == []
        settings.url.fill("nowhere")
        settings.save()
        assert findings(page) == []
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_role("tab", name="Settings").focus()
        for wanted in (settings.k, settings.extractive, settings.url, settings.model, settings.key):
            reach(page, wanted)
        reach(page, page.get_by_role("button", name="Save", exact=True))
        page.keyboard.press("Enter")
        page.locator("#settings-outcome .fault").wait_for()


def reach(page: Page, wanted: Locator) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(20):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {wanted}")


# --- No API -----------------------------------------------------------------------------------------------------------


def test_no_event_of_the_page_is_an_api(site: Site, tab: Page) -> None:
    from gradio_client import Client

    info = tab.request.get(f"{site.url}/gradio_api/info").json()
    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}
    config = tab.request.get(f"{site.url}/config").json()
    assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}
    client = Client(site.url, verbose=False)
    try:
        for all_endpoints in (False, True):
            found = client.view_api(all_endpoints=all_endpoints, print_info=False, return_format="dict")
            assert found == {"named_endpoints": {}, "unnamed_endpoints": {}}
    finally:
        client.close()
