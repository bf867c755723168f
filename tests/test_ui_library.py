"""The library tab: what is in it, its papers as one types, the page of one, papers that are added and removed."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

import pytest
from browser import findings, serving, watched
from conftest import make_records, write_jsonl
from live_server import LiveServer

from assistant import Assistant, Config
from assistant.store import Store
from assistant.ui import library
from assistant.ui.library import Wanted
from assistant.ui.plot import bars
from assistant.write import writing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGE = "<img src=http://evil.invalid/x onerror=alert(1)>"
ARABIC = "دراسة عن الحمير الوحشية"
SPECIAL: list[dict[str, object]] = [
    {
        "title": "Zebra maths $x_i^2$ <b>in bold</b> & more",
        "abstract": f"The zebra detector {IMAGE} needs $O(n \\log n)$ time. It finds zebras in 93.1 percent of images.",
        "authors": ["Ann <i>Author</i>", "Bo Writer", "Cy O'Quill", "Dee Penman"],
        "year": 1987, "venue": "ZebraConf & Friends", "doi": "10.1000/zebra.1", "arxiv_id": "2101.00001",
        "url": "https://papers.invalid/zebra?a=1&b=2",
    },
    {"title": ARABIC, "abstract": f"{ARABIC} في الصور الرقمية. تصل الطريقة إلى 93.1 في المئة من الصور.", "year": 2019},
    {"title": "Zebras of the savannah", "abstract": "A zebra is found in images of the savannah by a zebra detector."},
]  # fmt: skip


def make_shelf(folder: Path) -> Path:
    """Make a library of 63 papers, three of them special."""
    venues = ["ACL", "NAACL", "Nature"]
    records = [
        {**each, "venue": venues[i % 3], "authors": ["Eve Scribe", f"Fay Writer {i % 5}"]}
        for i, each in enumerate(make_records(60))
    ]
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "shelf.jsonl", [*records, *SPECIAL])])
    return folder / "library"


@pytest.fixture(scope="module")
def shelf_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page over a library that the tests only read."""
    folder = tmp_path_factory.mktemp("shelf")
    with serving(folder, "--library", make_shelf(folder)) as url:
        yield url


@pytest.fixture(scope="module")
def own_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The page over a library that the tests change, and its folder."""
    folder = tmp_path_factory.mktemp("own")
    library = make_shelf(folder)
    with serving(folder, "--library", library) as url:
        yield url, library


@pytest.fixture(scope="module")
def sample() -> Iterator[Assistant]:
    with Assistant() as assistant:
        yield assistant


def open_library(page: Page, url: str) -> Page:
    page.goto(url)
    page.get_by_role("tab", name="Library").click()
    page.locator("#library-summary").wait_for()
    return page


@contextmanager
def new_results(page: Page) -> Iterator[None]:
    """Wait until new results stand in their place."""
    results = "document.getElementById('library-papers')"
    page.evaluate(f"() => {{ window.placed = new Promise((done) => {results}.addEventListener('placed', done)); }}")
    yield
    page.evaluate("window.placed.then(() => true)")


def search(page: Page, **fields: str) -> str:
    """Type into the form; return what the page says it found."""
    for name, value in fields.items():
        with new_results(page):
            page.locator(f'#library-form [name="{name}"]').fill(value)
    return page.locator("#library-papers [data-said]").inner_text()


def shows(page: Page, said: str) -> None:
    """Wait until the page says so of what it found."""
    page.locator("#library-papers [data-said]").filter(has_text=said).wait_for()


def titles(page: Page) -> list[str]:
    return page.locator("#library-papers .papers a").all_inner_texts()


def paper_address(url: str, title: str) -> str:
    return f"{url}/?paper={quote('title:' + re.sub(r'[^a-z0-9]', '', title.lower()))}"


# --- What is in it ----------------------------------------------------------------------------------------------------


def test_the_tab_says_that_the_sample_is_one_and_where_an_own_library_will_lie(sample_page: str, tab: Page) -> None:
    text = open_library(tab, sample_page).locator(".library").first.inner_text()
    assert "451 papers" in text and "890 passages" in text and "1 source" in text
    assert "built-in sample" in text and "the sample is not shown any more then" in text
    assert "No year is known" in text and "Sound: a search sees every paper." in text and "all-MiniLM-L6-v2" in text
    assert tab.locator("#library-about [title$='sample.jsonl']").inner_text() == "sample.jsonl"


def test_counts_years_and_what_is_frequent_are_shown_and_filter(shelf_page: str, tab: Page) -> None:
    page = open_library(tab, shelf_page)
    summary = page.locator("#library-summary").inner_text()
    assert re.search(r"63 papers\s+63 passages\s+1987–2024 years\s+1 source", summary)
    assert page.locator("svg .bar").count() == 2024 - 1987 + 1
    page.locator("svg g[data-from='2001'] .hit").click()
    shows(page, "3 papers match")
    assert page.locator("#library-form [name=from]").input_value() == "2001"
    page.get_by_role("button", name="Eve Scribe").click()
    shows(page, "1–50 of 60 papers that match")
    page.get_by_role("button", name="NAACL").click()
    shows(page, "20 papers match")
    page.get_by_text("As a table").click()
    page.get_by_role("button", name="1987").click()
    shows(page, "1 paper matches")
    assert titles(page) == [page.locator("#library-papers .papers a").inner_text()]
    page.get_by_role("button", name="Clear").click()
    shows(page, "1–50 of 63 papers")


def test_many_years_share_the_bars_of_the_plot_and_none_is_lost() -> None:
    assert bars([], library.BARS) == []
    few = bars([(2001, 2), (2004, 4)], library.BARS)
    assert [(bar.years, bar.papers, bar.height) for bar in few] == [
        ("2001", 2, 50), ("2002", 0, 0), ("2003", 0, 0), ("2004", 4, 100),
    ]  # fmt: skip
    many = bars([(1600, 1), (1999, 2), (2024, 3)], library.BARS)
    assert len(many) <= library.BARS and sum(bar.papers for bar in many) == 6
    assert many[0].first <= 1600 and many[-1].years == "2020 to 2029"


def test_an_empty_library_says_what_to_do_next(tab: Page, tmp_path: Path) -> None:
    with Store(tmp_path / "empty", create=True):
        pass
    with serving(tmp_path, "--library", tmp_path / "empty") as url:
        text = open_library(tab, url).locator(".library").first.inner_text()
        assert "This library is empty" in text and "Drop a file" in text and "assistant ingest FILE" in text
        assert str(tmp_path / "empty") in text and not tab.locator("#library-form").count()
        assert findings(tab) == []


# --- Its papers -------------------------------------------------------------------------------------------------------


def test_papers_are_found_as_one_types_with_the_words_marked(sample_page: str, tab: Page) -> None:
    page = open_library(tab, sample_page)
    assert page.locator("#library-papers .found").inner_text() == "1–50 of 451 papers" and len(titles(page)) == 50
    page.locator('#library-form [name="text"]').press_sequentially("vision transf")
    page.locator("#library-papers mark").filter(has_text=re.compile("^transf$", re.IGNORECASE)).first.wait_for()
    found = titles(page)
    assert found and all("vision" in each.lower() and "transf" in each.lower() for each in found)
    marked = {each.lower() for each in page.locator("#library-papers mark").all_inner_texts()}
    assert marked == {"vision", "transf"}
    assert str(len(found)) in page.locator("#voice").inner_text()


def test_pages_lead_on_and_back_and_a_key_begins_anew(sample_page: str, tab: Page) -> None:
    page = open_library(tab, sample_page)
    first = titles(page)
    page.get_by_role("button", name="Next").click()
    shows(page, "51–100 of 451 papers")
    assert not set(first) & set(titles(page)) and page.get_by_text("Page 2 of 10").is_visible()
    page.get_by_role("button", name="Previous").click()
    shows(page, "1–50 of 451 papers")
    assert titles(page) == first and page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_role("button", name="Next").click()
    shows(page, "51–100 of 451 papers")
    assert "451" in search(page, text=" ") and titles(page) == first


def test_filters_and_orders_hold_together(shelf_page: str, tab: Page) -> None:
    page = open_library(tab, shelf_page)
    assert search(page, venue="acl") == "20 papers match"  # not NAACL
    assert search(page, venue="ac") == "41 papers match"  # ZebraConf, too
    assert search(page, venue="ACL", author="writer 3", **{"from": "2000", "to": "2020"}) == "3 papers match"
    offered = page.locator("#library-authors option").evaluate_all("found => found.map(each => each.value)")
    assert offered == ["Fay Writer 3"]
    with new_results(page):
        page.get_by_label("Order").select_option("newest")
    years = [int(each[-4:]) for each in page.locator("#library-papers .byline").all_inner_texts()]
    assert years == sorted(years, reverse=True) and len(years) == 3


def test_nothing_found_says_why(shelf_page: str, tab: Page) -> None:
    page = open_library(tab, shelf_page)
    assert "No paper has “xyzzy” in its title, authors or venue." in search(page, text="xyzzy")
    said = search(page, text="savannah", venue="Nature", **{"from": "2020"})
    assert "None of the 1 papers that hold “savannah” is from 2020 and in a venue like “Nature”." in said
    assert "1 have no year, 1 have no venue: a paper without the field does not match." in said


def test_what_is_no_year_is_told_and_left_out(shelf_page: str, tab: Page) -> None:
    page = open_library(tab, shelf_page)
    assert search(page, text="study", **{"from": "20x"}) == "1–50 of 60 papers that match"
    assert page.get_by_text("“20x” is no year and was left out; write it like 2020.").is_visible()
    assert search(page, **{"from": "2003", "to": "2001"}) == "9 papers match"
    assert page.get_by_text("these are from 2001 to 2003").is_visible()
    assert page.locator('#library-form [name="text"]').input_value() == "study"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"page": "x"}, "the page is 'x'; give a whole number"),
        ({"order": "random"}, "unknown order 'random'"),
        ({"text": "a" * 301}, "has 301 characters; give at most 300"),
    ],
)
def test_an_address_that_makes_no_sense_is_one_plain_sentence(
    sample_page: str, wanted: dict[str, str], told: str
) -> None:
    status, body = get(sample_page, f"/page/library/papers?{urlencode(wanted)}")
    assert status == 422 and told in body.replace("&#39;", "'") and "<p class=" in body


def test_a_page_beyond_the_last_is_the_last(sample: Assistant) -> None:
    found = library.find(sample, Wanted(page="99"))
    assert found["page"] == found["pages"] == 10 and found["before"] == 450 and len(found["found"]) == 1


@pytest.mark.parametrize(
    ("title", "words", "shown"),
    [
        ("A < b & amp", ["amp", "<"], "A <mark>&lt;</mark> b &amp; <mark>amp</mark>"),
        ("Lite", ["l", "lit"], "<mark>Lit</mark>e"),
        ("No $m = m$ here", ["m"], "No <math"),
        ("ÉCOLE", ["école"], "<mark>ÉCOLE</mark>"),
    ],
)
def test_words_are_marked_outside_of_maths_and_escapes(title: str, words: list[str], shown: str) -> None:
    marked = library.marked(title, words)
    assert shown in marked and not re.search("<math.*<mark.*</math>", marked)


# --- A paper's page ---------------------------------------------------------------------------------------------------


def test_a_papers_page_shows_all_of_it_as_text(shelf_page: str, tab: Page) -> None:
    page = open_library(tab, shelf_page)
    search(page, text="zebra maths")
    page.locator("#library-papers .papers a").click()
    sheet = page.locator("#sheet")
    text = sheet.locator(".paper").inner_text()
    assert all(part in text for part in ("<b>in bold</b> & more", "Ann <i>Author</i>", "Dee Penman", IMAGE, "1987"))
    assert sheet.locator("h2 math").count() == 1 and sheet.locator(".abstract math").count() == 1
    links = sheet.locator(".facts a").evaluate_all("found => found.map(each => each.href)")
    assert links == [
        "https://papers.invalid/zebra?a=1&b=2", "https://doi.org/10.1000/zebra.1", "https://arxiv.org/abs/2101.00001",
    ]  # fmt: skip
    sheet.locator(".similar .papers a").first.wait_for()
    similar = sheet.locator(".similar .papers li").all_inner_texts()
    assert len(similar) == 6 and "savannah" in similar[0]
    assert all(re.search(r"(very close|close|related|far) · \d+ % alike", each) for each in similar)
    sheet.get_by_text("Where it comes from").click()
    assert "doi:10.1000/zebra.1" in sheet.inner_text() and "shelf.jsonl" in sheet.inner_text()
    sheet.get_by_text("Citation (BibTeX)").click()
    assert "10.1000/zebra.1" in sheet.locator("#citation").inner_text()
    sheet.locator(".similar .papers a").first.click()
    sheet.get_by_role("heading", name="Zebras of the savannah").wait_for()
    assert sheet.locator("h2").evaluate("each => each === document.activeElement")


def test_an_author_or_venue_of_a_paper_filters_the_library(shelf_page: str, tab: Page) -> None:
    tab.goto(paper_address(shelf_page, "Zebra maths x i 2 b in bold b more"))
    tab.locator("#sheet").get_by_role("button", name="Bo Writer").click()
    shows(tab, "1 paper matches")
    assert (
        tab.locator("#library-form [name=author]").input_value() == "Bo Writer"
        and not tab.locator("#sheet[open]").count()
    )
    assert titles(tab)[0].startswith("Zebra maths")


def test_asking_about_a_paper_is_a_question_in_the_conversation(shelf_page: str, tab: Page) -> None:
    tab.goto(paper_address(shelf_page, "Zebras of the savannah"))
    tab.locator("#sheet .paper").wait_for()
    tab.evaluate("document.addEventListener('ask', ({ detail }) => { window.asked = detail.question; })")
    tab.get_by_role("button", name="Ask about this paper").click()
    assert tab.evaluate("window.asked") == "What does “Zebras of the savannah” find?"


def test_a_citation_is_copied(shelf_page: str, chromium: Browser) -> None:
    with watched(chromium, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(paper_address(shelf_page, "Zebras of the savannah"))
        page.get_by_role("button", name="Copy citation").click()
        page.get_by_text("The citation is copied, as BibTeX.").wait_for()
        assert re.match(r"@\w+\{.*Zebras of the savannah", page.evaluate("navigator.clipboard.readText()"), re.DOTALL)


def test_text_from_right_to_left_is_set_so(shelf_page: str, tab: Page) -> None:
    page = open_library(tab, shelf_page)
    search(page, text=ARABIC)
    direction = "each => getComputedStyle(each).direction"
    assert page.locator("#library-papers .papers li").evaluate(direction) == "rtl"
    page.locator("#library-papers .papers a").click()
    page.locator("#sheet .abstract").wait_for()
    assert (
        page.locator("#sheet .abstract").evaluate(direction) == page.locator("#sheet h2").evaluate(direction) == "rtl"
    )


def test_a_paper_opened_as_a_link_comes_with_its_page(shelf_page: str, tab: Page) -> None:
    tab.goto(f"{shelf_page}/page/paper?id={quote('doi:10.1000/zebra.1')}")
    tab.locator("#sheet h2").filter(has_text="Zebra maths").wait_for()
    tab.locator("button[role=tab]").filter(has_text="Library").first.wait_for(state="attached")
    assert urlsplit(tab.url).path == "/"


def test_an_unknown_paper_is_told_in_a_sentence(shelf_page: str, tab: Page) -> None:
    tab.goto(f"{shelf_page}/?paper={quote('<b>nowhere')}")
    tab.get_by_text("There is no paper '<b>nowhere' in this library; it may have been removed.").wait_for()


# --- Adding and removing ----------------------------------------------------------------------------------------------


def add(page: Page, *files: Path, text: str = "") -> None:
    page.locator("#library-add-form [type=file]").set_input_files(files)
    page.locator("#library-add-form textarea").fill(text)
    page.get_by_role("button", name="Add", exact=True).click()


def listed(services: LiveServer) -> str:
    """The setting that lets live sources be asked at a server of ours."""
    return ",".join(f"{name}={address}" for name, address in services.hosts.items())


def became(page: Page) -> str:
    """Wait for the ledger, and for the library that is shown anew."""
    with page.expect_response(re.compile("/page/library$")):
        page.locator("#library-outcome [data-refused]").wait_for()
    return page.locator("#library-outcome").inner_text()


def test_the_first_papers_begin_an_own_library_and_their_ledger_accounts_for_all(tab: Page, tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "good papers.jsonl", make_records(20))
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"title": f"Only a title {IMAGE}"}, *make_records(2, offset=19)])
    (tmp_path / "refs.bib").write_text("@article{a, title = {A title}}\n", encoding="utf-8")
    (tmp_path / "blank.jsonl").write_text("\n", encoding="utf-8")
    with LiveServer(3) as services, serving(tmp_path, ASSISTANT_SOURCE_HOSTS=listed(services)) as url:
        page = open_library(tab, url)
        search(page, text="study")
        known = services.papers[1]
        pasted = f"{known.arxiv} 10.9999/nobody.knows\nhello there"
        working = "event => event.target.querySelector('progress') && done(event.target.innerText)"
        page.evaluate(f"window.working = new Promise((done) => document.addEventListener('placed', {working})); 0")
        add(page, good, bad, tmp_path / "refs.bib", tmp_path / "blank.jsonl", text=pasted)
        said = became(page)
        assert re.fullmatch(r"Adding… (\d+ papers encoded so far, )?\d+ s", page.evaluate("window.working").strip())
        assert "22 new, 0 updated, 0 unchanged, 1 merged into others, 5 rejected" in said
        rows = page.locator("#library-outcome tbody tr").all_inner_texts()
        assert [row.split("\t") for row in rows] == [
            ["good papers.jsonl", "20", "20", "0", "0", "0", "0"],
            ["bad.jsonl", "3", "1", "0", "0", "1", "1"],
            ["refs.bib", "1", "0", "0", "0", "0", "1"],
            ["blank.jsonl", "1", "0", "0", "0", "0", "1"],
            [f"arxiv:{known.arxiv}", "1", "1", "0", "0", "0", "0"],
            ["doi:10.9999/nobody.knows", "1", "0", "0", "0", "0", "1"],
            ["pasted ids and links", "1", "0", "0", "0", "0", "1"],
        ]
        assert IMAGE in said and "cannot read blank.jsonl: the file is empty" in said
        assert "no abstract for the title 'A title'" in said and "'hello there' is no arXiv id" in said
        assert findings(page) == []
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the ledger").click()
        ledger = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
        assert ledger["totals"]["new"] == 22 and ledger["sources"][0]["source"] == "good papers.jsonl"
        page.locator("#library-summary").get_by_text("22 papers").wait_for()
        assert page.locator('#library-form [name="text"]').input_value() == "study"
        shows(page, "21 papers match")
        assert "sample" not in page.locator(".library").first.inner_text()
        assert page.locator("#library-add-form textarea").input_value() == pasted  # what was refused stays
        assert page.locator("#library-add-form .chosen li").count() == 0
        assert get(url, "/page/library/ledger.json")[0] == 404  # another owner's
        page.reload()
        open_library(page, url).locator("#library-outcome").get_by_text("22 new").wait_for()
        add(page, good)
        page.locator("#library-outcome").get_by_text("0 new, 0 updated, 20 unchanged").wait_for()
    kept = {file.name for file in (tmp_path / "data" / "assistant" / "library" / "added").rglob("*") if file.is_file()}
    assert kept == {"good papers.jsonl", "bad.jsonl"}


def test_a_pasted_file_is_read_and_a_known_id_is_known(own_page: tuple[str, Path], tab: Page) -> None:
    page = open_library(tab, own_page[0])
    add(page, text="".join(json.dumps(each) + "\n" for each in make_records(2, offset=100)))
    assert re.search("2 new.*pasted text", became(page), re.DOTALL)
    assert page.locator("#library-add-form textarea").input_value() == ""
    add(page, text="https://arxiv.org/abs/2101.00001v2, doi:10.1000/ZEBRA.1")
    page.locator("#library-outcome").get_by_text("0 new, 0 updated, 2 unchanged, 0 merged").wait_for()
    add(page)
    page.get_by_text("nothing to add").wait_for()


def test_a_library_that_another_writes_to_is_told_and_nothing_is_lost(
    own_page: tuple[str, Path], tab: Page, tmp_path: Path
) -> None:
    url, folder = own_page
    page = open_library(tab, url)
    file = write_jsonl(tmp_path / "more.jsonl", make_records(2, offset=200))
    with Store(folder) as store, writing(store, "test"):
        add(page, file)
        page.get_by_text(re.compile("is being written by process .* wait until it ends")).wait_for()
        assert page.locator("#library-add-form .chosen").inner_text() == "more.jsonl"
        search(page, text="zebra maths")
        page.locator("#library-papers .papers a").click()
        page.get_by_role("button", name="Remove from the library").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        page.locator("#sheet").get_by_text("Nothing was removed: the library").wait_for()
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Add", exact=True).click()
    assert "2 new" in became(page)


def test_a_paper_is_removed_after_a_second_word(own_page: tuple[str, Path], tab: Page) -> None:
    page = open_library(tab, own_page[0])
    count = page.locator("#library-summary .counts li b").first
    before = int(count.inner_text())
    search(page, text="savannah")
    page.locator("#library-papers .papers a").click()
    page.get_by_role("button", name="Remove from the library").click()
    page.get_by_role("button", name="Keep it").click()
    assert not page.locator("#removal").is_visible()
    page.get_by_role("button", name="Remove from the library").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.locator("#sheet").get_by_text("Zebras of the savannah is no longer in the library.").wait_for()
    shows(page, "Nothing found.")
    assert int(count.inner_text()) == before - 1
    page.locator("#sheet").get_by_role("button", name="Close", exact=True).last.click()
    assert not page.locator("#sheet[open]").count()


def test_the_sample_cannot_be_changed(sample_page: str, tab: Page) -> None:
    page = open_library(tab, sample_page)
    page.locator("#library-papers .papers a").first.click()
    page.locator("#sheet .paper").wait_for()
    assert not page.get_by_role("button", name="Remove from the library").count()
    status, body = post(sample_page, "/page/library/remove", "ids=doi:10.1000/zebra.1")
    assert status == 422 and "the built-in sample cannot be changed" in body


def test_the_page_of_another_site_can_neither_add_nor_remove(sample_page: str) -> None:
    for path in ("add", "remove"):
        status, _ = post(sample_page, f"/page/library/{path}", "ids=x&text=x", Origin="https://evil.invalid")
        assert status == 403


def test_an_upload_stays_within_its_folder_whatever_its_name_is(own_page: tuple[str, Path]) -> None:
    url, folder = own_page
    record = json.dumps(make_records(1, offset=300)[0])
    part = (
        f'--x\r\nContent-Disposition: form-data; name="files"; filename="{"../" * 9}evil [1].jsonl"\r\n\r\n{record}\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Cookie": f"assistant_owner={'a' * 43}"}
    status, _ = get(url, "/page/library/add", "POST", f"{part}--x--\r\n", **headers)
    assert status == 200
    for _ in range(100):
        ledger = get(url, "/page/library/ledger.json", **headers)
        if ledger[0] == 200:
            break
        time.sleep(0.2)
    assert [(each["source"], each["new"]) for each in json.loads(ledger[1])["sources"]] == [("evil [1].jsonl", 1)]
    (kept,) = folder.rglob("evil*")
    assert kept.parent.parent == folder / "added"


def test_whoever_cannot_be_known_again_adds_nothing(sample_page: str) -> None:
    status, body = post(sample_page, "/page/library/add", "text=2101.00001")
    assert status == 200 and "this browser keeps no cookies" in body


# --- Manners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_people_with_disabilities(shelf_page: str, chromium: Browser, scheme: str) -> None:
    with watched(chromium, color_scheme=scheme) as page:
        open_library(page, shelf_page)
        page.get_by_text("As a table").click()
        assert findings(page) == []
        search(page, text="zebra maths")
        page.locator("#library-papers .papers a").click()
        page.locator("#sheet .similar .papers").wait_for()
        page.get_by_role("button", name="Remove from the library").click()
        page.get_by_text("Citation (BibTeX)").click()
        assert findings(page, "#sheet") == []


def test_a_phone_shows_all_without_scrolling_sideways(shelf_page: str, chromium: Browser) -> None:
    with watched(chromium, viewport={"width": 390, "height": 844}) as page:
        open_library(page, shelf_page)
        width = "document.documentElement.scrollWidth"
        assert page.evaluate(width) == 390
        page.get_by_role("link", name="Add papers").click()
        add(page, text="2101.00001 10.1000/zebra.9")
        page.locator("#library-outcome table").wait_for()
        assert page.evaluate(width) == 390
        fits = "found => found.every(each => each.scrollWidth <= each.clientWidth)"
        assert page.locator(".library .main, .library .side, .library .side > *").evaluate_all(fits)
        search(page, text="zebra maths")
        page.locator("#library-papers .papers a").click()
        page.locator("#sheet .paper").wait_for()
        body = page.locator("#sheet .sheet-body")
        assert body.evaluate("each => each.scrollWidth <= each.clientWidth") and page.evaluate(width) == 390


def test_the_keyboard_alone_finds_opens_and_leaves_a_paper(sample_page: str, tab: Page) -> None:
    page = open_library(tab, sample_page)
    focused = "document.activeElement.name || document.activeElement.textContent"
    page.get_by_role("tab", name="Library").focus()
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "text":
            break
    page.keyboard.type("autoint")
    shows(page, "1 paper matches")
    for _ in range(8):
        page.keyboard.press("Tab")
        if "AutoInt" in page.evaluate(focused):
            break
    page.keyboard.press("Enter")
    page.locator("#sheet .paper").wait_for()
    page.keyboard.press("Escape")
    page.locator("#sheet").wait_for(state="hidden")
    assert "AutoInt" in page.evaluate(focused)
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "text"
    page.keyboard.press("ArrowDown")
    assert "AutoInt" in page.evaluate(focused)


def get(url: str, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str]:
    """Send a request as a program would, without a cookie; return status and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def post(url: str, path: str, body: str, **headers: str) -> tuple[int, str]:
    return get(url, path, "POST", body, **{"Content-Type": "application/x-www-form-urlencoded", **headers})
