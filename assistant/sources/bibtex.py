r"""BibTeX -> records, entry by entry, LaTeX as text.

The splitter and the reader of fields are our own: bibtexparser 2.1 holds the file and all that it made of it, takes a
lone escaped brace otherwise than BibTeX, and logs what it cannot read. A broken entry ends at the next line that
begins with `@word{`. What stands between entries is a comment to BibTeX; only the rest of a broken entry is told.

LaTeX is read token by token, in one pass without nesting; pylatexenc says what a single command or accent prints. It
reads whole texts too, at 120 abstracts a second, but a thousand open braces exhaust the stack.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from assistant.clean import MAX_CHARS
from assistant.papers import Raw, Rejected, damaged
from assistant.sources.content import LINE_BYTES, Content, Form

ENTRY_CHARS = LINE_BYTES
"""A longer entry is refused without being kept."""
MAX_STRINGS = 10_000
"""Abbreviations of `@string` that are kept."""
STRING_CHARS = 2_000
"""A longer abbreviation is not kept: they are made of each other, and could double with each line."""


_START = re.compile(r"\s*@\s{0,9}([A-Za-z]{2,30})\s{0,9}([{(])")
_FIELD_LINE = re.compile(r"^[ \t]*([A-Za-z-]{2,30}\s{0,9}=\s{0,9}[{\"])", re.MULTILINE)
"""What stands between entries and looks like this is the rest of a broken one."""
_TOO_LONG = f"longer than {ENTRY_CHARS:,} characters, too long for a record"
_LONG = "\x00 too long to be kept \x00"
_NOT_PAPERS = {"comment", "preamble"}


def read_bibtex(content: Content) -> Iterator[Raw | Rejected]:
    """Read BibTeX; what cannot be read is refused by the line that its entry begins in."""
    strings: dict[str, str] = {}
    n = 0
    for where, text, fault in _entries(content):
        n += 1
        kind = found[1].casefold() if (found := _START.match(text)) else ""
        if kind in _NOT_PAPERS:
            continue
        if fault or not found:
            yield damaged(where, fault or "no entry", text)
            continue
        try:
            key, fields = _fields(text[found.end() : -1], strings, has_key=kind != "string")
        except ValueError as error:
            yield damaged(where, str(error), text)
            continue
        if kind == "string":
            room = MAX_STRINGS - len(strings)
            strings |= {name: value for name, value in list(fields.items())[:room] if len(value) <= STRING_CHARS}
        else:
            yield Raw(where, _paper(key, fields))
    if not n:
        yield damaged("line 1", "no entry such as @article{key, ...} in the file", content.text_head[:2_000])


# --- Splitting --------------------------------------------------------------------------------------------------------


def _entries(content: Content) -> Iterator[tuple[str, str, str]]:
    """Yield (where, text, fault) for each entry, and for what is left over of a broken one."""
    for number, block in _blocks(content):
        at, line, long = 0, number, block.find(_LONG)
        while found := _START.match(block, at):
            start = block.index("@", at)
            line += block.count("\n", at, start)
            end = _end(block, found) or _end(block, found, escaped=True)
            if not end:
                fault = "it is not closed before the next entry or the end of the file" if long < 0 else _TOO_LONG
                yield f"line {line}", block[start:], fault
                break
            yield f"line {line}", block[start:end], _TOO_LONG if start < long < end else ""
            line, at = line + block.count("\n", start, end), end
        else:
            if long >= at:
                yield f"line {line + block.count(chr(10), at, long)}", block[at:], _TOO_LONG
            elif left := _FIELD_LINE.search(block, at):
                line += block.count("\n", at, left.start(1))
                yield f"line {line}", block[left.start(1) :], "fields that belong to no entry"


def _blocks(content: Content) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) from each line that begins an entry to the next; `_LONG` stands for too much."""
    start, parts, size = 1, list[str](), 0
    for number, line in content.lines():
        if line is not None and _START.match(line):
            if parts:
                yield start, "".join(parts)
            start, parts, size = number, [], 0
        size += ENTRY_CHARS + 1 if line is None else len(line)
        if line is not None and size <= ENTRY_CHARS:
            parts.append(line)
        elif not parts or parts[-1] is not _LONG:
            parts.append(_LONG)
    if parts:
        yield start, "".join(parts)


def _end(text: str, start: re.Match[str], *, escaped: bool = False) -> int:
    """Return where the entry ends, 0 where it does not.

    BibTeX counts every brace; where that finds no end, escaped braces are not counted, as other programs have it.
    """
    depth, is_quoted, is_round = 0, False, start[2] == "("
    for found in re.compile(r"\\[{}]|[{}()\"]" if escaped else r"[{}()\"]").finditer(text, start.end()):
        mark = found[0]
        if depth == 0 and not is_quoted and mark == (")" if is_round else "}"):
            return found.end()
        is_quoted ^= mark == '"' and depth == 0 and is_round
        depth += {"{": 1, "}": -1}.get(mark, 0)
    return 0


# --- Fields -----------------------------------------------------------------------------------------------------------

_KEY = re.compile(r"\s*([^\s,={}\"]*)\s*(?:,|\Z)")
_NO_MORE = re.compile(r"[\s,]*\Z")
_FIELD = re.compile(r"[\s,]*([^\s,={}\"#]+)\s*=\s*")
_BARE = re.compile(r"[^\s,{}\"#=]+")
_JOIN = re.compile(r"\s*#\s*")


def _fields(body: str, strings: Mapping[str, str], *, has_key: bool) -> tuple[str, dict[str, str]]:
    """Return the key and the fields of an entry, in small letters; of a field that is there twice the first.

    Raises:
        ValueError: A field that cannot be read.
    """
    key = _KEY.match(body) if has_key else None
    if has_key and not key:
        raise ValueError(f"no key at the beginning of the entry, but {body.strip()[:40]!r}")
    at, fields = key.end() if key else 0, dict[str, str]()
    while not _NO_MORE.match(body, at):
        name = _FIELD.match(body, at)
        if not name:
            raise ValueError(f"no `name = value` at {body[at : at + 60].strip()[:40]!r}")
        value, at = _value(body, name.end(), strings)
        fields.setdefault(name[1].casefold(), value)
    return key[1] if key else "", fields


def _value(body: str, at: int, strings: Mapping[str, str]) -> tuple[str, int]:
    """Return a value, its parts joined, and where it ends."""
    parts, size = [], 0
    while True:
        if body[at : at + 1] in {"{", '"'}:
            end = _closing(body, at)
            part, at = body[at + 1 : end], end + 1
        else:
            bare = _BARE.match(body, at)
            if not bare:
                raise ValueError(f"no value at {body[at : at + 60].strip()[:40]!r}")
            part, at = strings.get(bare[0].casefold(), bare[0]), bare.end()
        parts.append(part)
        size += len(part)
        if size > ENTRY_CHARS:
            raise ValueError(f"a value longer than {ENTRY_CHARS:,} characters")
        joined = _JOIN.match(body, at)
        if not joined:
            return "".join(parts), at
        at = joined.end()


def _closing(body: str, at: int) -> int:
    """Return where the brace or the quote that opens at a place is closed."""
    depth, is_quoted = 0, body[at] == '"'
    for pattern in (r'[{}"]', r'\\[{}]|[{}"]'):
        depth = 0
        for found in re.compile(pattern).finditer(body, at + 1):
            mark = found[0]
            if depth == 0 and mark == ('"' if is_quoted else "}"):
                return found.start()
            depth += {"{": 1, "}": -1}.get(mark, 0)
    raise ValueError(f"the value that begins with {body[at : at + 40]!r} is not closed")


# --- A paper ----------------------------------------------------------------------------------------------------------

_AND = re.compile(r"[{}]|\sand(?=\s)", re.IGNORECASE)
_ARXIV = re.compile(
    r"arxiv[:.\s]\s*(?:abs/)?((?:\d{4}\.\d{4,5}|[a-z-]{2,20}(?:\.[A-Za-z]{2})?/\d{7})(?:v\d+)?)", re.IGNORECASE
)


def _paper(key: str, fields: Mapping[str, str]) -> dict[str, Any]:
    def text(*names: str) -> str:
        return next((found for name in names if (found := to_text(fields.get(name, "")))), "")

    def address(name: str) -> str:
        return re.sub(r"\\([%&_#$~])|[{}]", r"\1", fields.get(name, "").strip().removeprefix("\\url"))

    archive = text("archiveprefix", "eprinttype").casefold()
    venue, note, volume, eprint = (
        text("journal", "journaltitle", "booktitle"),
        text("note"),
        text("volume"),
        address("eprint"),
    )
    named = _ARXIV.search(f"{venue} {note} {text('howpublished')}") or re.match(r"abs/(\d{4}\.\d{4,5})", volume)
    noted = re.search(r"PMID:\s*(\d{1,9})", note)
    paper = {
        "title": text("title"),
        "abstract": text("abstract"),
        "authors": _authors(fields.get("author", "")),
        "year": text("year", "date"),
        "venue": venue,
        "doi": address("doi"),
        "url": address("url"),
        "arxiv_id": eprint if archive in {"", "arxiv"} and eprint else named[1] if named else "",
        "pmid": text("pmid") or (eprint if archive in {"pmid", "pubmed"} else "") or (noted[1] if noted else ""),
        "own_id": key,
    }
    return {name: value for name, value in paper.items() if value}


def _authors(text: str) -> list[str]:
    """Return the names as they are said, first name first; a name in braces is taken as it is."""
    names, depth, start = [], 0, 0
    for found in _AND.finditer(text):
        if found[0] in {"{", "}"}:
            depth += 1 if found[0] == "{" else -1
        elif depth == 0:
            names.append(text[start : found.start()])
            start = found.end()
    names = [name.strip() for name in [*names, text[start:]]]
    shown = [_author(name) for name in names if name.casefold() != "others"]
    return [name for name in shown if name]


def _author(name: str) -> str:
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"[{},]", name):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if found[0] == "," and depth == 0:
            parts.append(name[start : found.start()])
            start = found.end()
    parts.append(name[start:])
    if len(parts) == 3:  # Last, Jr, First
        parts = [parts[0], parts[2], parts[1]]
    order = [*parts[1:2], parts[0], *parts[2:]] if len(parts) <= 3 else [",".join(parts)]
    return " ".join(each for part in order if (each := to_text(part)))


# --- LaTeX ------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<maths>\$(?:[^$\\]|\\.){1,400}+\$|\\\((?:[^\\]|\\[^)]){1,400}+\\\)|\\\[(?:[^\\]|\\[^\]]){1,400}+\\\])
    |\\(?P<escaped>[%&_#${}])
    |(?P<accent>\\(?:["'`^~=.](?:\s{0,9}\{\s{0,9}\\?[A-Za-z]\s{0,9}\}|\s{0,9}\\[ij](?![A-Za-z])|\s{0,9}[A-Za-z])
        |[cvuHdbkrt](?:\s{0,9}\{\s{0,9}\\?[A-Za-z]\s{0,9}\}|\s{1,9}\\?[A-Za-z](?![A-Za-z]))))
    |\\(?:cite[a-z]*|label|ref|eqref|begin|end|href|[vh]space|footnotemark|includegraphics)\*?(?:\[[^\[\]]{0,200}\])?
        \s{0,9}\{[^{}]{0,2000}\}
    |\\(?P<command>[A-Za-z]+)(?P<gap>\s{0,9}\{\}|\s*)
    |(?P<space>\\[\\\s,;:]|~)
    |\\[-/!@.]
    |(?P<dash>---?)
    |(?P<quote>``|''|!`|\?`)
    |(?P<brace>[{}])""",
    re.VERBOSE | re.DOTALL,
)
_PRINTED = {"---": "—", "--": "–", "``": "“", "''": "”", "!`": "¡", "?`": "¿"}
_TAUGHT = {"textless": "<", "textgreater": ">", "textbar": "|", "textasciicircum": "^", "textbraceleft": "{",
           "textbraceright": "}", "item": "•", "footnote": " "}  # fmt: skip
"""What pylatexenc does not know or takes for others."""
_STYLES = {
    "emph",
    "url",
    "textbf",
    "textit",
    "textsc",
    "texttt",
    "textrm",
    "textsf",
    "textsl",
    "textup",
    "textmd",
    "text",
    "textnormal",
    "textsubscript",
    "textsuperscript",
    "textcolor",
    "underline",
    "mbox",
    "hbox",
    "enquote",
    "uppercase",
    "lowercase",
    "bf",
    "it",
    "sc",
    "tt",
    "rm",
    "sf",
    "sl",
    "em",
    "bfseries",
    "itshape",
    "scshape",
    "ttfamily",
    "rmfamily",
    "sffamily",
    "normalfont",
    "relax",
    "protect",
    "noopsort",
    "boldmath",
    "small",
    "large",
    "tiny",
    "centering",
    "noindent",
    "mathrm",
    "mathbf",
    "mathit",
    "mathcal",
    "mathbb",
    "mathsf",
    "ensuremath",
    "input",
    "include",
}
"""Commands that say how what follows looks."""


def to_text(latex: str) -> str:
    """Return what LaTeX prints, in one line; maths and commands that are not known stay as they are."""
    if not re.search(r"[\\{}~`']|--", latex) or len(latex) > MAX_CHARS:
        return " ".join(latex.split())
    return " ".join(_TOKEN.sub(_printed, latex).split())


def _printed(token: re.Match[str]) -> str:
    kind = token.lastgroup
    if kind == "maths":
        return token[0]
    if kind == "escaped":
        return token["escaped"]
    if kind == "accent":
        return _decode(token[0])
    if kind == "gap":
        printed = _command(token["command"])
        # TeX eats the space behind a command; writers mean it to stay, but for the letters: \o re, \ss e.
        is_letter = len(printed) == 1 and len(token["command"]) <= 2
        return printed + ("" if token["gap"].endswith("{}") or is_letter or not printed else token["gap"])
    if kind == "space":
        return " "
    return _PRINTED.get(token[0], "")


@lru_cache(maxsize=4_096)
def _command(name: str) -> str:
    r"""Return what a command prints by itself, nothing when it styles what follows, `\name` when it is not known."""
    if name in _TAUGHT or name in _STYLES:
        return _TAUGHT.get(name, "")
    return _decode(f"\\{name}") if len(name) <= 40 else f"\\{name}"


@lru_cache(maxsize=4_096)
def _decode(latex: str) -> str:
    try:
        return str(_decoder().latex_to_text(latex)).strip()
    except (LookupError, ValueError, TypeError, AttributeError):  # some commands of its table fail without arguments
        return ""


@cache
def _decoder() -> Any:
    from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

    # It warns of each command that lacks its argument, which is how commands are looked up here.
    logging.getLogger("pylatexenc").setLevel(logging.ERROR)
    context = get_default_latex_context_db()
    context.set_unknown_macro_spec(MacroTextSpec("", simplify_repl=lambda node: node.latex_verbatim()))
    return LatexNodes2Text(latex_context=context, math_mode="verbatim")


def _fits(content: Content) -> bool:
    """Tell BibTeX by an entry with a key or a field, before which only comments stand, told by their look."""
    text = content.text_head
    start = re.search(r"^[ \t]*@\s{0,9}([A-Za-z]{2,30})\s{0,9}[{(]", text, re.MULTILINE)
    if not start:
        return False
    before = text[: start.start()]
    is_led = all(len(line) < 200 for line in before.splitlines()) and len(before) < 20_000
    begins = re.compile(r"\s*(?:[^\s,={}\"()]+\s*,\s*(?:[\w-]+\s*=|[})]?)|[\w-]+\s*=\s*[{\"])").match(text, start.end())
    return is_led and (bool(begins) or start[1].casefold() in _NOT_PAPERS)


FORMS = {"bibtex": Form(_fits, read_bibtex)}
