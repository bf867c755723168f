"""What is kept and taken along: conversations that outlive server and papers, their files, and whose they are."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import bibtexparser
import pytest
import rispy
from browser import FLAGS, PATIENCE_MS, ask, findings, finished, lit, serving, watched
from conftest import write_jsonl
from endpoint import Endpoint, Reply, answer, status

from assistant import Assistant, Config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

OFF_TOPIC = "Who won the football world cup?"
ZEBRA = "How often does the zebra detector find zebras?"
GLACIER = "How fast do glaciers move?"
POEM = "How long do robots read poems?"
SLOW = "How many poems do the robots write?"
QUOTES = ["The zebra detector finds zebras in 93.1 % of images.", "Glaciers move by 3 metres a year."]
DOI = "10.1000/zebra.1"
PAPERS: list[object] = [
    {
        "title": "Zebra detection",
        "abstract": f"{QUOTES[0]} It needs two hours of training on one machine. Its errors are horses in the shade.",
        "authors": ["Ann Author", "Bo Writer"],
        "year": 2021,
        "venue": "ZebraConf",
        "doi": DOI,
    },
    {"title": "Glaciers and prices", "abstract": f"{QUOTES[1]} The price of their ice rises by 4 % each summer."},
    {"title": "Poems and robots", "abstract": "Robots read poems for 5 hours. They write 6 poems of their own."},
]
SAID = {
    ZEBRA: answer("The zebra detector finds zebras in 93.1 % of images [1]. It needs two hours of training [1]."),
    GLACIER: status(403),
    POEM: answer("Robots read poems for 5 hours [1]."),
    SLOW: answer("They write 6 poems of their own [1]. Robots read poems for 5 hours [1].", 4, delay_s=0.15),
}


@dataclass(frozen=True)
class Kept:
    """A page whose conversation of three turns was asked of a server that has ended since."""

    page: Page
    url: str
    """Of the server that runs now."""
    ident: str

    @property
    def link(self) -> str:
        return f"{self.url}/?c={self.ident}"


def say(body: dict[str, Any]) -> Reply:
    """Answer as the question wants it."""
    question = body["messages"][-1]["content"].rpartition("Question: ")[2].strip()
    return SAID[question]


def visit(page: Page, url: str) -> None:
    """Open an address."""
    page.goto(url)
    page.get_by_text("answers by scripted").wait_for()


def identity(page: Page) -> str:
    """Return the conversation that the page's address names."""
    page.wait_for_url("**/?c=*")
    return parse_qs(urlsplit(page.url).query)["c"][0]


def show_saved(page: Page) -> Locator:
    """Open the tab; return the items of its list."""
    page.get_by_role("tab", name="Saved").click()
    page.locator("#saved-list").wait_for()
    return page.locator(".saved-list li")


@contextmanager
def much_used(chromium: Browser) -> Iterator[Page]:
    """Open a page that is left and entered many times; Gradio complains when an event of it is under way then."""
    context = chromium.new_context(viewport={"width": 1366, "height": 900})
    seen: list[str] = []
    context.on("console", lambda message: message.type in {"error", "warning"} and seen.append(message.text))
    context.on("weberror", lambda error: seen.append(str(error.error)))
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
    assert [each for each in seen if not re.search("Connection errored out|AbortError: signal is aborted", each)] == []


@pytest.fixture(scope="module")
def kept(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A conversation of an abstention, an LLM's answer and an extractive one; then one of its papers was removed."""
    folder = tmp_path_factory.mktemp("kept")
    library = folder / "library"
    with Assistant(Config(library=library)) as assistant:
        assistant.ingest([write_jsonl(folder / "papers.jsonl", PAPERS)])
    with Endpoint(say) as endpoint, much_used(chromium) as page:
        arguments = ("--library", library, "--llm", endpoint.url, "--model", "scripted")
        with serving(folder, *arguments) as url:
            visit(page, url)
            assert "The library holds nothing" in finished(page, ask(page, OFF_TOPIC))
            assert "Written by scripted" in finished(page, ask(page, ZEBRA))
            assert "did not answer" in finished(page, ask(page, GLACIER))
            ident = identity(page)
            page.goto("about:blank")
        done = subprocess.run(
            [sys.executable, "-m", "assistant", "remove", "--library", str(library), f"doi:{DOI}"],
            cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "removed 1 of 1" in done.stdout
        with serving(folder, *arguments) as url:
            yield Kept(page, url, ident)
            page.goto("about:blank")


# --- Opened again -----------------------------------------------------------------------------------------------------


def open_every_marker(page: Page) -> list[str]:
    """Click every marker; return the texts that are marked for them, each in its card, in sight and lit."""
    page.locator("#sources-3[data-state=over]").wait_for()
    page.locator("#notes-3.over").wait_for()
    found = []
    for marker in page.locator("#chat a.mark").all():
        place = str(marker.get_attribute("id")).rpartition("-")[2]
        card = page.locator(str(marker.get_attribute("href")))
        lit(marker, card)
        assert page.locator(".lit").count() == 1
        quotes = card.locator(f"mark[data-places~='{place}']")
        quotes.first.wait_for()
        found.append(" ".join(quotes.all_inner_texts()))
    return found


def test_every_citation_of_every_turn_opens_its_card_after_a_restart_without_its_paper(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.link)
    quotes = open_every_marker(page)
    assert quotes[:2] == [QUOTES[0], "It needs two hours of training on one machine."]
    assert len(quotes) > 3 and QUOTES[1] in quotes
    assert page.locator("#sources-1 .card").count() > 0  # the closest papers of the abstention
    page.reload()
    assert open_every_marker(page) == quotes
    page.locator("#src-2-1").get_by_role("link", name="In the library").click()
    page.locator("#sheet").get_by_text(re.compile("not in the library|removed", re.IGNORECASE)).first.wait_for()


def test_a_conversation_is_listed_found_by_a_word_of_its_answer_named_and_opened(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.url)
    items = show_saved(page)
    items.filter(has_text=OFF_TOPIC).get_by_text("3 questions").wait_for()
    item = page.locator(f"[data-id='{kept.ident}']")
    search = page.get_by_label("Search in questions and answers")
    search.fill("SUMMER glaciers")  # the first stands in an answer alone
    item.wait_for()
    search.fill("summer unicorns")
    page.get_by_text("No conversation holds all of these words").wait_for()
    assert items.count() == 0
    search.fill("summer")
    item.get_by_role("button", name="Rename").click()
    item.get_by_role("button", name="Cancel").click()
    item.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("  ")
    page.keyboard.press("Enter")
    assert not page.get_by_label("New name").evaluate("input => input.validity.valid")
    page.get_by_label("New name").fill("Zoo & <b>ice</b> $x$")
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="Zoo & <b>ice</b>")
    link.wait_for()
    assert link.evaluate("link => link === document.activeElement")
    assert search.input_value() == "summer"
    search.fill("unicorns")
    link.wait_for(state="detached")
    page.reload()
    show_saved(page)
    link.click()
    page.locator("#sources-3").wait_for()
    assert identity(page) == kept.ident
    page.request.post(f"{kept.url}/page/saved/{kept.ident}/name", form={"name": OFF_TOPIC})


def test_a_conversation_is_deleted_by_a_second_press_and_then_gone_for_its_link_too(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.url)
    finished(page, ask(page, POEM))
    ident = identity(page)
    items = show_saved(page)
    button = items.filter(has_text=POEM).get_by_role("button", name="Delete")
    button.click()
    assert button.inner_text() == "Delete for good"
    assert "for good" in str(button.get_attribute("aria-label"))
    page.get_by_label("Search in questions and answers").focus()
    assert button.inner_text() == "Delete"
    assert items.count() == 2
    button.click()
    button.click()
    page.wait_for_url(f"{kept.url}/")  # it was the one that the page showed
    page.get_by_text("answers by scripted").wait_for()
    assert page.locator("#chat .bot-row").count() == 0
    items = show_saved(page)
    items.filter(has_text=OFF_TOPIC).wait_for()
    assert items.count() == 1
    visit(page, f"{kept.url}/?c={ident}")
    page.locator("#voice.alert").get_by_text("This conversation is not among yours").wait_for()
    assert POEM not in page.locator("#chat").inner_text()


def test_what_was_asked_meanwhile_is_in_the_list_when_it_comes_into_sight_again(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.url)
    show_saved(page).filter(has_text=OFF_TOPIC).wait_for()
    page.get_by_role("tab", name="Ask").click()
    finished(page, ask(page, POEM))
    item = show_saved(page).filter(has_text=POEM)
    item.wait_for()
    page.get_by_role("tab", name="Settings").click()
    page.request.post(f"{kept.url}/page/saved/{identity(page)}/delete")
    show_saved(page)
    item.wait_for(state="detached")


# --- Taken along ------------------------------------------------------------------------------------------------------


def test_its_files_hold_exactly_the_cited_papers(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.link)
    quotes = open_every_marker(page)
    cited = set(
        page.locator("#sources .card:has(mark) h4").evaluate_all("all => all.map(e => e.lastChild.data.trim())")
    )
    assert {"Zebra detection", "Glaciers and prices"} <= cited
    files = {}
    for name in ("Markdown", "BibTeX", "RIS", "CSV"):
        with page.expect_download() as download:
            page.locator("#take-along").get_by_role("link", name=name).click()
        file = download.value.suggested_filename
        assert file == "Who-won-the-football-world-cup" + Path(file).suffix
        files[Path(file).suffix] = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert set(files) == {".md", ".bib", ".ris", ".csv"}
    text = files[".md"].replace("\\", "")
    for part in (OFF_TOPIC, ZEBRA, GLACIER, "[1]", *cited, *(f"“{each}”" for each in quotes)):
        assert part in text
    entries = bibtexparser.parse_string(files[".bib"]).entries
    assert {entry["title"].strip("{}") for entry in entries} == cited and len(entries) == len(cited)
    assert {entry["title"] for entry in rispy.loads(files[".ris"])} == cited
    assert {row["title"] for row in csv.DictReader(io.StringIO(files[".csv"]))} == cited
    reply = page.request.get(f"{kept.url}/page/saved/{kept.ident}/export?form=csv&turn=2")
    assert [row["title"] for row in csv.DictReader(io.StringIO(reply.text()))] == ["Zebra detection"]
    assert "How-often-does-the-zebra-detector-find-zebras.csv" in reply.headers["content-disposition"]
    reply = page.request.get(f"{kept.url}/page/saved/{kept.ident}/export?turn=4")
    assert reply.status == 422 and "this conversation has 3" in reply.text()
    reply = page.request.get(f"{kept.url}/page/saved/{kept.ident}/export?form=docx")
    assert reply.status == 422 and "the forms are bibtex, ris" in reply.text()


def test_the_files_are_offered_as_soon_as_there_is_an_answer(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.url)
    finished(page, ask(page, POEM))
    link = page.locator("#take-along").get_by_role("link", name="BibTeX")
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    assert "Poems and robots" in Path(download.value.path()).read_text(encoding="utf-8")
    page.request.post(f"{kept.url}/page/saved/{identity(page)}/delete")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ('x".exe"; filename="y\r\nSet-Cookie: a=b', "x-.exe-filename-y-Set-Cookie-a-b"),
        ("C:\\con\\..\\evil.lnk ", "C-con-..-evil.lnk"),
        ("\u202egpj.exe", "gpj.exe"),
        ("零样本学习", "conversation"),
        ("...", "conversation"),
        ("long " * 100, re.compile("(long-){9,12}(long)?")),
    ],
)
def test_no_question_makes_a_name_of_a_file_that_a_system_would_not_take(
    kept: Kept, name: str, file: str | re.Pattern[str]
) -> None:
    ask_for, saved = kept.page.request, f"{kept.url}/page/saved/{kept.ident}"
    assert ask_for.post(f"{saved}/name", form={"name": name}).ok
    headers = ask_for.get(f"{saved}/export?form=bibtex").headers
    ask_for.post(f"{saved}/name", form={"name": OFF_TOPIC})
    found = re.fullmatch(r'attachment; filename="([\w.-]{1,60})\.bib"', headers["content-disposition"], re.ASCII)
    assert found and re.fullmatch(file, found[1])
    assert "set-cookie" not in headers


def test_the_link_to_a_conversation_is_copied(kept: Kept) -> None:
    page = kept.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit(page, kept.link)
    page.get_by_role("link", name="Link to this conversation").click()
    page.locator("#voice").get_by_text("The link is copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == kept.link
    page.context.clear_permissions()


# --- What a reader thinks of it ---------------------------------------------------------------------------------------


def rate(page: Page, button: str, word: str | None) -> None:
    """Press a button of an answer, and give a word."""
    page.locator(f"#{button}").click()
    dialog = page.get_by_role("dialog")
    if word is None:
        dialog.get_by_role("button", name="Without a word").click()
    else:
        dialog.get_by_label("In a word").fill(word)
        dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="hidden")
    page.locator("#voice").get_by_text("Thank you, noted.").wait_for()


def test_what_a_reader_thinks_is_kept_taken_along_and_taken_back(kept: Kept, chromium: Browser) -> None:
    page = kept.page
    visit(page, kept.link)
    page.locator("#notes-3").wait_for()
    rate(page, "like-2", 'Right, "exactly" <so>.')
    rate(page, "dislike-3", None)
    page.reload()
    page.locator("#like-2.on").wait_for()
    assert page.locator("#chat .act.on").evaluate_all("all => all.map(e => e.id)") == ["like-2", "dislike-3"]
    show_saved(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="What you thought of the answers").click()
    assert download.value.suggested_filename == "feedback.jsonl"
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    told = [(each["question"], each["verdict"], each["word"]) for each in map(json.loads, lines)]
    assert told == [(ZEBRA, "like", 'Right, "exactly" <so>.'), (GLACIER, "dislike", "")]
    other = chromium.new_context()
    assert other.request.get(kept.url).ok and len(other.cookies()) == 1
    assert other.request.get(f"{kept.url}/page/saved/feedback").text() == ""
    other.close()
    assert json.loads(lines[0])["model"] == "scripted" and len(json.loads(lines[0])["cited"]) == 1
    page.get_by_role("tab", name="Ask").click()
    page.locator("#like-2").click()
    page.locator("#voice").get_by_text("Taken back.").wait_for()
    page.reload()
    page.locator("#dislike-3.on").wait_for()
    assert page.locator("#like-2.on").count() == 0
    page.request.post(f"{kept.url}/page/feedback", form={"c": kept.ident, "turn": "3"})
    assert page.request.get(f"{kept.url}/page/saved/feedback").text() == ""


# --- One's own --------------------------------------------------------------------------------------------------------


def reach(url: str, page: Page, ident: str) -> dict[str, tuple[int, str]]:
    """Return what a browser is given of a conversation, by every door that names one."""
    saved, one = f"{url}/page/saved/{ident}", {"c": ident, "turn": "1"}
    get, post = page.request.get, page.request.post
    replies = {
        "sources": get(f"{url}/page/sources?c={ident}"),
        "answer": get(f"{url}/page/answer", params=one),
        "question": get(f"{url}/page/question", params=one),
        "feedback": post(f"{url}/page/feedback", form={**one, "verdict": "like"}),
        "name": post(f"{saved}/name", form={"name": "mine"}),
        "delete": post(f"{saved}/delete"),
        **{form: get(f"{saved}/export?form={form}") for form in ("markdown", "bibtex", "ris", "csv", "jsonl")},
        "take along": get(f"{saved}/take-along"),
        "list": get(f"{url}/page/saved/list"),
        "ratings": get(f"{url}/page/saved/feedback"),
    }
    return {name: (reply.status, reply.text()) for name, reply in replies.items()}


def send_event(url: str, page: Page, name: str, *data: str) -> None:
    """Have an event of the page happen, as a page would that was changed to send something else."""
    [event] = [each for each in page.request.get(f"{url}/config").json()["dependencies"] if each["api_name"] == name]
    sent = {"data": data, "fn_index": event["id"], "session_hash": "forged"}
    if not event["queue"]:
        assert page.request.post(f"{url}/gradio_api/run/predict", data=sent).ok
    else:
        assert page.request.post(f"{url}/gradio_api/queue/join", data=sent).ok
        assert '"success":true' in page.request.get(f"{url}/gradio_api/queue/data?session_hash=forged").text()


def test_two_people_at_once_never_see_each_others_conversation(kept: Kept, chromium: Browser) -> None:
    with watched(chromium) as one, watched(chromium) as other:
        for page in (one, other):
            visit(page, kept.url)
        begun = ask(one, SLOW)
        mine = identity(one)
        during = reach(kept.url, other, mine)
        send_event(kept.url, other, "halt", mine)
        send_event(kept.url, other, "ask", POEM, mine, "1")
        finished(other, ask(other, POEM))
        assert POEM not in one.locator("body").inner_text() and SLOW not in other.locator("body").inner_text()
        assert "6 poems of their own" in finished(one, begun)
        assert show_saved(one).locator("a").all_inner_texts() == [SLOW]
        assert show_saved(other).locator("a").all_inner_texts() == [POEM, POEM]
        after = reach(kept.url, other, mine)
        for given in (during, after):
            open_to_all = {name for name, (code, _) in given.items() if code != 422}
            assert open_to_all == {"take along", "list", "ratings"}
            assert not any(SLOW in text or "6 poems" in text for _, text in given.values())
            assert given["take along"][1].strip() == "" and given["ratings"][1] == ""
        visit(other, f"{kept.url}/?c={mine}")
        other.locator("#voice.alert").get_by_text("This conversation is not among yours").wait_for()
        shown = other.locator("body").inner_text()
        assert SLOW not in shown and "6 poems" not in shown
        text = one.request.get(f"{kept.url}/page/saved/{mine}/export").text()
        assert SLOW in text and POEM not in text


def test_no_script_can_read_the_cookie_that_a_conversation_belongs_to(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.url)
    [cookie] = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and cookie["path"] == "/"
    assert len(cookie["value"]) == 43
    assert page.evaluate("document.cookie") == ""
    page.reload()
    assert page.context.cookies()[0]["value"] == cookie["value"]


@contextmanager
def without_storage(chromium: Browser, folder: Path) -> Iterator[Page]:
    """Open a page in a browser whose user has forbidden every page to keep anything."""
    profile = folder / "Default"
    profile.mkdir(parents=True)
    forbidden = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Preferences").write_text(json.dumps(forbidden))
    context = chromium.browser_type.launch_persistent_context(
        folder, executable_path=shutil.which("chromium"), args=FLAGS
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        seen: list[str] = []
        page.on("pageerror", lambda error: seen.append(str(error)))
        yield page
        assert context.cookies() == [] and seen == []
    finally:
        context.close()


def test_a_browser_that_keeps_nothing_gets_answers_and_is_told_that_they_are_not_saved(
    kept: Kept, chromium: Browser, tmp_path: Path
) -> None:
    with without_storage(chromium, tmp_path) as page:
        visit(page, kept.url)
        assert "Robots read poems for 5 hours" in finished(page, ask(page, POEM))
        page.locator("#voice.alert").get_by_text("Not saved: this browser keeps no cookies").wait_for()
        assert "?c=" not in page.url
        assert "did not answer" in finished(page, ask(page, GLACIER))  # the same conversation goes on
        page.locator("#chat a.mark").first.click()
        page.locator("#src-1-1.lit mark").first.wait_for()
        with page.expect_download() as download:
            page.locator("#take-along").get_by_role("link", name="Markdown").click()
        assert download.value.suggested_filename == "How-long-do-robots-read-poems.md"
        assert page.get_by_role("link", name="Link to this conversation").count() == 0
        show_saved(page)
        page.get_by_text("None yet").wait_for()


# --- For everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_list_can_be_used_by_everybody_on_any_screen(kept: Kept, chromium: Browser, scheme: str) -> None:
    page = kept.page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.request.post(f"{kept.url}/page/saved/{kept.ident}/name", form={"name": "Extraordinarily" * 6})
    visit(page, kept.url)
    item = show_saved(page).first
    item.get_by_role("button", name="Rename").click()
    assert findings(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("Escape")
    item.get_by_role("button", name="Delete").click()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = item.get_by_role("button", name="Delete").bounding_box()
    assert box and box["x"] + box["width"] < 390
    page.set_viewport_size({"width": 1366, "height": 900})
    page.request.post(f"{kept.url}/page/saved/{kept.ident}/name", form={"name": OFF_TOPIC})
    page.emulate_media(color_scheme="light")


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {wanted}")


def test_the_keyboard_alone_finds_names_opens_and_deletes(kept: Kept) -> None:
    page = kept.page
    visit(page, kept.url)
    finished(page, ask(page, POEM))
    visit(page, kept.url)
    tab_to(page, page.get_by_role("tab", name="Saved"))
    page.keyboard.press("Enter")
    search = page.get_by_label("Search in questions and answers")
    tab_to(page, search)
    page.keyboard.type("HOW long")
    item = page.locator(".saved-list li")
    item.filter(has_text=OFF_TOPIC).wait_for(state="detached")
    tab_to(page, item.get_by_role("button", name="Rename"))
    page.keyboard.press("Enter")
    page.keyboard.type("Robots")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.keyboard.type("Robots")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Robots", exact=True).wait_for()
    page.keyboard.press("Enter")
    page.locator("#sources-1").wait_for()
    visit(page, kept.url)
    tab_to(page, page.get_by_role("tab", name="Saved"))
    page.keyboard.press("Enter")
    button = item.filter(has_text="Robots").get_by_role("button", name="Delete")
    button.wait_for()
    tab_to(page, button)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    item.filter(has_text="Robots").wait_for(state="detached")
    item.filter(has_text=OFF_TOPIC).wait_for()
