"""What a notebook shows of answers and hits, with texts that would rather do something else than be read."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import make_records, write_jsonl
from endpoint import Endpoint, answer, error
from markdown_it import MarkdownIt

from assistant.answer import Assistant
from assistant.config import Config
from assistant.types import Answer, Paper

ROOT = Path(__file__).parent.parent
ATTACKS = [
    "<script>alert(1)</script>",
    '<img src="https://evil.invalid/x.png" onerror="alert(1)">',
    "![x](https://evil.invalid/x.png)",
    "[click](javascript:alert(1))",
    "[click](https://evil.invalid/)",
    "<https://evil.invalid/>",
    "https://evil.invalid/plain www.evil.invalid",
    '"><svg/onload=alert(1)>',
    "<!-- --><iframe src=//evil.invalid></iframe>",
    "[x]: https://evil.invalid/ 'y'",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<style>*{background:url(https://evil.invalid/)}</style>",
    r"$\href{javascript:alert(1)}{x}$ $\includegraphics{https://evil.invalid/}$",
    "</div></td></table><a id=answer-1 href='https://evil.invalid/'>",
    "`<b>` ``` <script>",
    "<a\nhref=https://evil.invalid/ \tonclick=alert(1)>x",
]
"""Each is a title, a quote, an author, a venue, an address, a note and a text."""
ALLOWED_TAGS = {"div", "p", "a", "b", "ul", "li", "table", "tr", "td", "th", "br", "math"}
MARKED = {"blockquote", "em", "strong", "code", "pre", "ol", "h1", "h2", "hr"}
LINKS = {"https://doi.org/10.1000/x", "https://arxiv.org/abs/2101.00001", "https://example.org/paper"}
MATHS_TAG = re.compile(r"m(?:ath|[a-z]+)")


class Reader(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def ids(self) -> list[str]:
        return [str(each["id"]) for _, each in self.tags if "id" in each]

    @property
    def links(self) -> list[str]:
        return [str(each["href"]) for _, each in self.tags if "href" in each]


def check(page: str, tags: set[str]) -> Reader:
    """Assert that nothing of a page runs, fetches or leads elsewhere than to papers and to itself."""
    read = Reader(page)
    for tag, attributes in read.tags:
        assert tag in tags or MATHS_TAG.fullmatch(tag), tag
        for name, value in attributes.items():
            assert name in {"id", "href", "style", "target", "rel", "xmlns", "display", "class"}, (tag, name)
            assert name != "style" or not re.search(r"url|expression|position|:\s*fixed", str(value))
    for link in read.links:
        assert link.startswith("#") or link in LINKS, link
        assert not link.startswith("#") or link[1:] in read.ids
    return read


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Answer, Answer]:
    """An answer of a model, one of its fallback, and an abstention."""
    place = tmp_path_factory.mktemp("notebook")
    with Endpoint(answer("")) as endpoint:
        settings: dict[str, Any] = {"llm_base_url": endpoint.url, "llm_model": "scripted"}
        with Assistant(Config(library=place / "library", **settings)) as assistant:
            assistant.ingest([write_jsonl(place / "papers.jsonl", make_records(8))])
            question = "What does study 3 of glaciers reach on its set?"
            endpoint.become(answer("- It reaches **53.3 percent** on set s3 [1].\n- It uses device d9 [1][2]."))
            written = assistant.ask(question)
            endpoint.become(error(500, "broken"))
            fallback = assistant.ask(question)
            abstained = assistant.ask("Who won the football championship in 1974?")
    assert written.citations and written.answerer == "llm"
    assert fallback.fallback and fallback.citations
    assert abstained.abstained
    return written, fallback, abstained


def poison(told: Answer, attack: str) -> Answer:
    """Return an answer in which every text is an attack, and the markers of its citations stand between two of them."""
    linked = {"doi": "10.1000/x", "arxiv_id": "2101.00001", "url": "https://example.org/paper"}
    paper = Paper("x", attack, attack, authors=(attack, attack), venue=attack, **linked)
    first = told.citations[0]
    text = f"{attack} [1] {attack}"
    place = len(attack) + 1
    cited = dataclasses.replace(first, paper=paper, quote=attack, number=1, text_start=place, text_end=place + 3)
    evidence = (dataclasses.replace(told.evidence[0], paper=paper), *told.evidence[1:])
    return dataclasses.replace(told, text=text, citations=(cited,), evidence=evidence, warnings=(attack,))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", ["llm", "extractive"])
def test_no_text_becomes_more_than_text(told: tuple[Answer, ...], attack: str, kind: Any) -> None:
    poisoned = dataclasses.replace(poison(told[0], attack), answerer=kind)
    page = check(poisoned._repr_html_(), ALLOWED_TAGS)
    assert page.links.count("https://doi.org/10.1000/x") == 1
    if "$" not in attack:
        assert " ".join(page.text.split()).count(" ".join(attack.split())) >= 5
    markdown = poisoned._repr_markdown_()
    for reader in (MarkdownIt("commonmark", {"html": True}), MarkdownIt("js-default", {"html": True})):
        read = check(reader.render(markdown), ALLOWED_TAGS | MARKED)
        assert read.links.count("https://doi.org/10.1000/x") == 1
    bare = re.findall(r"(?:https?://|www\.)[^\s<>)]+", markdown, re.IGNORECASE)  # which other readers would link
    assert set(bare) <= LINKS


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "https://e.invalid/' onclick='x", "//evil.invalid", "https://a b"],
)
def test_an_address_that_is_none_is_no_link(told: tuple[Answer, ...], url: str) -> None:
    bad = poison(told[0], "fine")
    paper = dataclasses.replace(bad.citations[0].paper, url=url, doi='10.1000/"><b', arxiv_id="../x y")
    evidence = (dataclasses.replace(bad.evidence[0], paper=paper), *bad.evidence[1:])
    shown = dataclasses.replace(bad, evidence=evidence)
    assert [each for each in Reader(shown._repr_html_()).links if not each.startswith("#")] == []
    assert "](<" not in shown._repr_markdown_()


def test_each_marker_leads_to_its_source_with_its_quote(told: tuple[Answer, ...]) -> None:
    written, fallback, _ = told
    for each in (written, fallback):
        page = check(each._repr_html_(), ALLOWED_TAGS)
        assert [link.rpartition("-")[2] for link in page.links] == [str(c.number) for c in each.citations]
        for citation in each.citations:
            assert f"“{citation.quote}”" in page.text and citation.paper.title in page.text
        rendered = check(MarkdownIt("commonmark").render(each._repr_markdown_()), ALLOWED_TAGS | MARKED)
        assert rendered.links == [] or len(rendered.links) == len(each.citations)
    assert "<strong>53.3 percent</strong>" in MarkdownIt("commonmark").render(written._repr_markdown_())


def test_what_is_to_be_known_of_an_answer_stands_below_it(told: tuple[Answer, ...]) -> None:
    written, fallback, abstained = told
    cut = dataclasses.replace(written, complete=False, warnings=("the index is being mended",))
    for form in (lambda each: Reader(each._repr_html_()).text, Answer._repr_markdown_):
        assert "word for word, because" in form(fallback)
        assert "cut at its length limit" in form(cut) and "the index is being mended" in form(cut)
        assert ("Closest papers:" in form(abstained)) == bool(abstained.closest)
        assert "Note:" not in form(written)


def test_the_same_answer_shown_twice_shares_no_id(told: tuple[Answer, ...]) -> None:
    first, second = Reader(told[0]._repr_html_()), Reader(told[0]._repr_html_())
    assert len(set(first.ids)) == len(first.ids) >= 2
    assert not set(first.ids) & set(second.ids)
    assert not set(re.findall(r'id="(.+?)"', told[0]._repr_markdown_())) & {*first.ids, *second.ids}


@pytest.mark.parametrize("attack", ATTACKS[:4])
def test_hits_are_a_table_of_papers_with_their_passages(tmp_path: Path, attack: str) -> None:
    with Assistant(Config(library=tmp_path / "library")) as assistant:
        records = [{**record, "title": f"{record['title']} {attack}"} for record in make_records(3)]
        assistant.ingest([write_jsonl(tmp_path / "papers.jsonl", records)])
        hits = assistant.search("glaciers in setting number 3", k=3)
        nothing = assistant.search("glaciers", where=["year>2200"])
    page = check(hits._repr_html_(), ALLOWED_TAGS)
    assert [tag for tag, _ in page.tags].count("tr") == 4
    for hit in hits:
        assert hit.passage in page.text
    page = check(nothing._repr_html_(), ALLOWED_TAGS)
    assert nothing.reason and nothing.reason in page.text and ("table", {}) not in page.tags


KERNEL = """
import sys, types
ipython = types.ModuleType("IPython")  # what a kernel has imported
ipython.get_ipython = lambda: types.SimpleNamespace(kernel={kernel}, config={{}})
sys.modules["IPython"] = ipython
from assistant import Assistant, Config
with Assistant(Config(library="library")) as assistant:
    assistant.ingest(["papers.jsonl"])
"""


@pytest.mark.parametrize(("kernel", "is_shown"), [("object()", True), ("None", False)])
def test_an_ingest_shows_its_progress_in_a_notebook_and_nowhere_else(
    tmp_path: Path, kernel: str, is_shown: object
) -> None:
    write_jsonl(tmp_path / "papers.jsonl", make_records(3))
    run = [sys.executable, "-c", KERNEL.format(kernel=kernel)]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("encoding" in done.stderr) is is_shown and done.stdout == ""
