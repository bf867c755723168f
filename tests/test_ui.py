"""The chat page as people use it: a real server process, and a real browser that can reach nothing but this machine."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from conftest import write_jsonl
from endpoint import Endpoint, Reply, answer, chunk, reset, status, stream
from faults import KEY, OK, QUESTION, SAID, Mode, chosen
from injections import CASES, obedient

from assistant import Assistant, AssistantError, Config, ConfigError, ui

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
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
PATIENCE_MS = 20_000
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


@contextmanager
def serving(folder: Path, *arguments: object, **env: str) -> Iterator[str]:
    """Run the server, give its address, stop it by Ctrl-C; it says where it is and ends without complaint."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSISTANT_", "OPENAI_"))}
    root = str(Path(__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "assistant", "serve", "--port", str(port), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**kept, "PYTHONPATH": root, "XDG_DATA_HOME": str(folder / "data"), **env},
    )
    watch = threading.Timer(120, process.kill)  # the encoder may have to be exported first
    watch.start()
    assert process.stderr
    first = process.stderr.readline()
    watch.cancel()
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
    reader.start()
    try:
        assert first == f"assistant: the chat page is open at http://127.0.0.1:{port} (Ctrl-C stops it)\n"
        yield f"http://127.0.0.1:{port}"
        left_open = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        left_open.request("GET", "/gradio_api/heartbeat/a-page-left-open")
        assert left_open.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        left_open.close()
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
    assert not re.search("Traceback|ERROR|Warning", "".join(said)), "".join(said)


# Both live for this module alone: an open sync_playwright keeps an event loop in the main thread.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if not path:
        pytest.skip("no chromium in PATH; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def watched(chromium: Browser) -> Iterator[Page]:
    """Open a page that asks nobody but this machine for anything and writes no error to its console."""
    context = chromium.new_context(viewport={"width": 1366, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    seen: list[str] = []
    page.on("console", lambda message: message.type == "error" and seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.on("request", lambda request: urlsplit(request.url).hostname == "127.0.0.1" or seen.append(request.url))
    yield page
    context.close()
    assert seen == []


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    with watched(chromium) as page:
        yield page


@pytest.fixture(scope="module")
def sample_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page over the sample library, without an LLM."""
    with serving(tmp_path_factory.mktemp("sample")) as url:
        yield url


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


def ask(page: Page, question: str) -> Locator:
    """Send a question and return its reply, not waiting for the end."""
    replies = page.locator("#chat .bot-row")
    before = replies.count()
    page.get_by_placeholder("Ask a question").fill(question)
    for _ in range(20):  # a page that has only just shown the end of an answer may not listen yet
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        if replies.count() > before:
            break
        page.wait_for_timeout(900)
    replies.nth(before).wait_for()
    return replies.nth(before)


def finished(page: Page, reply: Locator) -> str:
    """Wait for the end of a reply and return its text."""
    reply.locator("blockquote").filter(has_not_text=re.compile("Searching…|Writing…")).wait_for()
    page.get_by_role("button", name="Send").wait_for()
    return reply.inner_text()


def ids(page: Page) -> list[str]:
    return page.locator("[id^='src-'], [id^='sources-']").evaluate_all("found => found.map(each => each.id)")


def test_an_answers_markers_lead_to_cards_with_the_quote_marked(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    tab.get_by_text("451 papers · built-in sample library · extractive answers (no LLM configured)").wait_for()
    tab.get_by_role("listitem").or_(tab.locator("#chat button")).filter(has_text=FIRST).click()
    reply = tab.locator("#chat .bot-row").first
    reply.get_by_role("link", name="Sources of this answer").wait_for()
    assert "no language model is configured" in reply.inner_text()
    sentence = reply.locator("li").first.inner_text().rsplit(" [", 1)[0]
    marker = reply.get_by_role("link", name="[1]", exact=True).first
    card = tab.locator(marker.get_attribute("href") or "-")
    assert card.get_attribute("id") == "src-1-1"
    marker.click()
    assert card.is_visible()
    assert sentence in [" ".join(mark.split()) for mark in card.locator("mark").all_inner_texts()]
    links = reply.locator("a[href^='#src-']").evaluate_all("found => found.map(each => each.hash)")
    assert len(links) > 1 and all(tab.locator(link).count() == 1 for link in links)


def test_a_follow_up_keeps_the_sources_of_the_first_answer(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    finished(tab, ask(tab, FIRST))
    before = set(ids(tab))
    second = ask(tab, SECOND)
    tab.locator("#chat a[href='#sources-2']").wait_for()
    assert "vision" in finished(tab, second).lower()
    after = ids(tab)
    assert len(after) == len(set(after)) and before < set(after)
    assert tab.locator("#sources-2").get_by_text("Found, not cited").first.is_visible()
    assert not tab.locator("#src-1-1").is_visible()
    tab.locator("#chat a[href='#src-1-1']").first.click()
    tab.locator("#src-1-1").wait_for()
    tab.get_by_role("button", name="New conversation").click()
    tab.locator("#sources-1").wait_for(state="detached")
    assert tab.locator("#chat .bot-row").count() == 0
    tab.locator("#chat button").filter(has_text=FIRST).wait_for()


def test_an_off_topic_question_shows_why_there_is_no_answer_and_the_closest_papers(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    reply = ask(tab, "Who won the football world cup in <b>2014</b>? ![x](http://evil.invalid/i.png)")
    reply.get_by_role("link", name="Closest papers").wait_for()
    assert "The library holds nothing" in reply.inner_text()
    assert tab.locator("#sources-1 .card").count() == 3
    assert tab.locator("#sources-1 mark").count() == 0
    assert "in <b>2014</b>? ![x](http://evil.invalid/i.png)" in tab.get_by_test_id("user").inner_text()


def test_text_of_papers_is_shown_and_never_run(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    replies[0] = status(403)
    tab.goto(url)
    tab.get_by_text("3 papers").wait_for()
    reply = ask(tab, ZEBRA)
    tab.locator("#src-1-1").wait_for()
    card, text = tab.locator("#src-1-1"), finished(tab, reply)
    assert re.search("< ?style>body{display:none}< ?/style>", text)
    for part in (*SHOWN, IMAGE, "<b>in bold</b>", "<i>Author</i>"):
        assert part in card.inner_text()
    assert card.locator(".katex").count() >= 2
    assert "Bo Writer · ZebraConf & Friends · 2021" in card.inner_text()
    assert tab.locator(".md").locator("img, style, b, i").count() == 0
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


ACTING = """() => [...document.querySelectorAll(":is(#header, .message-content, #sources) .md *")].filter(each => {
    const maths = each.closest(".katex"), answer = each.closest(".message-content"), copy = each.closest(".code_wrap");
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
    for number, question in enumerate(rounds(), 1):
        finished(tab, ask(tab, question))
        tab.locator(f"#sources-{number}").wait_for()
    assert tab.locator("#chat a[href^='#src-']").count() > len(CASES)
    assert tab.evaluate(ACTING) == []
    links = set(tab.locator("a[href]").evaluate_all("found => found.map(each => each.getAttribute('href'))"))
    ours = r"#(?:src|sources)-\d+(?:-\d+)?|#chat|https://(?:papers\.invalid/palyno/|doi\.org/10\.1000/palyno\.)\d+"
    assert [link for link in links if not re.fullmatch(ours, link)] == []
    assert tab.locator("form, iframe, img, input, textarea").count() == 1
    assert tab.get_by_placeholder("Ask a question").is_visible()


@pytest.mark.parametrize("mode", FAULTS, ids=lambda mode: mode.name)
def test_a_fault_is_one_plain_sentence_and_the_next_question_works(faulty: tuple[Page, Endpoint], mode: Mode) -> None:
    page, endpoint = faulty
    page.get_by_role("button", name="New conversation").click()
    page.locator("#chat .bot-row").first.wait_for(state="detached")
    endpoint.become(mode.script)
    reply = ask(page, QUESTION)
    page.locator("#src-1-1").wait_for()
    assert "87.1%" in finished(page, reply)
    remarks = reply.locator("blockquote p").all_inner_texts()
    told = [each for each in remarks if re.fullmatch(TOLD, each)]
    assert told and told == [each for each in remarks if "model" in each]
    assert reply.get_by_role("link", name="[1]", exact=True).count() >= 1
    assert len(endpoint.requests) <= 3 and KEY not in page.content()
    endpoint.become(OK)
    text = finished(page, ask(page, "Which model reaches 87.1% on ImageNet?"))
    page.locator("#src-2-1").wait_for()
    assert SAID in text and "language model" not in text


def test_a_streamed_answer_grows_and_only_its_valid_markers_stay(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    said = (
        "The detector finds zebras in 93.1 % of images [1]. It is **fast** [9]. <img src=x onerror=alert(1)> It is "
        "<b onclick=alert(1)>never</b> wrong, it says [1]. In 77.7 % of cases `a<b>[c](d)` holds $x$, not "
        "\\(\\rule{9em}{9em}\\) [1]."
    )
    replies[0] = answer(said, 8, delay_s=0.15)  # slow enough to be watched on a busy machine
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    reply.get_by_text("Writing…").wait_for()
    early = reply.inner_text()
    assert "93.1 %" in early and "77.7" not in early
    tab.locator("#src-1-1").wait_for()
    text = finished(tab, reply)
    assert "Writing…" not in text and "[9]" not in text
    assert reply.get_by_role("link", name="[1]", exact=True).count() == 3
    assert re.search(r"< ?b onclick=alert\(1\)>never< ?/b>", text) and reply.locator("img, b").count() == 0
    assert reply.locator(".katex").count() == 1 and "rule{9em}{9em}" in text
    assert reply.locator("strong").inner_text() == "fast"
    assert reply.locator("code").inner_text().replace("\u200b", "") == "a<b>[c](d)"
    assert "Figures not found in the cited abstracts: 77.7" in text
    assert "left out: 1." in text


def test_stop_ends_an_answer_and_the_next_question_works(scripted_page: Scripted, tab: Page) -> None:
    url, replies = scripted_page
    replies[0] = stream(chunk("The detector finds 93.1 % of them [1]. It goes "), done=False, hang=True)
    tab.goto(url)
    reply = ask(tab, ZEBRA)
    reply.get_by_text("Writing…").wait_for()
    tab.get_by_role("button", name="Stop").click()
    reply.get_by_text("Stopped before its end").wait_for()
    assert "93.1 %" in finished(tab, reply)
    replies[0] = answer("The zebra detector finds 93.1 % of them [1].")
    ask(tab, "How often, again, does the zebra detector find zebras?")
    tab.locator("#src-2-1").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(sample_page: str, chromium: Browser, scheme: str) -> None:
    with chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(sample_page)
        finished(page, ask(page, FIRST))
        page.locator("#src-1-1").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        box = page.get_by_placeholder("Ask a question").bounding_box()
        assert box and box["y"] + box["height"] < 844
        assert ("dark" in (page.locator("body").get_attribute("class") or "")) == (scheme == "dark")


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
    markdown, formatted, html = ui._markdown(text), ui._markdown(text, formatted=True), ui._html(text)
    for shown in (markdown, formatted, html):
        assert not re.search(r"<[a-zA-Z/!]", shown)
        assert shown.count("\\(") == shown.count("\\)") and shown.count("\\[") == shown.count("\\]")
    for shown in (markdown, formatted):
        assert not re.search(r"\]\(|\]:|```mermaid|:/{2}(?!\u200b)|www\.|(?:-|1\.) \[[ x]\]|%%%LATEX", shown)
    assert "\n" not in html


@pytest.mark.parametrize(
    ("text", "shown"),
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
def test_no_formatting_hides_a_part_of_an_answer(text: str, shown: str) -> None:
    assert ui._text(ui.Exchange(1, "Why?", "writing", text)) == shown


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.invalid", ""])
def test_an_address_that_others_could_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="reverse proxy with a login"):
        ui.serve(Assistant(), host=host, port=7860)


def test_a_port_in_use_is_one_plain_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AssistantError, match="another with --port"):
        ui.serve(Assistant(), host="localhost", port=taken.getsockname()[1])
