r"""The gate: text with markers in any form + Prompt -> final text, each marker resolved to a verbatim quote.

Every answer leaves through here, streamed or whole, from a model or extractive. The text is cut into units (a sentence,
a list item, a table row, a block); each is resolved by itself once it is complete, and is then final. Where a cut falls
never depends on how the text arrived, so a streamed answer and a whole one are the same.

What does not resolve is dropped and counted: markers of no evidence, author-year citations, DOIs, links and arXiv ids
that the evidence does not hold, a list of references at the end. Code and maths are left alone, and so is what is
quoted from the evidence, except that its bracketed numbers are shown in round ones: `[n]` is only ever a marker.

A model's output is a stranger's input: every repetition in the patterns is bounded, possessive, or unable to hold what
ends it, so that no text costs more than linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from assistant.chunk import ABBREVIATION, split_sentences
from assistant.prompt import REFUSAL
from assistant.text import terms
from assistant.types import Checks, Citation, Evidence, Figure, Prompt

UNIT_CHARS = 4_000
"""Longest unit but a fenced block; beyond it a cut is forced."""
AHEAD_CHARS = 200
"""So far behind a full stop its markers are looked for: longer than any marker."""
HEAD_CHARS = 12
"""So much of a line tells what it is; longer than any abbreviation."""
KEPT_CHARS, BLOCK_CHARS = 420, 2_020
"""Longest code or maths within a line, and maths over several."""
NEAR_CHARS = 16
"""So many characters beside a form have to stand in the evidence, too, for it to belong to a quotation."""
CLAIM_CHARS = 600
"""So far around a marker its sentence is looked for."""

# --- Markers, in every form that models write -------------------------------------------------------------------------

_NOUN = (
    r"(?:(?:source|paper|abstract|ref|reference|evidence|passage|doc|document|citation|cite|see)s?+\.?+:?+\s*+)?+[#^]?+"
)
_NUMBERS = rf"{_NOUN}\d{{1,3}}(?!\d)(?:\s*+(?:[,;&–—-]|and\b|to\b)\s*+{_NOUN}\d{{1,3}}(?!\d))*+"
_NOTE = r"(?:(?:†|\||:\s|,\s?pp?\.)[^\[\]【】\n]{0,120})?"
_FORMS = (
    rf"\^?\[\s*+<{_NUMBERS}>\s*+{_NOTE}\](?:\([^()\s]{{0,200}}\))?\^?"
    rf"|\[\s*+\[\s*+<{_NUMBERS}(?:\s*+\][\s,;]*+\[\s*+{_NUMBERS})*+>\s*+\]\s*+\](?:\([^()\s]{{0,200}}\))?"
    rf"|[【［]\s*+<{_NUMBERS}>\s*+{_NOTE}[】］]|\x3csup\x3e\s*+\[?<{_NUMBERS}>\]?\s*+\x3c/sup\x3e|\\cite\{{<{_NUMBERS}>\}}"
    rf"|\(\s*+(?:see\s)?(?=[a-z])(?!see)<{_NUMBERS}>\s*+\)"
)
_MATHS_FORMS = rf"\\\[\s*+<{_NUMBERS}>\s*+\\\]|\$\^\{{?\[<{_NUMBERS}>\]\}}?\$"
_MARKER, _MATHS_MARKER = (
    re.compile(forms.replace("<", "(").replace(">", ")"), re.IGNORECASE) for forms in (_FORMS, _MATHS_FORMS)
)
_ROUND = re.compile(r"(?<=[^\s(\[{,;:])(\s?)\((\d{1,2}(?:\s?[,–-]\s?\d{1,2})*+)\)(?=\s*+(?:[.,;:!?|*”\"。，；]|$))")
_LABEL = re.compile(
    r"(?:\w|\b(?:\w|(?:eq|equation|tab|table|fig|figure|sec|section|step|stage|phase|case|option|type|class|level|grade"
    r"|algorithm|theorem|lemma|appendix|part|item|version)s?\.?|one|two|three|four|five|six|seven|eight|nine|ten)\s)$",
    re.IGNORECASE,
)
"""Before a number in round brackets: what makes it a label or an argument."""
_RAISED = re.compile(r"(?<=\S)([⁰¹²³⁴-⁹]{1,6}+(?:[,⁻][⁰¹²³⁴-⁹]{1,2}+)*+)(?=[\s.,;:!?)\]*|”\"。，]|$)")
_RAISED_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(
    r"(?:[^\w.,;:!?”’\"'*]|[\d_]|(?<![^\W\d_])[^\W\d_]{1,2}|(?<![^\W\d_])(?![a-z]{3})[^\W\d_]{3}"
    r"|\b(?:log|sin|cos|tan|exp|pixels?|met(?:er|re)s?|inch|feet|foot))$"
)
"""Before raised digits: a symbol, a unit, a function; they are an exponent."""
_BROKEN = re.compile(
    r" ?[\[【［](?:[\s^#\d,;–-]{0,60}$|\d{1,3}(?!\w)(?![^\[\]\n]{0,200}[\])】］]))"
    r"|(?<=[^\W\d_]) \d{1,3}\](?=\s*+(?:[.,;:!?]|$))|(?<![\w\])}])\[[\s^#,;]{0,20}\]|【\s{0,20}】"
)
"""A marker without its end, without its beginning, without a number."""
_BRACKET = re.compile(r"\[(\s*+\d[\d\s.,;:–-]{0,60})\]")

# --- What models invent -----------------------------------------------------------------------------------------------

_REFUSAL = re.compile("(?i:" + REFUSAL.replace("_", r"\\?_") + ")|" + REFUSAL.replace("_", " "))
_FOREIGN = re.compile(
    r"!\[(?!\s*\^?\d+\s*\])[^\]\n]{0,300}\](?:\([^)\n]{0,500}\)|\[[^\]\n]{0,100}\])"
    r"|</?(?:a|img|iframe|video|audio|link)\b[^<>]{0,500}>"
    r"|^[ \t]?\[[^\]\n]{1,100}\]:[ \t]?<?(?:https?:|www\.|[/#])[^\n]*+",
    re.IGNORECASE | re.MULTILINE,
)
"""Pictures, HTML that loads or links, definitions of links."""
_LINK = re.compile(r"\[([^\[\]\n]{0,300})\]\(\s?((?:[^()\n]|\([^()\n]{0,200}\)){0,500}+)\)")
_URL = r"[!-;=?-Z\\^-z|~]"
_ADDRESS = re.compile(
    rf"(?:doi:?\s?)?<?(?:https?://|\bwww\.){_URL}*+>?|(?:\bdoi:?\s?)?(?<![\w.])10\.\d{{4,9}}/{_URL}++"
    r"|\barxiv(?: preprint)?+(?::\s?| )(?:arxiv:)?(?:[a-z.-]{2,20}/\d{7}|\d{4}\.\d{4,5})(?:v\d{1,2})?"
    rf"|(?<![\w@./-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:com|org|net|io|ai|edu|gov|dev|app|cn|de|fr|uk|jp)/{_URL}++",
    re.IGNORECASE,
)
_RESOLVER = re.compile(
    r"(?:doi:?\s?)?<?(?:https?://)?(?:www\.)?(?:(?:dx\.)?doi\.org/)?"
    r"(arxiv\.org/(?:abs|pdf|html)/|10\.48550/arxiv\.|arxiv(?: preprint)?[: ]\s?(?:arxiv:)?)?"
)
_PARTICLES = r"(?:[A-Z]\. ?){0,2}(?:(?:van|von|de|der|den|di|da|la|le|ter|dos) ){0,2}"
_NAME = rf"{_PARTICLES}(?![A-Z\d-]{{2,30}}\b)[A-ZÀ-ÖØ-ÞĀ-Ž][\w’'-]{{1,30}}+"
_MORE = rf"(?:(?:, {_NAME}){{0,5}},? (?:and|&) {_NAME}|,? et al\.?)"
_YEARS = r"(?:19|20)\d\d[a-z]?(?:, ?(?:19|20)\d\d[a-z]?)*+(?!\d)"
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
_VERB = r"(?:show|propos|introduc|report|find|found|argu|demonstrat|present|describ|suggest|claim|observ)"
_AUTHOR_YEAR = re.compile(
    rf"([(\[;]\s?(?:see also |see |e\.g\.,? |cf\. |by )?)(?!{_MONTH})({_NAME})(?:{_MORE}?,|{_MORE}) ?{_YEARS}"
    rf"(?=\s?[)\];,:])|(\[)({_NAME}) {_YEARS}(?=\])"
)
_NARRATIVE = re.compile(
    rf"(?<![\w.-])({_NAME})(?:,? et al\.?,? ?(?:[(\[]{_YEARS}[)\]]|{_YEARS})"
    rf"|{_MORE}? \({_YEARS}\)(?= (?:have |had |first |also )?{_VERB}))"
)
_REFERENCES = re.compile(
    r"\W*+(?:\d{1,2}[.)]\s)?(?:(?:the|list of|full|key|cited)\s)*+(?:references?|reference list|sources?|bibliography"
    r"|works cited|citations?|literature|footnotes|quellen|literaturverzeichnis|références|bibliographie|referencias"
    r"|fuentes|bibliografía|参考文献)(?:\s(?:list|used|cited))?+(?:\W*$|[\s*_]*+[:：][\s*_]*+"
    rf"(?=[\[(\d<•-]|https?:|www\.|doi|arxiv|(?-i:{_NAME}(?:,? et al|, [A-Z]\.|,? (?:and|&) {_NAME}))))",
    re.IGNORECASE,
)
_ENTRY = re.compile(r"(?:[-*•>]\s)?\**\^?\[\^?\d{1,3}\]\**(:?)\.?\s(.+)", re.DOTALL)
_DATED = re.compile(r"\b(?:19|20)\d\d\b|https?:")

# --- Placeholders, and traces of what was dropped ---------------------------------------------------------------------

_HIDDEN = re.compile("[\r\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ue000-\uf8ff\ud800-\udfff\U000f0000-\U0010ffff]")
"""What nobody sees, and the private characters, which are placeholders here."""
_GONE, _MARK, _KEEP = "\ue000", 0xE100, 0xE500
"""Placeholders: of what was dropped, of marker n, of the n-th code or maths of a unit (from `_KEEP` on)."""
_PLACED = re.compile("([\ue100-\uf8ff])")
_CONTENT = re.compile("[^\\W_]|[\ue100-\uf8ff]")
_GONE_ROW = re.compile(rf"{_GONE}(?:[\s,;&]*+{_GONE})++")
_HOLLOW = re.compile(
    rf"[(\[](?:[\s,;:&.]|{_GONE}|(?:see|also|and|e\.g|cf|in|at|via|from|doi|arxiv|link|url|code|available)\b)*+[)\]]"
    rf"|(?:\*{{1,3}}|_{{1,3}}|[“\"])\s?{_GONE}\s?[*_”\"]{{1,3}}",
    re.IGNORECASE,
)
_GONE_ALONE = re.compile(
    rf"(?<=[(\[]){_GONE}[\s,;:]*+|[ ]?{_GONE}\s?(?:[,;&]|and\b)(?=\s?[\ue100-\ue4ff])"
    rf"|(?:\s?[,;&]|\sand\b)?\s?{_GONE}(?=\s?(?:[.,;:!?)\]]|$))|[ ]?{_GONE}(?!\w)|{_GONE}"
)
_SPACES = re.compile(r"[ \t]+")
_INDENT = re.compile(r"[ \t]*+$")

# --- Figures and statements -------------------------------------------------------------------------------------------

_FIGURE = re.compile(r"(?<![\d\[])(?:(?<![\d.])\.)?\d+(?:[.,]\d+)*")
_ITEM_NUMBER = re.compile(r"\s*+(?:[-*+>•]\s)?\**\d{1,3}[.)]\s")
_COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD_OR_SIGN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")

# --- Units: where a stream may be cut ---------------------------------------------------------------------------------

_INK = re.compile(r"\S")
_HEADS = "`~|#>•-*+–[0123456789"
_WHOLE_LINE = re.compile(r"[|#>•]|[-*+–]\s|\d{1,3}[.)]\s|\[\^?\d{1,3}\]:?\s")
_FENCE = re.compile(r"(`{3,}+)[^`\n]*+$|(~{3,}+)[^\n]*+$", re.MULTILINE)
_POINT = re.compile(
    r"(?P<kept>`+|(?<!\\)\$\$?|\\[(\[])|(?P<stop>(?:[.!?…।؟]+|[。！？]+)[)\"'”’»*_\]」』）]*)|(?P<line>\n)"
)
_KEPT = re.compile(
    r"(?<!`)(`+)(?!`)(?:(?!'')[^\n]){1,400}?(?<!`)\1(?!`)|\\\((?:(?!\\\()[^\n]){1,400}?\\\)"
    r"|(?<![\\$])\$(?![\s$])(?:(?!\s\[\d)[^$\n]){1,400}?(?<![\s\\])\$(?![\d$])"
    r"|\$\$(?:(?!\n[ \t]{0,9}\n).){1,2000}?\$\$|\\\[(?!\s?\d{1,3}\])(?:(?!\n[ \t]{0,9}\n|\\\[).){1,2000}?\\\]",
    re.DOTALL,
)
_BLANK_LINE = re.compile(r"\n[ \t]{0,9}\n")
_LATEX_QUOTE = re.compile(r"``([^`\n]{1,300}?)''")
_OPENERS = "[【［(^<\\$⁰¹²³⁴⁵⁶⁷⁸⁹"
_TRAILING = re.compile(
    rf"(?:\s?(?:{_FORMS}|{_MATHS_FORMS}|\(\d{{1,2}}\)(?=\s*$)|[⁰¹²³⁴-⁹]{{1,6}}+(?=[\s.,;]|$)))*+".replace(
        "<", "(?:"
    ).replace(">", ")"),
    re.IGNORECASE,
)


class _Cutter:
    """Cuts a stream into units. It goes on where it stopped, so that short pieces cost no more than long ones."""

    def __init__(self, sentences: str = "") -> None:
        self._text = sentences
        self._start, self._scan = -1, 0
        """Where the unit begins, -1 while only white space came; from where on nothing is decided yet."""
        self._line_start = not sentences

    def add(self, piece: str) -> None:
        """Take in more text."""
        self._text += piece

    def units(self, *, final: bool) -> Iterator[tuple[str, str]]:
        """Yield (white space before it, unit) for each unit that is complete; `final`: nothing more will arrive."""
        while self._begin() and (end := self._end(final=final)) is not None:
            gap, unit, self._text = self._text[: self._start], self._text[self._start : end], self._text[end:]
            self._start, self._scan, self._line_start = -1, 0, False
            yield gap, unit.rstrip()

    def _begin(self) -> bool:
        """Find where the unit begins; False while only white space came."""
        if self._start < 0 and (ink := _INK.search(self._text, self._scan)):
            self._start = self._scan = ink.start()
            self._line_start = self._line_start or "\n" in self._text[: self._start]
        elif self._start < 0:
            self._scan = len(self._text)
        return self._start >= 0

    # The methods below return where the unit ends; None: that cannot be told yet; -1: not there.

    def _end(self, *, final: bool) -> int | None:
        text, start = self._text, self._start
        limit = start + UNIT_CHARS
        line_end = text.find("\n", start, limit)
        line_known = line_end >= 0 or final or len(text) >= limit
        if len(text) - start < HEAD_CHARS and not line_known and text[start] in _HEADS:
            return None
        if text.startswith(("```", "~~~"), start):
            if not line_known:
                return None
            if fence := _FENCE.match(text, start, limit):
                return self._fence_end(fence[1] or fence[2], final=final)
        if self._line_start and _WHOLE_LINE.match(text, start):
            end = line_end if line_known else None
        else:
            end = self._prose_end(limit, final=final)
        if end == -1 and len(text) >= limit:
            space = text.rfind(" ", start, limit)
            return self._scan if self._scan > limit else space if space > start else limit
        return (len(text) if final else None) if end == -1 else end

    def _fence_end(self, fence: str, *, final: bool) -> int | None:
        while (end := self._text.find("\n", self._scan)) >= 0:
            if self._scan > self._start and _closes(self._text[self._scan : end], fence):
                return end
            self._scan = end + 1
        return len(self._text) if final else None

    def _prose_end(self, limit: int, *, final: bool) -> int | None:
        decide = {"kept": self._at_kept, "stop": self._at_stop, "line": self._at_line}
        while point := _POINT.search(self._text, self._scan, limit):
            self._scan = point.start()
            end = decide[str(point.lastgroup)](point, final=final)
            if end != -1:
                return end
        self._scan = max(self._scan, min(len(self._text), limit) - 1)
        return -1

    def _at_kept(self, point: re.Match[str], *, final: bool) -> int | None:
        """Pass over code or maths; an opening that nothing closes is a character like others."""
        text, at = self._text, point.start()
        is_block = point[0] in {"$$", "\\["}
        edge = at + (BLOCK_CHARS if is_block else KEPT_CHARS)
        ended = _BLANK_LINE.search(text, at, edge) if is_block else "\n" in text[at:edge]
        kept = _KEPT.match(text, at, edge)
        if not (ended or final or len(text) >= edge or (kept and kept.end() < len(text))):
            return None
        if not kept and at > self._start and point[0].startswith("```") and _FENCE.match(text, at, edge):
            return at
        self._scan = kept.end() if kept else point.end()
        return -1

    def _at_stop(self, stop: re.Match[str], *, final: bool) -> int | None:
        """End a sentence behind its full stop and the markers that follow it."""
        text, end = self._text, stop.end()
        line_end = text.find("\n", end, end + AHEAD_CHARS)
        edge = line_end if line_end >= 0 else end + AHEAD_CHARS
        markers = _TRAILING.match(text, end, edge)
        after = markers.end() if markers else end
        follows = _INK.search(text, after, edge)
        if (not follows or follows[0] in _OPENERS) and not (line_end >= 0 or final or len(text) >= edge):
            return None
        self._scan = end
        if not follows or stop[0][0] in "。！？":
            return after
        if follows.start() == after or self._goes_on(stop):
            return -1
        if follows[0].islower():
            # "It wins. [1] shows how": the marker opens the next sentence. "It wins [1]. iGPT does not": a name.
            opens_next = after > end and text[end].isspace()
            return end if opens_next else after if after > end or text[end - 2 : end] == "]." else -1
        return after

    def _goes_on(self, stop: re.Match[str]) -> bool:
        """Tell whether a full stop belongs to an abbreviation or stands inside round brackets."""
        text, at = self._text, stop.start()
        is_short = ABBREVIATION.search(text[max(self._start, at - HEAD_CHARS) : at + 1])
        inside = text[self._start : stop.end()]
        return bool(is_short) or inside.count("(") > inside.count(")") or inside.count("[") > inside.count("]")

    def _at_line(self, point: re.Match[str], *, final: bool) -> int | None:
        """End a unit with its line, unless a sentence was wrapped there."""
        text, at = self._text, point.start()
        is_open = text[at - 1] in ",;–-"
        if not (is_open or text[at - 1].isalnum()):
            return at
        follows = _INK.search(text, at, at + KEPT_CHARS)
        if not follows and not final and len(text) < at + KEPT_CHARS:
            return None
        self._scan = at + 1
        if not follows or "\n" in text[at + 1 : follows.start()]:
            return at
        return -1 if follows[0].islower() or (is_open and follows[0].isdigit()) else at


class Gate:
    """Lets text through in final units; feed it, then close it. `started` tells that something was shown."""

    def __init__(self, prompt: Prompt) -> None:
        self.evidence: tuple[Evidence, ...] = prompt.evidence
        """What markers may cite."""
        self.citations: list[Citation] = []
        self.refused = False
        """The agreed refusal was found where an answer should begin."""
        self._sources = [_Source(each) for each in prompt.evidence]
        self._cutter = _Cutter()
        self._held: list[str] = []
        self._shown: list[str] = []
        self._length = 0
        self._gap = ""
        """The white space since the last unit that was not dropped."""
        self._ended = self._listing = False
        """A list of references began; the last unit was an entry of a list of papers, which is the answer itself."""
        self._last = ""
        """The last unit that has words."""
        self._kept: list[str] = []
        self._repaired = self._dropped = self._uncited = self._references = 0
        self._figures: list[Figure] = []

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
        self._cutter.add(_HIDDEN.sub("", piece))
        return self._drain(final=False)

    def close(self) -> list[str]:
        """Resolve what is left; return what became final. Text that never met a valid citation is not let through."""
        return self._drain(final=True)

    def cut(self) -> None:
        """Forget what has not become final: the stream broke off inside it. What is fed next begins anew."""
        self._cutter, self._ended = _Cutter(), False

    def _drain(self, *, final: bool) -> list[str]:
        out: list[str] = []
        for gap, unit in self._cutter.units(final=final):
            if not self.refused:
                out.extend(self._let_through(gap, unit))
        return out

    def _let_through(self, gap: str, unit: str) -> list[str]:
        self._gap = max(self._gap, gap, key=lambda each: (each.count("\n"), len(each)))
        if self._refuses(unit) or self._is_reference(gap, unit):
            return []
        text, is_less = self._mark(unit)
        has_content = bool(_CONTENT.search(_WHOLE_LINE.sub("", text, count=1)))
        if is_less and not has_content:
            return []
        self._held.append(self._place(self._joint(gap, unit), text))
        # A rule or the like waits for what it leads to, which may be a list of references.
        if not self.citations or not has_content:
            return []
        out, self._held = self._held, []
        self._shown.extend(out)
        return out

    def _joint(self, gap: str, unit: str) -> str:
        """Return the white space between the last unit and this one; a list item keeps its indent."""
        newlines = min(2, self._gap.count("\n"))
        nested = _INDENT.search(gap) if newlines and (_WHOLE_LINE.match(unit) or _FENCE.match(unit)) else None
        joint = "\n" * newlines + (nested[0] if nested else "") or " " * bool(self._gap)
        self._gap = ""
        return joint if self._length else ""

    # --- Refusals and lists of references -----------------------------------------------------------------------------

    def _refuses(self, unit: str) -> bool:
        if _REFUSAL.search(unit) and not self.citations:
            self.refused = not _CONTENT.search(_REFUSAL.sub("", unit)) or _GONE in _REFUSAL.sub(self._refusal, unit)
        return self.refused

    def _refusal(self, match: re.Match[str]) -> str:
        return match[0] if any(match[0] in each.passage for each in self.evidence) else _GONE

    def _is_reference(self, gap: str, unit: str) -> bool:
        """Tell whether a unit belongs to an appended list of references; count its entries."""
        if self._ended:
            self._references += "\n" in gap
            return True
        heading = _REFERENCES.match(unit) if self._length else None
        has_more = heading is not None and heading.end() < len(unit)
        if heading and not (has_more and self._is_verbatim(unit)):
            self._ended = True
            self._references += has_more
            return True
        entry = _ENTRY.match(unit)
        is_entry = entry and (
            (entry[1] and _DATED.search(entry[2])) or any(each.is_named(entry[2]) for each in self._sources)
        )
        # Where nothing was stated before, a list of papers is the answer.
        is_appended = bool(is_entry and self.citations and not self._listing)
        self._listing = bool(is_entry) and not is_appended
        self._references += is_appended
        return is_appended

    # --- Resolving a unit ---------------------------------------------------------------------------------------------

    def _mark(self, unit: str) -> tuple[str, bool]:
        """Replace code, maths and markers by placeholders; drop what does not resolve; tell if anything was."""
        self._kept = []
        if fence := _FENCE.match(unit):
            marks = fence[1] or fence[2]
            lines = unit.split("\n")
            self._kept.append(unit if len(lines) > 1 and _closes(lines[-1], marks) else f"{unit}\n{marks}")
            return chr(_KEEP), False
        text = _SPACES.sub(" ", _KEPT.sub(self._keep, unit))
        # A backtick that opens nothing here could close over a marker in the whole text.
        text = _LATEX_QUOTE.sub(r"“\1”", text).replace("``", '"').replace("`", "'")
        for form, resolve in (
            (_REFUSAL, self._refusal),
            (_FOREIGN, self._foreign),
            (_LINK, self._link),
            (_MARKER, self._marker),
            (_AUTHOR_YEAR, self._author_year),
            (_NARRATIVE, self._narrative),
            (_ADDRESS, self._address),
            (_ROUND, self._round),
            (_RAISED, self._raised),
            (_BROKEN, self._broken),
        ):
            text = form.sub(resolve, text)
        tidy = _tidy(text)
        return _BRACKET.sub(r"(\1)", tidy).strip(), tidy != text

    def _keep(self, match: re.Match[str]) -> str:
        if marker := _MATHS_MARKER.fullmatch(match[0]):
            return self._resolve(match, marker[1] or marker[2])
        return self._set_aside(match[0])

    def _set_aside(self, text: str) -> str:
        self._kept.append(text)
        return chr(_KEEP + len(self._kept) - 1)

    def _foreign(self, match: re.Match[str]) -> str:
        self._references += not match[0].startswith("</")
        return _GONE

    def _link(self, match: re.Match[str]) -> str:
        label, address = match[1], (match[2].split() or [""])[0].strip("<>")
        if _MARKER.fullmatch(f"[{label}]"):
            return match[0]
        if self._holds(address):
            return f"{label} ({address})" if label != address else address
        self._references += 1
        return label if label.strip() else _GONE

    def _marker(self, match: re.Match[str]) -> str:
        numbers = next(group for group in match.groups() if group)
        is_interval = 0 in _numbers(numbers) and any(match[0] in each.passage for each in self.evidence)
        if is_interval or self._is_quoted(match):
            return self._set_aside(f"({numbers})")
        target = match[0].partition("](")[2].strip(")^")
        self._references += bool(_ADDRESS.match(target)) and not self._holds(target)
        return self._resolve(match, numbers)

    def _resolve(self, match: re.Match[str], numbers: str) -> str:
        """Return placeholders for the valid numbers of a marker in any form; count repairs and drops."""
        wanted = dict.fromkeys(_numbers(numbers))
        valid = [number for number in wanted if 1 <= number <= len(self.evidence)]
        self._dropped += len(wanted) - len(valid)
        self._repaired += bool(valid) and match[0] != "".join(f"[{number}]" for number in valid)
        return "".join(chr(_MARK + number) for number in valid) or _GONE

    def _round(self, match: re.Match[str]) -> str:
        before = match.string[max(0, match.start() - NEAR_CHARS) : match.start(2) - 1]
        opens_item = before.rstrip()[-1:] in ".!?" and match.end() < len(match.string)
        is_valid = all(1 <= number <= len(self.evidence) for number in _numbers(match[2]))
        if not is_valid or opens_item or _LABEL.search(before) or self._is_quoted(match):
            return match[0]
        return match[1] + self._resolve(match, match[2])

    def _raised(self, match: re.Match[str]) -> str:
        if _POWER.search(match.string[max(0, match.start() - NEAR_CHARS) : match.start()]) or self._is_quoted(match):
            return match[0]
        digits, most = match[1].translate(_RAISED_DIGITS), len(self.evidence)
        # Twelve among five papers is one and two.
        in_row = digits.isdigit() and int(digits) > most and all(1 <= int(digit) <= most for digit in digits)
        return self._resolve(match, ",".join(digits) if in_row else digits)

    def _broken(self, match: re.Match[str]) -> str:
        before = match.string[: match.start()]
        if match[0][0] == " " and match[0][-1] == "]" and before.rfind("[") > before.rfind("]"):
            return match[0]
        self._dropped += len(_numbers(match[0]))
        return _GONE

    def _author_year(self, match: re.Match[str]) -> str:
        if self._names(match[2] or match[4]) or self._is_quoted(match):
            return match[0]
        self._references += 1
        return (match[1] or match[3]) + _GONE

    def _narrative(self, match: re.Match[str]) -> str:
        if self._names(match[1]) or self._is_quoted(match):
            return match[0]
        self._references += 1
        who = "authors" if re.search(r" et al| and | & ", match[0]) else "author"
        return f"the {who}" if _CONTENT.search(match.string, 0, match.start()) else f"The {who}"

    def _address(self, match: re.Match[str]) -> str:
        core = _core(match[0])
        if self._holds(core):
            return match[0]
        self._references += 1
        return _GONE + match[0].partition(core)[2].replace(">", "")

    def _holds(self, address: str) -> bool:
        """Tell whether an address stands in the evidence or is that of one of its papers."""
        key = _address_key(address)
        return bool(key) and any(key in source.addresses for source in self._sources)

    def _names(self, name: str) -> bool:
        parts = set(re.findall(r"[^\W\d_]{2,}", name))
        return any(parts <= source.names for source in self._sources)

    def _is_quoted(self, match: re.Match[str]) -> bool:
        """Tell whether a form stands inside text that matches the evidence, by what is before or behind it."""
        start, end = match.span()
        around = (match.string[max(0, start - NEAR_CHARS) : end], match.string[start : end + NEAR_CHARS])
        sure = [each for each in around if len(each) >= end - start + NEAR_CHARS // 2]
        passages = [each.passage for each in self.evidence if match[0] in each.passage]
        return any(each in passage for each in sure for passage in passages)

    def _is_verbatim(self, unit: str) -> bool:
        words = _MARKER.sub("", unit).strip("-*#> \n")
        return bool(words) and any(words in each.passage for each in self.evidence)

    # --- Placing, citing, checking ------------------------------------------------------------------------------------

    def _place(self, joint: str, marked: str) -> str:
        """Put markers and kept text in place of their placeholders; record the citations and flags of this unit."""
        shown = plain = joint
        cited: list[tuple[int, int]] = []
        for index, part in enumerate(_PLACED.split(marked)):
            if index % 2 and ord(part) < _KEEP:
                number = ord(part) - _MARK
                cited.append((number, len(shown)))
                shown += f"[{number}]"
                plain += " " * len(f"[{number}]")
            else:
                text = self._kept[ord(part) - _KEEP] if index % 2 else part
                shown, plain = shown + text, plain + (" " * len(text) if _FENCE.match(text) else text)
        self._cite(plain, cited)
        self._uncited += not cited and _states(plain.strip())
        self._check_figures(plain, {number for number, _ in cited})
        self._length += len(shown)
        return shown

    def _cite(self, plain: str, cited: list[tuple[int, int]]) -> None:
        """Record a citation for each marker; those in a row speak of one claim, those alone of the unit before."""
        end, has_words = 0, bool(_CONTENT.search(plain))
        before = said = ""
        for index, (number, start) in enumerate(cited):
            if index == 0 or _CONTENT.search(plain[end:start].replace("and", "")):
                before = plain[end:start] if has_words else self._last
                said = _claim(before, plain[start:])
            end = start + len(f"[{number}]")
            source, place = self._sources[number - 1], self._length
            quoted = source.quote(before)
            low, high, support = quoted if quoted[2] == 1 else source.quote(said)
            paper = source.evidence.paper
            quote = paper.abstract[low:high]
            self.citations.append(Citation(number, paper, quote, low, high, place + start, place + end, support))
        self._last = plain if has_words else self._last

    def _check_figures(self, plain: str, numbers: set[int]) -> None:
        """Note each figure of a citing unit that none of the papers it cites holds."""
        known = frozenset[str]().union(*(self._sources[number - 1].figures for number in numbers))
        item = _ITEM_NUMBER.match(plain)
        plain = _ADDRESS.sub(lambda match: " " * len(match[0]), plain)
        for found in _FIGURE.finditer(plain, item.end() if item else 0):
            start, end = found.span()
            is_item = plain[max(0, start - 1) : end + 1] == f"({found[0]})" and len(found[0]) < 3
            if numbers and not is_item and _figure(found[0]) not in known:
                self._figures.append(Figure(found[0], self._length + start, self._length + end))


class _Source:
    """One piece of evidence with what the gate asks of it, worked out once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._quotes: dict[str, tuple[int, int, float]] = {}

    @cached_property
    def _sentences(self) -> list[tuple[int, int, str, frozenset[str]]]:
        """(start, end, folded text, terms) of each sentence of the abstract within the passage."""
        abstract, low, high = self.evidence.paper.abstract, self.evidence.start, self.evidence.end
        spans = [(a, b) for a, b in split_sentences(abstract) if a >= low and b <= high] or [(low, high)]
        return [(a, b, f" {_fold(abstract[a:b])} ", frozenset(terms(abstract[a:b]))) for a, b in spans]

    @cached_property
    def figures(self) -> frozenset[str]:
        """The figures that were put before the model: those of title, abstract, venue and year."""
        paper = self.evidence.paper
        text = f"{paper.title} {paper.abstract} {paper.venue} {paper.year}".replace("[", " ")
        words = _fold(text).split()
        counted = {str(number) for number, word in enumerate(_COUNTED, 2) if word in words}
        return frozenset(_figure(found) for found in _FIGURE.findall(text)) | counted

    @cached_property
    def addresses(self) -> frozenset[str]:
        """The addresses in title and abstract and those of the paper, in one form."""
        paper = self.evidence.paper
        found = [match[0] for match in _ADDRESS.finditer(f"{paper.title} {paper.abstract}")]
        # A lost space has glued the next sentence to some.
        found += [re.split(r"\.(?=[A-Z])", each)[0] for each in found]
        ids = (paper.url, paper.doi, paper.arxiv_id and f"arxiv:{paper.arxiv_id}")
        return frozenset(_address_key(each) for each in (*ids, *found) if each)

    @cached_property
    def names(self) -> frozenset[str]:
        """All words that may be a name."""
        paper, passage = self.evidence.paper, self.evidence.passage
        return frozenset(
            re.findall(r"[^\W\d_]{2,}", f"{paper.title} {passage} {paper.venue} {' '.join(paper.authors)}")
        )

    def is_named(self, text: str) -> bool:
        """Tell whether a text is little more than the title of the paper, with authors, venue or year."""
        paper, folded = self.evidence.paper, _fold(text)
        title = _fold(paper.title)
        if len(title) < NEAR_CHARS // 2 or title not in folded or len(text) > CLAIM_CHARS:
            return False
        known = set(_fold(f"{' '.join(paper.authors)} {paper.venue} et al arxiv preprint doi https").split())
        return sum(word not in known and word.isalpha() for word in folded.replace(title, " ", 1).split()) < 5

    def quote(self, claim: str) -> tuple[int, int, float]:
        """Return start and end of the sentence that best supports a claim, and the support.

        Support = share of the claim's distinct content terms that the sentence holds, 1 for a claim quoted from it.
        """
        if claim not in self._quotes:
            folded, wanted = _fold(claim), frozenset(terms(claim))
            support, start, end = max(
                (1.0 if folded and f" {folded} " in text else len(wanted & held) / max(1, len(wanted)), -start, end)
                for start, end, text, held in self._sentences
            )
            self._quotes[claim] = (-start, end, round(support, 3))
        return self._quotes[claim]


def _claim(before: str, after: str) -> str:
    """Return the sentence that a marker between two texts speaks of."""
    last = _sentence(before[-CLAIM_CHARS:], -1)
    opens_next = before.rstrip()[-1:] in ".!?" and after.lstrip()[:1].islower()
    if not opens_next and len(terms(last)) > 2:
        return last
    first = _sentence(after[:CLAIM_CHARS], 0)
    return first if opens_next or not last else f"{last} {first}"


def _sentence(text: str, index: int) -> str:
    units = [unit for _, unit in _Cutter(text).units(final=True)]
    return units[index] if units else ""


def _states(text: str) -> bool:
    """Tell whether a unit states something: it is no heading, table row, code, question or lead-in."""
    leads = text.startswith(("#", "|", "```", "~~~")) or text.endswith((":", "?", "**"))
    return not leads and len(_WORD_OR_SIGN.findall(text)) > 3


def _tidy(text: str) -> str:
    """Remove what was dropped with the brackets, commas and spaces that served it alone."""
    if _GONE not in text:
        return text
    text = _GONE_ROW.sub(_GONE, text)
    for _ in range(2):
        text = _HOLLOW.sub(lambda match: _GONE if _GONE in match[0] else match[0], text)
    return _GONE_ALONE.sub("", text)


def _closes(line: str, fence: str) -> bool:
    line = line.strip()
    return line.startswith(fence) and not line.strip(fence[0])


def _numbers(text: str) -> list[int]:
    """Return the numbers that a marker names; `2-4` is 2, 3, 4."""
    out: list[int] = []
    for low, high in re.findall(r"(\d{1,3})(?:\s*+(?:-|–|—|\bto\b)[^\d,;&]*+(\d{1,3}))?", text):
        a, b = int(low), int(high or low)
        out.extend(range(a, b + 1) if a <= b < a + 50 else [a, b])
    return out


def _core(address: str) -> str:
    """Return an address without the punctuation around it."""
    core = address.strip("<>").rstrip(".,;:!?)]'\"*>|")
    return core + ")" if core.count("(") > core.count(")") and f"{core})" in address else core


def _address_key(address: str) -> str:
    """Return the one form of an address, however it is written: no scheme, no resolver, no version."""
    key = _core(address.casefold())
    resolver = _RESOLVER.match(key)
    key = key[resolver.end() :] if resolver else key
    is_arxiv = resolver and resolver[1]
    return "arxiv:" + re.sub(r"(?:v\d{1,2})?(?:\.pdf)?$", "", key) if is_arxiv else key.rstrip("/")


def _figure(text: str) -> str:
    """Return a figure without thousands separators and trailing zeros, so that 1,000 and 87.10 meet 1000 and 87.1."""
    plain = re.sub(r",(?=\d{3}(?!\d))", "", text).replace(",", ".")
    plain = plain.rstrip("0").rstrip(".") if plain.count(".") == 1 else plain
    return plain.lstrip("0") or "0"


def _fold(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
