"""Names on a command line -> the files to be read, in order, each once; and a file -> its bytes."""

from __future__ import annotations

import os
import select
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from assistant.errors import CorpusError

STANDARD_INPUT = Path("-")
"""The name under which standard input is asked for, and passed on."""
FIRST_BYTE_S = 3
"""How long a named pipe is waited for: its writer may be about to start."""

_KINDS = {stat.S_IFDIR: "a folder that cannot be listed", stat.S_IFSOCK: "a socket"}


def find_sources(names: Sequence[str]) -> list[Path]:
    """Expand files, folders and globs into files, in order, each once; `-` is standard input.

    A folder is read with the folders in it, in the order of their names; hidden files and READMEs are left out. Links
    are followed, but no folder is entered twice. What is no regular file is kept: opening it says what it is.

    Raises:
        CorpusError: A folder or a glob without any file.
    """
    found: dict[object, Path] = {}
    for name in names:
        files = [STANDARD_INPUT] if name == str(STANDARD_INPUT) else list(_walk(_expand(name)))
        if not files:
            raise CorpusError(f"cannot read {shown(name)}: no file is there; check the name")
        for path in files:
            status = _status(path)
            found.setdefault((status.st_dev, status.st_ino) if status else path, path)
    return list(found.values())


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[BinaryIO, Path | None]]:
    """Open a file, a pipe or standard input; with it comes the path, where that can be read at any place.

    Raises:
        CorpusError: It is a folder, a device, a socket, or a pipe that nobody writes to.
        OSError: It is not there, or must not be read.
    """
    if path == STANDARD_INPUT:
        with open(0, "rb", buffering=0, closefd=False) as stream:
            yield stream, None
        return
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):  # opening alone can set a device to work
        found = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise CorpusError(f"cannot read {shown(path)}: it is {found}; give a file, a folder of files or a pipe")
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb", buffering=0) as stream:
        is_file = stat.S_ISREG(os.fstat(handle).st_mode)
        if not is_file:
            _await(handle, path)
        yield stream, path if is_file else None


def _await(handle: int, path: Path) -> None:
    """Wait until a pipe has something to read, or has been closed by who wrote to it."""
    if not select.select([handle], [], [], FIRST_BYTE_S)[0]:
        raise CorpusError(
            f"cannot read {shown(path)}: it is a pipe, and nothing was written to it for {FIRST_BYTE_S} s; start its"
            " writer first"
        )
    os.set_blocking(handle, True)


def is_left_out(name: str) -> bool:
    """Say whether a file of a folder or an archive holds no papers by its name: it is hidden, or a README."""
    parts = [part for part in PurePosixPath(name).parts if part != ".."]
    return any(part.startswith((".", "__MACOSX")) for part in parts) or "".join(parts[-1:]).startswith("README")


def shown(name: str | Path) -> str:
    r"""Return a name as it can be printed and kept: what is undecodable or unseen as `\udcff`, `\n`."""
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode()
        for c in str(name)
    )


def _expand(name: str) -> list[Path]:
    path = Path(name)
    with suppress(RuntimeError):  # no such user: the name is meant as it stands
        path = path.expanduser()
    if path == STANDARD_INPUT:
        return [path.absolute()]  # ./- is a file
    return _matches(path) if has_magic(name) and _status(path) is None else [path]


def _matches(pattern: Path) -> list[Path]:
    """Return what a glob matches; `**` enters no linked folder, for links can form loops."""
    root = Path(pattern.anchor)
    try:
        found = sorted(root.glob(str(pattern.relative_to(root))))
    except (OSError, ValueError, NotImplementedError) as error:
        raise CorpusError(f"cannot read {shown(pattern)}: {error}; check the pattern") from error
    return found if _is_hidden(pattern) else [path for path in found if not _is_hidden(path)]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") and part != ".." for part in path.parts)


def _walk(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield files, and of each folder the files in it; a folder that cannot be listed is yielded itself."""
    waiting, entered = [*reversed(paths)], set[object]()
    while waiting:
        path = waiting.pop()
        status = _status(path)
        if status is None or not stat.S_ISDIR(status.st_mode):
            yield path
        elif (status.st_dev, status.st_ino) not in entered:
            entered.add((status.st_dev, status.st_ino))
            try:
                waiting += sorted((each for each in path.iterdir() if not is_left_out(each.name)), reverse=True)
            except OSError:
                yield path


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # not there, not allowed, a loop of links, no possible name: opening it says which
        return None
