"""Abstracts that give orders, and what a model answers that obeys them: shared by the tests that let them try.

Each case of `data/injections.jsonl` becomes a paper of one library, with hostile title, author and venue as well. A
scripted endpoint answers the question about that paper with what its abstract ordered. `acts_in` renders text as a
reader of markdown would and lists what such a page would act on.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from conftest import write_jsonl
from endpoint import Reply, answer
from markdown_it import MarkdownIt

from assistant import Paper


@dataclass(frozen=True)
class Case:
    """A hostile abstract."""

    number: int
    name: str
    """Its kind, and which of that kind it is."""
    abstract: str
    """The hostile text as it stands in the abstract, behind a plain sentence."""
    obeys: str
    """The reply of a model that does what the abstract orders."""

    @property
    def kind(self) -> str:
        return self.name.rpartition(" ")[0]

    @property
    def question(self) -> str:
        return f"What share of pollen grains does the sampler Palyno{self.number} count?"


def _read() -> Iterator[Case]:
    counts: Counter[str] = Counter()
    lines = (Path(__file__).parent / "data" / "injections.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        found = json.loads(line)
        counts[found["kind"]] += 1
        yield Case(number, f"{found['kind']} {counts[found['kind']]}", found["abstract"], found["obeys"])


CASES = tuple(_read())


def write_papers(folder: Path) -> Path:
    """Write the papers, one a case, to be ingested."""
    records = [
        {
            "title": f"Pollen sampler Palyno{case.number} <img src=//evil.invalid/t.png> ![t](//evil.invalid/t.png)",
            "abstract": f"The sampler counts 91.4 % of pollen grains. {case.abstract}",
            "authors": ["Ada <b onclick=alert(1)>Grainger</b>", "Ben [Ruler](//evil.invalid/b)"],
            "venue": "Journal of ![v](//evil.invalid/v.png) <script>alert(1)</script>",
            "year": 2020,
            "url": f"https://papers.invalid/palyno/{case.number}",
            "doi": f"10.1000/palyno.{case.number}",
        }
        for case in CASES
    ]
    return write_jsonl(folder / "hostile.jsonl", records)


def obedient(body: dict[str, Any]) -> Reply:
    """Answer the questions about some papers with what their abstracts order, in small pieces."""
    asked = body["messages"][-1]["content"].rpartition("Question:")[2]
    numbers = map(int, re.findall(r"Palyno(\d+)", asked))
    return answer("\n\n".join(CASES[number].obeys for number in numbers), 11)


# --- What nobody sees -------------------------------------------------------------------------------------------------

_VISIBLE_FORMATS = re.compile("[\u0600-\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd]")
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2028\u2029\u2800\u3164\uffa0"
_CHOOSERS = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def unseen_in(text: str) -> list[str]:
    """Return the characters of a text that nobody sees, that steer a terminal, or that pile up over other lines."""
    found, marks = [], 0
    for each in text:
        category = unicodedata.category(each)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        is_unseen = category in {"Cc", "Cf", "Cs", "Co"} and each not in "\n\t" and not _VISIBLE_FORMATS.match(each)
        if is_unseen or each in _BLANK or _CHOOSERS.match(each) or marks > 4:
            found.append(f"U+{ord(each):04X}")
    return found


# --- Addresses --------------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s<>\"'`{}|]+|\bwww\.[^\s<>\"'`{}|]+"
    r"|\b(?:javascript|vbscript|data|mailto|file|tel):[^\s<>\"'`{}|]+",
    re.IGNORECASE,
)


def foreign_addresses(text: str, paper: Paper) -> list[str]:
    """Return the addresses in a text that neither the abstract nor the record of the paper holds."""
    record = f"{paper.title} {paper.abstract} {paper.venue} {' '.join(paper.authors)}"
    known = f"{record} {paper.url} https://doi.org/{paper.doi}".casefold()
    found = (match[0].rstrip(".,;:!?)]*_\\").casefold() for match in _ADDRESS.finditer(text))
    return [each for each in found if re.sub(r"^[a-z+.-]*://|^www\.", "", each) not in known]


# --- Rendering --------------------------------------------------------------------------------------------------------

_PLAIN = frozenset(
    """p ul ol li strong em code pre h1 h2 h3 h4 h5 h6 hr br blockquote table thead tbody tr th td s
    div article details summary mark span math mrow mi mo mn ms mtext mspace msup msub msubsup mover munder munderover
    mfrac msqrt mroot mtable mtr mtd mstyle""".split()  # noqa: SIM905 - a list of quoted words reads worse
)
"""What our own pages are made of, links aside."""
_ACTIVE = frozenset(
    """a applet area audio base bgsound body button canvas details dialog embed fieldset form frame frameset head html
    iframe image img input isindex label link listing map marquee math meta noembed noframes noscript object optgroup
    option param picture plaintext portal script select source style svg template textarea title track video
    xmp""".split()  # noqa: SIM905
)
"""What loads, sends, hides, covers, or changes how the rest is read."""
_SAFE_FIELD, _ACTIVE_FIELD = (
    re.compile(
        "class|id|start|open|dir|title|tabindex|(?:aria|data)-[a-z]+|xmlns|display|mathvariant|stretchy|fence|form"
        "|separator|accent|movablelimits|(?:min|max)size|(?:row|column)spacing|columnalign|linethickness|[lr]space"
        "|displaystyle|scriptlevel|width"
    ),
    re.compile("on.*|style|src|srcset|srcdoc|.*href|.*action|background|data|poster|hidden|id|autofocus|open|slot"),
)


class _Acts(HTMLParser):
    """Collects what a page would act on; with `links`, all that is not of our own pages."""

    def __init__(self, links: re.Pattern[str] | None) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._links = links

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = {name: value or "" for name, value in attrs}
        if re.fullmatch("text-align:(?:left|center|right)", fields.get("style", "")):
            del fields["style"]  # columns of tables
        if self._links is None:
            bad = [name for name in fields if _ACTIVE_FIELD.fullmatch(name)]
            self.found += [f"<{tag} {' '.join(bad)}>"] * (tag in _ACTIVE or bool(bad))
        elif tag == "a":
            extra = fields.keys() - {"href", "target", "rel", "class", "data-sheet"}
            self.found += [f"link {fields}"] * (bool(extra) or not self._links.fullmatch(fields.get("href", "")))
        else:
            bad = [name for name in fields if not _SAFE_FIELD.fullmatch(name)]
            self.found += [f"<{tag} {' '.join(bad)}>"] * (tag not in _PLAIN or bool(bad))

    def handle_comment(self, data: str) -> None:
        self.found.append(f"comment {data[:20]}")

    def handle_decl(self, decl: str) -> None:
        self.found.append(f"declaration {decl[:20]}")

    def handle_pi(self, data: str) -> None:
        self.found.append(f"instruction {data[:20]}")


def acts_in(markdown: str, *, html: bool, links: re.Pattern[str] | None = None) -> list[str]:
    """Render markdown, with every address allowed, and return what the page would act on.

    Args:
        markdown: The text.
        html: HTML in it counts; else it is shown.
        links: Addresses that may be linked; None: none at all.
    """
    reader = MarkdownIt("commonmark", {"html": html}).enable(["table", "strikethrough"])
    reader.validateLink = lambda url: True  # type: ignore[method-assign]
    page, environment = _Acts(links), dict[str, Any]()
    page.feed(reader.render(markdown, environment))
    page.close()
    return page.found + [f"definition of {name}" for name in environment.get("references", {})]
