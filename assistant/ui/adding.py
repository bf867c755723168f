"""Papers that are added on the page: uploads and pasted text -> files of the library -> the ledger of what they gave.

An ingest goes on to its end whether or not a page still looks on. Each owner has one addition at a time, the last of
which is kept. What cannot be fetched or read is refused by its line, in the ledger, in words.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakKeyDictionary

from assistant.answer import Assistant
from assistant.clean import drop_unseen
from assistant.errors import AssistantError, ConfigError, StoreError
from assistant.ingest import Ledger, SourceLedger
from assistant.papers import FORMATS, Rejected
from assistant.ui.desk import Desk

FOLDER = "added"
"""Within the library: what was uploaded or pasted, each under the digest of its content, so that the sources stay."""
PASTED = "pasted text"
OWNERS = 1_000
"""Owners whose last addition is kept; those who came first are forgotten first."""
NAME_BYTES = 120
"""Of a file's name, its end, what is kept."""
PIECE_BYTES = 1 << 20
LINE_CHARS = 200
"""A pasted line this long is no id and no link: the text is taken for a file."""
HEAD_BYTES = 4_096
"""So much of a file tells its format."""

_IDS = {
    "an arXiv id": r"(?:arxiv:|https?://(?:www\.)?arxiv\.org/(?:abs|pdf)/)?(?P<arxiv>\d{4}\.\d{4,5}|[a-z-]+/\d{7})"
    r"(?:v\d+)?(?:\.pdf)?",
    "a DOI": r"(?:doi:|https?://(?:dx\.)?doi\.org/)?(?P<doi>10\.\d{4,9}/\S+)",
    "a PubMed id": r"(?:pmid:|https?://pubmed\.ncbi\.nlm\.nih\.gov/)(?P<pmid>\d{1,9})/?",
    "a link": r"https?://\S+",
}
_KNOWN_BY = {
    "bibtex": ("BibTeX", r"\s*(?:%[^\n]*\s+)*@\w+\s*[{(]"),
    "ris": ("RIS", r"\s*TY {1,2}- "),
    "csv": ("CSV", r"(?![{\[])(?=[^\n]*\btitle\b)(?=[^\n]*\babstract\b)[^\n]*[,;\t]"),
}
"""Formats by name, and how their files begin."""

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
    kept = [_keep(folder, _safe_name(name), content) for name, content in uploads]
    if _is_file(text):
        kept.append(_keep(folder, PASTED, io.BytesIO(text.encode("utf-8", "replace"))))
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
    """Ingest kept files and account for ids; return the ledger, its sources called as they were uploaded."""
    unread = {file: _unread(file) for file in files}
    readable = [file for file in files if not unread[file]]
    if readable:
        ledger = assistant.ingest(readable, progress=addition.count)
    else:
        status = assistant.status()
        ledger = Ledger([], status["papers"], status["chunks"], 0, 0.0)
    for file, why in unread.items():
        if why:
            ledger.sources.append(SourceLedger(str(file), "unknown", 1, rejected=[Rejected("the whole source", why)]))
    for source in ledger.sources:
        _rename(source)
    if ids.strip():
        ledger.sources.append(_look_up(assistant, ids))
    return ledger


# --- Files ------------------------------------------------------------------------------------------------------------


def _safe_name(name: str) -> str:
    """Return the last part of the name that a file was uploaded under, as one that any folder can hold."""
    last_part = re.split(r"[\\/]", drop_unseen(name))[-1].strip()
    fitting = last_part.encode("utf-8", "replace")[-NAME_BYTES:].decode("utf-8", "ignore")
    return fitting if fitting.strip(".") else "file"


def _keep(folder: Path, name: str, content: BinaryIO) -> Path:
    """Write a file into the library, under its name and the digest of its content."""
    digest = hashlib.sha256()
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="draft-", dir=folder / FOLDER) as draft:
            with (Path(draft) / name).open("wb") as file:
                while piece := content.read(PIECE_BYTES):
                    digest.update(piece)
                    file.write(piece)
            home = folder / FOLDER / digest.hexdigest()[:12]
            home.mkdir(exist_ok=True)
            return (Path(draft) / name).replace(home / name)
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"cannot keep {name} in the library in {folder}: {why}; free space or check permissions, then add it again"
        ) from error


def _unread(file: Path) -> str:
    """Return why a file is not read, where its format is known but has no reader."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ""  # the ingest will say it
    for form, (name, begins) in _KNOWN_BY.items():
        if form not in FORMATS and re.match(begins, head, re.IGNORECASE):
            return f"this looks like {name}, which cannot be read; save it as JSON lines of title and abstract"
    return ""


def _rename(source: SourceLedger) -> None:
    """Call a source as it was uploaded; one that gave nothing is not kept."""
    kept = Path(source.source)
    source.source = kept.name
    source.rejected = [Rejected(each.where, each.reason.replace(str(kept), kept.name)) for each in source.rejected]
    if not source.good:
        kept.unlink(missing_ok=True)
        with suppress(OSError):  # another of the same content lies there
            kept.parent.rmdir()


# --- Pasted text ------------------------------------------------------------------------------------------------------


def _is_file(text: str) -> bool:
    """Tell whether a pasted text is the content of a file, rather than a list of ids and links."""
    if any(re.match(begins, text, re.IGNORECASE) for _, begins in _KNOWN_BY.values()):
        return True
    return text.lstrip()[:1] in {"{", "["} or any(len(line) >= LINE_CHARS for line in text.splitlines())


def _look_up(assistant: Assistant, text: str) -> SourceLedger:
    """Account for each id and link of a list: known to the library, or refused, for nothing is fetched from outside."""
    ledger = SourceLedger("pasted ids and links", "ids")
    for number, line in enumerate(text.splitlines(), 1):
        parts = [part for part in re.split(r"[\s,;]+", line) if part]
        for part in parts if all(_kind(each) for each in parts) else [line.strip()]:
            ledger.found += 1
            if _is_known(assistant, part):
                ledger.unchanged += 1
            else:
                ledger.rejected.append(Rejected(f"line {number}", _why_not(part)))
    return ledger


def _kind(part: str) -> str:
    return next((kind for kind, form in _IDS.items() if re.fullmatch(form, part, re.IGNORECASE)), "")


def _is_known(assistant: Assistant, part: str) -> bool:
    """Tell whether the person's own library holds the paper that an id names."""
    found = re.fullmatch("|".join(list(_IDS.values())[:3]), part, re.IGNORECASE)
    if not found or assistant.library == "sample":
        return False
    ((name, value),) = ((name, value) for name, value in found.groupdict().items() if value)
    return assistant.paper(f"{name}:{value.lower()}") is not None


def _why_not(part: str) -> str:
    kind, shown = _kind(part), f"{part[:120]}…" if len(part) > 120 else part
    if kind:
        return f"{shown} is {kind}: papers are not fetched from elsewhere; download its record and drop the file here"
    return f"{shown!r} is no arXiv id, DOI or link; paste one of these, or the text of a whole file"
