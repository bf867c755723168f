"""A JSON text of any layout -> its records, one after the other, without holding more than one of them.

Lines, objects one after the other, one array, and replies of services that wrap the list are told apart as they are
met, so that pages of replies may follow each other. What cannot be read is refused by its place, and reading goes on
where the next record begins. Kept in memory are one record and a block of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from assistant.errors import CorpusError
from assistant.papers import RAW_CHARS, Raw, Rejected, damaged

CHUNK = 1 << 18
"""A value of so many characters is looked at for what it is before more of it is read."""
RECORD_CHARS = 16_000_000
"""A longer record is refused; the longest of OpenAlex, with thousands of authors, have about ten million."""
REPLY_LISTS = frozenset({"results", "data", "items", "result", "recommendedPapers", "papers", "articles", "references"})
"""The names under which replies of services and exports of programs keep their records."""
REPLY_ENVELOPES = frozenset({"message", "resultList"})
"""Objects of a reply that have the list inside."""
TEXT_NAMES = frozenset({"abstract", "text", "summary", "abstract_inverted_index", "abstractNote", "abstractText"})
"""Names that papers alone have, and no object within them."""

_BEHIND = 256
"""Characters kept of what was read, to see how a record's line begins."""
_AHEAD = 4_096
"""A key and the beginning of its value are looked for in so many characters."""
_PATIENCE = 64_000_000
"""Characters that may be read in vain, and four for each that is passed; beyond it a text is built to be slow."""
_TRY_COSTS, _DEEP_COSTS = 1_000, 25_000
"""Characters that could be read in the time that a failure takes, and in which a value is found to be too deep."""

_BETWEEN = re.compile(r"[\s,]*")
_LIST_OPENS = re.compile(r"\[\s*[{\]]")
_KEY = r'"(?:[^"\\\n]|\\.){0,1000}"'
_MEMBER = re.compile(rf"({_KEY})\s*:\s*")
_LINE_BEGINS = re.compile(r"[ \t\r,\x1e]*")
_FIRST_KEY = re.compile(rf"\{{\s*({_KEY})\s*:")
_AFTER = re.compile(r"\s*(?:[,\]}{]|\Z)")
_SCALARS = re.compile(r'(?:[ \t,]*(?:"(?:[^"\\\n]|\\.)*"|[\d.eE+-]+|true|false|null))*')
_BRACKET = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]]')


class _UnreadableError(Exception):
    """A value that cannot be read."""

    def __init__(self, reason: str, end: int, kind: str = "") -> None:
        """Take the reason, how far the text was read, and what is the matter: `cut`, `long`, `deep` or else syntax."""
        super().__init__(reason)
        self.end, self.kind = end, kind


def split(blocks: Iterable[str]) -> Iterator[Raw | Rejected]:
    """Read the records of a JSON text, given in pieces of any size.

    Each is told by its line, in an array also by its number. A refused range counts as one record.

    Raises:
        CorpusError: What the pieces raise, after everything before it has been read.
    """
    window = _Window(blocks)
    yield from _Splitter(window).sequence()
    if window.failure:
        raise window.failure


def is_reply(value: Mapping[str, Any]) -> bool:
    """Tell whether an object is a reply that wraps a list of records."""
    if not TEXT_NAMES.isdisjoint(value) or "title" in value:
        return False
    if any(_is_list_of_objects(value.get(name)) for name in REPLY_LISTS & value.keys()):
        return True
    inside = [value[name] for name in REPLY_ENVELOPES & value.keys()]
    return any(isinstance(each, dict) and is_reply(each) for each in inside)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and (not value or isinstance(value[0], dict))


class _Window:
    """The part of a text that is being read: what is before `at` is done with."""

    def __init__(self, blocks: Iterable[str]) -> None:
        self._blocks = iter(blocks)
        self.text, self.at, self.line, self.ended = "", 0, 1, False
        self.dropped = 0
        """Characters before the text."""
        self.failure: CorpusError | None = None

    def more(self, least: int = 1) -> bool:
        """Read so many characters more, if there are; false when there are none."""
        keep = max(0, self.at - _BEHIND)
        pieces, length = [self.text[keep:]], 0
        while length < least and not self.ended:
            piece = self._next()
            pieces.append(piece)
            length += len(piece)
        self.text, self.at, self.dropped = "".join(pieces), self.at - keep, self.dropped + keep
        return length > 0

    def _next(self) -> str:
        try:
            for piece in self._blocks:
                return piece
        except CorpusError as error:
            self.failure = error
        self.ended = True
        return ""

    def have(self, least: int) -> int:
        """Return how many characters are there to be read: at least so many, unless the text ends before."""
        while len(self.text) - self.at < least and self.more(least):
            pass
        return len(self.text) - self.at

    def pass_to(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end


class _Splitter:
    """Goes through a window, value by value."""

    def __init__(self, window: _Window) -> None:
        self._window = window
        # NaN and Infinity, which are no JSON and which pandas writes for what is missing, are read as null.
        self._decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(parse_constant=lambda _: None).raw_decode
        self._count = self._last_line = self._spent = self._nested = 0
        self._model: Mapping[str, Any] = {}
        """The last good record; its siblings have keys like it."""
        self._told_end = False

    @property
    def _model_key(self) -> str:
        return json.dumps(next(iter(self._model), ""), ensure_ascii=False)

    def sequence(self, closing: str = "") -> Iterator[Raw | Rejected]:
        """Read values up to the bracket that closes them, or to the end of the text."""
        window = self._window
        while character := self._next_character():
            if character == closing:
                window.pass_to(window.at + 1)
                return
            if character == "[" and not closing and self._opens_list():
                window.pass_to(window.at + 1)
                yield from self.sequence("]")
            elif item := self._item(closing):
                yield item
            else:
                yield from self._reply()
        if closing:
            yield from self._cut("list of records")

    def _next_character(self) -> str:
        """Pass over what stands between values and return what the next one begins with; at the end nothing."""
        window = self._window
        while True:
            window.pass_to(_skip(window.text, window.at))
            if window.at < len(window.text):
                return window.text[window.at]
            if not window.more():
                return ""

    def _item(self, closing: str) -> Raw | Rejected | None:
        """Read or refuse the value that begins here; None for a reply, which is not passed."""
        window = self._window
        try:
            value, end = self._decode(window.text, window.at)
            if end == len(window.text) and not isinstance(value, dict):
                value, end = self._value()  # of a number there may be more
        except (ValueError, RecursionError):
            try:
                value, end = self._value()
            except _UnreadableError as error:
                return None if self._is_reply_ahead() else self._refusal(error, closing)
        if isinstance(value, dict):
            if self._nested < 2 and is_reply(value):
                return None
            self._model = value
            item: Raw | Rejected = Raw(self._where(closing), value)
        else:
            if others := _SCALARS.match(window.text, end):
                end = others.end()
            reason = f"a JSON {type(value).__name__} where an object is needed"
            item = damaged(self._where(closing), reason, window.text[window.at : end])
        window.pass_to(end)
        return item

    # --- Values and replies -------------------------------------------------------------------------------------------

    def _value(self) -> tuple[Any, int]:
        """Read the value that begins here, and its end, reading on for as long as it is not whole."""
        window = self._window
        while True:
            text, start = window.text, window.at
            try:
                value, end = self._decode(text, start)
                if end < len(text) or not window.more():
                    return value, end
                continue
            except RecursionError:
                self._spent += _DEEP_COSTS
                raise _UnreadableError("it is nested too deeply", start + _AHEAD, "deep") from None
            except json.JSONDecodeError as error:
                near = text[error.pos : error.pos + 20]
                reason, end = f"{error.msg} near {near!r}" if near else error.msg, error.pos
                in_string = error.msg.startswith("Unterminated string")
            except ValueError:
                raise _UnreadableError("a number has thousands of digits", start + 1) from None
            length = len(text) - start
            if length > (CHUNK if self._is_impatient() else RECORD_CHARS):
                self._spent += length
                reason = f"it is longer than {RECORD_CHARS:,} characters, too long for a record"
                raise _UnreadableError(reason, len(text), "long")
            # 16: what a number, a literal or an escaped character has before it is whole.
            is_cut = in_string or end >= len(text) - 16
            if is_cut and (length < CHUNK or not self._is_reply_ahead()) and window.more(length):
                continue
            self._spent += end - start + _TRY_COSTS
            if window.ended and (in_string or end >= len(text.rstrip())):
                raise _UnreadableError("the file ends within it: it was cut off", end, "cut")
            raise _UnreadableError(reason, end)

    def _is_impatient(self) -> bool:
        return self._spent > _PATIENCE + 4 * (self._window.dropped + self._window.at)

    def _opens_list(self) -> bool:
        window = self._window
        window.have(_AHEAD)
        return _LIST_OPENS.match(window.text, window.at) is not None

    def _is_reply_ahead(self) -> bool:
        """Tell whether the object that begins here, and is too long or too damaged to be read, wraps a list."""
        text, at = self._window.text, self._window.at
        if self._nested == 2 or text[at] != "{":
            return False
        at += 1
        while found := _MEMBER.match(text, _skip(text, at)):
            name, at = found[1][1:-1], found.end()
            if name in TEXT_NAMES or name == "title":
                return False
            if name in REPLY_LISTS and _LIST_OPENS.match(text, at):
                return True
            if name in REPLY_ENVELOPES and text.startswith("{", at):
                at += 1
                continue
            try:
                _, at = self._decode(text, at)
            except (ValueError, RecursionError):
                return False
        return False

    def _reply(self) -> Iterator[Raw | Rejected]:
        """Read the records of the reply that begins here, and pass over what else it says."""
        window, depth = self._window, 1
        window.pass_to(window.at + 1)
        self._nested += 1
        while depth:
            window.have(_AHEAD)
            start = _skip(window.text, window.at)
            if start == len(window.text) and not window.ended:
                window.pass_to(start)
                continue
            found = _MEMBER.match(window.text, start)
            if found:
                window.pass_to(found.end())
                try:
                    depth += yield from self._member(found[1][1:-1])
                except _UnreadableError as error:
                    yield self._refusal(error, "]")
                    break
            elif window.text.startswith("}", start):
                window.pass_to(start + 1)
                depth -= 1
            elif start == len(window.text):
                yield from self._cut("reply")
                break
            else:
                break  # what follows is refused as what it is
        self._nested -= 1

    def _member(self, name: str) -> Generator[Raw | Rejected, None, int]:
        """Read what a reply keeps under a name; return by how much deeper it is read on."""
        window = self._window
        if name in REPLY_LISTS and self._opens_list():
            window.pass_to(window.at + 1)
            yield from self.sequence("]")
        elif name in REPLY_ENVELOPES and window.have(1) and window.text[window.at] == "{":
            window.pass_to(window.at + 1)
            return 1
        else:
            _, end = self._value()
            window.pass_to(end)
        return 0

    # --- Refusals and where to go on ----------------------------------------------------------------------------------

    def _refusal(self, error: _UnreadableError, closing: str) -> Rejected:
        """Refuse what begins here and go on to where the next record begins."""
        window, line = self._window, self._window.line
        begin = window.dropped + window.at
        text = window.text[window.at : window.at + RAW_CHARS]
        self._find_next(error, closing)
        at_end = window.ended and window.at == len(window.text)
        self._told_end |= at_end
        behind = window.text[max(0, window.at - _BEHIND) : window.at]
        last = window.line - behind[len(behind.rstrip(" \t\r\n,[\x1e")) :].count("\n")
        where = self._where(closing, line, last)
        text = text[: window.dropped + window.at - begin].rstrip()
        return damaged(where, str(error) if error.kind in {"cut", "long"} else f"invalid JSON: {error}", text)

    def _find_next(self, error: _UnreadableError, closing: str) -> None:
        """Go to the next record: where it begins a line as the damaged one does, or else looks like its siblings."""
        window = self._window
        text, start = window.text, window.at
        is_object = text[start] == "{"
        indent = text[max(0, start - _BEHIND) : start].rpartition("\n")[2] if is_object or closing else ""
        begins_line = (is_object or not closing) and _LINE_BEGINS.fullmatch(indent) is not None
        key = _FIRST_KEY.match(text, start)
        keys = "|".join(re.escape(each) for each in {key[1], self._model_key}) if key else ""
        sibling = rf"\{{\s*(?:{keys})\s*:" if key else r"\{"
        line = rf"(?P<line>^{re.escape(indent)}(?=\{{))" if begins_line else "(?P<line>(?!))"
        pattern = re.compile(line if begins_line and error.kind == "long" else f"{line}|{sibling}", re.MULTILINE)
        if not begins_line and error.kind != "long" and (end := self._end_by_brackets(error, pattern)):
            window.pass_to(end)
            return
        if begins_line and error.kind == "long":
            window.pass_to(len(window.text))
        else:
            failed_after = min(error.end - start, _AHEAD) if self._is_impatient() else 1
            window.pass_to(min(window.at + max(failed_after, 1), len(window.text)))
        while True:
            found = pattern.search(window.text, window.at)
            if found is None:
                if window.ended:
                    window.pass_to(len(window.text))
                    return
                window.pass_to(max(window.at, len(window.text) - _AHEAD))
                window.more(_AHEAD)
                continue
            window.pass_to(found.start() if found["line"] is None else found.end())
            if found["line"] is not None or self._is_sibling():
                return
            window.pass_to(window.at + 1)

    def _end_by_brackets(self, error: _UnreadableError, pattern: re.Pattern[str]) -> int | None:
        """Return where the damaged record that begins here ends, if its brackets tell before a record may begin."""
        window = self._window
        if error.kind == "deep" and not self._is_impatient():
            self._spent += 10 * window.have(RECORD_CHARS)
            end = _closed(window.text, window.at, len(window.text))
        else:
            first = pattern.search(window.text, window.at + 1)
            end = _closed(window.text, window.at, first.start() if first else window.at + CHUNK)
        return end if end and _AFTER.match(window.text, end) else None

    def _is_sibling(self) -> bool:
        """Tell whether the object that begins here is a record: has its names, or half of the last good one's keys."""
        try:
            value, end = self._value()
        except _UnreadableError:
            if self._is_impatient():
                at, text = self._window.at, self._window.text
                line_end = text.find("\n", at, at + _AHEAD)
                self._window.pass_to(line_end if line_end >= 0 else min(at + _AHEAD, len(text) - 1))
            return False
        self._spent += end - self._window.at
        model = self._model
        return (
            not TEXT_NAMES.isdisjoint(value)
            or (is_reply(value) if model else "title" in value)
            or 2 * len(value.keys() & model.keys()) >= max(len(value), len(model), 1)
        )

    def _cut(self, what: str) -> Iterator[Rejected]:
        if not self._told_end:
            self._told_end = True
            yield damaged(self._where("]"), f"the file ends before the {what} does: it was cut off")

    def _where(self, closing: str, first: int = 0, last: int = 0) -> str:
        """Return the place of the next record, which begins here, or of a range of lines."""
        self._count += 1
        first = first or self._window.line
        lines = f"lines {first}-{last}" if last > first else f"line {first}"
        is_alone = not closing and first > self._last_line
        self._last_line = max(first, last)
        return lines if is_alone else f"record {self._count} ({lines})"


def _skip(text: str, at: int) -> int:
    """Return where what stands between values ends."""
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _closed(text: str, start: int, end: int) -> int | None:
    """Return where the bracket that opens at `start` is closed before `end`, if brackets and strings tell."""
    opened: list[str] = []
    if text[start] not in "{[":
        return None
    for found in _BRACKET.finditer(text, start, end):
        if found[0] in {"{", "["}:
            opened.append(found[0])
        elif found[0] in {"}", "]"}:
            if opened.pop() + found[0] not in {"{}", "[]"}:
                return None
            if not opened:
                return found.end()
    return None
