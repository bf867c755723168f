r"""Papers -> BibTeX, RIS, CSV, JSON lines or Markdown; answers -> Markdown with their sources.

Each format is a function from papers to pieces of text, one piece a paper, so that a library of any size is written
without being held; `"".join(...)` gives the whole. Text of papers, users and models is a stranger's: it can end no
entry, record or cell, is no formula to a spreadsheet, no HTML, image or link to a reader of Markdown, and no command
to TeX.

The formats are written here, not by a package. bibtexparser 2.1 writes `\{` for a lone brace, which BibTeX counts and
so never finds the end of the entry, and takes all between the first and the last dollar of a line for maths; rispy
0.10 writes a line break as it is, so that a title can open a record, and `None` for what is unknown. What makes these
formats hard is in the fields, and is left to the caller by both. The tests read everything back with them.
"""

from __future__ import annotations

import csv as _csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from assistant.clean import clean, drop_unseen
from assistant.errors import AssistantError
from assistant.retrieve import parse_where
from assistant.store import Store
from assistant.text import STOP_WORDS
from assistant.types import Answer, Citation, Paper

BATCH = 500
"""Papers read from the store at a time."""
AUTHORS = 10
"""Of so many authors all are named in Markdown, of more the first ones."""

# --- What is written --------------------------------------------------------------------------------------------------


def select_papers(
    store: Store, text: str = "", *, ids: Sequence[str] = (), where: Sequence[str] = (), full: bool = False
) -> tuple[int, Iterator[Paper]]:
    """Choose papers of a library, in order of entry; they are read as they are iterated.

    Args:
        store: The library.
        text: A part of the title, the authors or the venue.
        ids: Ids or aliases; none: all papers.
        where: Conditions that all must hold; see `assistant.retrieve.parse_where`.
        full: With aliases and sources, each looked up, which takes longer.

    Returns:
        How many papers were chosen, and these; one that is removed meanwhile is left out.

    Raises:
        AssistantError: An id that no paper has.
        ConfigError: A condition that cannot be read.
    """
    condition, values, _ = parse_where(where) if where else ("1", [], [])
    if text:
        condition += " AND (instr(fold(title), ?) OR instr(fold(authors), ?) OR instr(fold(venue), ?) OR id = ?)"
        values = [*values, *[clean(text).casefold()] * 3, clean(text)]
    if ids:
        found = {each: store.paper(each.encode("utf-8", "replace").decode()) for each in ids}
        missing = ", ".join(repr(each) for each, paper in found.items() if paper is None)
        if missing:
            raise AssistantError(f"no paper has the id {missing}; `assistant papers` lists them; nothing was written")
        condition += " AND id IN (SELECT value FROM json_each(?))"
        values = [*values, json.dumps([paper.id for paper in found.values() if paper])]
    numbers = store.numbers(condition, values)
    batches = (numbers[i : i + BATCH].tolist() for i in range(0, len(numbers), BATCH))
    return len(numbers), _read(store, batches, full=full)


def _read(store: Store, batches: Iterable[list[int]], *, full: bool) -> Iterator[Paper]:
    for batch in batches:
        papers = store.get(batch)
        for n in batch:
            paper = papers[n].paper if n in papers else None
            paper = store.paper(paper.id) if paper and full else paper
            if paper:
                yield paper


def sources_of(answers: Iterable[Answer]) -> tuple[Paper, ...]:
    """Return the papers that answers cite, each once, in order of first citation."""
    cited: dict[str, Paper] = {}
    for answer in answers:
        for citation in answer.citations:
            cited.setdefault(citation.paper.id, citation.paper)
    return tuple(cited.values())


def _line(text: object) -> str:
    """Return text in one line, without characters that nobody sees: no format's framing survives a line break."""
    shown = str(text)
    if not (shown.isascii() and shown.isprintable()):  # five times quicker where there is nothing to drop
        shown = drop_unseen(shown)
    return " ".join(shown.split())


def _kind(paper: Paper) -> str:
    if paper.arxiv_id and (not paper.venue or paper.venue.casefold().startswith("arxiv")):
        return "arxiv"
    return "journal" if paper.venue else "other"


# --- BibTeX -----------------------------------------------------------------------------------------------------------

_TEX = {
    **{each: f"\\{each}" for each in "$&#%_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    # In TeX's oldest font encoding, still the default, these three print as others.
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
}
_LONE_BRACES = {"{": "\\textbraceleft{}", "}": "\\textbraceright{}"}
"""BibTeX counts the braces of a field whatever stands before them."""
_TEX_SPECIAL = re.compile(r"[\\{}$&#%_~^<>|]|([-'`,])(?=\1)|[!?](?=`)")
"""What TeX acts on, and the first of two characters that it draws together: `--`, ``, ''."""

_MATHS = re.compile(r"(?<!\\)\$(?!\s)((?:[^$\\]|\\.){1,400}?)(?<!\s)\$(?!\d)")
"""`$x$`, but not "$5 and $10": as Pandoc tells one from the other."""
_MATHS_COMMANDS = """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi
    varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon
    Phi Psi Omega ell hbar partial nabla infty emptyset forall exists neg in notin ni subset subseteq supset supseteq
    cup cap setminus times cdot div pm mp ast star circ bullet oplus otimes odot wedge vee leq le geq ge neq ne ll gg
    approx sim simeq cong equiv propto mid parallel perp to gets mapsto rightarrow leftarrow leftrightarrow Rightarrow
    Leftarrow Leftrightarrow sum prod int oint min max inf sup lim arg log ln exp sin cos tan det dim ker Pr frac sqrt
    binom hat bar tilde vec dot ddot widehat widetilde overline underline mathbb mathbf mathcal mathrm mathit mathsf
    mathtt mathfrak boldsymbol text operatorname left right big Big langle rangle lfloor rfloor lceil rceil lVert
    rVert lvert rvert prime dagger ldots cdots dots quad"""
_SAFE_MATHS = re.compile(
    r"(?:[^\\%#&$^]|\^(?!\^)|\\(?:[,;:! {}|%&#_]|(?:" + "|".join(_MATHS_COMMANDS.split()) + r")(?![a-zA-Z])))+"
)
"""Maths of known commands alone: what a stranger writes is typeset on the reader's machine, and TeX can open files."""

_UNFOLDED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
"""Letters that Unicode does not take apart."""
_SUFFIXES = {"jr", "sr", "ii", "iii", "iv"}


def bibtex(papers: Iterable[Paper]) -> Iterator[str]:
    """Write BibTeX in UTF-8, as every TeX since 2018 and biber read it; the keys differ, small and capital alike.

    A key is first author, year and first telling word of the title: `vaswani2017attention`; papers that share one get
    it with a, b, c in the order they come, the first without, so that papers added later change no key. The keys are
    all that is held: about 130 bytes a paper.
    """
    taken: dict[str, int] = {}
    for paper in papers:
        yield _entry(paper, _unused(_key(paper), taken))


def _entry(paper: Paper, key: str) -> str:
    kind = _kind(paper)
    fields = {
        # Twice in braces: which capitals belong to names cannot be told, so styles may change none.
        "title": _group(_latex(paper.title)),
        "author": " and ".join(filter(None, map(_name, paper.authors))),
        "journal": _latex(paper.venue) if kind == "journal" else "",
        "year": str(paper.year or ""),
        "doi": _address(paper.doi),
        "eprint": _address(paper.arxiv_id),
        "archiveprefix": "arXiv" if paper.arxiv_id else "",
        "url": _address(paper.url),
        "abstract": _latex(paper.abstract),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{'article' if kind == 'journal' else 'misc'}{{{key},\n{lines}}}\n\n"


def _latex(text: str | None) -> str:
    """Return LaTeX that prints `text`; maths between dollars stays maths where it is harmless."""
    text, out, end = _line(text or ""), "", 0
    for maths in _MATHS.finditer(text):
        if _SAFE_MATHS.fullmatch(maths[1]) and _is_balanced(maths[1]) and _is_balanced(re.sub(r"\\.", "", maths[1])):
            out += _escape_tex(text[end : maths.start()]) + maths[0]
            end = maths.end()
    return out + _escape_tex(text[end:])


def _escape_tex(text: str) -> str:
    tex = _TEX if _is_balanced(text) else _TEX | _LONE_BRACES
    return _TEX_SPECIAL.sub(lambda found: tex.get(found[0], found[0] + "{}"), text)


def _is_balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _group(latex: str) -> str:
    """Return LaTeX as one unit to BibTeX; a group that begins with a backslash would be an accented letter to it."""
    return f"{{{'{}' if latex.startswith(chr(92)) else ''}{latex}}}" if latex else ""


def _name(name: str) -> str:
    """Return an author as one name to BibTeX, whatever is in it."""
    latex, parts = _latex(name), _line(name).split(",")
    odd = re.search(r"(?:^|\s)and(?:\s|$)", latex, re.IGNORECASE) or latex.casefold() == "others"
    return _group(latex) if odd or len(parts) > 3 or not all(part.strip() for part in parts) else latex


def _address(text: str | None) -> str:
    """Return a DOI, an id or an address as it is, for these are read letter by letter, but for what would end it."""
    return re.sub(r"[{}\\\s]", lambda found: quote(found[0]), _line(text or ""))


def _key(paper: Paper) -> str:
    names = _line(paper.authors[0]) if paper.authors else ""
    words = _fold(names.split(",")[0])
    author = next((word for word in reversed(words) if word not in _SUFFIXES), "")
    title = next((word for word in _fold(paper.title) if word not in STOP_WORDS), "")
    year = str(paper.year or "")
    return (f"{author[:30]}{year}{title[:30]}" if author else f"{title[:30]}{year}") or "paper"


def _fold(text: str) -> list[str]:
    """Return the words of a text in small ASCII letters and digits."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_UNFOLDED)).encode("ascii", "ignore").decode()
    return re.findall(r"[a-z0-9]+", re.sub(r"['-]", "", plain))


def _unused(key: str, taken: dict[str, int]) -> str:
    """Return `key`, or with the next letters that make it new; `taken` is told, and counts the letters given to it."""
    base = key
    while key in taken:
        taken[base] += 1
        key = base + _letters(taken[base])
    taken[key] = 0
    return key


def _letters(n: int) -> str:
    """Return a, b ... z, aa, ab ... for 1, 2 ..."""
    out = ""
    while n:
        n, rest = divmod(n - 1, 26)
        out = chr(ord("a") + rest) + out
    return out


# --- RIS, CSV, JSON lines ---------------------------------------------------------------------------------------------

_RIS_TYPES = {"journal": "JOUR", "arxiv": "UNPB", "other": "GEN"}
_COLUMNS = ("id", "title", "authors", "year", "venue", "doi", "arxiv_id", "url", "abstract")
_FORMULA = tuple("=+-@＝＋－＠")
"""What makes a cell a formula, as OWASP lists it under CSV injection; a tab and a return stand at no cell's start."""
_LINE_ENDS = str.maketrans({each: f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"})


def ris(papers: Iterable[Paper]) -> Iterator[str]:
    """Write RIS; authors as they are written, for which of their words is the surname is anybody's guess."""
    for paper in papers:
        arxiv = f"https://arxiv.org/abs/{paper.arxiv_id}" if paper.arxiv_id else None
        known = [
            ("TY", _RIS_TYPES[_kind(paper)]),
            ("ID", paper.id),
            ("TI", paper.title),
            *(("AU", author) for author in paper.authors),
            ("PY", paper.year),
            ("T2", paper.venue),
            ("DO", paper.doi),
            ("AN", f"arXiv:{paper.arxiv_id}" if paper.arxiv_id else None),
            ("UR", paper.url or arxiv),
            ("AB", paper.abstract),
        ]
        lines = [(tag, _line(value or "")) for tag, value in known]
        yield "".join(f"{tag}  - {value}\r\n" for tag, value in lines if value) + "ER  - \r\n\r\n"


def csv(papers: Iterable[Paper]) -> Iterator[str]:
    """Write a table for spreadsheets: a header, then a row a paper, as RFC 4180 has it.

    It begins with a byte-order mark, without which Excel takes UTF-8 for the system's old encoding and spoils each
    name with an accent; programs that stumble over it are better served by JSON lines. A cell that a spreadsheet would
    take for a formula is told to be text by an apostrophe.
    """
    yield "\ufeff" + table_row(_COLUMNS)
    for paper in papers:
        values = {**paper.as_dict(full=True), "authors": "; ".join(paper.authors)}
        yield table_row(["" if values[name] is None else str(values[name]) for name in _COLUMNS])


def table_row(cells: Sequence[str]) -> str:
    """Return a row of a table, whose cells no spreadsheet takes for formulas."""
    out = io.StringIO(newline="")
    lines = [_line(cell) for cell in cells]
    _csv.writer(out).writerow([f"'{each}" if each.startswith(_FORMULA) else each for each in lines])
    return out.getvalue()


def jsonl(papers: Iterable[Paper]) -> Iterator[str]:
    """Write all that is known of each paper as a line of JSON, which `assistant ingest` reads."""
    for paper in papers:
        line = json.dumps(paper.as_dict(full=True), ensure_ascii=False).translate(_LINE_ENDS)
        # Half a surrogate pair, such as in the name of a file, becomes the escape that JSON has for it.
        yield line.encode("utf-8", "backslashreplace").decode() + "\n"


# --- Markdown ---------------------------------------------------------------------------------------------------------

_DEAD = {"<": "&lt;", "!": "&#33;", "(": "&#40;", ":": "&#58;", "&": "&amp;"}
_LIVES = r"(?<=<)(?=[a-zA-Z/!?])|(?<=!)(?=\[)|(?<=\][(:])"
_LIVE = re.compile(rf"[<!(:](?:{_LIVES})")
"""What begins HTML or an image, ends a link's label or a definition; written as entities, which no backslash before
them brings to life, and which readers that know no backslash before `<` show as well."""
_FORMATTING = re.compile(
    rf"[\\`*$_~&<!(:](?:(?<=[\\`*$])|(?<=_)(?!\w)|(?<!\w_)(?<=_)|(?<=\S~)|(?<=&)(?=#?\w+;)|{_LIVES})"
)
"""Both begin with the characters that they may act on, which is five times quicker than a choice of conditions."""
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_NESTED = re.compile(r"^(?:[ \t]*+(?:>|(?:[-*+]|\d{1,9}[.)])[ \t]++)){8}", re.MULTILINE)
"""Lists and quotations within each other on one line, so many that nobody means them: a thousand stop some readers."""
_ITEM = re.compile(r"^(- )?(.*)$", re.MULTILINE)


def markdown(papers: Iterable[Paper]) -> Iterator[str]:
    """Write a reading list: title, authors, venue, year and link of each paper, and its abstract as a quotation."""
    for paper in papers:
        yield f"- {_about(paper)}\n\n    > {escape_markdown(paper.abstract)}\n\n"


def answer_markdown(answer: Answer) -> str:
    """Return a question, its answer with its markers, what is to be known about it, and its sources with quotes."""
    parts = [f"**Question:** {escape_markdown(answer.question)}", _text(answer), *_list("Notes", _notes(answer))]
    if answer.abstained:
        return "\n\n".join([*parts, *_list("Closest papers", map(_about, answer.closest))]) + "\n"
    cited: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        cited.setdefault(citation.number, []).append(citation)
    return "\n\n".join([*parts, *_list("Sources", (_source(n, cited[n]) for n in sorted(cited)))]) + "\n"


def sources_markdown(answer: Answer) -> str:
    """Return the list of sources below an answer's text, or of the closest papers below an abstention; may be empty."""
    if answer.abstained:
        return "\n\n".join(_list("Closest papers", map(_about, answer.closest)))
    cited = {citation.number: citation.paper for citation in answer.citations}
    return "\n\n".join(_list("Sources", (f"[{number}] {_about(cited[number])}" for number in sorted(cited))))


def without_sources(text: str) -> str:
    """Return an answer's text without the list that `sources_markdown` put below it."""
    return _SOURCES.sub("", text)


_SOURCES = re.compile(r"\n\n\*\*(?:Sources|Closest papers)\*\*\n\n(?:- [^\n]*+(?:\n|\Z))++\Z")
_STOPPED = "*Stopped before its end; it has no sources.*"


def conversation_markdown(name: str, exchanges: Iterable[tuple[str, Answer | None, str]]) -> str:
    """Return a conversation, each answer with its own sources under its own numbers.

    Args:
        name: Its heading.
        exchanges: Question, answer (None: it came to no end) and the text that was shown.
    """
    parts = [
        answer_markdown(answer)
        if answer
        else f"**Question:** {escape_markdown(question)}\n\n{_formatted(text)}\n\n{_STOPPED}\n"
        for question, answer, text in exchanges
    ]
    return f"# {escape_markdown(name)}\n" + "\n---".join(f"\n\n{part}" for part in parts)


def _source(number: int, citations: Sequence[Citation]) -> str:
    quotes = dict.fromkeys(citation.quote for citation in citations)
    return f"[{number}] {_about(citations[0].paper)}" + "".join(
        f"\n\n    > “{escape_markdown(each)}”" for each in quotes
    )


def _list(heading: str, items: Iterable[str]) -> list[str]:
    lines = "\n".join(f"- {item}" for item in items)
    return [f"**{heading}**", lines] if lines else []


def _about(paper: Paper) -> str:
    authors = ", ".join(paper.authors[:AUTHORS]) + (" et al." if len(paper.authors) > AUTHORS else "")
    details = (authors, ", ".join(str(each) for each in (paper.venue, paper.year) if each))
    link = _link(paper)
    title = f"**{escape_markdown(paper.title) or '(no title)'}**"
    return " · ".join([title, *(escape_markdown(each) for each in details if each), *([f"<{link}>"] if link else [])])


def _link(paper: Paper) -> str | None:
    """Return where the paper can be read: by its DOI, else at arXiv, else at its own address; http and https alone."""
    if paper.doi and paper.doi.startswith("10."):
        return f"https://doi.org/{quote(_line(paper.doi), safe='/:;(),.-_')}"
    if paper.arxiv_id:
        return f"https://arxiv.org/abs/{quote(_line(paper.arxiv_id), safe='/.-')}"
    if paper.url and re.match(r"https?://\w", paper.url):
        return quote(_line(paper.url), safe="/:;(),.-_~?#@!$&'*+=%")
    return None


def escape_markdown(text: str) -> str:
    """Return Markdown, in one line, that shows `text` word for word; maths between dollars stays maths."""
    text, out, end = _line(text), "", 0
    for maths in _MATHS.finditer(text):
        out += _FORMATTING.sub(_escape, text[end : maths.start()]) + _LIVE.sub(_escape, maths[0])
        end = maths.end()
    out += _FORMATTING.sub(_escape, text[end:])
    return re.sub(r"^(\d{1,9})(?=[.)])", r"\1\\", re.sub(r"^(?=[-+=#>:|~])", r"\\", out))


def _escape(found: re.Match[str]) -> str:
    return _DEAD.get(found[0], f"\\{found[0]}")


def _formatted(text: str) -> str:
    """Return a model's Markdown as it is, but for what is live in it, and with its code ended where it ends."""
    text, fence = _NESTED.sub(r"\g<0>&#8203;", _LIVE.sub(_escape, drop_unseen(text))), ""
    for found in filter(None, map(_FENCE.match, text.splitlines())):
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _text(answer: Answer) -> str:
    if answer.answerer == "llm" or not answer.complete:
        return _formatted(answer.text).strip()
    return _ITEM.sub(lambda found: (found[1] or "") + escape_markdown(found[2]), answer.text).strip()


def _notes(answer: Answer) -> list[str]:
    """Return, in plain words, what is to be known about an answer."""
    checks, notes = answer.checks, []
    if answer.abstained:
        notes.append("This question was not answered from the library.")
    if answer.fallback:
        what = "did not answer" if answer.complete else "did not finish"
        notes.append(f"The language model {what}: {answer.fallback.message.rstrip('.')}.")
    elif not answer.complete:
        notes.append("The model's answer was cut at its length limit.")
    if answer.answerer == "llm" and not answer.abstained:
        notes.append(f"Written by the language model {answer.model}, each citation checked against its abstract.")
    elif not answer.abstained and answer.complete:
        notes.append("Sentences of the abstracts, word for word; no language model wrote this.")
    figures = [each.figure for each in checks.figures_unsupported]
    names = [each.name for each in checks.names_unsupported]
    doubtful = [f"[{each.number}]" for each in checks.citations_unsupported]
    for what, found in (
        ("Figures not found in the cited abstracts", figures),
        ("Names not found in the cited abstracts", names),
        ("Citations whose abstract may not say so", doubtful),
    ):
        if found:
            notes.append(f"{what}: {', '.join(dict.fromkeys(found))}.")
    if checks.markers_dropped:
        notes.append(f"Citations that named no source and were left out: {checks.markers_dropped}.")
    sample = ["From the built-in sample library."] if answer.library == "sample" else []
    return [escape_markdown(note) for note in (*notes, *answer.warnings, *sample)]


# --- The formats by name ----------------------------------------------------------------------------------------------


class Format(NamedTuple):
    """How papers are written."""

    write: Callable[[Iterable[Paper]], Iterator[str]]
    suffix: str
    """Ending of a file's name."""
    media_type: str


FORMATS: Mapping[str, Format] = {
    "bibtex": Format(bibtex, ".bib", "application/x-bibtex"),
    "ris": Format(ris, ".ris", "application/x-research-info-systems"),
    "csv": Format(csv, ".csv", "text/csv"),
    "jsonl": Format(jsonl, ".jsonl", "application/jsonl"),
    "markdown": Format(markdown, ".md", "text/markdown"),
}
