"""Names: the words of an answer that look like a data set or a method -> the places of those that no source holds.

In goes the text of a source, which becomes its `Names`, or a sentence with the `Names` of all that may be named; out
come the places of the sentence's names that none of them holds. Nothing is refused, and nothing is changed.

A name is a word with a capital inside, or with a capital and a digit: `BERT`, `mAP`, `CIFAR-10`. Case, hyphens, spaces
and plural do not matter. A name is also held where a longer one begins or ends with it (`COCO`, `MSCOCO`), and where
its letters or parts begin words that follow one another (`CTR`: click-through rate; `ConvNet`). One that is held but
for its number, as `ResNet-101` by `ResNet-50`, is a wrong figure.

A model's output is a stranger's input: every repetition in the patterns is bounded, possessive, or unable to hold what
ends it, so that no text costs more than linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cached_property

from assistant.figures import LATIN, TOKEN, Figures, Quantity, fold
from assistant.text import STOP_WORDS

_ATOM = re.compile(rf"[{LATIN}]+|\d+(?:\.\d+)?")
"""Names are compared by these, so that hyphens and spaces do not matter."""
_NUMBERED = re.compile(rf"[{LATIN}]+(?:[-/.]?\d+[{LATIN}]*)*")
"""A name with the numbers that belong to it."""
_PART = re.compile("[A-Z]?[^A-Z]+|[A-Z]")
"""The parts of `ConvNet` and the letters of `CTR`."""
_JOINED_ATOMS = 5
"""So many atoms make a name at most; so far behind a name a number may belong to it, as in `CIFAR-10 and 100`."""
_LEAST_CHARS = 3
"""Fewer letters are a unit or a word of the trade as often as a name."""


class Names:
    """The words that one source holds, single and joined as names join them."""

    def __init__(self, text: str) -> None:
        self._atoms = list(_ATOM.finditer(text))
        self._words = [fold(atom[0]) for atom in self._atoms]
        self._joined: set[str] = set()
        self._numbered: set[str] = set()
        """Words right before a number, as in `top-5` and `ResNet 50`."""
        self._spelled: dict[str, bool] = {}
        for index, (atom, word) in enumerate(zip(self._atoms, self._words, strict=True)):
            behind = self._words[index + 1 : index + _JOINED_ATOMS]
            joined = word
            self._joined.add(joined)
            for each in behind:
                joined += each
                self._joined.add(joined)
            if not word[0].isdigit():
                self._joined.update([word + number for number in behind if number[0].isdigit()])
                if behind and behind[0][0].isdigit() and self._atoms[index + 1].start() <= atom.end() + 1:
                    self._numbered.add(word)

    @cached_property
    def _edges(self) -> set[str]:
        """Beginnings and ends of names."""
        edges: set[str] = set()
        for atom, word in zip(self._atoms, self._words, strict=True):
            if not word[0].isdigit() and _is_name(atom[0]):
                edges.update([word[:n] for n in range(_LEAST_CHARS, len(word))])
                edges.update([word[n:] for n in range(1, len(word) - _LEAST_CHARS + 1)])
        return edges

    @cached_property
    def _initials(self) -> tuple[str, str]:
        return (
            "".join(word[0] for word in self._words),
            "".join(word[0] for word in self._words if word not in STOP_WORDS),
        )

    def has(self, name: str) -> bool:
        """Tell whether a name, its atoms folded and joined, occurs here."""
        return name in self._joined

    def numbers(self, word: str) -> bool:
        """Tell whether a folded word stands right before a number here."""
        return word in self._numbered

    def spells(self, atom: str) -> bool:
        """Tell whether a name begins or ends one here, or its letters or parts begin words that follow one another."""
        if atom not in self._spelled:
            word = fold(atom)
            parts = [part.casefold() for part in _PART.findall(atom[: len(word)])]
            self._spelled[atom] = (
                word in self._edges
                or any(word in initials for initials in self._initials)
                or (len(parts) > 1 and self._begins(parts))
            )
        return self._spelled[atom]

    def _begins(self, parts: Sequence[str]) -> bool:
        rows = zip(*(self._words[n:] for n in range(len(parts))), strict=False)
        return any(all(map(str.startswith, row, parts)) for row in rows)


def names_unsupported(text: str, names: Sequence[Names], figures: Sequence[Figures]) -> Iterator[tuple[bool, int, int]]:
    """Yield (only its number is wrong, start, end) for the names of a text that no source holds."""
    atoms = list(_ATOM.finditer(text))
    words = [fold(atom[0]) for atom in atoms]
    inside = {at for token in TOKEN.finditer(text) for at in range(*token.span("name"))}
    index = 0
    while index < len(atoms):
        atom, word = atoms[index], words[index]
        is_number = word[0].isdigit()
        has_number = index + 1 < len(atoms) and words[index + 1][0].isdigit() and atoms[index + 1].start() in inside
        n_held = 0 if is_number else _longest(words[index : index + _JOINED_ATOMS], names)
        # That `A` is somewhere does not hold `A100`.
        is_letter = has_number and len(word) < _LEAST_CHARS and atom[0] != atom[0].lower()
        if n_held > is_letter:
            index += n_held
        elif is_number:
            if atom.start() in inside and not _holds_number(words[index - 1], word, names, figures):
                yield True, *atom.span()
            index += 1
        elif not is_letter and not (_is_name(atom[0], has_number=has_number) and _is_new(atom[0], names)):
            index += 1
        elif has_number and any(source.numbers(word) for source in names):
            yield True, *atoms[index + 1].span()
            index += 2
        else:
            core = _NUMBERED.match(text, atom.start())
            end = core.end() if core else atom.end()
            yield False, atom.start(), end
            while index < len(atoms) and atoms[index].start() < end:
                index += 1


def _is_new(atom: str, names: Sequence[Names]) -> bool:
    return not any(source.spells(atom) for source in names)


def _longest(words: Sequence[str], names: Sequence[Names]) -> int:
    """Return how many of these words, from the first on, make the longest name that a source has."""
    return next((n for n in range(len(words), 0, -1) if any(source.has("".join(words[:n])) for source in names)), 0)


def _holds_number(stem: str, digits: str, names: Sequence[Names], figures: Sequence[Figures]) -> bool:
    """Tell whether a source has a name with this number or, where it never numbers that name, the number at all."""
    if any(source.has(stem + digits) for source in names):
        return True
    label = Quantity(0, 0, 0, Decimal(digits), Decimal(1), "label")
    return not any(source.numbers(stem) for source in names) and any(source.holds(label) for source in figures)


def _is_name(atom: str, *, has_number: bool = False) -> bool:
    """Tell whether a run of letters looks like a name: by a capital inside, before a number by any."""
    rest = atom[not has_number :]
    return rest != rest.lower() and len(fold(atom)) >= _LEAST_CHARS
