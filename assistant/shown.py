"""Text of users, models and papers -> text that is shown, never run: escaped markdown, or HTML with its maths.

Markdown is for the conversation, whose reader of markdown is Gradio's, and for notebooks; HTML is for all else. No
address in a text is fetched or linked; maths is set, unless it reaches beyond its formula.
"""

from __future__ import annotations

import functools
import html as _html
import re
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING

from assistant.clean import drop_unseen

if TYPE_CHECKING:
    from markupsafe import Markup

    from assistant.types import Paper

_MATHS = r"(?P<maths>\$\$.{1,800}?\$\$|\$(?![\s$])[^$\n]{1,400}?(?<!\s)\$(?!\d)|\\\(.{1,400}?\\\)|\\\[.{1,800}?\\\])"
_CODE = (
    r"(?P<code>^(?P<lead>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"\n(?:(?:.*?\n)? *(?P=fence)[`~]* *$|.*\Z)|(?<![\\`])(?P<tick>`+)(?!`)[^\n]+?(?<!`)(?P=tick)(?!`))"
)
_KEPT, _KEPT_FORMATTED = re.compile(_MATHS, re.DOTALL), re.compile(f"{_MATHS}|{_CODE}", re.DOTALL | re.MULTILINE)
_ACTIVE = re.compile(
    r"[<>&@$]|\](?=[(\[:])|\[(?=[ x]\])|!(?=\[|\Z)|(?<=:)//|www(?=\.)|%(?=%%LATEX)|\\(?=[()\[\]<>&@$!])",
    re.IGNORECASE,
)
_FORMATTING = re.compile(r"[\\<>&\[\]!@$%*_`~#|]|(?<=:)//|www(?=\.)", re.IGNORECASE)
_ACTIVE_IN_CODE = re.compile(
    r"<(?=[a-z/!?])|(?<=[\w.+-])@(?=\w)|\](?=[(\[:])|\[(?=[ x]\])|!(?=\[)|(?<=:)//|www(?=\.)|%(?=%%LATEX)"
    r"|\\(?=[()\[\]])",
    re.IGNORECASE,
)
"""What is acted on in prose. It is broken up in code, too: where code begins, readers of markdown do not agree."""
_LANGUAGE = re.compile(r"(?!mermaid)[a-z][a-z0-9+#-]{0,15}", re.IGNORECASE)
_UNSAFE_MATHS = re.compile(
    r"\\(?:[()\[\]]|[a-zA-Z]*@|html|(?:[a-z]*(?:box|char|color|command|def|kern|lap|let|message|phantom|skip|space)"
    r"|above|cr|genfrac|href|includegraphics|mathchoice|newline|rule|show|smash|TextOrMath|tiny|url|vcenter"
    r"|(?:blue|gold|gray|green|kaBlue|kaGreen|maroon|mint|orange|pink|purple|red|teal)[A-I]?)(?![a-zA-Z]))"
)
"""Commands that reach beyond their formula or hide a part of it, and delimiters inside one."""
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%")
"""In maths, what would hide the rest of its line."""
_NESTED = re.compile(r"^(?:[ \t]*+(?:[-*+]|\d{1,9}[.)])[ \t]++){8}", re.MULTILINE)
"""Lists within lists on one line, so many that nobody means them: a thousand of them stop the browser."""


def _around(text: str, kept: re.Pattern[str], escape: Callable[[str], str], set_maths: Callable[..., str]) -> str:
    """Return `text` escaped but for its maths, which is set, and its code."""
    out, end = "", 0
    for found in kept.finditer(text):
        out += escape(text[end : found.start()])
        out += set_maths(found["maths"], escape) if found["maths"] else _code(found)
        end = found.end()
    return out + escape(text[end:])


def _code(found: re.Match[str]) -> str:
    """Return code with nothing in it to act on; behind an opening fence no words but a language, for none are shown."""
    code, info = found[0], (found["info"] or "").strip()
    if info and not _LANGUAGE.fullmatch(info):
        indent = " " * len(found["lead"])
        code = f"{found['lead']}{found['fence']}\n{indent}{info}{found[0][found.end('info') - found.start() :]}"
    return _ACTIVE_IN_CODE.sub("\\g<0>\u200b", code)


def _katex(text: str, escape: Callable[[str], str]) -> str:
    r"""Return maths between `\(` and `\)` or `\[` and `\]`, the only forms that are set: a lone dollar is a dollar."""
    display = text.startswith(("$$", "\\["))
    body = text[2:-2] if display or text.startswith("\\") else text[1:-1]
    if _UNSAFE_MATHS.search(body):
        return escape(text)
    body = _html.escape(_COMMENT.sub(r"\1\\%", body))
    return f"\\[{body}\\]" if display else f"\\({body}\\)"


def _entities(match: re.Match[str]) -> str:
    # Maths is looked for once more in the finished page: a backslash must not stand right before a bracket.
    return "".join(f"&#{ord(each)};" for each in match[0]).replace("&#92;", "&#92;&#8203;")


def markdown(text: str, *, formatted: bool = False) -> str:
    """Return markdown that shows `text` word for word; `formatted`: with its own lists, tables, emphasis and code."""
    text = drop_unseen(text)
    if formatted:
        text = _NESTED.sub("\\g<0>\u200b", text)
        return _around(text, _KEPT_FORMATTED, lambda prose: _ACTIVE.sub(_entities, prose), _katex)
    text = re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE)  # four spaces would make it code
    return _around(text, _KEPT, lambda prose: _FORMATTING.sub(_entities, prose), _katex)


def kept(text: str) -> list[tuple[int, int]]:
    """Return where the code and the maths of a formatted text stand."""
    return [found.span() for found in _KEPT_FORMATTED.finditer(text)]


# --- HTML -------------------------------------------------------------------------------------------------------------

_MATHML = re.compile(
    r"(?:[^<>]|</?(?:math|m(?:row|i|o|n|s|text|space|sup|sub|subsup|over|under|underover|frac|sqrt|root|table|tr|td"
    r"|style|padded|enclose|menclose|multiscripts|prescripts|none))"
    r"(?: (?:xmlns|display|mathvariant|stretchy|fence|form|separator|accent|movablelimits|minsize|maxsize|rowspacing"
    r"|columnalign|columnspacing|linethickness|lspace|rspace|displaystyle|scriptlevel)=\"[^\"<>]*\")* ?/?>)*+"
)
"""What a formula may be made of: nothing that loads, links, colours, or stands elsewhere on the page."""


def html(text: object) -> Markup:
    """Return HTML that shows `text` word for word, its maths set; white space is one space."""
    from markupsafe import Markup

    line = " ".join(drop_unseen(str(text)).split())
    return Markup(_around(line, _KEPT, _html.escape, _mathml))  # noqa: S704 - escaped piece by piece


@functools.lru_cache(4096)
def _mathml(text: str, escape: Callable[[str], str]) -> str:
    """Return maths as MathML, which browsers set by themselves; as it was written where it cannot be set."""
    from latex2mathml.converter import convert

    display = text.startswith(("$$", "\\["))
    body = text[2:-2] if display or text.startswith("\\") else text[1:-1]
    if _UNSAFE_MATHS.search(body):
        return escape(text)
    body = _COMMENT.sub(r"\1\\%", body).replace("<", r"\lt ").replace(">", r"\gt ")
    try:
        made = convert(body, display="block" if display else "inline")
    except Exception:  # noqa: BLE001 - it has no error of its own, and any text may come here
        return escape(text)
    return made if _MATHML.fullmatch(made) else escape(text)


# --- Tables and links -------------------------------------------------------------------------------------------------

_RULE = re.compile(r" {0,3}\|?(?: *:?-+:? *\|)* *:?-+:? *\|? *")
"""The line below the head of a table."""


def widen_tables(text: str) -> str:
    """Give each table as many columns as its longest row: a cell beyond those of its head would not be shown."""
    lines = text.split("\n")
    for i in range(1, len(lines)):
        head, rule = lines[i - 1 : i + 1]
        if "|" in head + rule and _RULE.fullmatch(rule):
            longest = max(map(_bars, takewhile(str.strip, lines[i + 1 :])), default=0)
            missing = longest - _bars(head)
            if missing > 0:
                lines[i - 1] = f"{head.rstrip().removesuffix('|')}|{' |' * missing}"
                lines[i] = f"{rule.rstrip().removesuffix('|')}|{'---|' * missing}"
    return "\n".join(lines)


def _bars(row: str) -> int:
    """Return how many bars part and frame the cells of a row."""
    row = row.strip()
    return len(re.findall(r"(?<!\\)\|", row)) + (not row.startswith("|")) + (not re.search(r"(?<!\\)\|$", row))


def links(paper: Paper) -> list[tuple[str, str]]:
    """Return where a paper can be read, as labels and addresses; http and https alone."""
    known = [
        ("Page", paper.url, r"https?://[^\s\"'<>\\]+", "{}"),
        ("DOI", paper.doi, r"10\.\d{4,9}/[^\s\"'<>\\]+", "https://doi.org/{}"),
        ("arXiv", paper.arxiv_id, r"[\w.-]+(?:/\d+)?", "https://arxiv.org/abs/{}"),
    ]
    return [(name, form.format(value)) for name, value, valid, form in known if value and re.fullmatch(valid, value)]
