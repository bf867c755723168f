"""Markup of publishers (JATS, HTML, MathML) -> plain text: sections keep their titles, formulas are written in a line.

What is no known tag stays text, so that `p<0.05` loses nothing. No entity of the text's own is expanded, nothing is
fetched, and whatever the markup is, some text comes back.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from assistant.clean import MAX_CHARS, drop_unseen

if TYPE_CHECKING:
    from lxml.etree import _Element

_BLOCKS = frozenset({
    "abstract", "abstracttext", "blockquote", "boxed-text", "br", "break", "dd", "def", "def-item", "def-list",
    "disp-formula", "disp-quote", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "list",
    "list-item", "ol", "p", "sec", "section", "table", "tbody", "td", "th", "title", "tr", "trans-abstract", "ul",
})  # fmt: skip
"""Elements that stand apart from the text around them."""
_TITLES = frozenset({"title", "h1", "h2", "h3", "h4", "h5", "h6"})
_INLINE = frozenset({
    "a", "abbrev", "alternatives", "b", "big", "bold", "code", "del", "em", "email", "emphasis", "ext-link",
    "fixed-case", "font", "i", "inf", "inline-formula", "inline-graphic", "ins", "italic", "kbd", "label", "mark",
    "math", "monospace", "named-content", "overline", "preformat", "private-char", "q", "roman", "s", "sans-serif",
    "sc", "small", "span", "strike", "strong", "styled-content", "sub", "sup", "target", "tex-math", "tt", "u",
    "underline", "uri", "var", "xref",
})  # fmt: skip
_UNSAID = frozenset({"inline-graphic", "graphic", "annotation", "annotation-xml", "script", "style", "object-id"})
"""Elements whose content is nothing to read."""

_MATHS = frozenset({
    "menclose", "mfenced", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mroot", "mrow",
    "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder",
    "munderover", "semantics",
})  # fmt: skip
_KNOWN = _BLOCKS | _INLINE | _UNSAID | _MATHS
_MAX_DEPTH = 200
"""Of elements within each other; the parser takes 256, and nobody means more than a dozen."""
_ATTRIBUTES = r"""(?:\s+[\w:.-]{1,60}\s*=\s*(?:"[^"<]*"|'[^'<]*'|[^\s"'<>=]+))*+\s*"""
_SPECIAL = re.compile(
    rf"<(?P<close>/?)(?P<prefix>(?:jats|mml|m)\d?:)?(?P<name>[a-zA-Z][\w.-]{{0,60}}){_ATTRIBUTES}(?P<empty>/?)>"
    r"|<!--(?:(?!<!--).)*?-->|<!\[CDATA\[(?P<data>(?:(?!<!\[CDATA).)*?)\]\]>|<|&(?:#?\w{1,32};)?",
    re.DOTALL,
)
_CLOSED = re.compile(rf"<(?:/(?:{'|'.join(sorted(_KNOWN))})|jats:[\w-]{{1,60}}[^<>]{{0,200}})>")
_DOCUMENT = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.DOTALL)
_BARE = re.compile(r"\W*(?:abstract|summary)\W*", re.IGNORECASE)
"""A heading that says nothing but what it heads."""
_CHARGE = re.compile(r"\d*[+−–-]+|st|nd|rd|th|tm|®|™")
"""What is raised and is read without being told so: the charge of an ion, the end of an ordinal number."""
_ONE = re.compile(r"[-+−]?[\w.,∞*′†]+")


def plain_text(markup: str) -> str:
    """Return the text of an abstract or title with markup.

    A section's title is put before its text, as in `Background: ...`, and left out where it is no more than
    "Abstract". What is raised is written after `^` (`10^-5`) unless it is read without (`Ca2+`, `4th`).
    """
    if ("<" not in markup and "&" not in markup) or len(markup) > 8 * MAX_CHARS:
        return markup
    text = _read(markup)
    return _read(text) if _CLOSED.search(text) else text  # it was escaped twice


def element_text(element: _Element) -> str:
    """Return the text of an element that was read already, as `plain_text` has it; `tail` is not part of it."""
    parts: list[str] = []
    _gather(element, parts)
    return _one_line("".join(parts))


def _read(markup: str) -> str:
    from lxml import etree

    opened: list[str] = []
    prepared = _SPECIAL.sub(partial(_prepared, opened), drop_unseen(markup))
    prepared += "".join(f"</{name}>" for name in reversed(opened))
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(f"<r>{prepared}</r>", parser)
    except (etree.LxmlError, ValueError):
        root = None
    return _one_line(re.sub(r"<[^<>]*>", " ", prepared)) if root is None else element_text(root)


def _prepared(opened: list[str], found: re.Match[str]) -> str:
    """Return a tag, `<` or `&` as XML wants it; `opened` are the elements that are not closed yet.

    What begins no known tag and names no character stands for itself. Elements are closed in their order.
    """
    name = (found["name"] or "").lower()
    if name and (found["prefix"] or name in _KNOWN):
        if found["close"]:
            at = len(opened) - opened[::-1].index(name) - 1 if name in opened else len(opened)
            closed, opened[at:] = opened[at:], []
            return "".join(f"</{each}>" for each in reversed(closed))
        if found["empty"] or name in {"br", "hr"}:
            return f"<{name}/>"
        if len(opened) == _MAX_DEPTH:
            return " "
        opened.append(name)
        return f"<{name}>"
    if found[0].startswith("<!--"):
        return ""
    text = html.unescape(found[0]) if found["data"] is None else found["data"]
    return html.escape(drop_unseen(text), quote=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _name(element: _Element) -> str:
    """Return an element's name without namespace; a comment and the like have none."""
    tag = element.tag
    return tag.rpartition("}")[2].rpartition(":")[2].lower() if isinstance(tag, str) else ""


def _gather(element: _Element, parts: list[str]) -> None:
    """Add what an element says to `parts`."""
    parts.append(element.text or "")
    names = [_name(child) for child in element]
    for child, name in zip(element, names, strict=True):
        if name and name not in _UNSAID and not (name == "math" and "tex-math" in names):
            _WAYS.get(name, _block if name in _BLOCKS else _gather)(child, parts)
        parts.append(child.tail or "")


def _text(element: _Element) -> str:
    parts: list[str] = []
    _gather(element, parts)
    return "".join(parts)


def _block(element: _Element, parts: list[str]) -> None:
    text, label = _text(element), element.get("Label")
    if not _BARE.fullmatch(text):
        parts += [" ", f"{label}: " if label else "", text, " "]


def _title(element: _Element, parts: list[str]) -> None:
    text = _one_line(_text(element)).rstrip(" :.")
    if text and not _BARE.fullmatch(text):
        parts += [" ", text, " " if text.endswith(("?", "!")) else ": "]


def _raised(element: _Element, parts: list[str]) -> None:
    text = _one_line(_text(element))
    before = next((part[-1] for part in reversed(parts) if part), " ")
    if text and (before.isalnum() or before in ")]") and not _CHARGE.fullmatch(text.lower()):
        text = f"^{_group(text)}"
    parts.append(text)


def _group(text: str) -> str:
    """Return a part of a formula as one thing."""
    return text if _ONE.fullmatch(text) or len(text) == 1 else f"({text})"


def _tex(element: _Element, parts: list[str]) -> None:
    """Add LaTeX as maths between dollars; what some publishers put around it is a whole document."""
    text = _text(element)
    inner = _DOCUMENT.search(text)
    core = _one_line(inner[1] if inner else text).strip("$ ")
    parts.append(f"${core}$" if core else "")


def _formula(element: _Element, parts: list[str]) -> None:
    parts.append(_line(element))


def _line(element: _Element) -> str:
    """Return MathML in one line; white space between its elements means nothing."""
    name = _name(element)
    if name in _SAID:
        return _SAID[name] or _text(element)
    inner = [_line(child) for child in element if _name(child) not in {"", *_UNSAID}]
    shape = _SHAPES.get(name, "")
    if shape and len(inner) == shape.count("{}"):
        return shape.format(_group(inner[0]) if name == "mfrac" else inner[0], *map(_group, inner[1:]))
    whole = "".join(inner)
    return {"msqrt": f"√{_group(whole)}", "mfenced": f"({whole})"}.get(name, whole)


_SAID: Mapping[str, str] = {"mi": "", "mn": "", "mo": "", "ms": "", "mtext": "", "mspace": " "}
"""Elements of MathML that hold text, and what stands for the one that has none."""
_SHAPES: Mapping[str, str] = {
    "msup": "{}^{}", "msub": "{}_{}", "msubsup": "{}_{}^{}", "mfrac": "{}/{}", "munder": "{}_{}",
    "munderover": "{}_{}^{}",
}  # fmt: skip
_WAYS: Mapping[str, Callable[[_Element, list[str]], None]] = {
    **dict.fromkeys(_TITLES, _title),
    "sup": _raised,
    "tex-math": _tex,
    "math": _formula,
}
