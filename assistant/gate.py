"""The gate: text with markers in any form + Prompt -> final text, each marker resolved to a verbatim quote.

Every answer leaves through here, streamed or whole, from a model or extractive. The text is cut into units (a sentence,
a list item, a table row, a block); each is resolved by itself once it is complete, and is then final. Where a cut falls
never depends on how the text arrived, so a streamed answer and a whole one are the same.

What does not resolve is dropped and counted: markers of no evidence, author-year citations, DOIs, links and arXiv ids
that the evidence does not hold, a list of references at the end. Code and maths are left alone, and so is what is
quoted from the evidence, except that its bracketed numbers are shown in round ones: `[n]` is only ever a marker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant import markers
from assistant.chunk import ABBREVIATION
from assistant.cite import ADDRESS, CLAIM_CHARS, FIGURE, NEAR_CHARS, Source, address_core, address_key, figures
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
        if self._start < 0 and (ink := markers.INK.search(self._text, self._scan)):
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
        if len(text) - start < HEAD_CHARS and not line_known and text[start] in markers.HEADS:
            return None
        if text.startswith(("```", "~~~"), start):
            if not line_known:
                return None
            if fence := markers.FENCE.match(text, start, limit):
                return self._fence_end(fence[1] or fence[2], final=final)
        if self._line_start and markers.WHOLE_LINE.match(text, start):
            end = line_end if line_known else None
        else:
            end = self._prose_end(limit, final=final)
        if end == -1 and len(text) >= limit:
            space = text.rfind(" ", start, limit)
            return self._scan if self._scan > limit else space if space > start else limit
        return (len(text) if final else None) if end == -1 else end

    def _fence_end(self, fence: str, *, final: bool) -> int | None:
        while (end := self._text.find("\n", self._scan)) >= 0:
            if self._scan > self._start and markers.closes(self._text[self._scan : end], fence):
                return end
            self._scan = end + 1
        return len(self._text) if final else None

    def _prose_end(self, limit: int, *, final: bool) -> int | None:
        decide = {"kept": self._at_kept, "stop": self._at_stop, "line": self._at_line}
        while point := markers.POINT.search(self._text, self._scan, limit):
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
        ended = markers.BLANK_LINE.search(text, at, edge) if is_block else "\n" in text[at:edge]
        kept = markers.KEPT.match(text, at, edge)
        if not (ended or final or len(text) >= edge or (kept and kept.end() < len(text))):
            return None
        if not kept and at > self._start and point[0].startswith("```") and markers.FENCE.match(text, at, edge):
            return at
        self._scan = kept.end() if kept else point.end()
        return -1

    def _at_stop(self, stop: re.Match[str], *, final: bool) -> int | None:
        """End a sentence behind its full stop and the markers that follow it."""
        text, end = self._text, stop.end()
        line_end = text.find("\n", end, end + AHEAD_CHARS)
        edge = line_end if line_end >= 0 else end + AHEAD_CHARS
        trailing = markers.TRAILING.match(text, end, edge)
        after = trailing.end() if trailing else end
        follows = markers.INK.search(text, after, edge)
        if (not follows or follows[0] in markers.OPENERS) and not (line_end >= 0 or final or len(text) >= edge):
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
        follows = markers.INK.search(text, at, at + KEPT_CHARS)
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
        self._sources = [Source(each) for each in prompt.evidence]
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
        self._cutter.add(markers.HIDDEN.sub("", piece))
        return self._drain(final=False)

    def close(self) -> list[str]:
        """Resolve what is left; return what became final. Text that never met a valid citation is not let through."""
        return self._drain(final=True)

    def cut(self) -> None:
        """Forget what has not become final: the stream broke off inside it. What is fed next begins anew."""
        self._cutter, self._ended = _Cutter(), False

    def _drain(self, *, final: bool) -> list[str]:
        return [text for gap, unit in self._cutter.units(final=final) for text in self._let_through(gap, unit)]

    def _let_through(self, gap: str, unit: str) -> list[str]:
        self._gap = max(self._gap, gap, key=lambda each: (each.count("\n"), len(each)))
        if self._refuses(unit) or self._is_reference(gap, unit):
            return []
        text, is_less = self._mark(unit)
        has_content = bool(markers.CONTENT.search(markers.WHOLE_LINE.sub("", text, count=1)))
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
        nested = (
            markers.INDENT.search(gap)
            if newlines and (markers.WHOLE_LINE.match(unit) or markers.FENCE.match(unit))
            else None
        )
        joint = "\n" * newlines + (nested[0] if nested else "") or " " * bool(self._gap)
        self._gap = ""
        return joint if self._length else ""

    # --- Refusals and lists of references -----------------------------------------------------------------------------

    def _refuses(self, unit: str) -> bool:
        if markers.REFUSES.search(unit) and not self.citations:
            self.refused = not markers.CONTENT.search(
                markers.REFUSES.sub("", unit)
            ) or markers.GONE in markers.REFUSES.sub(self._refusal, unit)
        return self.refused

    def _refusal(self, match: re.Match[str]) -> str:
        return match[0] if any(match[0] in each.passage for each in self.evidence) else markers.GONE

    def _is_reference(self, gap: str, unit: str) -> bool:
        """Tell whether a unit belongs to an appended list of references; count its entries."""
        if self._ended:
            self._references += "\n" in gap
            return True
        heading = markers.REFERENCES.match(unit) if self._length else None
        has_more = heading is not None and heading.end() < len(unit)
        if heading and not (has_more and self._is_verbatim(unit)):
            self._ended = True
            self._references += has_more
            return True
        entry = markers.ENTRY.match(unit)
        is_listed = (
            entry and (entry[1] or entry[2] or markers.AUTHORS.search(entry[3])) and markers.DATED.search(entry[3])
        )
        is_entry = is_listed or (entry and any(each.is_named(entry[3]) for each in self._sources))
        # Where nothing was stated before, a list of papers is the answer.
        is_appended = bool(is_entry and self.citations and not self._listing)
        self._listing = bool(is_entry) and not is_appended
        self._references += is_appended
        return is_appended

    # --- Resolving a unit ---------------------------------------------------------------------------------------------

    def _mark(self, unit: str) -> tuple[str, bool]:
        """Replace code, maths and markers by placeholders; drop what does not resolve; tell if anything was."""
        self._kept = []
        if fence := markers.FENCE.match(unit):
            marks = fence[1] or fence[2]
            lines = unit.split("\n")
            self._kept.append(unit if len(lines) > 1 and markers.closes(lines[-1], marks) else f"{unit}\n{marks}")
            return chr(markers.KEEP), False
        text = markers.SPACES.sub(" ", markers.KEPT.sub(self._keep, unit))
        # A backtick that opens nothing here could close over a marker in the whole text.
        text = markers.LATEX_QUOTE.sub(r"“\1”", text).replace("``", '"').replace("`", "'")
        for form, resolve in (
            (markers.REFUSES, self._refusal),
            (markers.FOREIGN, self._foreign),
            (markers.LINK, self._link),
            (markers.MARKER, self._marker),
            (markers.AUTHOR_YEAR, self._author_year),
            (markers.NARRATIVE, self._narrative),
            (ADDRESS, self._address),
            (markers.ROUND, self._round),
            (markers.RAISED, self._raised),
            (markers.BROKEN, self._broken),
        ):
            text = form.sub(resolve, text)
        tidy = markers.tidy(text)
        return markers.BRACKET.sub(r"(\1)", tidy).strip(), tidy != text

    def _keep(self, match: re.Match[str]) -> str:
        if marker := markers.MATHS_MARKER.fullmatch(match[0]):
            return self._resolve(match, marker[1] or marker[2])
        return self._set_aside(match[0])

    def _set_aside(self, text: str) -> str:
        self._kept.append(text)
        return chr(markers.KEEP + len(self._kept) - 1)

    def _foreign(self, match: re.Match[str]) -> str:
        self._references += not match[0].startswith("</")
        return markers.GONE

    def _link(self, match: re.Match[str]) -> str:
        label, address = match[1], (match[2].split() or [""])[0].strip("<>")
        if markers.MARKER.fullmatch(f"[{label}]"):
            return match[0]
        if self._holds(address):
            return f"{label} ({address})" if label != address else address
        self._references += 1
        return label if label.strip() else markers.GONE

    def _marker(self, match: re.Match[str]) -> str:
        numbers = next(group for group in match.groups() if group)
        is_interval = 0 in markers.numbers(numbers) and any(match[0] in each.passage for each in self.evidence)
        if is_interval or self._is_quoted(match):
            return self._set_aside(f"({numbers})")
        target = match[0].partition("](")[2].strip(")^")
        self._references += bool(ADDRESS.match(target)) and not self._holds(target)
        return self._resolve(match, numbers)

    def _resolve(self, match: re.Match[str], numbers: str) -> str:
        """Return placeholders for the valid numbers of a marker in any form; count repairs and drops."""
        wanted = dict.fromkeys(markers.numbers(numbers))
        valid = [number for number in wanted if 1 <= number <= len(self.evidence)]
        self._dropped += len(wanted) - len(valid)
        self._repaired += bool(valid) and match[0] != "".join(f"[{number}]" for number in valid)
        return "".join(chr(markers.MARK + number) for number in valid) or markers.GONE

    def _round(self, match: re.Match[str]) -> str:
        before = match.string[max(0, match.start() - NEAR_CHARS) : match.start(2) - 1]
        is_valid = all(1 <= number <= len(self.evidence) for number in markers.numbers(match[2]))
        if not is_valid or markers.LABEL.search(before) or self._is_quoted(match):
            return match[0]
        return match[1] + self._resolve(match, match[2])

    def _raised(self, match: re.Match[str]) -> str:
        if markers.POWER.search(match.string[max(0, match.start() - NEAR_CHARS) : match.start()]) or self._is_quoted(
            match
        ):
            return match[0]
        digits, most = match[1].translate(markers.RAISED_DIGITS), len(self.evidence)
        # Twelve among five papers is one and two.
        in_row = digits.isdigit() and int(digits) > most and all(1 <= int(digit) <= most for digit in digits)
        return self._resolve(match, ",".join(digits) if in_row else digits)

    def _broken(self, match: re.Match[str]) -> str:
        before = match.string[: match.start()]
        if match[0][0] == " " and match[0][-1] == "]" and before.rfind("[") > before.rfind("]"):
            return match[0]
        self._dropped += len(markers.numbers(match[0]))
        return markers.GONE

    def _author_year(self, match: re.Match[str]) -> str:
        if self._names(match[2] or match[4]):
            return match[0]
        self._references += 1
        return (match[1] or match[3]) + markers.GONE

    def _narrative(self, match: re.Match[str]) -> str:
        if self._names(match[1]):
            return match[0]
        self._references += 1
        who = "authors" if re.search(r" et al| and | & ", match[0]) else "author"
        return f"the {who}" if markers.CONTENT.search(match.string, 0, match.start()) else f"The {who}"

    def _address(self, match: re.Match[str]) -> str:
        core = address_core(match[0])
        if self._holds(core):
            return match[0]
        self._references += 1
        return markers.GONE + match[0].partition(core)[2].replace(">", "")

    def _holds(self, address: str) -> bool:
        """Tell whether an address stands in the evidence or is that of one of its papers."""
        key = address_key(address)
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
        words = markers.MARKER.sub("", unit).strip("-*#> \n")
        return bool(words) and any(words in each.passage for each in self.evidence)

    # --- Placing, citing, checking ------------------------------------------------------------------------------------

    def _place(self, joint: str, marked: str) -> str:
        """Put markers and kept text in place of their placeholders; record the citations and flags of this unit."""
        shown = plain = joint
        cited: list[tuple[int, int]] = []
        for index, part in enumerate(markers.PLACED.split(marked)):
            if index % 2 and ord(part) < markers.KEEP:
                number = ord(part) - markers.MARK
                cited.append((number, len(shown)))
                shown += f"[{number}]"
                plain += " " * len(f"[{number}]")
            else:
                text = self._kept[ord(part) - markers.KEEP] if index % 2 else part
                shown, plain = shown + text, plain + (" " * len(text) if markers.FENCE.match(text) else text)
        self._cite(plain, cited)
        self._uncited += not cited and markers.states(plain.strip())
        self._check_figures(plain, {number for number, _ in cited})
        self._length += len(shown)
        return shown

    def _cite(self, plain: str, cited: list[tuple[int, int]]) -> None:
        """Record a citation for each marker; those in a row speak of one claim, those alone of the unit before."""
        end, has_words, claim = 0, bool(markers.CONTENT.search(plain)), ""
        for index, (number, start) in enumerate(cited):
            if index == 0 or markers.CONTENT.search(plain[end:start].replace("and", "")):
                claim = _claim(plain[end:start] if has_words else self._last, plain[start:])
            end = start + len(f"[{number}]")
            source, place = self._sources[number - 1], self._length
            low, high, support = source.quote(claim)
            paper = source.evidence.paper
            quote = paper.abstract[low:high]
            self.citations.append(Citation(number, paper, quote, low, high, place + start, place + end, support))
        self._last = plain if has_words else self._last

    def _check_figures(self, plain: str, numbers: set[int]) -> None:
        """Note each figure of a citing unit that none of the papers it cites holds."""
        known = frozenset[str]().union(*(self._sources[number - 1].figures for number in numbers))
        item = markers.ITEM_NUMBER.match(plain)
        plain = ADDRESS.sub(lambda match: " " * len(match[0]), plain)
        for found in FIGURE.finditer(plain, item.end() if item else 0):
            start, end = found.span()
            is_item = plain[max(0, start - 1) : end + 1] == f"({found[0]})" and len(found[0]) < 3
            is_pointer = markers.POINTER.search(plain[max(0, start - NEAR_CHARS) : start])
            if numbers and not is_item and not is_pointer and not figures(found[0]) <= known:
                self._figures.append(Figure(found[0], self._length + start, self._length + end))


def _claim(before: str, after: str) -> str:
    """Return the sentence that a marker between two texts speaks of."""
    near = before if len(before) <= CLAIM_CHARS else before[-CLAIM_CHARS:].partition(" ")[2]
    last = _sentence(near, -1)
    opens_next = before.rstrip()[-1:] in ".!?" and after.lstrip()[:1].islower()
    if not opens_next and len(terms(last)) > 2:
        return last
    first = _sentence(after[:CLAIM_CHARS], 0)
    return first if opens_next or not last else f"{last} {first}"


def _sentence(text: str, index: int) -> str:
    units = [unit for _, unit in _Cutter(text).units(final=True)]
    return units[index] if units else ""
