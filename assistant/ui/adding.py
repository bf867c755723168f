"""Papers that are added on the page: uploads and pasted text -> files of the library -> the ledger of what they gave.

An ingest goes on to its end whether or not a page still looks on. Each owner has one addition at a time, the last of
which is kept. Ids and links that the library does not hold are asked for at the services that know them; what cannot be
fetched or read is refused by its line, in the ledger, in words.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakKeyDictionary

from assistant.added import keep, rename, safe_name
from assistant.answer import Assistant
from assistant.errors import AssistantError, ConfigError
from assistant.identity import keys_of
from assistant.ingest import Ledger, SourceLedger
from assistant.papers import Rejected
from assistant.sources import FORMATS
from assistant.sources.content import Content
from assistant.sources.live import parse
from assistant.ui.desk import Desk

PASTED = "pasted text"
OWNERS = 1_000
"""Owners whose last addition is kept; those who came first are forgotten first."""
LINE_CHARS = 200
"""A pasted line this long is no id and no link: the text is taken for a file."""
_log = logging.getLogger(__name__)


class Addition:
    """One addition, while it runs and afterwards: `encoded` papers so far, then a `ledger`, or a `fault`."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.encoded = 0
        self.ended = False
        self.ledger: dict[str, Any] | None = None
        self.fault = ""

    @property
    def seconds(self) -> int:
        """Since when it runs."""
        return round(time.monotonic() - self.begun)

    def count(self, papers: int) -> None:
        """Take note of papers that were encoded.

        Raises:
            AssistantError: The server ends, which waits for this: what is committed stays, and the rest can come again.
        """
        self.encoded += papers
        if not threading.main_thread().is_alive():
            raise AssistantError("the server was stopped before all papers were in; add them again to go on")


_lasts: WeakKeyDictionary[Desk, dict[str, Addition]] = WeakKeyDictionary()


def last(desk: Desk, owner: str) -> Addition | None:
    """Return what an owner added last, which may still be under way."""
    return _lasts.get(desk, {}).get(owner)


def begin(desk: Desk, owner: str, uploads: Iterable[tuple[str, BinaryIO]], text: str) -> Addition:
    """Begin to add papers: keep what was uploaded, then ingest it in a thread of its own.

    Args:
        desk: Whose library.
        owner: Who adds them.
        uploads: Files with the names they came under; read before this returns.
        text: Ids and links, one or more on a line; or the text of a file.

    Raises:
        ConfigError: Nothing is given, the owner's last addition is still under way, or there is no owner.
        StoreError: The files cannot be kept.
    """
    if not owner:
        raise ConfigError("this browser keeps no cookies, so that nobody could be told what became of the papers")
    before = last(desk, owner)
    if before and not before.ended:
        raise ConfigError("your last papers are still being added; wait until that ends")
    folder = desk.assistant.folder
    kept = [keep(folder, safe_name(name), content) for name, content in uploads]
    if _is_file(text):
        kept.append(keep(folder, PASTED, io.BytesIO(text.encode("utf-8", "replace"))))
        text = ""
    if not kept and not text.strip():
        raise ConfigError("nothing to add: no file was dropped and nothing pasted; give at least one of them")
    addition = Addition()
    lasts = _lasts.setdefault(desk, {})
    lasts.pop(owner, None)
    while len(lasts) >= OWNERS:
        del lasts[next(iter(lasts))]
    lasts[owner] = addition
    work = (addition, desk.assistant, list(dict.fromkeys(kept)), text)
    threading.Thread(target=_work, args=work, name="adding").start()
    return addition


def _work(addition: Addition, assistant: Assistant, files: Sequence[Path], ids: str) -> None:
    try:
        addition.ledger = _add(assistant, files, ids, addition).as_dict()
    except AssistantError as error:
        addition.fault = str(error)
    except Exception as error:  # noqa: BLE001 - a border: nothing may leave an addition without an end
        _log.exception("papers could not be added")
        addition.fault = f"an unexpected {type(error).__name__} ended it; the terminal shows more"
    finally:
        addition.ended = True


def _add(assistant: Assistant, files: Sequence[Path], ids: str, addition: Addition) -> Ledger:
    """Ingest kept files and what ids and links name; return the ledger, files called as they were uploaded."""
    named, others = _read_names(assistant, ids)
    if files or named:
        ledger = assistant.ingest([*files, *named], progress=addition.count)
    else:
        status = assistant.status()
        ledger = Ledger([], status["papers"], status["chunks"], 0, 0.0)
    for source in ledger.sources:
        if source.source not in named:
            rename(source)
    if others.found:
        ledger.sources.append(others)
    return ledger


# --- Pasted text ------------------------------------------------------------------------------------------------------


def _is_file(text: str) -> bool:
    """Tell whether a pasted text is the content of a file, rather than a list of ids and links."""
    content = Content(PASTED, io.BytesIO(text.encode("utf-8", "replace")))
    is_told = any(form.fits(content) for name, form in FORMATS.items() if name != "page")
    return is_told or any(len(line) >= LINE_CHARS for line in text.splitlines())


def _read_names(assistant: Assistant, text: str) -> tuple[list[str], SourceLedger]:
    """Return the live sources that a pasted list names, and an account of what need not or cannot be asked for."""
    named: dict[str, None] = {}
    ledger = SourceLedger("pasted ids and links", "ids")
    for number, line in enumerate(text.splitlines(), 1):
        parts = [part for part in re.split(r"[\s,;]+", line) if part]
        if not parts:
            continue
        for part in parts if all(keys_of(part) for part in parts) else [line.strip()]:
            keys = keys_of(part)
            if keys and assistant.library != "sample" and assistant.paper(part):
                ledger.found, ledger.unchanged = ledger.found + 1, ledger.unchanged + 1
                continue
            try:
                query = parse(keys[0] if keys else part)
                if query is None:
                    raise ConfigError(
                        f"{part[:120]!r} is no arXiv id, DOI, PubMed id or link to a paper; paste one of these, or the"
                        " text of a whole file"
                    )
                named[query.name] = None
            except ConfigError as error:
                ledger.reject(Rejected(f"line {number}", str(error)))
    return list(named), ledger
