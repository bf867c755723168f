"""Pictures of the page as people meet it, to be looked at after a change: light and dark, on a desk and on a phone.

`python -m tests.screenshots FOLDER` (or `make screenshots`) writes them with `index.html`, which shows all of them. A
picture that cannot be taken is told, and the others are taken all the same; exit 1 then.
"""

from __future__ import annotations

import contextlib
import html
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))  # where pytest finds them, too

from browser import FLAGS, PATIENCE_MS, ask, finished, serving
from conftest import make_records, write_jsonl
from endpoint import Endpoint, answer, chunk, error, stream
from faults import QUESTION

from assistant import Assistant, Config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

SIZES = {1366: 900, 390: 844}
SCHEMES = ("light", "dark")
SETTLE_MS = 200
"""What moves has come to rest by then."""
PAINT = (
    'scheme => { localStorage.setItem("scheme", scheme); document.body.classList.toggle("dark", scheme === "dark"); }'
)
SURVEY = "How can vision transformers be trained on small datasets?"
OFF_TOPIC = "Who won the football world cup in 2014?"
FLAGGED = (
    "VOLO reaches **87.1%** top-1 accuracy on ImageNet-1K without extra training data [1]. After training it scores "
    "89.9% mIoU on Cityscapes [1]. Its layer is called DeltaFormer [1]. Glaciers move faster on wet rock [2].\n\n"
    "| Data | Measure | VOLO |\n|---|---|---:|\n"
    "| ImageNet-1K | accuracy | 87.1% [1] |\n| Cityscapes | mIoU | 84.3% [1] |\n| ADE20K | mIoU | 54.3% [1] |\n\n"
    "In contrast to the coarse global modeling of self-attention [1], which computes\n\n"
    r"$$\mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{d}}\right) V$$"
    "\n\nat a cost of $O(n^2 d)$, outlook attention writes finer features and context into tokens [1]."
)
"""With a number, a name and a citation that the abstracts do not bear out."""


def papers(n: int, first: int = 0) -> list[object]:
    """Make papers with all fields, a long title, maths, and a script from right to left among them."""
    people = ["Ann Author", "Bo Writer", "Cy Tester", "Dee Reader"]
    made = [
        {
            **each,
            "authors": people[i % 4 :] + people[: i % 3],
            "venue": f"Conference {i % 5}",
            "year": 2026 - i * i % 17,
        }
        for i, each in enumerate(make_records(n, offset=first), first)
    ]
    made[1] |= {"title": "دراسة قصيرة عن الشعر والجليد", "abstract": "تقيس هذه الدراسة سرعة الجليد. تبلغ 3 أمتار."}
    made[2] |= {"title": "A long title on the many conditions under which glaciers, prices and poems " * 3 + str(first)}
    made[3] |= {
        "abstract": r"We show that $x_{n+1} = x_n - \frac{f(x_n)}{f'(x_n)}$ costs $O(n \log n)$ time. It halves."
    }
    return made


# --- What is on the pictures: each function brings a page there -------------------------------------------------------


def first_start(page: Page, url: str, _: Endpoint) -> None:
    page.goto(url)
    page.get_by_text("451 papers · built-in sample library").wait_for()
    page.locator("#chat .example").first.wait_for()


def first_start_empty(page: Page, url: str, _: Endpoint) -> None:
    page.goto(url)
    page.get_by_text("This library is empty").first.wait_for()


def library_empty(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Library")
    page.locator("#library-summary").wait_for()


def answer_extractive(page: Page, url: str, _: Endpoint) -> None:
    answered(page, url, SURVEY)


def answer_flagged(page: Page, url: str, endpoint: Endpoint) -> None:
    endpoint.become(answer(FLAGGED, 12))
    reply = answered(page, url, QUESTION)
    reply.locator(".flag").first.scroll_into_view_if_needed()


def answer_flagged_end(page: Page, url: str, endpoint: Endpoint) -> None:
    endpoint.become(answer(FLAGGED, 12))
    answered(page, url, QUESTION).locator(".acts").scroll_into_view_if_needed()


def hover(page: Page, url: str, _: Endpoint) -> None:
    marker = answered(page, url, SURVEY).locator("a.mark").nth(1)
    marker.scroll_into_view_if_needed()
    page.wait_for_timeout(SETTLE_MS)  # scrolling hides it
    marker.hover()
    page.locator("#preview").wait_for()


def writing(page: Page, url: str, endpoint: Endpoint) -> None:
    said = FLAGGED[: FLAGGED.index("\n\n")]
    endpoint.become(stream(chunk(said), done=False, hang=True))
    page.goto(url)
    reply = ask(page, QUESTION)
    reply.get_by_text("Writing…").wait_for()
    reply.locator("a.mark").first.wait_for()
    page.locator("#src-1-1").wait_for(state="attached")


def abstention(page: Page, url: str, _: Endpoint) -> None:
    answered(page, url, OFF_TOPIC)


def endpoint_down(page: Page, url: str, endpoint: Endpoint) -> None:
    endpoint.become(error(503, "the model is not loaded"))
    answered(page, url, QUESTION).get_by_text("did not answer").scroll_into_view_if_needed()


def library(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Library")
    page.locator("#library-papers .papers a").first.wait_for()


def library_searched(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Library")
    page.locator("#library-form [name=text]").fill("robots")
    page.locator("#library-papers mark").first.wait_for()
    page.locator("#library-form").evaluate("form => form.scrollIntoView()")


def paper(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Library")
    page.get_by_text("Study 3 of glaciers").click()
    page.locator("#sheet .similar a").first.wait_for()


def papers_added(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Library")
    broken = [*papers(6, first=int(page.evaluate("innerWidth"))), {"title": "No abstract"}, {"abstract": 3}]
    with tempfile.TemporaryDirectory() as folder:
        file = write_jsonl(Path(folder) / "papers.jsonl", broken)
        page.locator("#library-add-form [type=file]").set_input_files(file)
        page.locator("#library-add-form textarea").fill("arXiv:2106.13112\nhttps://papers.invalid/1")
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_text("What became of the last papers").wait_for()
    page.locator("#library-outcome").evaluate("each => each.scrollIntoView()")


def search(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Explore")
    page.locator("#explore-text").fill("attention in vision transformers")
    page.locator("#explore-results .hits li").first.wait_for()


def comparison(page: Page, url: str, endpoint: Endpoint) -> None:
    search(page, url, endpoint)
    for number in range(4):
        page.locator("#explore-results [data-compare]").nth(number).check()
    page.locator("#explore [data-view=compare]").click()
    page.locator("#explore-table tbody tr").nth(3).wait_for()


def map_of_papers(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Explore")
    page.locator("#explore [data-view=map]").click()
    page.locator("#explore-topics .legend button").first.wait_for()
    page.locator("#explore .plane[aria-busy=true]").wait_for(state="detached")


def saved(page: Page, url: str, _: Endpoint) -> None:
    answered(page, url, SURVEY)
    open_tab(page, url, "Saved")
    page.locator(".saved-list li").first.wait_for()


def settings(page: Page, url: str, _: Endpoint) -> None:
    open_tab(page, url, "Settings")
    page.get_by_label("Address of the endpoint").wait_for()


def settings_failed(page: Page, url: str, endpoint: Endpoint) -> None:
    settings(page, url, endpoint)
    page.get_by_label("Sentences of the abstracts alone").uncheck()
    page.get_by_label("Address of the endpoint").fill("http://127.0.0.1:1/v1")
    page.get_by_label("Model").fill("zebra-1")
    page.get_by_role("button", name="Save and test the connection").click()
    page.locator("#settings-outcome .fault").scroll_into_view_if_needed()


def answered(page: Page, url: str, question: str) -> Locator:
    """Ask in a new conversation and return the answer's notes with what stands around them, once it is over."""
    page.goto(url)
    page.get_by_text(" papers · ").wait_for()
    reply = ask(page, question)
    finished(page, reply)
    return page.locator("#chat")


def open_tab(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.locator("#tabs button[role=tab]").first.wait_for()
    button = page.get_by_role("tab", name=name)
    if not button.is_visible():  # for all of them there may be no room
        page.locator("#tabs .overflow-menu > button").click()
        button = page.locator("#tabs .overflow-dropdown button").filter(has_text=name)
    button.click()


# --- The table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """One subject, by its place in the table and its function's name."""

    server: str
    prepare: Callable[[Page, str, Endpoint], None]

    @property
    def name(self) -> str:
        """Return what its files are called, without scheme and size."""
        return f"{PICTURES.index(self) + 1:02}-{self.prepare.__name__.replace('_', '-')}"


PICTURES = [
    Picture("sample", first_start),
    Picture("empty", first_start_empty),
    Picture("empty", library_empty),
    Picture("sample", answer_extractive),
    Picture("scripted", answer_flagged),
    Picture("scripted", answer_flagged_end),
    Picture("sample", hover),
    Picture("scripted", writing),
    Picture("sample", abstention),
    Picture("scripted", endpoint_down),
    Picture("own", library),
    Picture("own", library_searched),
    Picture("own", paper),
    Picture("own", papers_added),
    Picture("sample", search),
    Picture("sample", comparison),
    Picture("sample", map_of_papers),
    Picture("sample", saved),
    Picture("sample", settings),
    Picture("sample", settings_failed),
]


@contextlib.contextmanager
def served(server: str, folder: Path, endpoint: Endpoint) -> Iterator[str]:
    """Run one of the servers: over the sample without and with an LLM, over no papers, over papers with all fields."""
    home, arguments = folder / server, []
    if server == "scripted":
        arguments = ["--llm", endpoint.url, "--model", "scripted"]
    elif server != "sample":
        arguments = ["--library", home / "library"]
    (home / "library").mkdir(parents=True)
    if server == "own":
        with Assistant(Config(library=home / "library")) as assistant:
            assistant.ingest([write_jsonl(home / "papers.jsonl", papers(80))])
    with serving(home, *arguments) as url:
        yield url


def take(picture: Picture, page: Page, url: str, endpoint: Endpoint, folder: Path) -> str:
    """Take a picture in both schemes; return what went wrong."""
    try:
        picture.prepare(page, url, endpoint)
        for scheme in SCHEMES:
            page.evaluate(PAINT, scheme)
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(
                path=folder / file_name(picture, scheme, page.evaluate("innerWidth")), animations="disabled"
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are taken
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""


def file_name(picture: Picture, scheme: str, width: int) -> str:
    return f"{picture.name}-{scheme}-{width}.png"


def take_all(browser: Browser, folder: Path, tell: Callable[[str], None]) -> dict[str, str]:
    """Take all pictures, one server after the other; return what went wrong by the picture's name."""
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as home, Endpoint(error(503, "not yet")) as endpoint:
        for server in dict.fromkeys(each.server for each in PICTURES):
            with served(server, Path(home), endpoint) as url:
                for width, height in SIZES.items():
                    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 500)
                    page = context.new_page()
                    page.set_default_timeout(PATIENCE_MS)
                    for picture in (each for each in PICTURES if each.server == server):
                        wrong = take(picture, page, url, endpoint, folder)
                        failed |= {f"{picture.name}, {width}": wrong} if wrong else {}
                        tell(f"{picture.name}, {width} px wide: {wrong or 'taken'}")
                    context.close()
    return failed


def write_sheet(folder: Path, failed: dict[str, str]) -> None:
    """Write the page that shows all pictures."""
    rows = []
    for picture in PICTURES:
        names = [file_name(picture, scheme, width) for width in SIZES for scheme in SCHEMES]
        shown = [f'<a href="{each}"><img src="{each}" alt="{each}" loading="lazy"></a>' for each in names]
        wrong = [f"<p>{html.escape(why)}</p>" for name, why in failed.items() if name.startswith(f"{picture.name},")]
        rows.append(f"<h2>{picture.name}</h2>{''.join(wrong)}<div>{''.join(shown)}</div>")
    style = (
        "body{font:15px system-ui;margin:20px;background:#888}div{display:flex;gap:12px}img{height:380px}p{color:#900}"
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>The page</title><style>{style}</style>'
    (folder / "index.html").write_text(f"{head}<h1>The page</h1>{''.join(rows)}</html>\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write the pictures into a folder; return 1 if one could not be taken, 2 if none can be."""
    path = shutil.which("chromium")
    if len(arguments) != 1 or not path:
        print("no chromium in PATH" if len(arguments) == 1 else "usage: python -m tests.screenshots FOLDER")
        return 2
    from playwright.sync_api import sync_playwright

    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        failed = take_all(browser, folder, lambda text: print(text, flush=True))
        browser.close()
    write_sheet(folder, failed)
    print(f"{2 * (len(SIZES) * len(PICTURES) - len(failed))} pictures in {folder}, see its index.html")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
