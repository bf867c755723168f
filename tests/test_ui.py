"""The conversation as people have it: a real server, and a real browser that can reach nothing but this machine."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import pytest
from browser import ask, findings, finished, lit, serving, watched
from conftest import write_jsonl
from endpoint import Endpoint, Reply, answer, chunk, reset, status, stream
from faults import KEY, OK, QUESTION, SAID, Mode, chosen
from injections import CASES, obedient

from assistant import Assistant, AssistantError, Config, ConfigError, server, shown
from assistant.conversations import Exchange
from assistant.ui import messages

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

FAULTS = chosen(
    "connection reset",
    "no answer",
    "comments to keep it alive",
    "401 with the key",
    "429, Retry-After 3600",
    "web page",
    "a line of 50 MB",
    "JSON 100,000 deep",
    "shown text, then cut",
    "finish_reason length",
)
TOLD = r"(The language model did not (answer|finish): .* LLM at http://127\.0\.0\.1:.*|The model's answer was cut .*)\."
"""One plain sentence on what went wrong."""
Scripted = tuple[str, list[Reply]]
FIRST = "How can vision transformers be trained on small datasets?"
SECOND = "And how do they compare with convolutional networks?"
ZEBRA = "How often does the zebra detector find zebras?"
IMAGE = "<img src=http://evil.invalid/x onerror=alert(1)>"
ABSTRACT = f"""
The zebra detector {IMAGE} finds zebras in 93.1 % of images ![x](http://evil.invalid/i.png).
It needs $O(n \\log n)$ time, where a rival zebra detector costs $5 or $7 a zebra.
[a]: http://evil.invalid/ref is where zebras are *not* `found` by the detector.
A zebra <style>body{{display:none}}</style> detector is described at https://evil.invalid/zebra and
www.evil.invalid, says zebra@evil.invalid; \\(x < 1\\) holds for each zebra.
"""
HOSTILE: list[object] = [
    {
        "title": "Zebra detection <b>in bold</b> [link](http://evil.invalid/a) ![x](http://evil.invalid/t.png)",
        "abstract": ABSTRACT,
        "authors": ["Ann <i>Author</i>", "Bo Writer"],
        "year": 2021,
        "venue": "ZebraConf & Friends",
        "doi": "10.1000/zebra.1",
        "arxiv_id": "2101.00001",
        "url": "https://papers.invalid/zebra?a=1&b=2",
    },
    {"title": "Glaciers and prices", "abstract": "Glaciers move by 3 metres. The price of their ice rises by 4 %."},
    {"title": "Poems and robots", "abstract": "Robots read poems for 5 hours. They write 6 poems of their own."},
]
SHOWN = ["![x](http://evil.invalid/i.png)", "[a]: http://evil.invalid/ref", "*not* `found`", "<style>", "$5 or $7"]


@pytest.fixture(scope="module")
def scripted_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """The page over papers of hostile text, with an LLM that does what the list's first item says."""
    folder = tmp_path_factory.mktemp("hostile")
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "papers.jsonl", HOSTILE)])
    replies = [reset()]
    with Endpoint(lambda _body: replies[0]) as endpoint:
        who = ("--llm", endpoint.url, "--model", "zebra-1")
        with serving(folder, "--library", folder / "library", *who) as url:
            yield url, replies


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[tuple[Page, Endpoint]]:
    """One open page over the sample library, and its endpoint."""
    env = {"ASSISTANT_LLM_TIMEOUT_S": "5", "ASSISTANT_LLM_API_KEY": KEY}
    with (
        Endpoint(OK) as endpoint,
        serving(tmp_path_factory.mktemp("faulty"), "--llm", endpoint.url, "--model", "scripted", **env) as url,
        watched(chromium) as page,
    ):
        page.goto(url)
        page.get_by_text("answers by scripted").wait_for()
        yield page, endpoint


@pytest.fixture(scope="module")
def obeying_page(hostile: Path) -> Iterator[str]:
    """The page over papers that give orders, with an LLM that obeys them."""
    with (
        Endpoint(obedient) as endpoint,
        serving(hostile, "--library", hostile / "library", "--llm", endpoint.url, "--model", "obedient") as url,
    ):
        yield url


def ids(page: Page) -> list[str]:
    return page.locator("[id^='src-'], [id^='sources-']").evaluate_all("found => found.map(each => each.id)")


def markers(reply: Locator) -> Locator:
    return reply.locator("a.mark")


# --- Answers and their sources ----------------------------------------------------------------------------------------


def test_an_answers_markers_lead_to_cards_with_the_quote_marked(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    tab.get_by_text("451 papers · built-in sample library · extractive answers (no LLM configured)").wait_for()
    reply = ask(tab, FIRST)
    text = finished(tab, reply)
    assert "no language model was asked" in text and "built-in sample library" in text
    assert re.search(r"Searched <?0?\.?\d.* · read 8 abstracts .* s · wrote .* s", text)
    sentence = reply.locator("li").first.inner_text().rsplit(" [", 1)[0]
    marker = reply.get_by_role("link", name="[1]", exact=True).first
    card = tab.locator(marker.get_attribute("href") or "-")
    assert card.get_attribute("id") == "src-1-1"
    lit(marker, card)
    assert sentence in [" ".join(mark.split()) for mark in card.locator("mark").all_inner_texts()]
    assert re.search("to the question, found by meaning \\(place \\d+\\)", card.inner_text())
    links = markers(reply).evaluate_all("found => found.map(each => each.hash)")
    assert len(links) > 1 and all(tab.locator(link).count() == 1 for link in links)


def test_a_card_leads_back_to_each_place_where_it_is_cited(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    reply = ask(tab, FIRST)
    finished(tab, reply)
    cited = tab.locator("#sources-1 .claims a")
    places = cited.evaluate_all("found => found.map(each => each.hash)")
    assert sorted(places) == sorted(markers(reply).evaluate_all("found => found.map(each => '#' + each.id)"))
    cited.last.click()
    marker = tab.locator(places[-1])
    marker.and_(tab.locator(".lit")).wait_for()
    assert marker.evaluate("each => each === document.activeElement")


def test_a_marker_previews_its_own_quote_to_the_mouse_and_to_the_keyboard(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    reply = ask(tab, FIRST)
    finished(tab, reply)
    preview, seen = tab.locator("#preview"), []
    for marker in markers(reply).all():
        marker.hover()
        preview.wait_for()
        sentence = " ".join(marker.locator("xpath=ancestor::li").inner_text().rsplit(" [", 1)[0].split())
        assert " ".join(preview.locator("q").inner_text().split()) == sentence
        seen.append(sentence)
        tab.mouse.move(0, 0)
        preview.wait_for(state="hidden")
    assert len(set(seen)) > 1
    markers(reply).first.focus()
    preview.wait_for()
    tab.keyboard.press("Escape")
    preview.wait_for(state="hidden")


def test_a_follow_up_keeps_the_sources_of_the_first_answer(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    finished(tab, ask(tab, FIRST))
    before = set(ids(tab))
    second = ask(tab, SECOND)
    assert "vision" in finished(tab, second).lower()
    after = ids(tab)
    assert len(after) == len(set(after)) and before < set(after)
    assert tab.locator("#sources-2").get_by_text("Found, not cited").first.is_visible()
    assert not tab.locator("#src-1-1").is_visible()
    tab.locator("#chat a[href='#src-1-1']").first.click()
    tab.locator("#src-1-1").wait_for()
    tab.get_by_role("button", name="New conversation").click()
    tab.locator("#sources-1").wait_for(state="detached")
    tab.locator("#chat .example").first.wait_for()
    assert tab.locator("#chat .bot-row").count() == 0 and "?c=" not in tab.url


def test_questions_to_begin_with_and_to_go_on_with_are_answered(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    tab.locator("#chat .example").nth(3).wait_for()
    question = tab.locator("#chat .example").first.inner_text().strip()
    tab.locator("#chat .example").first.click()
    finished(tab, tab.locator("#chat .bot-row").filter(has=tab.locator("#notes-1")))
    assert question == tab.get_by_test_id("user").inner_text().strip()
    assert markers(tab.locator("#chat")).count() > 0
    option = tab.locator("#chat .option").first
    wanted = option.inner_text()
    option.click()
    finished(tab, tab.locator("#chat .bot-row").filter(has=tab.locator("#notes-2")))
    assert tab.get_by_test_id("user").last.inner_text().strip() == wanted
    assert tab.locator("#chat a.mark[href^='#src-2-']").count() > 0


def test_an_off_topic_question_shows_why_there_is_no_answer_and_the_closest_papers(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    reply = ask(tab, "Who won the football world cup in <b>2014</b>? ![x](http://evil.invalid/i.png)")
    assert "The library holds nothing" in finished(tab, reply)
    assert reply.get_by_role("link", name="Closest papers").is_visible()
    assert tab.locator("#sources-1 .card").count() == 3
    assert tab.locator("#sources-1 mark").count() == 0
    assert "in <b>2014</b>? ![x](http://evil.invalid/i.png)" in tab.get_by_test_id("user").inner_text()


# --- What can be done with an answer ----------------------------------------------------------------------------------


def test_an_answer_is_copied_with_its_sources(sample_page: str, chromium: Browser) -> None:
    with chromium.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(sample_page)
        reply = ask(page, FIRST)
        finished(page, reply)
        reply.get_by_role("button", name="Copy").click()
        page.locator("#voice", has_text="Copied").wait_for(state="attached")
        copied = page.evaluate("navigator.clipboard.readText()")
    assert FIRST in copied and "[1]" in copied and "Bridging the Gap Between Vision Transformers" in copied


def test_the_last_answer_is_made_again_in_its_place(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    replies[0] = answer("The zebra detector finds 93.1 % of them [1].")
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    assert "93.1 % of them" in finished(tab, reply)
    replies[0] = answer("It finds zebras in 93.1 % of images [1].")
    reply.get_by_role("button", name="Retry").click()
    reply.get_by_text("It finds zebras in 93.1 %").wait_for()
    assert "of them" not in finished(tab, reply)
    assert tab.locator("#chat .bot-row").count() == 1 == tab.locator("#sources .turn").count()
    assert tab.get_by_test_id("user").inner_text().strip() == ZEBRA


def test_an_edited_question_takes_the_place_of_the_last_one_and_of_an_earlier_one_in_a_copy(
    sample_page: str, tab: Page
) -> None:
    tab.goto(sample_page)
    finished(tab, ask(tab, FIRST))
    finished(tab, ask(tab, SECOND))
    before = tab.url
    tab.locator("#edit-2").click()
    box = tab.get_by_placeholder("Ask a question")
    tab.get_by_text("takes the place of the earlier one").wait_for()
    assert box.input_value() == SECOND
    tab.get_by_role("button", name="Cancel").click()
    assert box.input_value() == ""
    tab.locator("#edit-2").click()
    tab.get_by_text("takes the place of the earlier one").wait_for()
    box.fill("Which of them need no pretraining?")
    tab.keyboard.press("Enter")
    tab.get_by_test_id("user").filter(has_text="need no pretraining").wait_for()
    finished(tab, tab.locator("#chat .bot-row").last)
    assert tab.url == before and tab.get_by_test_id("user").count() == 2
    tab.locator("#edit-1").click()
    tab.get_by_text("takes the place of the earlier one").wait_for()
    box.fill("What is large kernel attention?")
    tab.keyboard.press("Enter")
    tab.get_by_test_id("user").filter(has_text="large kernel").wait_for()
    finished(tab, tab.locator("#chat .bot-row").last)
    assert tab.get_by_test_id("user").count() == 1 and tab.url != before
    tab.goto(before)
    tab.get_by_test_id("user").filter(has_text="need no pretraining").wait_for()
    assert tab.get_by_test_id("user").count() == 2


# --- Hostile text -----------------------------------------------------------------------------------------------------


def test_text_of_papers_is_shown_and_never_run(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    replies[0] = status(403)
    tab.goto(url)
    tab.get_by_text("3 papers").wait_for()
    reply = ask(tab, ZEBRA)
    card, text = tab.locator("#src-1-1"), finished(tab, reply)
    assert re.search("< ?style>body{display:none}< ?/style>", text)
    for part in (*SHOWN, IMAGE, "<b>in bold</b>", "<i>Author</i>"):
        assert part in card.inner_text()
    assert card.locator("math").count() >= 2
    assert "Bo Writer · ZebraConf & Friends · 2021" in card.inner_text()
    assert tab.locator("#chat .md, #sources").locator("img, style, b, i").count() == 0
    links = tab.locator("a[href]").evaluate_all("found => found.map(each => [each.href, each.target, each.rel])")
    outside = [each for each in links if not each[0].startswith(url)]
    assert {each[0] for each in outside} == {
        "https://papers.invalid/zebra?a=1&b=2",
        "https://doi.org/10.1000/zebra.1",
        "https://arxiv.org/abs/2101.00001",
    }
    assert all(target == "_blank" and "noopener" in rel for _, target, rel in outside)


def rounds() -> list[str]:
    """Questions about all the papers that give orders: many at once, but alone what could swallow the next answer."""
    alone = [case for case in CASES if re.search(r"```|~~~|\$\$|think>|NOT_IN", case.obeys)]
    others = [case for case in CASES if case not in alone]
    groups = [others[start::7] for start in range(7)] + [[case] for case in alone]
    return [" ".join([group[0].question, *(f"Palyno{case.number}" for case in group[1:])]) for group in groups]


ACTING = r"""() => [...document.querySelectorAll("#header .md *, .message-content .md *, #sources *")].filter(each => {
    const maths = each.closest(".katex"), answer = each.closest(".message-content"), copy = each.closest(".code_wrap");
    if (each.matches(".notes, .notes > p, .notes > .acts > .act, a.mark, span.flag") && !each.matches("#sources *"))
        return !/^((notes|at|copy|retry|edit|like|dislike)-\d+(-\d+)?)?$/.test(each.id);
    const kinds = "img iframe frame form input textarea select script style link meta base object embed video audio " +
        "canvas dialog marquee template details a[href]:not([href^='#'])" + (copy || maths ? "" : " button svg");
    const own = answer ? "" : "details a[href]:not([href^='#'])";
    const style = getComputedStyle(each), fields = [...each.attributes].map(field => field.name);
    return kinds.split(" ").some(kind => each.matches(kind) && !own.split(" ").includes(kind))
        || (each.id && (answer || !/^(src|sources)-/.test(each.id)))
        || fields.some(name => name.startsWith("on") || (name === "style" && !maths))
        || (maths && /color|url/.test(each.getAttribute("style")))
        || style.position === "fixed" || (style.position === "absolute" && !maths && !copy)
        || (answer && !maths && !copy && !each.checkVisibility({ opacityProperty: true, visibilityProperty: true }));
}).map(each => each.outerHTML.slice(0, 200))"""
"""Elements of the answers and sources that load, send, run, cover or hide anything."""


def test_a_model_that_obeys_its_abstracts_makes_the_page_load_send_cover_and_hide_nothing(
    obeying_page: str, tab: Page
) -> None:
    tab.goto(obeying_page)
    tab.get_by_text(f"{len(CASES)} papers").wait_for()
    fields = tab.locator("form, iframe, img, input, textarea").count()
    for question in rounds():
        finished(tab, ask(tab, question))
    assert tab.locator("#chat a[href^='#src-']").count() > len(CASES)
    assert tab.evaluate(ACTING) == []
    links = set(tab.locator("#chat a, #sources a").evaluate_all("all => all.map(each => each.getAttribute('href'))"))
    ours = (
        r"#(?:src|sources|at)-\d+(?:-\d+)?|#question|/page/paper\?id=[\w.%+-]+"
        r"|/page/saved/[\w-]+/export\?turn=\d+&form=\w+"
        r"|https://(?:papers\.invalid/palyno/|doi\.org/10\.1000/palyno\.)\d+"
    )
    assert [link for link in links if not re.fullmatch(ours, link)] == []
    assert tab.locator("form, iframe, img, input, textarea").count() == fields
    assert tab.get_by_placeholder("Ask a question").is_visible()


# --- While it is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FAULTS, ids=lambda mode: mode.name)
def test_a_fault_is_one_plain_sentence_and_the_next_question_works(faulty: tuple[Page, Endpoint], mode: Mode) -> None:
    page, endpoint = faulty
    page.get_by_role("button", name="New conversation").click()
    page.locator("#chat .example").first.wait_for()
    endpoint.become(mode.script)
    reply = ask(page, QUESTION)
    assert "87.1%" in finished(page, reply)
    remarks = reply.locator(".notes p:not(.acts)").all_inner_texts()
    told = [each for each in remarks if re.fullmatch(TOLD, each)]
    assert told and told == [each for each in remarks if "model" in each]
    assert reply.get_by_role("link", name="[1]", exact=True).count() >= 1
    assert len(endpoint.requests) <= 3 and KEY not in page.content()
    endpoint.become(OK)
    text = finished(page, ask(page, "Which model reaches 87.1% on ImageNet?"))
    assert SAID in text and "The language model" not in text and "cut" not in text


def test_an_answer_grows_and_its_markers_lead_to_their_cards_while_it_is_written(
    scripted_page: Scripted, tab: Page
) -> None:
    url, replies = scripted_page
    said = "The detector finds zebras in 93.1 % of images [1]. It needs "
    replies[0] = stream(chunk(said), done=False, hang=True)
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    reply.get_by_text("Writing…").wait_for()
    marker = reply.get_by_role("link", name="[1]", exact=True)
    marker.wait_for()
    tab.locator("#src-1-1 mark").wait_for()
    lit(marker, tab.locator("#src-1-1"))
    assert "93.1 %" in tab.locator("#src-1-1 mark").inner_text()
    other = tab.context.new_page()  # it is followed from wherever the conversation is opened
    other.goto(tab.url)
    tab.close()
    other.locator("#chat .notes.busy", has_text="Writing…").wait_for()
    other.locator("#src-1-1 mark").wait_for()
    other.get_by_role("button", name="Stop").click()
    reply = other.locator("#chat .bot-row").filter(has=other.locator("#notes-1"))
    assert "Stopped before its end" in finished(other, reply)


def test_it_is_told_what_is_done(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    replies[0] = stream(done=False, hang=True)
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    reply.get_by_text(re.compile(r"^Reading \d abstracts?…")).wait_for()
    tab.locator("#sources-1", has_text="Read for this answer").get_by_role("link", name="Zebra detection").wait_for()
    assert tab.locator("#voice").inner_text() == "Reading"
    tab.get_by_role("button", name="Stop").click()
    assert re.search(r"Searched .* s · read \d abstracts? .* s", finished(tab, reply))


def test_only_valid_markers_stay_and_flags_stand_in_place(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    said = (
        "The detector finds zebras in 93.1 % of images [1]. It is **fast** [9]. <img src=x onerror=alert(1)> It is "
        "<b onclick=alert(1)>never</b> wrong, it says [1]. In 77.7 % of cases `a<b>[c](d)` holds $x$, not "
        "\\(\\rule{9em}{9em}\\) [1]. Glaciers grow on trees [1]."
    )
    replies[0] = answer(said, 8)
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    text = finished(tab, reply)
    assert "Writing…" not in text and "[9]" not in text
    assert reply.get_by_role("link", name="[1]", exact=True).count() == 4
    assert re.search(r"< ?b onclick=alert\(1\)>never< ?/b>", text) and reply.locator("img, b").count() == 0
    assert reply.locator(".katex").count() == 1 and "rule{9em}{9em}" in text
    assert reply.locator("strong").inner_text() == "fast"
    assert reply.locator("code").inner_text().replace("\u200b", "") == "a<b>[c](d)"
    assert "Figures not found in the cited abstracts: 77.7" in text
    assert "left out: 1." in text
    flag = reply.locator("span.flag").first
    assert "77.7" in flag.inner_text() and "check it" in str(flag.get_attribute("title"))
    doubtful = reply.locator("a.mark.doubt")
    assert doubtful.count() >= 1
    doubtful.last.hover()
    tab.locator("#preview em", has_text="may not say").wait_for()
    assert tab.locator("#src-1-1 .claims strong", has_text="may not say so").count() == doubtful.count()


def test_stop_ends_an_answer_which_keeps_its_sources_and_the_next_question_works(
    scripted_page: Scripted, tab: Page
) -> None:
    url, replies = scripted_page
    replies[0] = stream(chunk("The detector finds 93.1 % of them [1]. It goes "), done=False, hang=True)
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    reply.get_by_role("link", name="[1]", exact=True).wait_for()
    tab.get_by_role("button", name="Stop").click()
    assert "93.1 %" in finished(tab, reply)
    tab.reload()
    tab.get_by_text("Stopped before its end").wait_for()
    tab.get_by_role("link", name="[1]", exact=True).first.click()
    tab.locator("#src-1-1.lit mark").wait_for()
    replies[0] = answer("The zebra detector finds 93.1 % of them [1].")
    finished(tab, ask(tab, "How often, again, does the zebra detector find zebras?"))
    assert tab.locator("#src-2-1").count() == 1


# --- Manners ----------------------------------------------------------------------------------------------------------


def test_it_can_be_used_by_the_keyboard_alone(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    tab.locator("#chat .example").first.wait_for()
    tab.locator("#question textarea").wait_for()
    tab.keyboard.type(FIRST)  # the box has the focus from the beginning
    tab.keyboard.press("Enter")
    reply = tab.locator("#chat .bot-row").filter(has=tab.locator("#notes-1"))
    finished(tab, reply)
    for _ in range(40):
        tab.keyboard.press("Shift+Tab")
        if tab.evaluate("document.activeElement.id") == "at-1-1":
            break
    tab.locator("#preview").wait_for()
    tab.keyboard.press("Enter")
    tab.locator("#src-1-1.lit").wait_for()
    assert tab.evaluate("document.activeElement.id") == "src-1-1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way_of_people_with_disabilities(
    sample_page: str, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    with watched(chromium, color_scheme=scheme) as page:
        page.goto(sample_page)
        page.locator("#chat .example").first.wait_for()
        assert findings(page) == []
        finished(page, ask(page, FIRST))
        page.locator("#chat .option").first.wait_for()
        assert findings(page) == []
        page.locator("#edit-1").click()
        page.locator("#like-1").click()
        page.locator("#rating").wait_for()
        assert findings(page) == []


def test_an_empty_library_says_what_to_do_next(tmp_path: Path, chromium: Browser) -> None:
    Assistant(Config(library=tmp_path / "library")).close()
    (tmp_path / "library").mkdir(exist_ok=True)
    with serving(tmp_path, "--library", tmp_path / "library") as url, watched(chromium) as page:
        page.goto(url)
        page.get_by_text("This library is empty").wait_for()
        page.get_by_text("0 papers").wait_for()
        assert "The library is empty" in finished(page, ask(page, "Which papers are there?"))


def test_text_from_right_to_left_stands_at_the_right(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    replies[0] = answer("يجد الكاشف الحمير الوحشية في 93.1 % من الصور [1].")
    tab.goto(url)
    reply = ask(tab, "zebra detector: كم مرة يجد الكاشف الحمير الوحشية؟")
    finished(tab, reply)
    words = reply.locator(".message-content p").first
    place = (
        "each => { const range = document.createRange(); range.selectNodeContents(each);"
        " const box = range.getBoundingClientRect(), all = each.getBoundingClientRect();"
        " return all.right - box.right < box.left - all.left; }"
    )
    assert words.evaluate(place)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(
    sample_page: str, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    with watched(chromium, viewport={"width": 390, "height": 844}, color_scheme=scheme) as page:
        page.goto(sample_page)
        finished(page, ask(page, FIRST))
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        box = page.get_by_placeholder("Ask a question").bounding_box()
        assert box and box["y"] + box["height"] < 844
        assert ("dark" in (page.locator("body").get_attribute("class") or "")) == (scheme == "dark")
        lit(page.locator("#chat a.mark").first, page.locator("#src-1-1"))
        page.locator("#sources-1 .back").click()
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"


def send(url: str, method: str = "GET", path: str = "/", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


@pytest.mark.parametrize(
    "host", ["evil.invalid", "127.0.0.1.evil.invalid", "http://127.0.0.1", "localhost@x.invalid", ""]
)
def test_a_foreign_host_is_refused(sample_page: str, host: str) -> None:
    assert send(sample_page, Host=host).status == 400
    assert send(sample_page, Host="localhost:1").status == send(sample_page, Host="[::1]:7860").status == 200


def test_the_page_of_another_site_cannot_send(sample_page: str) -> None:
    for origin in ("https://evil.invalid", "null", "http://127.0.0.1.evil.invalid"):
        assert send(sample_page, "POST", "/gradio_api/queue/join", Origin=origin).status == 403
    assert send(sample_page, "POST", "/gradio_api/queue/join", Origin="http://localhost:7860").status == 422


def test_every_response_carries_the_security_headers(sample_page: str) -> None:
    for path in ("/", "/config", "/nothing-here"):
        response = send(sample_page, path=path)
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY" and response.headers["Referrer-Policy"] == "no-referrer"
        assert "unsafe-eval" not in policy and "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
        assert not re.search(r"https?:|\*", policy)


HARMFUL = [
    IMAGE,
    "![x](http://evil.invalid/i.png)",
    "[x](javascript:alert(1))",
    "[a]: http://evil.invalid/ 'x'",
    "&lt;img&gt; &#60;b> \\<b> \\[x](y)",
    "`![x](http://a.invalid/i.png)` ``<b>",
    "```mermaid\ngraph LR; a-->b\n```",
    "~~~\n<b>[x](y)\n\n![x](http://a.invalid)",
    "$\\rule{900em}{900em}$ \\(a \\[ b\\) ![x](http://a.invalid) \\)",
    "$$\\href{javascript:alert(1)}{x}$$ and $a \\) ![x](http://a.invalid)$",
    "\\\\(x\\) <b> \\( <i> $x$",
    "Look![1] here](http://a.invalid)",
    "\\`http://a.invalid` ```http://b.invalid`` www.a.invalid",
    "| `a | http://a.invalid ` |",
    "para\n    ```\n\nhttp://a.invalid [x](y)\n\n    ```",
    "``` a`b\nhttp://a.invalid\n```",
    "- [x] a\n1. [ ] b",
    "$x$ %%%LATEX_BLOCK_0%%% `%%%LATEX_BLOCK_0%%%`",
]


@pytest.mark.parametrize("text", HARMFUL)
def test_no_text_keeps_what_a_reader_of_markdown_would_act_on(text: str) -> None:
    markdown, formatted, html = shown.markdown(text), shown.markdown(text, formatted=True), str(shown.html(text))
    for seen in (markdown, formatted):
        assert not re.search(r"<[a-zA-Z/!]", seen)
        assert seen.count("\\(") == seen.count("\\)") and seen.count("\\[") == seen.count("\\]")
        assert not re.search(r"\]\(|\]:|```mermaid|:/{2}(?!\u200b)|www\.|(?:-|1\.) \[[ x]\]|%%%LATEX", seen)
    assert not re.search(r"<(?!/?m[a-z]+[ >])", html)
    assert "\n" not in html


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("```obey me\ncode\n```", "```\nobey me\ncode\n```"),
        ("- ~~~ obey me\n  code\n  ~~~", "- ~~~\n  obey me\n  code\n  ~~~"),
        ("```python\ncode\n```", "```python\ncode\n```"),
        ("| a |\n|---|\n| b | obey |", "| a | |\n|---|---|\n| b | obey |"),
        ("a | b\n-|-\nc | d | obey | me", "a | b| | |\n-|-|---|---|\nc | d | obey | me"),
        ("| a | b |\n|---|---|\n| c \\| d | e |", "| a | b |\n|---|---|\n| c \\| d | e |"),
        ("- " * 1000 + "obey", "- " * 8 + "\u200b" + "- " * 992 + "obey"),
        ("$$x % obey\n+ y$$", "\\[x \\% obey\n+ y\\]"),
        ("$\\phantom{obey}$ is $\\alpha$", "&#36;\\phantom{obey}&#36; is \\(\\alpha\\)"),
        ("$\\grayA{obey}$", "&#36;\\grayA{obey}&#36;"),
        ("$\\cr[-9em] \\bullet$", "&#36;\\cr[-9em] \\bullet&#36;"),
        ("a\u200b\U000e0041 z" + "\u0301\u0302" * 9, "a z" + "\u0301\u0302" * 2),
    ],
)
def test_no_formatting_hides_a_part_of_an_answer(text: str, seen: str) -> None:
    assert messages.answer_text(Exchange(1, "Why?", "writing", text)) == seen


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.invalid", ""])
def test_an_address_that_others_could_reach_is_refused_while_nobody_could_log_in(host: str) -> None:
    with pytest.raises(ConfigError, match="`assistant users add NAME`, or say --without-login"):
        server.serve(Assistant(), host=host, port=7860)


def test_a_port_in_use_is_one_plain_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AssistantError, match="another with --port"):
        server.serve(Assistant(), host="localhost", port=taken.getsockname()[1])
