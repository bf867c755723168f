"""Question + conversation -> the text that is searched; no LLM is needed for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.clean import clean
from assistant.text import STOP_WORDS, words
from assistant.types import Turn

CARRIED_CHARS = 600
"""Of the last answer, what a follow-up takes along into the search."""

_LEANS = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|she|his|her|this|that|these|those|there|one|ones|same|both|either|neither|former|latter|other|others|else|above)\b"
    r"|^\W*(?:and|but|or|so|also|then|what about|how about|why|any|only|compared)\b",
    re.IGNORECASE,
)
_MARKER = re.compile(r"\s?\[\d{1,3}\]")


def searched_text(question: str, history: Sequence[Turn]) -> str:
    """Return what is searched for a question: itself, or with what it leans on when it continues a conversation.

    A question leans on its conversation when it points back (it, those, the other) or has few words of its own. It then
    takes along the last question and the beginning of the last answer.
    """
    own = [word for word in words(question) if word not in STOP_WORDS]
    if not history or (len(own) > 4 and not _LEANS.search(question)):
        return question
    last = {turn["role"]: turn["content"] for turn in history}
    carried = [last.get("user", ""), _MARKER.sub("", last.get("assistant", ""))[:CARRIED_CHARS], question]
    return " ".join(clean(each) for each in carried if each)
