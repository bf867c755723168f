"""The forms that the gate knows, as patterns: markers, inventions, placeholders, statements, and where units end.

In goes the text of a unit; out come matches, the numbers that a marker names, and the text without the traces of what
was dropped. What is refused is named here (markers of no number, inventions, lists of references); it is the gate that
asks the evidence and drops. A new form goes here, with a line in `tests/data/markers.jsonl`.

A model's output is a stranger's input: every repetition in the patterns is bounded, possessive, or unable to hold what
ends it, so that no text costs more than linear time.
"""

from __future__ import annotations

import re

from assistant.clean import UNSEEN
from assistant.prompt import REFUSAL

# --- Markers, in every form that models write -------------------------------------------------------------------------

_NOUN = (
    r"(?:(?:source|paper|abstract|ref|reference|evidence|passage|doc|document|citation|cite|see)s?+\.?+:?+\s*+)?+[#^]?+"
)
_NUMBERS = rf"{_NOUN}\d{{1,3}}(?!\d)(?:\s*+(?:[,;](?:\s?and\b)?|[|&–—-]|and\b|to\b)\s*+{_NOUN}\d{{1,3}}(?!\d))*+"
_NOTE = r"(?:(?:†|:\s|,\s?(?:pp?|tab|table|fig|figure|sec|section|eq|lines?)\b)[^\[\]【】\n]{0,120})?"
_FORMS = (
    rf"\^?\[\s*+<{_NUMBERS}(?:\][–—-]\[\d{{1,3}})?+>\s*+{_NOTE}\](?:\([^()\s]{{0,200}}\))?\^?"
    rf"|\[\s*+\[\s*+<{_NUMBERS}(?:\s*+\][\s,;]*+\[\s*+{_NUMBERS})*+>\s*+\]\s*+\](?:\([^()\s]{{0,200}}\))?"
    rf"|[【［]\s*+<{_NUMBERS}>\s*+{_NOTE}[】］]|\x3csup\x3e\s*+\[?<{_NUMBERS}>\]?\s*+\x3c/sup\x3e|\\cite\{{<{_NUMBERS}>\}}"
    rf"|\(\s*+(?:see\s)?(?=[a-z])(?!see)<{_NUMBERS}>\s*+\)"
)
_MATHS_FORMS = rf"\\\[\s*+<{_NUMBERS}>\s*+\\\]|\$\^\{{?\[<{_NUMBERS}>\]\}}?\$"
MARKER, MATHS_MARKER = (
    re.compile(forms.replace("<", "(").replace(">", ")"), re.IGNORECASE) for forms in (_FORMS, _MATHS_FORMS)
)
ROUND = re.compile(r"(?<=[^\s(\[{,;:])(\s?)\((\d{1,2}(?:\s?[,–-]\s?\d{1,2})*+)\)(?=\s*+(?:[.,;:!?|*”\"。，；]|$))")
LABEL = re.compile(
    r"(?:\w|\b(?:\w|(?:eq|equation|tab|table|fig|figure|sec|section|step|stage|phase|case|option|type|class|level|grade"
    r"|algorithm|theorem|lemma|appendix|part|item|version)s?\.?|one|two|three|four|five|six|seven|eight|nine|ten)\s)$",
    re.IGNORECASE,
)
"""Before a number in round brackets: what makes it a label or an argument."""
RAISED = re.compile(r"(?<=\S)([⁰¹²³⁴-⁹]{1,6}+(?:[,⁻][⁰¹²³⁴-⁹]{1,2}+)*+)(?=[\s.,;:!?)\]*|”\"。，]|$)")
RAISED_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
POWER = re.compile(
    r"(?:[^\w.,;:!?”’\"'*]|[\d_]|(?<![^\W\d_])[^\W\d_]{1,2}|(?<![^\W\d_])(?![a-z]{3})[^\W\d_]{3}"
    r"|\b(?:log|sin|cos|tan|exp|pixels?|met(?:er|re)s?|inch|feet|foot))$"
)
"""Before raised digits: a symbol, a unit, a function; they are an exponent."""
BROKEN = re.compile(
    r" ?[\[【［](?:[\s^#\d,;–-]{0,60}$|\d{1,3}(?!\w)(?![^\[\]\n]{0,200}[\])】］]))"
    r"|(?<=[^\W\d_]) \d{1,3}\](?=\s*+(?:[.,;:!?]|$))|(?<![\w\])}])\[[\s^#,;]{0,20}\]|【\s{0,20}】"
)
"""A marker without its end, without its beginning, without a number."""
BRACKET = re.compile(r"\[(\s*+\d[\d\s.,;:–-]{0,60})\]")

_PAIR = re.compile(r"\s*(\d{1,3})\s*[,;]\s*(\d{1,3})\s*")
_INTERVAL = re.compile(
    r"(?:\b(?:interval|in the range|range of|between|scaled to|normali[sz]ed to)|∈)\s?$", re.IGNORECASE
)
_INTERVAL_FROM_0 = re.compile(r"\b(?:in|within|into|to|over|from|of|on|range)\s$", re.IGNORECASE)
"""Before two numbers in brackets that are the ends of an interval; no evidence has the number 0."""

# --- What models invent -----------------------------------------------------------------------------------------------

REFUSES = re.compile("(?i:" + REFUSAL.replace("_", r"\\?_") + ")|" + REFUSAL.replace("_", " "))
FOREIGN = re.compile(
    r"!\[(?!\s*\^?\d+\s*\])[^\]\n]{0,300}\](?:\([^)\n]{0,500}\)|\[[^\]\n]{0,100}\])"
    r"|</?(?:a|img|iframe|video|audio|link)\b[^<>]{0,500}>"
    r"|^[ \t]?\[[^\]\n]{1,100}\]:[ \t]?<?(?:https?:|www\.|[/#])[^\n]*+",
    re.IGNORECASE | re.MULTILINE,
)
"""Pictures, HTML that loads or links, definitions of links."""
LINK = re.compile(r"\[([^\[\]\n]{0,300})\]\(\s?((?:[^()\n]|\([^()\n]{0,200}\)){0,500}+)\)")
_ACTING = (
    "a|applet|area|audio|base|bgsound|body|button|canvas|details|dialog|embed|fieldset|form|frame|frameset|head|html"
    "|iframe|image|img|input|isindex|label|link|listing|map|marquee|math|meta|noembed|noframes|noscript|object|optgroup"
    "|option|param|picture|plaintext|portal|script|select|source|style|svg|template|textarea|title|track|video|xmp"
)
ACTIVE = re.compile(
    rf"<(?=/?(?:{_ACTING})(?:[\s/>]|$)|[!?]|[a-z][\w:-]*\s[^<>]{{0,500}}[=>]|[a-z][a-z0-9+.-]{{1,31}}:|[^\s<>@]{{1,64}}@)"
    r"|!(?=\[)|\](?=[(:])|[\ue100-\ue4ff](?=\()"
    r"|^(?:[ \t>]|[*+-][ \t]|\d{1,9}[.)][ \t])*+[\ue100-\ue4ff](?=:)",
    re.IGNORECASE,
)
"""Where a space keeps readers of markdown from acting on what is left of pictures, links, definitions and HTML."""
WEB = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,15}://|\bwww\.|\b(?:javascript|vbscript|file|data:[a-z]+/)[:\w])[^\s<>\"'`{}|]++",
    re.IGNORECASE,
)
"""An address in code or maths."""
_PARTICLES = r"(?:[A-Z]\. ?){0,2}(?:(?:van|von|de|der|den|di|da|la|le|ter|dos) ){0,2}"
_NAME = rf"{_PARTICLES}(?![A-Z\d-]{{2,30}}\b)[A-ZÀ-ÖØ-ÞĀ-Ž][\w’'-]{{1,30}}+"
_MORE = rf"(?:(?:, {_NAME}){{0,5}},? (?:and|&) {_NAME}|,? et al\.?)"
_YEARS = r"(?:19|20)\d\d[a-z]?(?:, ?(?:19|20)\d\d[a-z]?)*+(?!\d)"
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
_VERB = r"(?:show|propos|introduc|report|find|found|argu|demonstrat|present|describ|suggest|claim|observ)"
AUTHOR_YEAR = re.compile(
    rf"([(\[;]\s?(?:see also |see |e\.g\.,? |cf\. |by )?)(?!{_MONTH})({_NAME})(?:{_MORE}?,|{_MORE}) ?{_YEARS}"
    rf"(?=\s?[)\];,:])|(\[)({_NAME}) {_YEARS}(?=\])"
)
NARRATIVE = re.compile(
    rf"(?<![\w.-])({_NAME})(?:,? et al\.?,? ?(?:[(\[]{_YEARS}[)\]]|{_YEARS})"
    rf"|{_MORE}? \({_YEARS}\)(?= (?:have |had |first |also )?{_VERB}))"
)
REFERENCES = re.compile(
    r"\W*+(?:\d{1,2}[.)]\s)?(?:(?:the|list of|full|key|cited)\s)*+(?:references?|reference list|sources?|bibliography"
    r"|works cited|citations?|literature|footnotes|quellen|literaturverzeichnis|références|bibliographie|referencias"
    r"|fuentes|bibliografía|参考文献)(?:\s(?:list|used|cited))?+(?:\W*$|[\s*_]*+[:：][\s*_]*+"
    rf"(?=[\[(\d<•-]|https?:|www\.|doi|arxiv|(?-i:{_NAME}(?:,? et al|, [A-Z]\.|,? (?:and|&) {_NAME}))))",
    re.IGNORECASE,
)
ENTRY = re.compile(r"(?:[-*•>]\s)?\**(?:\^?\[\^?\d{1,3}\]\**(:?)\.?|([⁰¹²³⁴-⁹]{1,3}))\s(.+)", re.DOTALL)
AUTHORS = re.compile(r"\bet al\b|\b[A-Z]\.,? (?:and |& )?[A-Z]")
DATED = re.compile(r"\b(?:19|20)\d\d\b|https?:")

# --- Placeholders, and traces of what was dropped ---------------------------------------------------------------------

HIDDEN = re.compile(f"\r|{UNSEEN.pattern}")
"""What nobody sees, and the private characters, which are placeholders here."""
GONE, MARK, KEEP = "\ue000", 0xE100, 0xE500
"""Placeholders: of what was dropped, of marker n, of the n-th code or maths of a unit (from `KEEP` on)."""
PLACED = re.compile("([\ue100-\uf8ff])")
CONTENT = re.compile("[^\\W_]|[\ue100-\uf8ff]")
_GONE_ROW = re.compile(rf"{GONE}(?:(?:[\s,;&]|and\b)*+{GONE})++")
_HOLLOW = re.compile(
    rf"[(\[](?:[\s,;:&.]|{GONE}|(?:see|also|and|e\.g|cf|in|at|via|from|doi|arxiv|link|url|code|available)\b)*+[)\]]"
    rf"|(?:\*{{1,3}}|_{{1,3}}|[“\"])\s?{GONE}\s?[*_”\"]{{1,3}}",
    re.IGNORECASE,
)
_GONE_ALONE = re.compile(
    rf"(?<=[(\[]){GONE}[\s,;:]*+|[ ]?{GONE}\s?(?:[,;&]|and\b)(?=\s?[\ue100-\ue4ff])"
    rf"|(?:\s?[,;&]|\sand\b)?\s?{GONE}(?=\s?(?:[.,;:!?)\]]|$))|[ ]?{GONE}(?!\w)|{GONE}"
)
SPACES = re.compile(r"[ \t]+")
INDENT = re.compile(r"[ \t]*+$")

# --- Figures and statements -------------------------------------------------------------------------------------------

UNCHECKED = re.compile(
    r"^\s*+(?:[-*+>•]\s)?\**\d{1,3}[.)]\s|\(\d{1,2}\)|\[\d++(?![.,]\d)"
    r"|\b(?:source|paper|abstract|table|fig|figure|section|equation|eq)s?\.?\s\d++(?![.,]?\d)",
    re.IGNORECASE,
)
"""Numbers that count list items or point to a place; one right behind `[` was left by no marker."""
_WORD_OR_SIGN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")

# --- Units: where a stream may be cut ---------------------------------------------------------------------------------

INK = re.compile(r"\S")
HEADS = "`~|#>•-*+–[0123456789"
WHOLE_LINE = re.compile(r"[|#>•]|[-*+–]\s|\d{1,3}[.)]\s|\[\^?\d{1,3}\]:?\s")
FENCE = re.compile(r"(`{3,}+)[^`\n]*+$|(~{3,}+)[^\n]*+$", re.MULTILINE)
POINT = re.compile(
    r"(?P<kept>`+|(?<!\\)\$\$?|\\[(\[])|(?P<stop>(?:[.!?…।؟]+|[。！？]+)[)\"'”’»*_\]」』）]*)|(?P<line>\n)"
)
KEPT = re.compile(
    r"(?<![\\`])(`+)(?!`)(?:(?!'')[^\n]){1,400}?(?<!`)\1(?!`)|\\\((?:(?!\\\()[^\n]){1,400}?\\\)"
    r"|(?<![\\$])\$(?![\s$])(?:(?!\s\[\d)[^$\n]){1,400}?(?<![\s\\])\$(?![\d$])"
    r"|\$\$(?:(?!\n[ \t]{0,9}\n).){1,2000}?\$\$|\\\[(?!\s?\d{1,3}\])(?:(?!\n[ \t]{0,9}\n|\\\[).){1,2000}?\\\]",
    re.DOTALL,
)
BLANK_LINE = re.compile(r"\n[ \t]{0,9}\n")
LATEX_QUOTE = re.compile(r"``([^`\n]{1,300}?)''")
OPENERS = "[【［(^<\\$⁰¹²³⁴⁵⁶⁷⁸⁹"
TRAILING = re.compile(
    rf"(?:\s?(?:{_FORMS}|{_MATHS_FORMS}|\(\d{{1,2}}\)(?=\s*$)|[⁰¹²³⁴-⁹]{{1,6}}+(?=[\s.,;]|$)))*+".replace(
        "<", "(?:"
    ).replace(">", ")"),
    re.IGNORECASE,
)


def numbers(text: str) -> list[int]:
    """Return the numbers that a marker names; `2-4` is 2, 3, 4."""
    out: list[int] = []
    for low, high in re.findall(r"(\d{1,3})(?:\]?\s*+(?:-|–|—|\bto\b)[^\d,;&]*+(\d{1,3}))?", text):
        a, b = int(low), int(high or low)
        out.extend(range(a, b + 1) if a <= b < a + 50 else [a, b])
    return out


def is_interval(before: str, numbers: str) -> bool:
    """Tell whether two numbers in brackets are an interval, by the words before them."""
    pair = _PAIR.fullmatch(numbers)
    if not pair or int(pair[1]) >= int(pair[2]):
        return False
    return bool(_INTERVAL.search(before) or (int(pair[1]) == 0 and _INTERVAL_FROM_0.search(before)))


def tidy(text: str) -> str:
    """Remove what was dropped with the brackets, commas and spaces that served it alone."""
    if GONE not in text:
        return text
    text = _GONE_ROW.sub(GONE, text)
    for _ in range(2):
        text = _HOLLOW.sub(lambda match: GONE if GONE in match[0] else match[0], text)
    return _GONE_ALONE.sub("", text)


def states(text: str) -> bool:
    """Tell whether a unit states something: it is no heading, table row, code, question or lead-in."""
    leads = text.startswith(("#", "|", "```", "~~~")) or text.endswith((":", "?", "**"))
    return not leads and len(_WORD_OR_SIGN.findall(text)) > 3


def closes(line: str, fence: str) -> bool:
    """Tell whether a line closes a block of code that such a fence opened."""
    line = line.strip()
    return line.startswith(fence) and not line.strip(fence[0])
