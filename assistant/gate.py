"""The gate: text with markers in any form + Prompt -> final text, each marker resolved to a verbatim quote.

Every answer leaves through here, streamed or whole, from a model or extractive. The text is cut into units (a sentence,
a list item, a table row, a block); each is resolved by itself once it is complete, and is then final. Where a cut falls
never depends on how the text arrived, so a streamed answer and a whole one are the same.

What does not resolve is dropped and counted: markers of no evidence, author-year citations, DOIs, links and arXiv ids
that the evidence does not hold, a list of references at the end. Code and maths are left alone, and so is what is
quoted from the evidence, except that its bracketed numbers are shown in round ones: `[n]` is only ever a marker.
What resolves and yet is not borne out by what it cites, a figure, a name, a citation, is flagged in its place.
"""

from __future__ import annotations

import re
from functools import cached_property

from assistant import markers
from assistant.cite import ADDRESS, CLAIM_CHARS, NEAR_CHARS, Source, address_core, address_key
from assistant.clean import drop_unseen
from assistant.figures import figures_unsupported
from assistant.names import Names, names_unsupported
from assistant.text import terms
from assistant.types import Checks, Citation, Evidence, Figure, Marker, Name, Prompt
from assistant.units import Cutter


class Gate:
    """Lets text through in final units; feed it, then close it. `started` tells that something was shown."""

    def __init__(self, prompt: Prompt) -> None:
        self.evidence: tuple[Evidence, ...] = prompt.evidence
        """What markers may cite."""
        self.citations: list[Citation] = []
        self.refused = False
        """The agreed refusal was found where an answer should begin."""
        self._sources = [Source(each) for each in prompt.evidence]
        self._cutter = Cutter()
        self._held: list[str] = []
        self._shown: list[str] = []
        self._length = 0
        self._gap = ""
        """The white space since the last unit that was not dropped."""
        self._ended = self._listing = False
        """A list of references began; the last unit was an entry of a list of papers, which is the answer itself."""
        self._waiting: list[tuple[str, str]] = []
        """A heading, of which it is not known yet whether references follow it, and lines that lead in."""
        self._last = ""
        """The last unit that has words."""
        self._open = "", 0
        """It and its place, while it cites nothing: a marker that follows alone is its citation."""
        self._kept: list[str] = []
        self._repaired = self._dropped = self._uncited = self._references = 0
        self._question = f"{prompt.question} {prompt.searched}"
        self._figure_flags: list[Figure] = []
        self._name_flags: list[Name] = []
        self._marker_flags: list[Marker] = []

    @cached_property
    def _asked(self) -> Names:
        """What the question names may be named in the answer."""
        return Names(self._question)

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
        return Checks(
            self._repaired,
            self._dropped,
            self._uncited,
            tuple(self._figure_flags),
            self._references,
            tuple(self._name_flags),
            tuple(self._marker_flags),
        )

    def feed(self, piece: str) -> list[str]:
        """Take in a piece of raw text; return what became final."""
        self._cutter.add(markers.HIDDEN.sub("", piece.replace("\u2028", " ").replace("\u2029", " ")))
        return self._drain(final=False)

    def close(self) -> list[str]:
        """Resolve what is left; return what became final. Text that never met a valid citation is not let through."""
        return self._drain(final=True)

    def cut(self) -> None:
        """Forget what has not become final: the stream broke off inside it. What is fed next begins anew."""
        self._cutter, self._ended, self._waiting = Cutter(), False, []

    def _drain(self, *, final: bool) -> list[str]:
        return [text for gap, unit in self._cutter.units(final=final) for text in self._let_through(gap, unit)]

    def _let_through(self, gap: str, unit: str) -> list[str]:
        self._gap = max(self._gap, gap, key=lambda each: (each.count("\n"), len(each)))
        if self._refuses(unit) or self._is_reference(gap, unit):
            return []
        units, self._waiting = [*self._waiting, (gap, unit)], []
        return [text for each in units for text in self._show(*each)]

    def _show(self, gap: str, unit: str) -> list[str]:
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
        self._gap = self._gap or gap
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
        if self._ended and not self._is_statement(unit):
            leads = self._waiting and unit.endswith(":")
            self._waiting = [*self._waiting, (gap, unit)] if leads else []
            self._references += not leads and "\n" in gap
            return True
        if self._ended:
            self._ended = False
            return False
        heading = markers.REFERENCES.match(unit) if self._length else None
        has_more = heading is not None and heading.end() < len(unit)
        if heading and not (has_more and self._is_verbatim(unit)):
            self._ended = True
            self._waiting = [] if has_more else [(gap, unit)]
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

    def _is_statement(self, unit: str) -> bool:
        """Tell whether a unit under a heading such as `Sources` says something and cites who says it."""
        claim = markers.MARKER.sub("", unit)
        named = [number for match in markers.MARKER.finditer(unit) for number in markers.numbers(match[0])]
        cited = [self._sources[number - 1] for number in named if 1 <= number <= len(self._sources)]
        return not markers.ENTRY.match(unit) and markers.states(claim) and any(each.says(claim) for each in cited)

    # --- Resolving a unit ---------------------------------------------------------------------------------------------

    def _mark(self, unit: str) -> tuple[str, bool]:
        """Replace code, maths and markers by placeholders; drop what does not resolve; tell if anything was."""
        self._kept = []
        unit = drop_unseen(unit)
        if fence := markers.FENCE.match(unit):
            marks = fence[1] or fence[2]
            lines = markers.WEB.sub(self._web, unit).split("\n")
            unit = "\n".join(lines)
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
        return markers.ACTIVE.sub(r"\g<0> ", markers.BRACKET.sub(r"(\1)", tidy)).strip(), tidy != text

    def _keep(self, match: re.Match[str]) -> str:
        if marker := markers.MATHS_MARKER.fullmatch(match[0]):
            return self._resolve(match, marker[1] or marker[2])
        return self._set_aside(markers.WEB.sub(self._web, match[0]))

    def _web(self, match: re.Match[str]) -> str:
        core = address_core(match[0])
        if self._holds(core):
            return match[0]
        self._references += 1
        return "…" + match[0].partition(core)[2]

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
        is_held = 0 in markers.numbers(numbers) and any(match[0] in each.passage for each in self.evidence)
        before = match.string[max(0, match.start() - NEAR_CHARS) : match.start()]
        if is_held or markers.is_interval(before, numbers) or self._is_quoted(match):
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
        return any(parts <= source.words for source in self._sources)

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
        if markers.CONTENT.search(plain):
            self._open = plain, self._length
        if cited:
            self._check(*self._open, {number for number, _ in cited})
            self._open = "", 0
        self._length += len(shown)
        return shown

    def _cite(self, plain: str, cited: list[tuple[int, int]]) -> None:
        """Record a citation for each marker; those in a row speak of one claim, those alone of the unit before."""
        end, has_words = 0, bool(markers.CONTENT.search(plain))
        rows: list[tuple[str, list[tuple[int, int]]]] = []
        for index, (number, start) in enumerate(cited):
            if index == 0 or markers.CONTENT.search(plain[end:start].replace("and", "")):
                rows.append((_claim(plain[end:start] if has_words else self._last, plain[start:]), []))
            rows[-1][1].append((number, self._length + start))
            end = start + len(f"[{number}]")
        for claim, row in rows:
            n_cited = len({number for number, _ in row})
            for number, place in row:
                source, after = self._sources[number - 1], place + len(f"[{number}]")
                quote, paper = source.quote(claim), source.evidence.paper
                words = paper.abstract[quote.start : quote.end]
                self.citations.append(
                    Citation(number, paper, words, quote.start, quote.end, place, after, quote.support)
                )
                if not quote.supports(n_cited):
                    self._marker_flags.append(Marker(number, place, after))
        self._last = plain if has_words else self._last

    def _check(self, plain: str, place: int, numbers: set[int]) -> None:
        """Note each figure and name of a cited unit that stands at a place and that none of these papers holds."""
        words = plain.strip("-*#> \n")
        if any(self._sources[number - 1].has_sentence(words) for number in numbers):
            return  # A part of one would not do: 2 % is part of 12 %.
        for form in (ADDRESS, markers.UNCHECKED):
            plain = form.sub(lambda match: " " * len(match[0]), plain)
        cited = [self._sources[number - 1] for number in sorted(numbers)]
        figures, names = [each.figures for each in cited], [*(each.names for each in cited), self._asked]
        wrong = list(figures_unsupported(plain, figures))
        for is_figure, start, end in names_unsupported(plain, names, figures):
            if is_figure:
                wrong.append((start, end))
            else:
                self._name_flags.append(Name(plain[start:end], place + start, place + end))
        for start, end in sorted(wrong):
            self._figure_flags.append(Figure(plain[start:end], place + start, place + end))


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
    units = [unit for _, unit in Cutter(text).units(final=True)]
    return units[index] if units else ""
