"""Question + conversation -> the text that is searched: by rules, and with an LLM by one call that rewrites it.

A question that stands by itself is searched as it is, whatever was said before: what it does not need would only lead
away from it. One that leans on its conversation takes along what it points at: the question that opened the topic, and
the beginning of the answers, or the one sentence that it means ("the second one").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.abstain import ABSTENTIONS, names
from assistant.clean import clean
from assistant.prompt import Texts, break_turn_marks, make_fence
from assistant.text import STOP_WORDS, words
from assistant.types import Turn

CARRIED_CHARS = 400
"""Of an answer, what a follow-up takes along into the search."""
TURNS, TURN_CHARS = 6, 1_000
"""Of a conversation, what an LLM sees to rewrite a question: the last turns, each cut."""
REWRITTEN_CHARS = 400
"""A longer rewriting is no question."""

_POINTS_BACK = re.compile(
    r"""\b(?:
      it|its|itself|they|them|their|theirs|he|him|his|she|her|hers|this|these|those|such|both|either|neither
    | former|latter|others|else
    | the\ (?:same|others?|authors?|papers?|methods?|models?|approach|work|study|results?|\w+\ ones?)
    | that\ (?:one|paper|method|model|approach|work|case|really|good|better|worse|much|also|true)
    | (?:is|was|does|did|do|of|for|about|by|with|than|to|on|like|but|why)\ that
    | (?:the|any)\ (?:first|second|third|fourth|fifth|last|two|three)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_GOES_ON = re.compile(
    r"^\W*(?:and|but|or|so|also|then|what about|how about|why|any|only|compared|same|really)\b", re.IGNORECASE
)
_LEAVES = re.compile(
    r"""^\W*(?:now\ |but\ )?(?:something|an?|on|to)\s+(?:\w+\s+)?(?:else|different|other|another|new)\b
        (?:\s\w+)?\s?[:,.-]
    | \b(?:another|different|new)\ (?:topic|question|subject)\b | \bchange\ (?:of\ )?(?:the\ )?(?:topic|subject)\b
    | ^\W*(?:by\ the\ way|unrelated)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OWN_TOPIC = 3
"""A question with so many content words that the conversation did not hold has a topic of its own."""
_ASPECTS = frozenset(
    """ablation ablations accuracy achieve approach author authors available baseline baselines batch benchmark
    benchmarks better bigger code compare compared comparison compute computation conclusion conclusions cost
    costs data dataset datasets detail details difference differences drawback drawbacks easy error example
    examples experiment experiments explain fast faster find findings finding flops gain gains get good hard
    help hours idea improve improvement inference labels latency less limitation limitations long lose loss main
    many mean memory method methods metric metrics model models more much need needed number numbers one
    parameters people perform performance please precision problem propose proposed prove quality really reason
    recall report reported result results runtime same say score scores show shown size slow slower small
    smaller speed step steps suggest surprising task tasks tell test tested time train trained training true try
    tried two type used weakness weaknesses well why work works worse year""".split()  # noqa: SIM905 - a list of quoted words reads worse
)
"""Words that ask for a side of a topic and name none."""
_ORDINALS = {
    **{word: number for number, word in enumerate(("first", "second", "third", "fourth", "fifth"), 1)},
    "former": 1, "latter": 2,
}  # fmt: skip
_POINTED = re.compile(
    rf"\b({'|'.join(_ORDINALS)})\b|\[(\d{{1,2}})\]|\b(?:paper|source|number) (\d{{1,2}})\b", re.IGNORECASE
)
_MARKER = re.compile(r"\s?\[\d{1,3}\]")
_MARKED = re.compile(r"[^.!?\n\[]*(?:\[\d{1,3}\])*[^.!?\n\[]*\[(\d{1,3})\]")
"""A sentence, up to a marker in it."""


def leans(question: str, history: Sequence[Turn]) -> bool:
    """Tell whether a question needs its conversation to be understood.

    It does when it points back (it, those, the second one), goes on (and, what about) or asks for a side of a topic
    that it does not name (how many parameters?); unless it says that it leaves the topic, or goes on with three words
    or more that the conversation did not hold.
    """
    if not history or _LEAVES.search(question):
        return False
    if _POINTS_BACK.search(question):
        return True
    own = _content(question)
    said = {word for turn in history for word in words(turn["content"])}
    fresh = [word for word in own if word not in said]
    if _GOES_ON.search(question):
        return len(fresh) < _OWN_TOPIC
    return not own and not names(question)


def searched_text(question: str, history: Sequence[Turn]) -> str:
    """Return what is searched for a question: itself, or with what it takes along when it leans on its conversation."""
    if not leans(question, history):
        return question
    opening = _opening(history)
    told = [turn["content"] for turn in history[opening:] if turn["role"] == "assistant"]
    told = [text for text in told if text not in ABSTENTIONS.values()]
    meant = _meant(question, told[-1]) if told else ""
    if meant:
        told = [meant]
    elif _brings_name(question, history[opening:]) and not _POINTS_BACK.search(question):
        told = []
    asked = history[opening]["content"] if history[opening]["role"] == "user" else ""
    carried = [asked, *(_MARKER.sub("", text)[:CARRIED_CHARS] for text in dict.fromkeys(told[:1] + told[-1:]))]
    return " ".join(clean(each) for each in (*carried, question) if each)


def rewrite_messages(question: str, history: Sequence[Turn], texts: Texts) -> list[dict[str, str]]:
    """Return the messages that ask an LLM to write a question so that it stands by itself."""
    turns = [f"{turn['role']}: {_MARKER.sub('', turn['content'])[:TURN_CHARS]}" for turn in history[-TURNS:]]
    said, question = break_turn_marks("\n".join(turns)), break_turn_marks(question)
    fence = make_fence(question, said)
    return [
        {"role": "system", "content": texts["system"].substitute(fence=fence)},
        {"role": "user", "content": texts["user"].substitute(fence=fence, conversation=said, question=question)},
    ]


def read_rewriting(text: str) -> str | None:
    """Return the rewritten question in a model's reply; None when it is empty, too long or several lines."""
    lines = [clean(line).strip("\"'“”` ") for line in text.strip().splitlines() if line.strip()]
    if len(lines) != 1 or len(lines[0]) > REWRITTEN_CHARS or not any(map(str.isalnum, lines[0])):
        return None
    return lines[0]


def _opening(history: Sequence[Turn]) -> int:
    """Return where the topic began: the last question that did not lean on those before it."""
    asked = [i for i, turn in enumerate(history) if turn["role"] == "user"]
    return next((i for i in reversed(asked) if not leans(history[i]["content"], history[:i])), 0)


def _meant(question: str, answer: str) -> str:
    """Return the sentences of an answer that a question means by number; empty when it names none of them."""
    wanted = set()
    for match in _POINTED.finditer(question):
        wanted.add(_ORDINALS[match[1].casefold()] if match[1] else int(match[2] or match[3]))
    return " ".join(match[0].strip() for match in _MARKED.finditer(answer) if int(match[1]) in wanted)


def _brings_name(question: str, turns: Sequence[Turn]) -> bool:
    said = {word for turn in turns for word in words(turn["content"])}
    return any(word not in said for name in names(question) for word in words(name))


def _content(question: str) -> list[str]:
    return [word for word in words(question) if word not in STOP_WORDS and word not in _ASPECTS and not word.isdigit()]
