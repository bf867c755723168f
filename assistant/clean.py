"""Text repair at every entrance: any string in, clean Unicode out.

`clean` is applied to each field of each record, to each question and to each turn of a history, so that no later
stage ever meets a lone surrogate, a control, an invisible or a bidirectional-override character. `repair_latex`
mends what web pages lose when they show LaTeX, and is applied to titles and abstracts alone.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 300_000
"""Longest text let in, in characters; an abstract beyond it is refused where it is read."""

_SPACE = re.compile(r"\s+")
UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1 controls; tab, line feed and return are white space
    "\u00ad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"  # zero-width, bidi, fillers, blanks, specials
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # formats of hieroglyphs, shorthand and music
    "\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff"  # lone surrogates; private characters
    "\U000e0000-\U000e0fff"  # tag characters and variation selectors: text that nobody sees
    "]"
)
"""Characters that nobody sees, or that turn others round or stand for nothing."""
_MARKS = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe20-\ufe2f]"
)
_STACKED = re.compile(f"({_MARKS}{{4}}){_MARKS}+")
"""Marks above and below a letter, of which no script needs more than four: a pile of them covers other lines."""


def drop_unseen(text: str) -> str:
    """Return `text` without characters that nobody sees and marks that cover other lines; white space stays."""
    return _STACKED.sub(r"\1", UNSEEN.sub("", text))


def clean(text: str, limit: int = MAX_CHARS, *, lines: bool = False) -> str:
    """Return `text` in NFC without invisible characters, white space folded, cut at `limit` characters.

    Mojibake, HTML entities and ligatures are mended by `ftfy`; quotes stay as they are written.

    Args:
        text: Any string, lone surrogates included.
        limit: Greatest number of characters returned.
        lines: Keep line breaks (a chat turn) instead of folding them into spaces.
    """
    text = UNSEEN.sub("", text[: 2 * limit])
    is_plain = text.isascii() and "&" not in text  # nothing that ftfy could mend: most texts, and it takes a while
    if not is_plain:
        import ftfy  # takes 40 ms, and the questions of most people hold nothing to mend

        text = ftfy.fix_text(text, uncurl_quotes=False, normalization="NFC", unescape_html="auto")
        text = UNSEEN.sub("", text)
    if lines:
        text = "\n".join(_SPACE.sub(" ", line).rstrip() for line in text.splitlines()).strip()
    else:
        text = _SPACE.sub(" ", text).strip()
    if is_plain:
        return text[:limit]
    return unicodedata.normalize("NFC", drop_unseen(unicodedata.normalize("NFC", text)))[:limit]


_SYMBOLS = {
    "cdot": "·", "times": "×", "sim": "~", "approx": "≈", "pm": "±", "leq": "≤", "geq": "≥", "le": "≤", "ge": "≥",
    "neq": "≠", "to": "→", "rightarrow": "→", "infty": "∞", "ell": "ℓ", "alpha": "α", "beta": "β", "gamma": "γ",
    "delta": "δ", "epsilon": "ε", "theta": "θ", "lambda": "λ", "mu": "μ", "pi": "π", "sigma": "σ", "tau": "τ",
    "phi": "φ", "omega": "ω", "Delta": "Δ", "Omega": "Ω", "Sigma": "Σ", "ie": "i.e.", "eg": "e.g.", "etal": "et al.",
    "etc": "etc.", "vs": "vs.", "wrt": "w.r.t.", "modelname": "our model", "ours": "ours",
}  # fmt: skip
"""LaTeX commands met in abstracts and what they print; `modelname` is the placeholder macro of many templates."""

_STYLED = re.compile(r"\\(?:emph|text(?:bf|it|sc|tt|rm|sf)?|url|href|mathrm|mathbf|mathit|underline|mbox)\{([^{}]*)\}")
_GROUP_STYLE = re.compile(r"\{\\?(?:bf|rm|it|sf|tt|em|sc) ([^{}]*)\}")
_BRACED_SYMBOL = re.compile(r"\{\\?(cdot|sim|times|approx|pm)\}?")
_GLUED_CDOT = re.compile(r"(?<=[A-Z])cdot(?=[A-Z])")
_CODE_POINT = re.compile(r"(?<![0-9A-Za-z])x(20(?:1[0-9]|2[26]))(?![0-9A-Za-z])")
_LOST_LEFT_RIGHT = re.compile(r"left([(\[])((?:(?!left[(\[]).){1,80}?)right([)\]])")
_LOST_ROOT = re.compile(r"\bO\(([a-zA-Z]) ?\1\)")
_COMMAND = re.compile(r"\\([A-Za-z]+)(~| (?=[a-z]))?")
_ACCENT = re.compile(r"\\([\"'`^~])\{?([A-Za-z])\}?")
_COMBINING = {'"': "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303"}
_ESCAPED = re.compile(r"\\([%&_#$])")
_MATHS = re.compile(r"\$(?!\s)[^$\n]{1,400}?(?<!\s)\$(?!\d)|\\\(.{1,400}?\\\)|\\\[.{1,800}?\\\]", re.DOTALL)
"""Maths that has its delimiters: its commands were not lost, and are nobody's names."""
_EMPTY_MATH = re.compile(r"\\\(([^\w\s])\\\)")


def repair_latex(text: str, title: str = "") -> str:
    r"""Mend the LaTeX residue of web pages: `{sim}13%`, `{cdot}`, `x2013`, `\ie`, `O(n n)`, `Oleft(n^2right)`.

    An unknown macro (`\overfeat`) is taken for the name it abbreviates and spelled as the title or the rest of the
    text spells it. A doubled variable inside `O()` is a lost root: nobody writes a square as `n n`.

    Args:
        text: A cleaned title or abstract.
        title: The paper's title, a further place to look up the spelling of a macro's name.
    """
    if "\\" in text or "{" in text:
        text = _STYLED.sub(r"\1", text)
        text = _GROUP_STYLE.sub(r" \1", text)
        text = _BRACED_SYMBOL.sub(lambda m: _SYMBOLS[m[1]], text)
        text = _drop_unopened(text)
    if "cdot" in text:
        text = _GLUED_CDOT.sub("·", text)
    if "x20" in text:
        text = _CODE_POINT.sub(lambda m: chr(int(m[1], 16)), text)
    if "left" in text:
        text = _LOST_LEFT_RIGHT.sub(r"\1\2\3", text)
    if "O(" in text:
        text = _LOST_ROOT.sub(r"O(\1√\1)", text)
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
        text = _ACCENT.sub(lambda m: unicodedata.normalize("NFC", m[2] + _COMBINING[m[1]]), text)
        maths = [found.span() for found in _MATHS.finditer(text)]
        text = _COMMAND.sub(lambda m: _spell(m, text, title, maths), text)
        text = _EMPTY_MATH.sub(r"\1", text)
    return _SPACE.sub(" ", text).strip()


def _drop_unopened(text: str) -> str:
    """Drop each `}` that closes nothing: `HyperZ{cdotZ{cdot}W}` has lost a dollar sign between its braces."""
    if "}" not in text:
        return text
    depth, kept = 0, []
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth >= 0:
            kept.append(character)
        depth = max(depth, 0)
    return "".join(kept)


def _spell(match: re.Match[str], text: str, title: str, maths: list[tuple[int, int]]) -> str:
    name, space = match[1], match[2]
    gap = " " if space else ""
    if name in _SYMBOLS:
        return _SYMBOLS[name] + gap
    if len(name) < 4 or any(start <= match.start() < end for start, end in maths):
        return match[0]
    as_written = re.compile(rf"(?<![\\\w]){re.escape(name)}(?!\w)", re.IGNORECASE)
    found = as_written.search(title) or as_written.search(text)
    return (found[0] if found else name) + gap
