"""Figures: a text -> the numbers it states, and the places where it states one that no source holds.

In goes the text of a source, which becomes its `Figures`, or a sentence with the `Figures` of all it cites; out come
the places of those numbers of the sentence that none of them holds. Nothing is refused, and nothing is changed.

A number is its value, however it is spelled (`1,000`, `1k`, `a thousand`, `10³`), and its kind: 5 % is not 5 data sets.
One with fewer decimals is held when it is the right rounding of one that is. Where a source counts the same thing, it
is that count that holds: of `3 data sets and 7 tasks` not 7 data sets.

A model's output is a stranger's input: every repetition in the patterns is bounded, possessive, or unable to hold what
ends it, so that no text costs more than linear time.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, cast

from assistant.text import STOP_WORDS

Kind = Literal["bare", "percent", "times", "counted", "dimension", "power", "label"]
"""What a number is of; `counted` stands before a noun in the plural, `power` is an exponent, `label` part of a name."""

_HELD_AS: dict[Kind, tuple[Kind, ...]] = {
    "bare": ("bare", "counted", "percent", "times"),
    "counted": ("counted", "bare"),
    "percent": ("percent", "bare"),
    "times": ("times", "bare"),
    "dimension": ("dimension", "bare"),
    "power": ("power",),
    "label": ("label", "bare", "counted", "percent", "times", "dimension"),
}
"""In which kinds a source may hold what a sentence states in the first: a bare number leaves its unit open."""

# --- Patterns ---------------------------------------------------------------------------------------------------------

_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: number for number, word in enumerate(_UNITS + _TEENS)} | {
    word: 10 * number for number, word in enumerate(_TENS, 2)
}
_SCALES = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "b": 9, "trillion": 12, "t": 12}
"""Powers of ten."""
_SAID: dict[str, tuple[int, int, Kind]] = {
    "twice": (2, 1, "times"),
    "thrice": (3, 1, "times"),
    "half": (50, 10, "percent"),
}
"""Value, step and kind of words that are a number with its unit."""
_IMPLIED: dict[str, tuple[int, Kind]] = {
    **dict.fromkeys(("both", "pair", "dual", "couple", "second"), (2, "counted")),
    **dict.fromkeys(("third", "triple", "triplet"), (3, "counted")),
    **dict.fromkeys(("double", "doubled", "doubling"), (2, "times")),
    **dict.fromkeys(("halve", "halved", "halving"), (50, "percent")),
    **dict.fromkeys(("quadratic", "quadratically", "square", "squared"), (2, "power")),
    "cubic": (3, "power"),
    "magnitude": (10, "times"),
}
"""What other words of a source hold, folded; an order of magnitude is a factor of ten."""

LATIN = "A-Za-zÀ-ÖØ-öø-ÿ"
_SCALE = r"(?:hundred|thousand|million|billion|trillion)"
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_UNITS[1:10])})\b)?|{'|'.join(_TEENS + _UNITS)})"
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_LOWERED = str.maketrans(_RAISED + "⁻⁺−", "0123456789-+-")
TOKEN = re.compile(
    rf"""
    (?<!\w)(?P<words> (?i: {"|".join(_SAID)})\b | (?i: (?:a[ ](?={_SCALE})|{_BELOW_100}(?=fold\b|\b))
        (?:[ -]?{_SCALE}\b(?:[ ](?:and[ ])?{_BELOW_100}\b)?){{0,8}}+ ) )
    | (?<!\w)(?:approx|sim|times|pm)(?=\d) | (?<=\d)x(?=\d)
    | (?P<name> [{LATIN}][{LATIN}\d]*+ (?:[-‐‑–_.+][{LATIN}\d]++|/\d++)*+ )
    | (?P<digits> \d{{1,3}}(?:[\u00a0\u2009\u202f]\d{{3}})++(?!\d) | \d++(?:(?:[.,]|\{{,\}})\d++)*+ | (?<!\w)\.\d++ )
        (?: e(?P<e>[-+−]?\d{{1,3}})(?!\w) | [ -]?(?P<scale>{_SCALE})\b | (?P<k>[kKMBT])(?![{LATIN}\d])
          | (?:st|nd|rd|th)\b )?
    | (?:\^\s?[({{]?|(?<=[\w)\]}}])\*\*)\s?(?P<power>[-−+]?\d{{1,3}})(?!\d) | (?P<raised>[⁻⁺]?[{_RAISED}]{{1,3}}+)
    """,
    re.VERBOSE,
)
"""Numbers, exponents, words that may be names; those of `approx5`, where a backslash was lost, and `2x2` are signs."""
_UNIT = re.compile(
    r"""
    (?P<percent> \s?\\?[%％] | [\s-]?(?i:percent|per[ ]cent|prozent|pour[ ]cent|por[ ]ciento)\b )
    | \s?(?:[x×]|\\?times)\s?(?=\d) | [\s-](?:percentage[ ])?points?\b
    | (?P<times> \s?(?:[x×]|\\times)(?!\w) | [\s-]?(?:times|fold|fois|veces|mal)\b )
    | (?P<dimension> [\s-]?(?:[dD]\b|dimension) )
    """,
    re.VERBOSE,
)
"""What stands right behind a number; the sides of `224x224` have no unit, and points may be those of percent."""
_NOUN = re.compile(r"[\s-]{1,2}([A-Za-z]{2,30})\b")
_STEM = re.compile(rf"([{LATIN}]{{1,30}})\s$")
_LABEL = re.compile(rf"(?:([{LATIN}]+)[-/.]?)?(\d+(?:\.\d+)?)([kKMBT](?![{LATIN}]))?")
_WORD = re.compile(rf"[{LATIN}]+")
_JOINED = re.compile(r"(?:[\s,;/&±+~–—−-]|\\?%|\\pm|to|and|or|vs\.?|versus|against|from){1,8}+")
"""Between two numbers that share the unit of the second."""
_RANGE = re.compile(r"\s?(?:[–—−-]|to)\s?")
"""Between two numbers that share the scale of the second, too: `5-10M`."""
_PRODUCT = re.compile(r"\s?(?:[x×·*]|\\times|\\cdot)\s?")
_FACTOR = re.compile(r"\bfactors? of\s(?:(?:about|around|roughly|up to)\s)?$", re.IGNORECASE)
_NEAR_CHARS = 32
"""So far around a number its wording is looked for."""
_NOUNS = 2
"""So many words behind a number may name what it counts."""

# --- Numbers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that a text states, with its place."""

    start: int
    end: int
    tail: int
    """Where its unit ends."""
    value: Decimal
    step: Decimal
    """What one more in its last digit would add."""
    kind: Kind
    nouns: tuple[str, ...] = ()
    """The words behind it, folded, that may name what it counts."""
    name: str = ""
    """It with the word before it, folded, as one: `resnet50`."""
    is_word: bool = False
    """It is spelled in letters."""


def quantities(text: str) -> list[Quantity]:
    """Return the numbers that a text states, in order, but those within names."""
    found: list[Quantity] = []
    for match in TOKEN.finditer(text):
        if match["power"] or match["raised"]:
            _raise(found, match)
        elif match["digits"] or match["words"]:
            found.append(_read(match))
    for index in range(len(found) - 2, -1, -1):
        found[index] = _share(text, found[index], found[index + 1])
    return found


def fold(word: str) -> str:
    """Return a word without case and plural, that of an acronym included."""
    folded = word.casefold()
    is_plural = folded.endswith("s") and (len(folded) > 3 or (len(folded) == 3 and word[:2].isupper()))
    return folded[:-1] if is_plural else folded


def _read(match: re.Match[str]) -> Quantity:
    text, (start, end), word = match.string, match.span(), (match["words"] or "").casefold()
    if word in _SAID:
        value, step, kind = _SAID[word]
        return Quantity(start, end, end, Decimal(value), Decimal(step), kind, is_word=True)
    number, unit_value = _spelled(word) if word else _digits(match)
    before = text[max(0, start - _NEAR_CHARS) : start]
    unit = _UNIT.match(text, end)
    tail = unit.end() if unit else end
    kind = "times" if _FACTOR.search(before) else cast("Kind", (unit and unit.lastgroup) or "bare")
    nouns = list(_nouns(text, tail)) if kind == "bare" else []
    if unit_value >= 1 and any(noun.islower() and noun.endswith("s") and not noun.endswith("ss") for noun in nouns):
        kind = "counted"
    stem = _STEM.search(before)
    name = fold(stem[1]) + match[0].casefold() if stem and not word else ""
    return Quantity(start, end, tail, number, unit_value, kind, tuple(map(fold, nouns)), name, bool(word))


def _nouns(text: str, at: int) -> Iterator[str]:
    for _ in range(_NOUNS):
        match = _NOUN.match(text, at)
        if not match or match[1].casefold() in STOP_WORDS:
            return
        yield match[1]
        at = match.end()


def _digits(match: re.Match[str]) -> tuple[Decimal, Decimal]:
    """Return value and step of a number in digits; a sign that comes twice parts groups of three."""
    digits = re.sub(r"[\u00a0\u2009\u202f]|\{,\}", ",", match["digits"])
    groups, signs = re.split("[.,]", digits), re.findall("[.,]", digits)
    has_decimals = bool(signs) and signs[-1] not in signs[:-1] and (signs[-1] == "." or len(groups[-1]) != 3)
    decimals = groups.pop() if has_decimals else ""
    value = Decimal("".join(group.zfill(3) for group in groups) + "." + decimals)
    scale = match["scale"] or match["k"]
    power = int(match["e"].translate(_LOWERED)) if match["e"] else _SCALES[scale.casefold()] if scale else 0
    return value.scaleb(power), Decimal(1).scaleb(power - len(decimals))


def _spelled(words: str) -> tuple[Decimal, Decimal]:
    """Return value and step of a number in letters."""
    total, current, step = 0, 0, 1
    for word in re.findall("[a-z]+", words):
        if word in _SCALES:
            step = 10 ** _SCALES[word]
            current = (current or 1) * step
            total, current = (total + current, 0) if step > 100 else (total, current)
        elif word in _WORDS:
            current, step = current + _WORDS[word], 1
    return Decimal(total + current), Decimal(step)


def _raise(found: list[Quantity], match: re.Match[str]) -> None:
    """Take in an exponent: that of ten makes one number with it and with a factor before it; others stand alone."""
    exponent = int((match["power"] or match["raised"]).translate(_LOWERED))
    base = found[-1] if found and found[-1].end == match.start() else None
    if base is None or base.value != 10:
        found.append(Quantity(*match.span(), match.end(), Decimal(abs(exponent)), Decimal(1), "power"))
        return
    found.pop()
    ten = Decimal(1).scaleb(exponent)
    power = replace(base, end=match.end(), tail=match.end(), value=ten, step=ten)
    if found and _PRODUCT.fullmatch(match.string, found[-1].end, base.start):
        factor = found.pop()
        power = replace(power, start=factor.start, value=factor.value * ten, step=factor.step * ten)
    found.append(power)


def _share(text: str, left: Quantity, right: Quantity) -> Quantity:
    """Return the left of two numbers with what it shares with the right one: unit, noun, in a range the scale too."""
    if left.kind != "bare" or left.nouns or right.start - left.tail > _NEAR_CHARS:
        return left
    if _JOINED.fullmatch(text, left.tail, right.start):
        left = replace(left, kind=right.kind if right.kind in {"percent", "times"} else "bare", nouns=right.nouns)
    if right.step >= 1000 and left.value < 1000 and _RANGE.fullmatch(text, left.tail, right.start):
        left = replace(left, value=left.value * right.step, step=left.step * right.step)
    return left


# --- What sources hold ------------------------------------------------------------------------------------------------


class Figures:
    """The numbers that one source holds, by kind and by what they count."""

    def __init__(self, text: str) -> None:
        self._values: defaultdict[tuple[Kind, str | None], list[Decimal]] = defaultdict(list)
        """By kind and noun; "" is no noun, None any or none."""
        self._nouns: set[str] = set()
        self._named: set[str] = set()
        for each in quantities(text):
            self._named.add(each.name)
            for noun in each.nouns or [""]:
                self._add(each.value, each.kind, noun)
        for token in TOKEN.finditer(text):
            if token["name"] and not token["name"].isalpha():
                self._add_labels(token["name"])
            if token["k"]:
                self._add(_digits(token)[0].scaleb(-_SCALES[token["k"].casefold()]), "label")
        for word in map(fold, {*_WORD.findall(text)}):
            if word in _IMPLIED:
                self._add(*_IMPLIED[word])
        if Decimal(2) in self._values["times", None]:
            self._add(50, "percent")
        self._named.discard("")
        for values in self._values.values():
            values.sort()

    def _add(self, value: Decimal | str | int, kind: Kind, noun: str = "") -> None:
        self._nouns.add(noun)
        self._values[kind, noun].append(Decimal(value))
        self._values[kind, None].append(Decimal(value))

    def _add_labels(self, name: str) -> None:
        """Add the numbers of a name; by itself only one of several digits is told from a count, as in `CIFAR-10`."""
        for word, digits, scale in _LABEL.findall(name):
            self._named.add(fold(word) + digits + scale.casefold())
            self._add(digits, "label")
            if scale:
                self._add(Decimal(digits).scaleb(_SCALES[scale.casefold()]), "bare")
            elif len(digits) > 1:
                self._add(digits, "counted")

    def counts(self, quantity: Quantity) -> bool:
        """Tell whether the same things are counted here, by whatever number."""
        return not self._nouns.isdisjoint(quantity.nouns)

    def holds(self, quantity: Quantity) -> bool:
        """Tell whether a number is stated here, or one that it is the rounding of."""
        if quantity.kind in {"bare", "counted"} and quantity.name in self._named:
            return True
        nouns = [*self._nouns.intersection(quantity.nouns), ""] if self.counts(quantity) else [None]
        return any(self._has(quantity, kind, noun) for kind in _HELD_AS[quantity.kind] for noun in nouns)

    def _has(self, quantity: Quantity, kind: Kind, noun: str | None) -> bool:
        values = self._values.get((kind, noun), [])
        # A single digit is the rounding of too much, unless the unit is the same.
        is_rounded = kind == quantity.kind or quantity.value >= 10 * quantity.step
        slack = quantity.step / 2 if is_rounded else Decimal(0)
        index = bisect_left(values, quantity.value - slack)
        return index < len(values) and values[index] <= quantity.value + slack


_LEAST_WORD = 4
"""A smaller number in letters may sum up what a source lists; it is wrong only where the source counts otherwise."""


def figures_unsupported(text: str, sources: Sequence[Figures]) -> Iterator[tuple[int, int]]:
    """Yield the places of a text's numbers that no source holds, those within names excepted."""
    for each in quantities(text):
        is_sum = each.is_word and each.value < _LEAST_WORD and each.kind in {"bare", "counted"}
        if is_sum and not any(source.counts(each) for source in sources):
            continue
        if not any(source.holds(each) for source in sources):
            yield each.start, each.end
