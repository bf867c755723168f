"""The explore tab: papers found without an answer, a few of them side by side, all of them on a map."""

from __future__ import annotations

import csv
import http.client
import json
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from browser import findings, serving, watched
from conftest import make_records, write_jsonl

from assistant import Assistant, Config, Paper, table
from assistant.ui import explore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

IMAGE = "<img src=http://evil.invalid/x onerror=alert(1)>"
HOSTILE: list[dict[str, object]] = [
    {
        "title": "=SUM(A1) | zebra maths $x_i^2$ <b>in bold</b> & more",
        "abstract": (
            f"Zebras are hard to find | {IMAGE}. In this paper we propose the zebra detector $O(n \\log n)$ for zebra "
            "detection. Experiments on the ZebraNet dataset of 5,000 images show 93.1% accuracy."
        ),
        "authors": ["+Ann <i>Author</i>", "Bo Writer"],
        "year": 1987,
        "venue": "ZebraConf & Friends",
    },
    {"title": "دراسة عن الحمير الوحشية", "abstract": "دراسة عن الحمير الوحشية في الصور الرقمية.", "year": 2019},
]
FIRST = "How can vision transformers be trained on small datasets?"


def make_shelf(folder: Path) -> Path:
    """Make a library of 62 papers with years, venues and authors, two of them hostile."""
    venues = ["ACL", "NAACL", "Nature"]
    records = [
        {**each, "venue": venues[i % 3], "authors": ["Eve Scribe", f"Fay Writer {i % 9}"]}
        for i, each in enumerate(make_records(60))
    ]
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "shelf.jsonl", [*records, *HOSTILE])])
    return folder / "library"


@pytest.fixture(scope="module")
def shelf_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("shelf")
    with serving(folder, "--library", make_shelf(folder)) as url:
        yield url


@pytest.fixture(scope="module")
def sample() -> Iterator[Assistant]:
    with Assistant() as assistant:
        yield assistant


def open_view(page: Page, url: str, view: str = "Search") -> Page:
    page.goto(url)
    page.get_by_role("tab", name="Explore").click()
    page.locator("#explore .views").get_by_role("button", name=re.compile(view)).click()
    return page


def search(page: Page, text: str) -> Locator:
    """Type a search and return its papers."""
    with page.expect_response(lambda reply: "/results?" in reply.url):
        page.locator("#explore-text").fill(text)
    page.locator("#explore .hits").wait_for()
    return page.locator("#explore .hits > li")


def get(url: str, path: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("GET", path)
    reply = connection.getresponse()
    text = reply.read().decode("utf-8")
    connection.close()
    return reply.status, text, {name.lower(): value for name, value in reply.getheaders()}


# --- Search -----------------------------------------------------------------------------------------------------------


def test_papers_are_ranked_as_one_types_with_the_words_of_the_question_marked(
    sample_page: str, tab: Page, sample: Assistant
) -> None:
    found = search(open_view(tab, sample_page), FIRST)
    hits = sample.search(FIRST, k=explore.POOL)
    assert found.count() == explore.PAGE == 20
    titles = found.locator("h3 a").all_inner_texts()
    assert titles == [hit.paper.title for hit in hits[:20]]
    first = found.first
    assert first.locator(".passage").inner_text() == hits[0].passage
    marked = {each.casefold() for each in first.locator("mark").all_inner_texts()}
    assert {"vision", "transformers", "small", "datasets"} <= marked and not {"how", "can", "be", "on"} & marked
    assert "by meaning 1st, by words 1st" in first.locator(".how").inner_text()
    assert first.locator(".how [title]").get_attribute("title") == f"Score {hits[0].score:.3f}"
    tab.get_by_role("button", name="More papers").click()
    tab.locator(".hits > li:nth-child(40)").wait_for()
    assert found.count() == 40 and found.nth(20).locator("h3 a").evaluate("each => each === document.activeElement")


def test_the_title_opens_the_paper_at_the_passage_that_matched(sample_page: str, tab: Page) -> None:
    found = search(open_view(tab, sample_page), FIRST)
    link = found.first.locator("h3 a")
    assert re.search(r"/page/paper\?id=[\w.-]+&start=\d+&end=\d+$", link.get_attribute("href") or "")
    link.click()
    tab.locator("#sheet[open] .paper h2").filter(has_text=link.inner_text()).wait_for()
    passage = " ".join(found.first.locator(".passage").inner_text().strip("… ").split())
    assert passage[:80] in " ".join(tab.locator("#sheet .abstract mark").inner_text().split())


def test_a_count_narrows_the_search_and_its_chip_widens_it_again(shelf_page: str, tab: Page) -> None:
    found = search(open_view(tab, shelf_page), "glaciers in a setting")
    facets = tab.locator("#explore .facets")
    tab.get_by_text("These are all 62 papers").or_(tab.get_by_role("button", name="More papers")).first.wait_for()
    facets.get_by_role("button", name="NAACL 20").click()
    chip = tab.get_by_role("button", name="Remove the filter venue NAACL")
    chip.wait_for()
    assert chip.evaluate("each => each === document.activeElement")
    assert found.count() == 20 and all("NAACL" in each for each in found.locator(".byline").all_inner_texts())
    facets.get_by_role("button", name="Fay Writer 1 ").click()
    tab.get_by_role("button", name="Remove the filter author Fay Writer 1").wait_for()
    tab.get_by_text("papers that pass the filters").wait_for()
    assert 0 < found.count() < 20
    facets.locator(".years button:enabled").first.click()
    tab.get_by_role("button", name=re.compile("Remove the filter year")).wait_for()
    tab.keyboard.press("Enter")  # the new chip has the focus
    tab.get_by_role("button", name=re.compile("Remove the filter year")).wait_for(state="detached")
    tab.get_by_role("button", name="Remove the filter author").click()
    tab.get_by_role("button", name="Remove the filter venue").click()
    tab.locator("#explore .chips").wait_for(state="detached")
    assert found.count() == 20


def test_where_nothing_is_found_the_reason_is_told_in_words(shelf_page: str, tab: Page) -> None:
    open_view(tab, shelf_page)
    tab.evaluate("""() => fetch("/page/explore/results?text=zebras&where=year%3D1950").then((reply) => reply.text())
        .then((html) => { document.getElementById("explore-results").innerHTML = html; })""")
    tab.get_by_text("None of 62 papers match year=1950. Take a filter out to see more.").wait_for()
    assert tab.locator("#explore .hits > li").count() == 0
    search(tab, "quantum chromodynamics lattice")
    tab.get_by_text("Nothing in the library is close to this. These are the nearest papers:").wait_for()


def test_a_condition_that_cannot_be_read_is_told_in_words(shelf_page: str) -> None:
    status, text, _ = get(shelf_page, "/page/explore/results?text=x&where=colour%3Dred")
    assert status == 422 and "unknown field &#39;colour&#39;" in text and 'class="fault"' in text


def test_before_a_search_there_are_counts_and_questions_and_filters_count(shelf_page: str, tab: Page) -> None:
    open_view(tab, shelf_page)
    tab.locator(".questions button").first.wait_for()
    tab.locator("#explore .facets").get_by_role("button", name="Nature 20").click()
    tab.get_by_text("20 papers pass the filters. Type what you look for").wait_for()
    tab.get_by_role("button", name="Remove the filter").click()
    question = tab.locator(".questions button").first
    words = question.get_attribute("data-question")
    question.click()
    tab.locator(".hits").wait_for()
    assert tab.locator("#explore-text").input_value() == words


def test_text_of_papers_is_shown_and_never_run(shelf_page: str, tab: Page) -> None:
    found = search(open_view(tab, shelf_page), "zebra maths")
    own = found.filter(has_text="SUM(A1)")
    assert "<b>in bold</b> & more" in own.locator("h3").inner_text() and own.locator("h3 math").count() == 1
    assert IMAGE in own.inner_text() and "+Ann <i>Author</i>" in own.inner_text()
    own.get_by_role("checkbox").check()
    tab.get_by_role("button", name="Compare (1)").click()
    tab.locator("#explore-table td math").wait_for()
    assert tab.locator("#explore").locator("img, b b, i, script").count() == 0


# --- Comparison -------------------------------------------------------------------------------------------------------


def test_papers_ticked_in_the_search_stand_side_by_side_word_for_word(
    sample_page: str, tab: Page, sample: Assistant
) -> None:
    found = search(open_view(tab, sample_page), FIRST)
    for number in (0, 2, 4):
        found.nth(number).get_by_role("checkbox").check()
    ids = [found.nth(i).locator("[data-compare]").get_attribute("data-compare") or "" for i in (0, 2, 4)]
    tab.get_by_role("button", name="Compare (3)").click()
    rows = tab.locator("#explore-table tbody tr")
    rows.nth(2).wait_for()
    for at, row in enumerate(sample.compare(ids)):
        cells = [getattr(row, name) for name in table.COLUMNS]
        assert all(cell.text in row.paper.abstract for cell in cells)
        assert rows.nth(at).locator("td").all_inner_texts() == [
            cell.text or "not stated in the abstract" for cell in cells
        ]
        spans = rows.nth(at).locator("td a").evaluate_all("found => found.map((each) => each.search)")
        id_ = quote(row.paper.id)
        assert spans == [f"?id={id_}&start={cell.start}&end={cell.end}" for cell in cells if cell.text]
    rows.first.locator("td a").first.click()
    tab.locator("#sheet[open] .paper").wait_for()
    tab.keyboard.press("Escape")
    rows.first.get_by_role("button", name="Take out").click()
    rows.nth(2).wait_for(state="detached")
    tab.get_by_role("button", name="Compare (2)").wait_for()
    tab.get_by_role("button", name="Search", exact=True).first.click()
    assert [found.nth(i).get_by_role("checkbox").is_checked() for i in (0, 2, 4)] == [False, True, True]


def test_a_paper_is_chosen_by_words_of_its_title(sample_page: str, tab: Page) -> None:
    open_view(tab, sample_page, "Compare")
    tab.get_by_text("No paper is chosen yet.").wait_for()
    tab.locator("#explore-title").press_sequentially("visual attention net")
    tab.locator(".titles").get_by_role("button", name="Visual Attention Network").first.click()
    tab.locator("#explore-table tbody th").filter(has_text="Visual Attention Network").wait_for()
    tab.get_by_role("button", name="Compare (1)").wait_for()
    assert tab.locator("#explore-title").input_value() == "" and tab.locator(".titles").count() == 0
    tab.locator("#explore-title").press_sequentially("no such words at all")
    tab.get_by_text("No title, author or venue holds these words.").wait_for()


def test_a_thirteenth_paper_is_refused_plainly(sample_page: str, tab: Page) -> None:
    found = search(open_view(tab, sample_page), FIRST)
    for number in range(explore.MOST):
        found.nth(number).get_by_role("checkbox").check()
    tab.get_by_role("button", name="Compare (12)").wait_for()
    found.nth(12).get_by_role("checkbox").click()
    tab.get_by_text("At most 12 papers can be compared").wait_for()
    assert not found.nth(12).get_by_role("checkbox").is_checked()
    tab.get_by_role("button", name="Compare (12)").click()
    tab.locator("#explore-table tbody tr").nth(11).wait_for()
    status, text, _ = get(sample_page, "/page/explore/compare?" + urlencode([("ids", str(i)) for i in range(13)]))
    assert status == 422 and "13 papers were chosen" in text


def test_papers_that_are_gone_are_left_out_of_the_table_and_told(sample_page: str, sample: Assistant) -> None:
    [paper] = sample.papers("Visual Attention Network")[:1]
    _, text, _ = get(sample_page, f"/page/explore/compare?ids=gone-1&ids={paper.id}")
    assert "1 of the chosen papers is no longer in the library." in text and text.count("<tr data-row") == 1


def test_the_table_is_taken_along_as_csv_with_the_place_of_each_cell(shelf_page: str, tab: Page) -> None:
    found = search(open_view(tab, shelf_page), "zebra maths")
    found.filter(has_text="SUM(A1)").get_by_role("checkbox").check()
    tab.get_by_role("button", name="Compare (1)").click()
    with tab.expect_download() as begun:
        tab.get_by_role("link", name="Download CSV").click()
    assert begun.value.suggested_filename == "comparison.csv"
    text = begun.value.path().read_text(encoding="utf-8-sig")
    [row] = csv.DictReader(text.splitlines())
    assert row["title"].startswith("'=SUM(A1)") and row["authors"].startswith("'+Ann") and row["year"] == "1987"
    abstract = " ".join(str(HOSTILE[0]["abstract"]).split())
    for name in table.COLUMNS:
        if row[name]:
            assert abstract[int(row[f"{name}_start"]) : int(row[f"{name}_end"])] == row[name]
    assert row["data"] and row["numbers"]
    with tab.expect_download() as begun:
        tab.get_by_role("link", name="Download Markdown").click()
    lines = begun.value.path().read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 and {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert "<b" not in lines[2] and "<img" not in lines[2] and "$x_i^2$" in lines[2]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "＝1"])
def test_no_cell_of_a_spreadsheet_begins_a_formula(text: str) -> None:
    rows = table.compare([Paper("p1", text, f"{text} is hard. We propose {text} for it.", authors=(text,))])
    _, *cells = csv.reader("".join(explore.table_csv(rows)).splitlines())
    assert not [cell for row in cells for cell in row if re.match(r"\s*[=+\-@＝]", cell)]


# --- Map --------------------------------------------------------------------------------------------------------------


def open_map(page: Page, url: str) -> dict[str, Any]:
    """Open the map and return what the server told of it."""
    with page.expect_response(lambda reply: reply.url.endswith("/map.json") and reply.status == 200) as told:
        open_view(page, url, "Map")
    page.locator("#explore .legend button").first.wait_for()
    return json.loads(told.value.text())  # type: ignore[no-any-return]


def place_of(page: Page, atlas: dict[str, Any], number: int) -> tuple[float, float]:
    """Return where a paper of the whole map lies on the screen."""
    box = page.locator("#explore-plane").bounding_box()
    assert box
    scale = 0.94 * min(box["width"], box["height"]) / atlas["steps"]
    half = atlas["steps"] / 2
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + (atlas["x"][number] - half) * scale, middle[1] + (atlas["y"][number] - half) * scale


def alone(atlas: dict[str, Any]) -> int:
    """Return a paper with no other one near, towards the middle of the map."""
    points = list(zip(atlas["x"], atlas["y"], strict=True))

    def distance(i: int) -> float:
        return min(abs(points[i][0] - x) + abs(points[i][1] - y) for j, (x, y) in enumerate(points) if j != i)

    inner = [i for i, (x, y) in enumerate(points) if 2000 < x < 8000 and 2000 < y < 8000]
    return max(inner[:500], key=distance)


def colours(page: Page) -> int:
    """Return how many different colours the canvas shows."""
    return int(
        page.locator("#explore-plane").evaluate(
            "(each) => new Set(new Uint32Array(each.getContext('2d').getImageData(0, 0, each.width, each.height)"
            ".data.buffer)).size"
        )
    )


def picture(page: Page) -> str:
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    return str(page.locator("#explore-plane").evaluate("(each) => each.toDataURL()"))


def test_the_map_shows_the_title_under_the_pointer_and_a_click_opens_it(
    sample_page: str, tab: Page, sample: Assistant
) -> None:
    atlas = open_map(tab, sample_page)
    assert sorted(atlas["ids"]) == sorted(paper.id for paper in sample.papers())
    assert colours(tab) > len(atlas["names"])
    number = alone(atlas)
    tab.mouse.move(*place_of(tab, atlas, number))
    tab.locator("#explore .tip").filter(has_text=atlas["titles"][number]).wait_for()
    assert atlas["names"][atlas["topic"][number]] in tab.locator("#explore .tip").inner_text()
    tab.mouse.click(*place_of(tab, atlas, number))
    tab.locator("#sheet[open] .paper h2").filter(has_text=atlas["titles"][number]).wait_for()


def test_the_map_is_dragged_zoomed_and_shown_whole_again(sample_page: str, tab: Page) -> None:
    atlas = open_map(tab, sample_page)
    number = alone(atlas)
    x, y = place_of(tab, atlas, number)
    whole = picture(tab)
    tab.mouse.move(x + 30, y + 30)
    tab.mouse.down()
    tab.mouse.move(x + 100, y + 80, steps=5)
    tab.mouse.up()
    assert picture(tab) != whole
    assert not tab.locator("#sheet[open]").count()
    tab.mouse.move(x + 70, y + 50)
    tip = tab.locator("#explore .tip").filter(has_text=atlas["titles"][number])
    tip.wait_for()
    tab.mouse.wheel(0, -400)
    tab.mouse.move(x + 71, y + 50)
    tip.wait_for()  # what is under the pointer stays there
    tab.get_by_role("button", name="Show all").click()
    tab.mouse.move(0, 0)
    assert picture(tab) == whole
    tab.get_by_role("button", name="Zoom in").click()
    assert picture(tab) != whole
    tab.get_by_role("button", name="Zoom out").click()
    tab.mouse.move(0, 0)
    assert picture(tab) == whole


def test_two_fingers_zoom_the_map(sample_page: str, chromium: Browser) -> None:
    with watched(chromium, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as page:
        open_map(page, sample_page)
        page.locator("#explore-plane").scroll_into_view_if_needed()
        box = page.locator("#explore-plane").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, apart: float) -> None:
            points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})

        whole = picture(page)
        fingers("touchStart", 30)
        for apart in (50, 70, 90):
            fingers("touchMove", apart)
        fingers("touchEnd", 0)
        zoomed = picture(page)
        assert zoomed != whole
        page.get_by_role("button", name="Show all").click()
        assert picture(page) == whole


def test_titles_that_match_light_up_and_are_listed(sample_page: str, tab: Page) -> None:
    atlas = open_map(tab, sample_page)
    whole = picture(tab)
    tab.locator("#explore-find").press_sequentially("Visual ATTENTION")
    matching = [each for each in atlas["titles"] if "visual" in each.casefold() and "attention" in each.casefold()]
    assert len(matching) > 1
    tab.get_by_text(f"{len(matching)} titles match").wait_for()
    assert picture(tab) != whole
    assert tab.locator("#explore-matching a").all_inner_texts() == matching[:8]
    dark = atlas["titles"].index(next(each for each in atlas["titles"] if each not in matching))
    tab.mouse.move(*place_of(tab, atlas, dark))
    assert atlas["titles"][dark] not in tab.locator("#explore .tip").inner_text()
    tab.locator("#explore-matching a").first.click()
    tab.locator("#sheet[open] .paper h2").filter(has_text=matching[0]).wait_for()
    tab.keyboard.press("Escape")
    tab.locator("#explore-find").fill("")
    assert picture(tab) == whole


def test_the_legend_lights_up_its_topics(sample_page: str, tab: Page) -> None:
    atlas = open_map(tab, sample_page)
    buttons = tab.locator("#explore .legend button")
    assert [each.split("\n")[0] for each in buttons.all_inner_texts()] == atlas["names"]
    whole = picture(tab)
    buttons.nth(2).click()
    assert buttons.nth(2).get_attribute("aria-pressed") == "true"
    one = picture(tab)
    assert one != whole
    other = next(i for i, topic in enumerate(atlas["topic"]) if topic == 1)
    tab.mouse.move(*place_of(tab, atlas, other))
    assert atlas["titles"][other] not in tab.locator("#explore .tip").inner_text()
    buttons.nth(1).click()
    assert picture(tab) not in {one, whole}
    buttons.nth(1).click()
    buttons.nth(2).click()
    tab.mouse.move(0, 0)
    assert picture(tab) == whole


def test_the_same_papers_are_listed_by_topic_and_can_be_chosen_there(sample_page: str, tab: Page) -> None:
    atlas = open_map(tab, sample_page)
    listed = []
    for number in range(len(atlas["names"])):
        part = tab.locator("#explore .listed").nth(number)
        assert part.locator("a").count() == 0
        part.locator("summary").click()
        part.locator("a").first.wait_for()
        listed += part.locator("a").all_inner_texts()
        if not number:
            part.get_by_role("checkbox").first.check()
        part.locator("summary").click()
    assert sorted(listed) == sorted(atlas["titles"])
    tab.get_by_role("button", name="Compare (1)").click()
    tab.locator("#explore-table tbody tr").first.wait_for()


def test_a_map_that_is_being_made_is_waited_for(sample_page: str, tab: Page) -> None:
    asked: list[int] = []
    made = threading.Event()

    def slow(route: Any) -> None:
        asked.append(1)
        if len(asked) < 4:
            route.fulfill(status=202, json={"state": "being drawn"})
        else:
            made.set()
            route.continue_()

    tab.route("**/map.json", slow)
    open_view(tab, sample_page, "Map")
    tab.get_by_text("Drawing the map of 451 papers.").wait_for()
    tab.locator("#explore .legend button").first.wait_for()
    assert made.is_set() and not tab.locator("#explore .state").is_visible()


def test_one_map_is_made_for_all_who_ask_and_a_new_one_when_the_library_has_changed(tmp_path: Path) -> None:
    with Assistant(Config(library=tmp_path / "library")) as assistant:
        assistant.ingest([write_jsonl(tmp_path / "a.jsonl", make_records(5))])
        maps = explore.Maps(assistant)
        first = maps.job()
        assert maps.job() is first
        atlas, text = first.result(60)
        assert maps.job() is first and len(atlas) == len(json.loads(text)["ids"]) == 5
        assistant.ingest([write_jsonl(tmp_path / "b.jsonl", make_records(2, offset=50))])
        assert len(maps.job().result(60)[0]) == 7


def twenty_thousand() -> dict[str, Any]:
    """Return a made-up map of 20,000 papers in 14 topics."""
    chance = random.Random(1)
    middles = [[chance.randint(1500, 8500), chance.randint(1500, 8500)] for _ in range(14)]
    topic = [chance.randrange(14) for _ in range(20_000)]
    places = [[min(10_000, max(0, round(chance.gauss(middles[each][axis], 800)))) for each in topic] for axis in (0, 1)]
    places[0][777], places[1][777] = 9_990, 20
    return {
        "steps": 10_000, "names": [f"topic {i}, of words" for i in range(14)], "middles": middles,
        "ids": [f"paper-{i}" for i in range(20_000)], "titles": [f"A study of zebra number {i}" for i in range(20_000)],
        "x": places[0], "y": places[1], "topic": topic,
    }  # fmt: skip


def test_a_map_of_20_000_papers_is_moved_searched_and_pointed_at(sample_page: str, tab: Page) -> None:
    body = json.dumps(twenty_thousand(), separators=(",", ":"))
    tab.route("**/map.json", lambda route: route.fulfill(body=body, content_type="application/json"))
    atlas = open_map(tab, sample_page)
    assert colours(tab) > 14
    tab.mouse.move(*place_of(tab, atlas, 777))
    tab.locator("#explore .tip").filter(has_text="A study of zebra number 777").wait_for()
    tab.locator("#explore-find").fill("number 1999")
    n = sum("1999" in each for each in atlas["titles"])
    tab.get_by_text(f"{n} titles match").wait_for()
    tab.locator("#explore-find").fill("")
    whole = picture(tab)
    frames = tab.evaluate("""async () => {
        const plane = document.getElementById("explore-plane"), { x, y } = plane.getBoundingClientRect();
        const send = (kind, dx) => plane.dispatchEvent(new PointerEvent(kind,
            { pointerId: 1, clientX: x + 300 + dx, clientY: y + 300, buttons: 1, bubbles: true }));
        plane.setPointerCapture = () => {};
        send("pointerdown", 0);
        let changed = 0, before = "";
        for (let i = 1; i <= 12; i++) {
            for (let k = 0; k < 5; k++) send("pointermove", i * 10 + k);
            await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
            const now = plane.toDataURL();
            changed += now !== before;
            before = now;
        }
        send("pointerup", 120);
        return changed;
    }""")
    assert frames == 12 and picture(tab) != whole


# --- All of it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "told"), [(0, "There is nothing to explore yet"), (2, "A map needs at least 3 papers")])
def test_a_library_with_nothing_to_show_says_so(n: int, told: str, tmp_path: Path, chromium: Browser) -> None:
    (tmp_path / "library").mkdir()
    if n:
        with Assistant(Config(library=tmp_path / "library")) as assistant:
            assistant.ingest([write_jsonl(tmp_path / "few.jsonl", make_records(n))])
    with serving(tmp_path, "--library", tmp_path / "library") as url, watched(chromium) as page:
        page.goto(url)
        page.get_by_role("tab", name="Explore").click()
        if n:
            page.locator("#explore .views").get_by_role("button", name="Map").click()
        page.get_by_text(told).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["Search", "Compare", "Map"])
def test_nothing_stands_in_the_way_of_people_with_disabilities(
    shelf_page: str, chromium: Browser, view: str, scheme: str
) -> None:
    with watched(chromium, color_scheme=scheme) as page:
        found = search(open_view(page, shelf_page), "glaciers and zebra maths")
        found.nth(0).get_by_role("checkbox").check()
        page.locator("#explore .facets").get_by_role("button", name="ACL").first.click()
        page.locator("#explore .chips").wait_for()
        found.nth(1).get_by_role("checkbox").check()
        page.locator("#explore .views").get_by_role("button", name=re.compile(view)).click()
        if view == "Compare":
            page.locator("#explore-title").fill("study")
            page.locator(".titles").wait_for()
            page.locator("#explore-table table").wait_for()
        if view == "Map":
            page.locator("#explore .legend button").nth(1).click()
            page.locator("#explore .listed summary").first.click()
            page.locator("#explore .listed a").first.wait_for()
            page.locator("#explore-find").fill("study")
            page.locator("#explore-matching a").first.wait_for()
        assert findings(page, "#explore") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(shelf_page: str, chromium: Browser, scheme: str) -> None:
    with watched(chromium, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True) as page:
        wide = "document.documentElement.scrollWidth"
        found = search(open_view(page, shelf_page), "glaciers and zebra maths")
        assert page.evaluate(wide) == 390
        assert not page.locator("#explore .facets ul").first.is_visible()
        for number in (0, 1):
            found.nth(number).get_by_role("checkbox").check()
        page.get_by_role("button", name="Compare (2)").click()
        page.locator("#explore-table tbody tr").nth(1).wait_for()
        assert page.evaluate(wide) == 390
        box = page.locator("#explore .box")
        box.evaluate("(each) => { each.scrollLeft = 400; }")
        first = page.locator("#explore tbody th").first.bounding_box()
        assert box.evaluate("(each) => each.scrollLeft") == 400 and first and first["x"] < 20
        page.locator("#explore .views").get_by_role("button", name="Map").click()
        page.locator("#explore .legend button").first.wait_for()
        assert page.evaluate(wide) == 390


def test_all_of_it_is_done_by_keys_alone(sample_page: str, tab: Page) -> None:
    tab.goto(sample_page)
    tab.get_by_role("tab", name="Explore").focus()
    tab.keyboard.press("Enter")
    tab.locator("#explore .questions").wait_for()

    def tab_to(target: Locator, most: int = 60) -> None:
        for _ in range(most):
            if target.evaluate("(each) => each === document.activeElement"):
                return
            tab.keyboard.press("Tab")
        raise AssertionError("not reached by the Tab key")

    tab_to(tab.locator("#explore-text"))
    tab.keyboard.type("large kernel attention")
    tab.keyboard.press("Enter")
    tab.locator(".hits").wait_for()
    tab_to(tab.locator(".hits [data-compare]").first)
    tab.keyboard.press("Space")
    for _ in range(60):
        if tab.locator("#explore [data-view=map]").evaluate("(each) => each === document.activeElement"):
            break
        tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Enter")
    tab.locator("#explore .legend button").first.wait_for()
    tab_to(tab.locator("#explore-plane"))
    tab.locator("#explore .tip").wait_for()
    before = tab.locator("#explore .tip").inner_text()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("+")
    after = tab.locator("#explore .tip").inner_text()
    assert after != before and tab.locator("#explore-near").inner_text() == after.split("\n")[0]
    tab.keyboard.press("Enter")
    tab.locator("#sheet[open] .paper h2").filter(has_text=after.split("\n")[0]).wait_for()
    tab.keyboard.press("Escape")
    tab.locator("#sheet[open]").wait_for(state="detached")
    assert tab.locator("#explore-plane").evaluate("(each) => each === document.activeElement")


def test_the_tab_shows_the_library_as_it_is_and_keeps_what_was_typed(tmp_path: Path, chromium: Browser) -> None:
    library = tmp_path / "library"
    with Assistant(Config(library=library)) as assistant:
        assistant.ingest([write_jsonl(tmp_path / "a.jsonl", make_records(4))])
        with serving(tmp_path, "--library", library) as url, watched(chromium) as page:
            open_view(page, url)
            page.get_by_placeholder("Search 4 papers").wait_for()
            search(page, "glaciers")
            page.locator("#explore .views").get_by_role("button", name="Compare").click()
            page.get_by_role("tab", name="Ask").click()
            assistant.ingest([write_jsonl(tmp_path / "b.jsonl", make_records(3, offset=9))])
            page.get_by_role("tab", name="Explore").click()
            page.locator("#explore [placeholder^='Search 7 papers']").wait_for(state="attached")
            page.get_by_text("No paper is chosen yet.").wait_for()
            page.locator("#explore .views").get_by_role("button", name="Search").click()
            page.locator(".hits > li").nth(6).wait_for()  # the search is still there, and finds what is new
