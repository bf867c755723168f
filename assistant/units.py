"""Raw text in pieces -> units: a sentence, a list item, a table row, a block, each with the white space before it.

A unit comes out once it is known to be complete, and the units together are all of the text but the white space at its
end. Where a cut falls never depends on how the text arrived, and short pieces cost no more than long ones. Nothing is
refused; what never ends is cut by force.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant import markers
from assistant.chunk import ABBREVIATION

UNIT_CHARS = 4_000
"""Longest unit but a fenced block; beyond it a cut is forced."""
AHEAD_CHARS = 200
"""So far behind a full stop its markers are looked for: longer than any marker."""
HEAD_CHARS = 12
"""So much of a line tells what it is; longer than any abbreviation."""
KEPT_CHARS, BLOCK_CHARS = 420, 2_020
"""Longest code or maths within a line, and maths over several."""


class Cutter:
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
