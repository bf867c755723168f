"""An Answer and its Record <-> a file; and from that file alone the same Answer again, byte for byte.

A saved answer is one JSON document: the answer as `ask --json` prints it, the Record that it follows from, and a digest
of each part. Replaying reads the record, lets what was said through the gate again, and compares. It needs no library,
no endpoint and no encoder. Refused as `CorpusError`: a file that is missing, damaged, not ours or of a newer format.
Told as `AssistantError`: one that does not give its answer again, with the first field that differs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from assistant.draft import Record, answer_again
from assistant.errors import AssistantError, ConfigError, CorpusError
from assistant.rebuild import SHOWN_CHARS, UnfitError, rebuild, shorten
from assistant.types import Answer
from assistant.whole import write_whole

FORMAT = 1
PROGRAM = "paper-assistant"
FILE_BYTES = 256 * 1024 * 1024
"""Longest file that is read; a hundred of the longest abstracts stay below it."""

_PARTS = ("answer", *(each.name for each in dataclasses.fields(Record)))


def save(file: str | Path, answer: Answer, record: Record) -> None:
    """Write an answer with all that it rests on, whole or not at all; no key is in it.

    Args:
        file: A new file, an empty one or a saved answer, which is replaced; the folder has to exist.
        answer: The answer.
        record: What it rests on, from the same stream.

    Raises:
        ConfigError: The file is something else, or its folder cannot be written to.
        AssistantError: Writing failed.
    """
    target = check_place(file)
    parts = {"answer": answer.as_dict(), **dataclasses.asdict(record)}
    digests = {name: _digest(json.loads(json.dumps(part))) for name, part in parts.items()}
    document = {"program": PROGRAM, "format": FORMAT, "version": version(), **parts, "digests": digests}
    # What no encoder takes (half a surrogate pair in the name of a folder) becomes the escape that JSON has for it.
    data = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
    try:
        write_whole(target, [data])
    except OSError as error:
        raise AssistantError(
            f"cannot save the answer to {file}: {error.strerror or error}; free some space, or name another file"
        ) from error


def check_place(file: str | Path) -> Path:
    """Return where a saved answer will stand, links followed; before a question is asked, so that none is in vain.

    Raises:
        ConfigError: It may not be written there: see `save`.
    """
    try:
        target = Path(file).resolve()
        found = _why_not(target)
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, a null in it
        raise ConfigError(
            f"cannot save the answer to {file}: {getattr(error, 'strerror', None) or error}; name another file"
        ) from error
    if found:
        raise ConfigError(f"cannot save the answer to {file}: {found}; name another file")
    return target


def _why_not(target: Path) -> str | None:
    """Return why an answer may not be saved there, or None."""
    if not target.parent.is_dir():
        return f"there is no folder {target.parent}"
    if not os.access(target.parent, os.W_OK):
        return f"the folder {target.parent} cannot be written to"
    if not target.exists():
        return None
    if not target.is_file():
        return "it is a folder" if target.is_dir() else "it is no ordinary file"
    with suppress(ValueError, RecursionError):
        if not target.stat().st_size or _is_ours(_load(target)):
            return None
    return "it exists and is no saved answer, so it would be lost"


def replay(file: str | Path) -> Answer:
    """Return the answer that follows from a saved file, which is the saved one.

    Raises:
        CorpusError: The file is missing, damaged, no saved answer, or of a newer format.
        AssistantError: What follows from it is another answer, or it was edited.
    """
    document = _read(Path(file))
    for name in ("answer", "digests"):
        if not isinstance(document.get(name), dict):
            raise _damaged(file, f"{name!r} is missing")
    try:
        answer = answer_again(rebuild(Record, document))
        edited = [name for name in _PARTS if document["digests"].get(name) != _digest(document[name])]
        difference = next(_differences(document["answer"], json.loads(json.dumps(answer.as_dict())), ""), None)
    except (UnfitError, IndexError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    if difference or edited:
        raise AssistantError(f"{file} {_tell(difference, edited, document)}")
    return answer


def _tell(difference: str | None, edited: list[str], document: Mapping[str, Any]) -> str:
    """Say what a file does instead of giving its answer again, and why."""
    found = f"does not give its answer again: {difference};" if difference else "gives its answer again, but was"
    if edited:
        return f"{found} edited since it was saved: {', '.join(edited)}; take the file as it was saved"
    versions = f"version {document.get('version')} saved it, this is version {version()}"
    return f"{found} {versions}; replay it with that one, or ask again"


# --- Reading ----------------------------------------------------------------------------------------------------------


def _read(file: Path) -> dict[str, Any]:
    """Return the document of a saved answer, of our format."""
    try:
        document = _load(file)
    except OSError as error:
        raise CorpusError(f"cannot read the saved answer {file}: {error.strerror or error}; check its name") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"no whole JSON document ({error})") from error
    if not _is_ours(document):
        raise CorpusError(f"{file} is no saved answer; give a file that `assistant ask --save` has written")
    found: dict[str, Any] = document
    number = found["format"]
    if type(number) is not int or number < 1:
        raise _damaged(file, f"its format is {shorten(number)}")
    if number > FORMAT:
        raise CorpusError(f"{file} has format {number}, and this program reads {FORMAT}; update the program")
    return found


def _load(file: Path) -> Any:
    """Return a JSON document.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no JSON document, or longer than any of ours.
    """
    with file.open("rb") as source:
        data = source.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ValueError(f"more than {FILE_BYTES:,} bytes")
    return json.loads(data.decode())


def _is_ours(document: Any) -> bool:
    """Tell whether a document is a saved answer, of any format."""
    return isinstance(document, dict) and document.get("program") == PROGRAM and "format" in document


def _damaged(file: str | Path, found: str) -> CorpusError:
    return CorpusError(f"the saved answer {file} is damaged: {found}; take another copy of it, or ask again")


# --- Comparing --------------------------------------------------------------------------------------------------------


def _differences(saved: Any, made: Any, place: str) -> Iterator[str]:
    """Tell each place where two JSON values differ, in order."""
    if isinstance(saved, dict) and isinstance(made, dict):
        for name in dict.fromkeys((*made, *saved)):
            path = f"{place}.{name}".removeprefix(".")
            if name in saved and name in made:
                yield from _differences(saved[name], made[name], path)
            else:
                yield f"{path} {'does not come out' if name in saved else 'comes out, the file lacks it'}"
    elif isinstance(saved, list) and isinstance(made, list):
        for i, (one, other) in enumerate(zip(saved, made, strict=False)):
            yield from _differences(one, other, f"{place}[{i}]")
        if len(saved) != len(made):
            yield f"{place} comes out with {len(made)} entries, the file has {len(saved)}"
    elif _canonical(saved) != _canonical(made):
        start = 0
        if isinstance(saved, str) and isinstance(made, str):
            same = next((i for i, pair in enumerate(zip(saved, made, strict=False)) if len(set(pair)) > 1), len(saved))
            start = max(0, same - SHOWN_CHARS // 3)
        yield f"{place} comes out as {shorten(made, start)}, the file has {shorten(saved, start)}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _digest(part: Any) -> str:
    """Return the first 16 hex digits of sha256 over a part as JSON, its names in order."""
    return hashlib.sha256(_canonical(part).encode()).hexdigest()[:16]


def version() -> str:
    """Return the version of this program."""
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "unknown"
