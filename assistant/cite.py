"""The gate: text with markers in any form + Prompt -> final text, each marker resolved to a verbatim quote.

Every answer leaves through here, streamed or whole, from a model or extractive. The text is cut into units (a sentence, a
list item, a table row, a block); each is resolved by itself once it is complete, and is then final. Where a cut falls never
depends on how the text arrived, so a streamed answer and a whole one are the same.

What does not resolve is dropped and counted: markers of no evidence, author-year citations, DOIs, links and arXiv ids that
the evidence does not hold, a list of references at the end. Code and maths are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from assistant.chunk import ABBREVIATION, split_sentences
from assistant.prompt import REFUSAL
from assistant.text import terms
from assistant.types import Checks, Citation, Evidence, Figure, Prompt

# --- Units: where a stream may be cut -----------------------------------------------------------------------------------

_WHOLE_LINE = re.compile(r"[|#>]|[-*+]\s|\d{1,3}[.)]\s")
_FENCE = re.compile(r"(`{3,}|~{3,})")
_STOP = re.compile(r"(?:[.!?…]+|[。！？])[)\"'”’*_\]]*")
_TRAILING_MARKER = re.compile(r"\s?(?:\[[^\[\]\n]{1,40}\]|【[^【】\n]{1,40}】|\(\d{1,2}(?:\s?[,–-]\s?\d{1,2})*\)(?=[\s.,;]|$)|[⁰¹²³⁴-⁹]+)")
_OPENERS = "[【(⁰¹²³⁴⁵⁶⁷⁸⁹"
_MARKER_CHARS = 42
"""Longest bracket that can be a marker; so far ahead a cut has to look."""


def first_unit(text: str, *, final: bool) -> int | None:
    """Return where the first unit of `text` ends, or None while that cannot be told yet.

    Args:
        text: What has arrived and was not cut yet, starting at a unit's leading white space.
        final: True when nothing more will arrive.
    """
    start = len(text) - len(text.lstrip())
    if start == len(text):
        return None
    fence = _FENCE.match(text, start)
    if fence:
        close = re.compile(rf"^\s*{re.escape(fence[1])}\s*$", re.MULTILINE).search(text, fence.end())
        complete = close and (final or "\n" in text[close.end() :] or text[close.end() - 1] == "\n")
        return close.end() if close and complete else (len(text) if final else None)
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening, start):
            end = text.find(closing, start + 2)
            return end + 2 if end >= 0 else (len(text) if final else None)
    line_end = text.find("\n", start)
    known = len(text) if line_end < 0 else line_end
    if len(text) - start < 5 and line_end < 0 and not final:
        return None
    if _WHOLE_LINE.match(text, start):
        return known if line_end >= 0 or final else None
    for stop in _STOP.finditer(text, start, known):
        end = _sentence_end(text, start, stop, known, settled=final or line_end >= 0)
        if end is None:
            return None
        if end:
            return end
    return known if line_end >= 0 or final else None


def _sentence_end(text: str, start: int, stop: re.Match[str], known: int, *, settled: bool) -> int | None:
    """Return where the sentence of this full stop ends with its markers; 0 when it goes on; None when unknown yet."""
    end = stop.end()
    while True:
        ahead = text[end:known]
        if len(ahead) < _MARKER_CHARS + 2 and not settled and (not ahead.strip() or ahead.lstrip()[0] in _OPENERS):
            return None
        marker = _TRAILING_MARKER.match(text, end, known)
        if not marker:
            break
        end = marker.end()
    if not ahead.strip():
        return known
    if stop[0][0] in "。！？":
        return end
    follows = ahead.lstrip()[0]
    goes_on = ahead[0] not in " \t" or follows.islower() or ABBREVIATION.search(text, start, stop.start() + 1)
    return 0 if goes_on else end


# --- Markers and invented references ------------------------------------------------------------------------------------

_PRIVATE = re.compile("[\ue000-\uf8ff]")
_KEPT = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)|\$\$.+?\$\$|\$(?![\s$])[^$\n]+?(?<!\s)\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_NOUN = r"(?:(?:source|paper|abstract|ref|reference|evidence|passage|doc|document|citation)s?\.?:?\s*)?"
_NUMBERS = rf"{_NOUN}[#^]?\d{{1,3}}(?:\s*(?:,|;|&|\band\b|-|–|—|\bto\b)\s*{_NOUN}[#^]?\d{{1,3}})*"
_MARKER = re.compile(rf"\^?\[\s*\^?({_NUMBERS})(?:†[^\]]*)?\s*\](?:\((?:[^()\s]*)\))?\^?|【\s*({_NUMBERS})(?:†[^】]*)?\s*】", re.IGNORECASE)
_NAMED_PARENTHESIS = re.compile(rf"\(\s*(?:source|paper|abstract|ref|reference|evidence|passage|doc|document)s?\.?\s*[#\[]?(\d{{1,3}}(?:\s*(?:,|;|&|and|-|–)\s*\d{{1,3}})*)\]?\s*\)", re.IGNORECASE)
_PARENTHESIS = re.compile(r"(?<=\S)\s?\((\d{1,2}(?:\s?[,–-]\s?\d{1,2})*)\)(?=\s*(?:[.,;:!?]|$))")
_SUPERSCRIPT = re.compile(r"(?:(?<=[a-z]{3})|(?<=[.,;)]))([⁰¹²³⁴-⁹]{1,2}(?:[,⁻][⁰¹²³⁴-⁹]{1,2})*)(?=[\s.,;]|$)")
_OTHER_BRACKET = re.compile(r"\[\s*(\d[\d\s.,;–-]*)\s*\]")
_HALF_MARKER = re.compile(r"\s?(?:\[|【)[\s^]*\d{0,3}(?:[,\s–-]+\d{0,3})*$")
_PICTURE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])?")
_LINK = re.compile(r"\[([^\[\]]*)\]\(\s*<?([^()\s>]*)>?[^()]*\)")
_DEFINITION = re.compile(r"^\s*\[[^\]]+\]:\s*<?(?:https?:|www\.|/).*$", re.MULTILINE)
_ADDRESS = re.compile(r"<?(?:https?://|www\.)[^\s<>\[\]\ue000-\uf8ff]+>?|(?:doi:\s*)?\b10\.\d{4,9}/[^\s<>\[\]\ue000-\uf8ff]+|\barXiv:\s?[\w.-]+/?\d+(?:v\d+)?", re.IGNORECASE)
_NAME = r"[A-Z][\w’'-]+"
_AUTHOR_YEAR = re.compile(
    rf"[(\[](?:see |e\.g\.,? |cf\. )?({_NAME})(?:,? et al\.?,?|,? (?:and|&) {_NAME},?|,) ?(?:19|20)\d\d[a-z]?(?:[;,][^()\[\]]*)?[)\]]"
)
_NARRATIVE = re.compile(rf"\b({_NAME})(?: et al\.?| (?:and|&) {_NAME})? \((?:19|20)\d\d[a-z]?\)")
_REFERENCE_LIST = re.compile(r"^[\s#*_>-]*(?:references|reference list|sources|bibliography|works cited|citations)[\s*_]*(?::|$)", re.IGNORECASE)
_EMPTY = re.compile(r"\(\s*(?:[,;]|and|see|e\.g\.,?|doi:?|arxiv:?)*\s*\)|\[\s*[,;]*\s*\]|\*\*\s*\*\*", re.IGNORECASE)
_SPACES = re.compile(r"[ \t]{2,}")
_SPACE_BEFORE = re.compile(r"[ \t]+(?=[.,;:!?](?:\s|$))")
_OPEN, _CLOSE, _BASE = "\ue000", "\ue001", 0xE100
_PLACED = re.compile("\ue000(.)\ue001|\ue002(.)\ue003")
_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_CONTENT = re.compile(r"\w{2,}")


class Gate:
    """Lets text through in final units; feed it, then close it. `started` tells that something was shown."""

    def __init__(self, prompt: Prompt) -> None:
        self._evidence = [_Source(each) for each in prompt.evidence]
        self._buffer = ""
        self._held: list[str] = []
        self._length = 0
        self._shown: list[str] = []
        self._ended = False
        self.citations: list[Citation] = []
        self.refused = False
        """The agreed refusal was found where an answer should begin."""
        self._repaired = self._dropped = self._uncited = self._references = 0
        self._figures: list[Figure] = []

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What markers may cite."""
        return tuple(source.evidence for source in self._evidence)

    @property
    def started(self) -> bool:
        """True once something was let through: nothing of it is ever withdrawn."""
        return bool(self._shown)

    @property
    def text(self) -> str:
        """All that was let through."""
        return "".join(self._shown)

    @property
    def checks(self) -> Checks:
        """What was done so far."""
        return Checks(self._repaired, self._dropped, self._uncited, tuple(self._figures), self._references)

    def feed(self, piece: str) -> list[str]:
        """Take in a piece of raw text; return what became final."""
        self._buffer += _PRIVATE.sub("", piece)
        return self._drain(final=False)

    def close(self) -> list[str]:
        """Resolve what is left; return what became final. Text that never met a valid citation is not let through."""
        return self._drain(final=True)

    def cut(self) -> None:
        """Forget what has not become final: the stream broke off inside it."""
        self._buffer = ""

    def _drain(self, *, final: bool) -> list[str]:
        out: list[str] = []
        while not self._ended and not self.refused:
            end = first_unit(self._buffer, final=final)
            if end is None:
                break
            unit, self._buffer = self._buffer[:end], self._buffer[end:]
            out.extend(self._let_through(unit))
        return out

    def _let_through(self, unit: str) -> list[str]:
        body = unit.strip()
        gap = unit[: len(unit) - len(unit.lstrip())]
        if REFUSAL in body.replace("\\", ""):
            if not self.citations:
                self.refused = True
                return []
            body = body.replace("\\", "").replace(REFUSAL, "").strip(" .*`")
        if _REFERENCE_LIST.match(body):
            self._ended = True
        if self._ended or self._is_reference(body):
            self._references += 1
            return []
        marked = self._mark(body)
        if not _CONTENT.search(_PLACED.sub(" ", marked).replace("_", " ")) and "\ue002" not in marked:
            return []
        first = self._length == 0
        space = "" if first else ("\n\n" if gap.count("\n") > 1 else "\n" if "\n" in gap else " ")
        text = self._place(space, marked)
        self._held.append(text)
        if not self.citations:
            return []
        out, self._held = self._held, []
        self._shown.extend(out)
        return out

    def _mark(self, body: str) -> str:
        """Replace code and maths, then every marker, by placeholders; drop what does not resolve."""
        if _FENCE.match(body) or body.startswith(("$$", "\\[")):
            self._saved = [body]
            return f"\ue002{chr(_BASE)}\ue003"
        self._saved = []
        body = _KEPT.sub(self._save, body)
        body = _PICTURE.sub(self._drop, body)
        body = _DEFINITION.sub(self._drop, body)
        body = _LINK.sub(self._link, body)
        body = _MARKER.sub(lambda m: self._resolve(m, m[1] or m[2]), body)
        body = _NAMED_PARENTHESIS.sub(lambda m: self._resolve(m, m[1]), body)
        body = _AUTHOR_YEAR.sub(self._author_year, body)
        body = _NARRATIVE.sub(self._narrative, body)
        body = _ADDRESS.sub(self._address, body)
        body = _PARENTHESIS.sub(self._parenthesis, body)
        body = _SUPERSCRIPT.sub(self._superscript, body)
        body, halves = _HALF_MARKER.subn("", body)
        self._dropped += halves
        body = _OTHER_BRACKET.sub(r"(\1)", body)
        body = _EMPTY.sub("", _EMPTY.sub("", body))
        return _SPACE_BEFORE.sub("", _SPACES.sub(" ", body)).strip()

    def _place(self, space: str, marked: str) -> str:
        """Put markers and kept text in place of their placeholders; record the citations and flags of this unit."""
        out, end, claim = space, 0, ""
        since = len(out)
        cited: list[tuple[int, int, str]] = []
        for found in _PLACED.finditer(marked):
            out += marked[end : found.start()]
            end = found.end()
            if found[2]:
                out += self._saved[ord(found[2]) - _BASE]
                continue
            # A marker right after another one speaks of the same claim.
            claim = _last_sentence(out[since:]) if out[since:].strip(" ,;") else claim
            number = ord(found[1]) - _BASE
            cited.append((number, len(out), claim))
            out += f"[{number}]"
            since = len(out)
        out += marked[end:]
        for number, start, said in cited:
            place = self._length + start
            self._cite(number, said or _MARKER.sub(" ", out), place, place + len(f"[{number}]"))
        plain = marked.startswith(("#", "|", "\ue002")) or marked.endswith(":") or len(marked.split()) < 4
        self._uncited += not cited and not plain
        self._check_figures(out, [number for number, _, _ in cited])
        self._length += len(out)
        return out

    def _cite(self, number: int, claim: str, start: int, end: int) -> None:
        source = self._evidence[number - 1]
        quote_start, quote_end, support = source.quote(claim)
        paper = source.evidence.paper
        self.citations.append(
            Citation(number, paper, paper.abstract[quote_start:quote_end], quote_start, quote_end, start, end, support)
        )

    def _check_figures(self, text: str, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        known = set().union(*(self._evidence[number - 1].figures for number in numbers))
        markers = [found.span() for found in re.finditer(r"\[\d{1,3}\]", text)]
        lead = re.match(r"\s*\d{1,3}[.)]\s", text)
        for found in _FIGURE.finditer(text, lead.end() if lead else 0):
            inside = any(a <= found.start() < b for a, b in markers)
            if not inside and _figure(found[0]) not in known:
                self._figures.append(Figure(found[0], self._length + found.start(), self._length + found.end()))

    def _save(self, match: re.Match[str]) -> str:
        self._saved.append(match[0])
        return f"\ue002{chr(_BASE + len(self._saved) - 1)}\ue003"

    def _drop(self, _match: re.Match[str]) -> str:
        self._references += 1
        return ""

    def _link(self, match: re.Match[str]) -> str:
        label, address = match[1], match[2]
        if re.fullmatch(rf"\^?\s*{_NUMBERS}\s*", label, re.IGNORECASE):
            return self._resolve(match, label)
        if self._holds(address):
            return f"{label} ({address})" if label != address else address
        self._references += 1
        return label

    def _resolve(self, match: re.Match[str], numbers: str) -> str:
        """Return placeholders for the valid numbers of a marker in any form; count repairs and drops."""
        quoted = self._is_quoted(match)
        wanted = _numbers(numbers)
        valid = [number for number in dict.fromkeys(wanted) if 1 <= number <= len(self._evidence)]
        if quoted or (not valid and any(match[0] in source.evidence.passage for source in self._evidence)):
            return f"({numbers})"
        self._dropped += len(set(wanted)) - len(valid)
        if valid and match[0] != "".join(f"[{number}]" for number in valid):
            self._repaired += 1
        return "".join(f"{_OPEN}{chr(_BASE + number)}{_CLOSE}" for number in valid)

    def _is_quoted(self, match: re.Match[str]) -> bool:
        """Tell whether the bracket stands inside text that matches the evidence, with what comes before it."""
        before = match.string[max(0, match.start() - 16) : match.end()]
        return len(before) > len(match[0]) + 8 and any(before in source.evidence.passage for source in self._evidence)

    def _parenthesis(self, match: re.Match[str]) -> str:
        numbers = _numbers(match[1])
        if self._is_quoted(match) or not all(1 <= number <= len(self._evidence) for number in numbers):
            return match[0]
        return self._resolve(match, match[1])

    def _superscript(self, match: re.Match[str]) -> str:
        digits = match[1].translate(_DIGITS)
        valid = all(1 <= number <= len(self._evidence) for number in _numbers(digits))
        return self._resolve(match, digits) if valid and not self._is_quoted(match) else match[0]

    def _author_year(self, match: re.Match[str]) -> str:
        return match[0] if self._names(match[1]) else self._drop(match)

    def _narrative(self, match: re.Match[str]) -> str:
        if self._names(match[1]):
            return match[0]
        self._references += 1
        return "The authors" if not match.string[: match.start()].strip() else "the authors"

    def _address(self, match: re.Match[str]) -> str:
        tail = re.search(r"[.,;:!?)\]'\"]*>?$", match[0])
        end = tail.start() if tail else len(match[0])
        address = re.sub(r"^(?:<|doi:\s*)", "", match[0][:end], flags=re.IGNORECASE)
        return match[0] if self._holds(address) else self._drop(match) + match[0][end:].strip(">")

    def _holds(self, address: str) -> bool:
        """Tell whether an address stands in the evidence or names one of its papers."""
        wanted = address.casefold().rstrip("/")
        return len(wanted) > 6 and any(wanted in source.addresses for source in self._evidence)

    def _names(self, name: str) -> bool:
        return any(name.casefold() in source.names for source in self._evidence)

    def _is_reference(self, body: str) -> bool:
        """Tell whether a line is `[1] Title of the paper`: an entry of a list of references, not a claim."""
        entry = re.match(r"(?:[-*]\s*)?\**\[\^?(\d{1,3})\]\**[:.]?\s+(.+)", body)
        if not entry or not 1 <= int(entry[1]) <= len(self._evidence):
            return False
        title = _fold(self._evidence[int(entry[1]) - 1].evidence.paper.title)
        return len(title) > 8 and title in _fold(entry[2])[: len(title) + 60]


class _Source:
    """One piece of evidence with what the gate asks of it, worked out once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def sentences(self) -> list[tuple[int, int, str, frozenset[str]]]:
        """(start, end, folded text, terms) of each sentence of the abstract within the passage."""
        abstract, low, high = self.evidence.paper.abstract, self.evidence.start, self.evidence.end
        spans = [(a, b) for a, b in split_sentences(abstract) if a >= low and b <= high] or [(low, high)]
        return [(a, b, _fold(abstract[a:b]), frozenset(terms(abstract[a:b]))) for a, b in spans]

    @cached_property
    def figures(self) -> frozenset[str]:
        """The figures of title and abstract."""
        paper = self.evidence.paper
        return frozenset(_figure(found) for found in _FIGURE.findall(f"{paper.title} {paper.abstract}"))

    @cached_property
    def addresses(self) -> str:
        """All text in which an address may stand."""
        paper = self.evidence.paper
        ids = (paper.url, paper.doi, paper.doi and f"https://doi.org/{paper.doi}", paper.arxiv_id and f"arxiv:{paper.arxiv_id}")
        return " ".join(str(each) for each in (paper.abstract, *ids) if each).casefold()

    @cached_property
    def names(self) -> str:
        """All text in which a name may stand."""
        return f"{self.evidence.paper.title} {self.evidence.passage} {' '.join(self.evidence.paper.authors)}".casefold()

    def quote(self, claim: str) -> tuple[int, int, float]:
        """Return start and end of the sentence that best supports a claim, and the support.

        Support = share of the claim's distinct content terms that the sentence holds, 1 for a claim quoted from it.
        """
        folded, wanted = _fold(claim), frozenset(terms(claim))
        scored = [
            (1.0 if folded and folded in text else len(wanted & held) / max(1, len(wanted)), -start, end)
            for start, end, text, held in self.sentences
        ]
        support, start, end = max(scored)
        return -start, end, round(support, 3)


def _numbers(text: str) -> list[int]:
    """Return the numbers that a marker names; `2-4` is 2, 3, 4."""
    out: list[int] = []
    for low, high in re.findall(r"(\d+)(?:\s*(?:-|–|—|\bto\b)\s*[^\d\s]*?(\d+))?", text):
        a, b = int(low), int(high or low)
        out.extend(range(a, b + 1) if a <= b < a + 50 else [a, b])
    return out


def _figure(text: str) -> str:
    """Return a figure without thousands separators and trailing zeros, so that 1,000 and 87.10 meet 1000 and 87.1."""
    plain = re.sub(r",(?=\d{3}(?!\d))", "", text).replace(",", ".")
    plain = plain.rstrip("0").rstrip(".") if plain.count(".") == 1 else plain
    return plain.lstrip("0") or "0"


def _fold(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _last_sentence(text: str) -> str:
    spans = split_sentences(text)
    return text[spans[-1][0] : spans[-1][1]] if spans else text
