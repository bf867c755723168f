"""HTML of saved pages -> records: the layouts of the search pages people save, else the visible text by blocks.

A page is read whole, so its size, its elements and their depth are bounded. What browsers do not show (scripts,
styles) is cut out before it is parsed, what surrounds the text of a page (navigation, header, footer) after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from lxml import etree

from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected, arxiv_id, damaged, doi, pmid
from assistant.sources.content import Content, Form
from assistant.sources.markup import decode, given_first, root, wide_encoding
from assistant.sources.page import MIN_ABSTRACT_CHARS, read_lines

FILE_BYTES = 64 << 20
"""A longer page is refused; pages saved in one file hold their pictures, in base64."""
PAGE_CHARS = 10 << 20
"""What may be left without scripts, styles and pictures; parsed, it takes up to thirty times its size."""
MARKS = 1_000_000
"""So many tags and attributes a page may have; each costs some 150 bytes once it is parsed."""

_UNSHOWN = re.compile(r"<(script|style|svg|noscript|template)(?=[\s/>])|<(!)--", re.IGNORECASE)
_PICTURE = re.compile(r"data:[a-z]+/[\w.+-]+;base64,[A-Za-z0-9+/=]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{1,40})", re.IGNORECASE)

_FURNITURE = {"head", "nav", "header", "footer", "script", "style", "button", "select", "textarea", "iframe", "form"}
_INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
    "ins", "kbd", "mark", "math", "mi", "mn", "mo", "mrow", "ms", "msub", "msubsup", "msup", "mtext", "mjx-container",
    "q", "s", "samp", "small", "span", "strong", "sub", "sup", "svg", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}

Element = Any
"""lxml has no types."""


def read_html(content: Content) -> Iterator[Raw | Rejected]:
    """Read a saved page by the first layout that it has.

    Raises:
        CorpusError: It is larger than a page can be.
    """
    page, is_whole = _tree(content)
    layouts: tuple[Callable[[Element], Iterator[Raw]], ...] = (
        _hugging_face, _arxiv_results, _arxiv_listing, _pubmed, _single,
    )  # fmt: skip
    is_known = False
    for layout in layouts if page is not None else ():
        for raw in layout(page):
            is_known = True
            yield raw
        if is_known:
            break
    if page is not None and not is_known:
        yield from _blocks(page)
    if not is_whole:
        yield damaged("the end", "the page is nested too deep; what is below 256 elements was not read")


def _tree(content: Content) -> tuple[Element, bool]:
    """Return the parsed page, None when it is empty, and whether all of it was parsed."""
    data = content.stream.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise CorpusError(
            f"cannot read {content.name}: a page of more than {FILE_BYTES:,} bytes; save its text instead"
        )
    wide, declared = wide_encoding(data), _CHARSET.search(data[:4_096])
    text = data.decode(wide, "replace") if wide else decode(data, declared[1].decode() if declared else "")
    text = _PICTURE.sub("", _shown(text.replace("\0", "")))
    marks = text.count("<") + text.count("=")
    if len(text) > PAGE_CHARS or marks > MARKS:
        raise CorpusError(
            f"cannot read {content.name}: a page of {len(text):,} characters with {marks:,} tags and attributes; the"
            f" limits are {PAGE_CHARS:,} and {MARKS:,}; save its text instead"
        )
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
    try:
        page = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:  # nothing in it
        return None, True
    return page, not any("depth" in each.message.casefold() for each in parser.error_log)


def _shown(text: str) -> str:
    """Return HTML without scripts, styles and comments; one that is never closed hides the rest, as in a browser."""
    kept, at = [], 0
    while found := _UNSHOWN.search(text, at):
        kept.append(text[at : found.start()])
        end = re.compile("--(?=>)" if found[2] else f"</{found[1]}(?=[\\s/>])", re.IGNORECASE).search(text, found.end())
        at = text.find(">", end.end()) + 1 if end else 0
        if not at:
            return "".join(kept)
    return "".join([*kept, text[at:]])


# --- Looking into a page ----------------------------------------------------------------------------------------------


def _all(element: Element, tag: str, name: str = "") -> Iterator[Element]:
    """Yield the elements below one, of some tag (`*`: any) and of some class."""
    return (each for each in element.iter(tag) if not name or name in (each.get("class") or "").split())


def _one(element: Element, tag: str, name: str = "") -> Element:
    return next(_all(element, tag, name), None)


def _text(element: Element) -> str:
    return " ".join("".join(element.itertext("*")).split()) if element is not None else ""


def _labelled(element: Element, label: str) -> str:
    """Return the text of an element without the label that it begins with."""
    return re.sub(rf"^{label}\s*:?\s*", "", _text(element), flags=re.IGNORECASE)


def _link(element: Element) -> str:
    """Return the first link to a paper in an element, whole."""
    return next((link for each in element.iter("a") if (link := _paper_link(each.get("href") or ""))), "")


def _paper_link(href: str) -> str:
    href = href.strip()
    for path, site in (("/papers/", "https://huggingface.co"), ("/abs/", "https://arxiv.org")):
        if href.startswith(path):
            href = site + href
    if re.fullmatch(r"/\d{1,9}/", href):
        href = f"https://pubmed.ncbi.nlm.nih.gov{href}"
    is_paper = href.startswith("http") and (arxiv_id(href) or pmid(href) or ("doi.org/" in href and doi(href)))
    return href.split("#")[0] if is_paper else ""


def _places(elements: Iterator[Element]) -> Iterator[tuple[str, Element]]:
    return ((f"record {n} (line {each.sourceline})", each) for n, each in enumerate(elements, 1))


# --- Layouts ----------------------------------------------------------------------------------------------------------


def _hugging_face(page: Element) -> Iterator[Raw]:
    """Read the cards of huggingface.co/papers; what they do not show is in the data that the page was built from."""
    known, n = _hydration(page), 0
    for each in page.iter("article"):
        link = next(
            (
                a.get("href")
                for a in each.iter("a")
                if re.search(r"(?:^|huggingface\.co)/papers/[\w.]+", a.get("href") or "")
            ),
            "",
        )
        url, title = _paper_link(link), next((_text(h) for tag in sorted(_HEADINGS) for h in each.iter(tag)), "")
        if not url or not title:
            continue
        n += 1
        shown = max((_text(p) for p in each.iter("p")), key=len, default="")
        card = {"title": title, "url": url, "abstract": shown if len(shown) >= MIN_ABSTRACT_CHARS else ""}
        yield Raw(f"record {n} (line {each.sourceline})", card | known.pop(arxiv_id(url) or "", {}))
    for fields in known.values():
        n += 1
        yield Raw(f"record {n} (the page's data)", fields)


def _hydration(page: Element) -> dict[str, dict[str, Any]]:
    """Return the papers in the data of a page of Hugging Face, by their arXiv id."""
    found: dict[str, dict[str, Any]] = {}
    for element in page.iter("div"):
        props = element.get("data-props") or ""
        if '"summary"' not in props:
            continue
        try:
            values = [json.loads(props)]
        except (ValueError, RecursionError):
            continue
        while values:
            value = values.pop()
            if isinstance(value, list):
                values += reversed(value)
            elif isinstance(value, dict):
                values += reversed(value.values())
                identity = value.get("id")
                if isinstance(identity, str) and arxiv_id(identity) and {"title", "summary"} <= value.keys():
                    found.setdefault(arxiv_id(identity) or "", {
                        "title": value["title"], "abstract": value["summary"], "authors": value.get("authors"),
                        "year": value.get("publishedAt"), "url": f"https://huggingface.co/papers/{identity}",
                    })  # fmt: skip
    return found


def _arxiv_results(page: Element) -> Iterator[Raw]:
    for where, each in _places(_all(page, "li", "arxiv-result")):
        url = _link(each)
        dates = next((text for p in _all(each, "p", "is-size-7") if (text := _text(p)).startswith("Submitted")), "")
        notes = [_text(p) for p in _all(each, "p", "comments")]
        yield Raw(where, {
            "title": _text(_one(each, "p", "title")),
            # Beside the whole abstract stands its beginning, and after it the words that fold it up.
            "abstract": re.sub(r"\s*△ Less$", "", _text(_one(each, "span", "abstract-full"))),
            "authors": [_text(a) for p in _all(each, "p", "authors") for a in p.iter("a")],
            "year": dates,
            "venue": next((note[12:].strip() for note in notes if note.startswith("Journal ref:")), ""),
            "doi": next((h for a in each.iter("a") if "doi.org/" in (h := a.get("href") or "")), ""),
            "url": url,
        })  # fmt: skip


def _arxiv_listing(page: Element) -> Iterator[Raw]:
    entries = (dt for dl in page.iter("dl") for dt in dl.iter("dt") if _link(dt))
    for where, dt in _places(entries):
        dd = dt.getnext()
        if dd is None or dd.tag != "dd" or _one(dd, "*", "list-title") is None:
            continue
        authors = _one(dd, "*", "list-authors")
        yield Raw(where, {
            "title": _labelled(_one(dd, "*", "list-title"), "title"),
            "abstract": _text(_one(dd, "p", "mathjax")),
            "authors": [_text(a) for a in authors.iter("a")] if authors is not None else [],
            "venue": _labelled(_one(dd, "*", "list-journal-ref"), "journal-ref"),
            "url": _link(dt),
        })  # fmt: skip


def _pubmed(page: Element) -> Iterator[Raw]:
    cards = (
        each
        for each in page.iter("article")
        if {"article-overview", "full-docsum"} & set((each.get("class") or "").split())
    )
    for where, each in _places(cards):
        number = _text(next((e for name in ("current-id", "docsum-pmid") for e in _all(each, "*", name)), None))
        journal = next((e for name in ("journal-actions-trigger", "trigger") for e in _all(each, "button", name)), None)
        title = next((e for name in ("heading-title", "docsum-title") for e in _all(each, "*", name)), None)
        yield Raw(where, {
            "title": _text(title),
            "abstract": _abstract(_one(each, "*", "abstract-content")),
            "authors": list(dict.fromkeys(_text(a) for a in _all(each, "a", "full-name"))),
            "year": _text(_one(each, "*", "cit")) or _text(_one(each, "*", "docsum-journal-citation")),
            "venue": journal.get("title") or _text(journal) if journal is not None else "",
            "doi": _text(_one(each, "*", "citation-doi")),
            "pmid": number,
            "url": f"https://pubmed.ncbi.nlm.nih.gov/{number}/" if number else "",
        })  # fmt: skip


def _single(page: Element) -> Iterator[Raw]:
    """Read the page of one paper, which tells of it in the tags that Google Scholar asks for."""
    values: dict[str, list[str]] = {}
    for each in page.iter("meta"):
        name = (each.get("name") or each.get("property") or "").casefold().replace("dc.", "dc:")
        values.setdefault(name, []).append(each.get("content") or "")

    def first(*names: str) -> str:
        return next((value for name in names for value in values.get(name, []) if value.strip()), "")

    if not first("citation_title"):
        return
    found = first("citation_abstract", "dc:description", "dcterms.abstract")
    if len(found) < MIN_ABSTRACT_CHARS:
        marked = (e for e in page.iter("blockquote", "section", "div", "span", "p") if "abstract" in _marks(e))
        found = max(found, next((text for e in marked if len(text := _abstract(e)) >= MIN_ABSTRACT_CHARS), ""), key=len)
    yield Raw("line 1", {
        "title": first("citation_title"),
        "abstract": found,
        "authors": [given_first(each) for each in values.get("citation_author", [])],
        "year": first("citation_date", "citation_publication_date", "citation_online_date", "citation_year"),
        "venue": first("citation_journal_title", "citation_conference_title"),
        "doi": first("citation_doi"),
        "arxiv_id": first("citation_arxiv_id"),
        "pmid": first("citation_pmid"),
        "url": first("citation_abstract_html_url", "og:url"),
    })  # fmt: skip


def _marks(element: Element) -> set[str]:
    names = f"{element.get('id') or ''} {element.get('class') or ''}".casefold()
    return set(re.split(r"[\s_-]+", names))


def _abstract(element: Element) -> str:
    """Return an abstract with its paragraphs apart, without the heading."""
    paragraphs = [_text(p) for p in element.iter("p")] if element is not None else []
    return re.sub(r"^abstract\b\s*[:.]?\s*", "", " ".join(paragraphs) or _text(element), flags=re.IGNORECASE)


# --- Any other page ---------------------------------------------------------------------------------------------------


def _blocks(page: Element) -> Iterator[Raw | Rejected]:
    """Read the visible text, a line a block."""
    lines = [(number, *block) for number, block in enumerate(_visible(page), 1)]
    kept: list[tuple[int, str]] = []
    group: list[tuple[int, str, str, bool]] = []
    for line in lines:
        if len(line[1]) >= MIN_ABSTRACT_CHARS:
            kept += [*_titles(group), (line[0], line[1])]
            group = []
        else:
            group.append(line)
    kept += _titles(group)
    links = {f"line {number}": link for number, _, link, _ in lines if link}
    for item in read_lines(iter(kept)):
        is_linked = isinstance(item, Raw) and item.where in links
        yield Raw(item.where, {**item.fields, "url": links[item.where]}) if is_linked else item


def _titles(group: list[tuple[int, str, str, bool]]) -> list[tuple[int, str]]:
    """Return which of the short lines before an abstract can be its title: headings and links to papers, if any.

    Between a title and its abstract stand authors and dates, which `read_lines` would take for titles.
    """
    marked = [line for line in group if line[2] or line[3]]
    return [(number, text) for number, text, _, _ in marked or group]


def _visible(page: Element) -> Iterator[tuple[str, str, bool]]:
    """Yield (text, link to a paper in it, whether it is a heading) for each block of visible text."""
    parts: list[str] = []
    link, is_heading = "", False

    def flush() -> Iterator[tuple[str, str, bool]]:
        nonlocal link, is_heading
        texts = [each for part in re.split(r"\v\s*\v", "".join(parts)) if (each := " ".join(part.split()))]
        for text in texts:
            yield text, link, is_heading
        if texts:
            link, is_heading = "", False
        parts.clear()

    walk = etree.iterwalk(page, events=("start", "end"))
    for event, each in walk:
        is_block = each.tag not in _INLINE and each.tag != "br"
        is_dropped = each.tag in _FURNITURE and (
            each.tag != "header" or next(each.iterancestors("article"), None) is None
        )
        if event == "start":
            if is_block:
                yield from flush()
                link, is_heading = "", each.tag in _HEADINGS
            if each.tag == "br":
                parts.append("\v")
            if is_dropped:
                walk.skip_subtree()
            else:
                link = link or (_paper_link(each.get("href") or "") if each.tag == "a" else "")
                parts.append(each.text or "")
        else:
            if is_block:
                yield from flush()
            parts.append(each.tail or "")
    yield from flush()


def _fits(content: Content) -> bool:
    return root(content)[0].casefold() == "html" or bool(
        re.match(r"\s*(?:<!--.{0,2000}?-->\s*)*<!doctype\s+html", content.text_head[:8_000], re.IGNORECASE | re.DOTALL)
    )


FORMS = {"html": Form(_fits, read_html)}
