"""JSON -> records: lines, arrays and replies of objects, each flattened to the fields of a paper by its shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from assistant.papers import Raw, Rejected
from assistant.sources.content import Content, Form
from assistant.sources.json_text import split
from assistant.sources.shapes import SHAPES, UnusableError, flatten, shape_of, unwrapped

_BEGINS = re.compile(r'[\s,]*(?:\[[\s,]*)?\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\})')
_LINE = re.compile(r'[ \t]*\{\s*"(?:[^"\\\n]|\\.)*"\s*:')
_KEY = re.compile(r'"([\w-]{1,60})"\s*:')


def read_json(content: Content) -> Iterator[Raw | Rejected]:
    """Read the records of a JSON text in any layout; each shape has its own fields, a plain object those it has."""
    for item in split(content.blocks()):
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            fields = flatten(item.fields)
        except UnusableError as error:
            yield Rejected(item.where, str(error), item.fields)
            continue
        yield item if fields is item.fields else Raw(item.where, fields)


def is_json(content: Content) -> bool:
    """Tell whether a content is JSON: it begins with an object or an array of them, or most of its lines do."""
    text = content.text_head
    if _BEGINS.match(text):
        return True
    lines = [line for line in text.split("\n")[:200] if line.strip()]
    return 2 * sum(_LINE.match(line) is not None for line in lines) > len(lines)


def form_of(content: Content) -> str | None:
    """Return the format of a JSON text by its first objects, None for what is no JSON."""
    if not is_json(content):
        return None
    for item in split([content.text_head]):
        if isinstance(item, Raw):
            shape = shape_of(unwrapped(item.fields))
            return shape.form if shape else "jsonl"
    keys = set(_KEY.findall(content.text_head))  # the first object is longer than what is looked at
    return next((shape.form for shape in SHAPES if shape.fits(keys)), "jsonl")


def _has_form(name: str, content: Content) -> bool:
    return form_of(content) == name


FORMS = {
    name: Form(partial(_has_form, name), read_json)
    for name in ("arxiv", "openalex", "s2", "crossref", "csl", "europepmc", "hf-papers", "jsonl")
}
