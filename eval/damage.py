"""Damage a library in every way we know of, start again, and compare: `python -m eval durability --damage`.

Each kind damages a copy of one library, made in two runs, of which the second was killed before it had closed its
files. Twice a new process opens the copy and searches, by exact scan and by Chroma: the same papers have to be found as
before, in the same order, and the second start has nothing to tell any more.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from assistant import journal
from assistant.config import Config
from assistant.ingest import Reading
from assistant.store import FILE_NAME
from eval.durability import LIMIT_S, HashedLibrary, hold_and_kill, run_start, write_papers

Damage = Callable[[Path], None]
COLUMNS = ["missing", "same top 10", "told", "then told", "seconds", "outcome"]
_WAL, _SHM = f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"
_SEED = 7


# --- Ways to damage a file --------------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    """Keep the first half of a file."""
    os.truncate(file, file.stat().st_size // 2)


def noise(file: Path, share: float = 0.01, start: int = 0) -> None:
    """Put noise in place of this share of a file's bytes, 16 at a time; at least once."""
    content, rng = bytearray(file.read_bytes()), random.Random(_SEED)  # noqa: S311 - not for secrets
    for _ in range(max(1, int(share * len(content) / 16))):
        place = rng.randrange(start, max(start + 1, len(content) - 16))
        content[place : place + 16] = rng.randbytes(16)
    file.write_bytes(content)


def noise_pages(file: Path, share: float) -> None:
    """Put noise in place of whole pages of SQLite, the first one excepted."""
    content, rng = bytearray(file.read_bytes()), random.Random(_SEED)  # noqa: S311 - not for secrets
    pages = range(1, len(content) // 4096)
    for page in rng.sample(pages, max(1, int(share * len(pages)))):
        content[page * 4096 : (page + 1) * 4096] = rng.randbytes(4096)
    file.write_bytes(content)


def _in_newest(name: str, deed: Callable[[Path], None]) -> Damage:
    def damage(folder: Path) -> None:
        (file,) = newest(folder).glob(name)
        deed(file)

    return damage


def newest(folder: Path) -> Path:
    """Return the newest generation of a library's index."""
    return max((folder / "index").glob("gen-*"))


def _sealed(**values: Any) -> Damage:
    """Return what changes a manifest and seals it as if it had been written so."""

    def damage(folder: Path) -> None:
        file = newest(folder) / "manifest.json"
        manifest = json.loads(file.read_text())
        del manifest["seal"]
        manifest |= values
        seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        file.write_text(json.dumps({**manifest, "seal": seal}))

    return damage


def _written(text: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_text(text)

    return write


_empty = _written("")


def _sparse(file: Path) -> None:
    os.truncate(file, 1 << 40)


def _piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _linked(file: Path) -> None:
    moved = file.with_name(f"moved-{file.name}")
    file.rename(moved)
    file.symlink_to(moved)


def _looped(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def _emptied(folder: Path) -> None:
    home = newest(folder)
    shutil.rmtree(home)
    home.mkdir()


def _filed(folder: Path) -> None:
    home = newest(folder)
    shutil.rmtree(home)
    home.write_text("no folder")


def _renamed_later(folder: Path) -> None:
    newest(folder).rename(folder / "index" / "gen-9999999999-000000")


def _draft(folder: Path) -> None:
    shutil.copytree(newest(folder), folder / "index" / "draft-left")


def _older_too(folder: Path) -> None:
    home = newest(folder)
    shutil.copytree(home, home.with_name("gen-0000000001-000000"))
    cut(home / "chunks.npy")


def _no_index(folder: Path) -> None:
    shutil.rmtree(folder / "index")


def _index_file(folder: Path) -> None:
    shutil.rmtree(folder / "index")
    (folder / "index").write_text("no folder")


INDEX_DAMAGE: dict[str, Damage] = {
    "vectors cut": _in_newest("chunks.npy", cut),
    "vectors deleted": _in_newest("whole.npy", Path.unlink),
    "vectors noised": _in_newest("sentences.npy", noise),
    "vectors of a sparse terabyte": _in_newest("chunks.npy", _sparse),
    "vectors behind a link": _in_newest("chunks.npy", _linked),
    "vectors behind a looping link": _in_newest("chunks.npy", _looped),
    "a pipe for vectors": _in_newest("numbers.npy", _piped),
    "BM25 cut": _in_newest("postings/counts.npy", cut),
    "BM25 deleted": _in_newest("postings/terms.npy", Path.unlink),
    "BM25 noised": _in_newest("postings/documents.npy", noise),
    "manifest cut": _in_newest("manifest.json", cut),
    "manifest deleted": _in_newest("manifest.json", Path.unlink),
    "manifest noised": _in_newest("manifest.json", noise),
    "manifest is a list": _in_newest("manifest.json", _written("[1, 2]")),
    "manifest 100,000 deep": _in_newest("manifest.json", _written("[" * 100_000)),
    "another format": _sealed(format=1),
    "another encoder": _sealed(encoder="another"),
    "another library": _sealed(uuid="another"),
    "packages of other versions": _sealed(versions={"chromadb": "0"}),
    "a newer epoch": _sealed(epoch=1_000_000),
    "a name from the future": _renamed_later,
    "Chroma's database cut": _in_newest("chroma/chroma.sqlite3", cut),
    "Chroma's database deleted": _in_newest("chroma/chroma.sqlite3", Path.unlink),
    "Chroma's database noised": _in_newest("chroma/chroma.sqlite3", lambda file: noise(file, 0.02)),
    "Chroma's graph cut": _in_newest("chroma/*/data_level0.bin", cut),
    "Chroma's graph deleted": _in_newest("chroma/*/header.bin", Path.unlink),
    "Chroma's graph noised": _in_newest("chroma/*/link_lists.bin", noise),
    "Chroma's pickle noised": _in_newest("chroma/*/index_metadata.pickle", noise),
    "generation empty": _emptied,
    "generation is a file": _filed,
    "newer of two damaged": _older_too,
    "a draft left": _draft,
    "index deleted": _no_index,
    "index is a file": _index_file,
}


# --- Of the store -----------------------------------------------------------------------------------------------------


def _in(name: str, deed: Callable[[Path], None]) -> Damage:
    return lambda folder: deed(folder / name)


def _closed(deed: Damage) -> Damage:
    """Damage a library whose files were closed in order: all that it holds stands in the one file."""

    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / FILE_NAME)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        deed(folder)

    return damage


def _both(*deeds: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for deed in deeds:
            deed(folder)

    return damage


def _header(file: Path) -> None:
    with file.open("rb+") as stream:
        stream.write(random.Random(_SEED).randbytes(100))  # noqa: S311 - not for secrets


def _replaced(name: str) -> Damage:
    """Return what puts a file that was made beside the library in the place of its store or journal."""

    def damage(folder: Path) -> None:
        is_store = name.endswith("sqlite")
        for log in (_WAL, _SHM) if is_store else ():
            (folder / log).unlink(missing_ok=True)
        shutil.copyfile(folder.parent / name, folder / (FILE_NAME if is_store else journal.FILE_NAME))

    return damage


def _boundary(folder: Path) -> None:
    """Take the last commits from a journal, so that it ends where a commit does."""
    ends = [end for end, _ in journal.read(folder)]
    journal.cut(folder, ends[len(ends) // 2])


def _nonsense(folder: Path) -> None:
    """Put members among a journal's that have a good checksum and no sense."""
    file = folder / journal.FILE_NAME
    lines = [b"[1]\n", b'{"commit": "x"}\n', b'{"commit": 3, "library": 1}\n{"put": 1}\n', b"{" * 100_000]
    file.write_bytes(file.read_bytes() + b"".join(map(gzip.compress, lines)))


STORE_DAMAGE: dict[str, Damage] = {
    "deleted": _closed(_in(FILE_NAME, Path.unlink)),
    "deleted, its log left": _in(FILE_NAME, Path.unlink),
    "empty": _closed(_in(FILE_NAME, _empty)),
    "cut": _closed(_in(FILE_NAME, cut)),
    "header noised": _closed(_in(FILE_NAME, _header)),
    "0.1 % noised": _closed(_in(FILE_NAME, lambda file: noise(file, 0.001))),
    "1 page noised": _closed(_in(FILE_NAME, lambda file: noise_pages(file, 0))),
    "10 % of pages noised": _closed(_in(FILE_NAME, lambda file: noise_pages(file, 0.1))),
    "half of pages noised": _closed(_in(FILE_NAME, lambda file: noise_pages(file, 0.5))),
    "log deleted": _in(_WAL, Path.unlink),
    "log cut": _in(_WAL, cut),
    "log noised": _in(_WAL, noise),
    "shared memory noised": _in(_SHM, lambda file: noise(file, 0.2)),
    "shared memory deleted": _in(_SHM, Path.unlink),
    "an older copy in its place": _replaced("older.sqlite"),
    "another library in its place": _replaced("other.sqlite"),
    "another program's database": _replaced("foreign.sqlite"),
    "journal deleted": _in(journal.FILE_NAME, Path.unlink),
    "journal empty": _in(journal.FILE_NAME, _empty),
    "journal cut": _in(journal.FILE_NAME, cut),
    "journal cut between commits": _boundary,
    "journal noised": _in(journal.FILE_NAME, lambda file: noise(file, 0.01)),
    "an older journal": _replaced("older.gz"),
    "another library's journal": _replaced("other.gz"),
}
"""One of both copies stays whole: nothing may be lost."""

BOTH_DAMAGED: dict[str, Damage] = {
    "nonsense behind the journal": _nonsense,
    "0.1 % of store and journal noised": _closed(
        _both(_in(FILE_NAME, lambda file: noise(file, 0.001)), _in(journal.FILE_NAME, lambda file: noise(file, 0.02)))
    ),
    "10 % of pages noised, journal noised": _closed(
        _both(
            _in(FILE_NAME, lambda file: noise_pages(file, 0.1)), _in(journal.FILE_NAME, lambda file: noise(file, 0.02))
        )
    ),
    "10 % of pages noised, journal deleted": _closed(
        _both(_in(FILE_NAME, lambda file: noise_pages(file, 0.1)), _in(journal.FILE_NAME, Path.unlink))
    ),
    "log deleted, journal cut": _both(_in(_WAL, Path.unlink), _in(journal.FILE_NAME, cut)),
    "log deleted, journal's end noised": _both(
        _in(_WAL, Path.unlink), _in(journal.FILE_NAME, lambda file: noise(file, 0, file.stat().st_size - 200))
    ),
    "log deleted, journal deleted": _both(_in(_WAL, Path.unlink), _in(journal.FILE_NAME, Path.unlink)),
    "header noised, journal cut": _closed(_both(_in(FILE_NAME, _header), _in(journal.FILE_NAME, cut))),
    "header noised, journal cut between commits": _closed(_both(_in(FILE_NAME, _header), _boundary)),
    "header noised, journal deleted": _closed(_both(_in(FILE_NAME, _header), _in(journal.FILE_NAME, Path.unlink))),
    "empty, journal cut": _closed(_both(_in(FILE_NAME, _empty), _in(journal.FILE_NAME, cut))),
    "both deleted": _closed(_both(_in(FILE_NAME, Path.unlink), _in(journal.FILE_NAME, Path.unlink))),
}
"""Neither copy is whole: what may be lost has to be told."""


# --- The table --------------------------------------------------------------------------------------------------------


def run_damage(say: Callable[[str], None]) -> dict[str, Any]:
    """Try every kind of damage; return a row for each, and which have failed."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="assistant-damage-") as name:
        home = Path(name)
        titles = make_library(home)
        for group, kinds in {"index": INDEX_DAMAGE, "store": STORE_DAMAGE, "both": BOTH_DAMAGED}.items():
            for how in ("exact", "chroma") if group == "index" else ("exact",):
                wanted = try_damage(home, lambda _: None, titles, how)["found"]
                for kind, damage in kinds.items():
                    row = judge(try_damage(home, damage, titles, how), wanted, may_lose=group == "both")
                    rows[f"{group}: {kind}"[:46] + f", {how}"] = row
                    if row["outcome"] != "good":
                        say(f"{group}: {kind}, {how}: {row['outcome']}; {row['lines']}")
            say(f"{len(rows)} tried")
    failed = [kind for kind, row in rows.items() if row["outcome"] != "good"]
    return {"what": "damage", "rows": rows, "failed": failed}


def make_library(home: Path) -> list[str]:
    """Make the library that is damaged, and files that may take the place of its own; return the titles."""
    sources, library = home / "sources", home / "library"
    titles = write_papers(sources)
    files = sorted(sources.iterdir())
    write_papers(home / "others", 20, 2)
    for folder, some in ((home / "other", sorted((home / "others").iterdir())), (library, files[: len(files) // 2])):
        with closing(HashedLibrary(Config(library=folder))) as opened:
            opened.ingest(some, Reading())
    for name, folder in {"other": home / "other", "older": library}.items():
        shutil.copyfile(folder / FILE_NAME, home / f"{name}.sqlite")
        shutil.copyfile(folder / journal.FILE_NAME, home / f"{name}.gz")
    with closing(sqlite3.connect(home / "foreign.sqlite")) as db:
        db.execute("CREATE TABLE cookies (name TEXT)")
        db.commit()
    hold_and_kill(library, sources)
    return titles


def try_damage(home: Path, damage: Damage, titles: list[str], how: str) -> dict[str, Any]:
    """Damage a copy of the library, and start on it twice; return what was found and told."""
    with tempfile.TemporaryDirectory(prefix="library-", dir=home) as name:
        folder = Path(name) / "library"
        for each in home.glob("*.*"):
            (Path(name) / each.name).symlink_to(each)
        shutil.copytree(home / "library", folder)
        damage(folder)
        first, seconds, fault = run_start(folder, Path("-"), titles, how)
        if first is None:
            return {"fault": fault, "seconds": seconds}
        second, _, fault = run_start(folder, Path("-"), titles, how)
        if second is None:
            return {"fault": f"at the second start, {fault}", "seconds": seconds}
    told = {"lines": first["warnings"], "then": second["warnings"]}
    return {"found": second["found"], "same": first["found"] == second["found"], "seconds": seconds, **told}


def judge(tried: dict[str, Any], wanted: dict[str, list[str]], *, may_lose: bool = False) -> dict[str, Any]:
    """Return a row of the table."""
    if "fault" in tried:
        return {
            **dict.fromkeys(COLUMNS, "-"),
            "seconds": round(tried["seconds"], 1),
            "outcome": tried["fault"],
            "lines": [],
        }
    missing = [title for title in wanted if tried["found"][title][:1] != [title]]
    same = sum(tried["found"][title] == found for title, found in wanted.items())
    told, then = tried["lines"], tried["then"]
    faults = {
        "papers are missing": missing and not (may_lose and any("may be missing" in line for line in told + then)),
        "other papers are found": same < len(wanted) and not may_lose,
        "the two starts differ": not tried["same"],
        "told in many lines": len(told) > 1,
        "told again": then and not may_lose,
        "slow": tried["seconds"] > LIMIT_S,
    }
    return {
        "missing": len(missing),
        "same top 10": f"{same}/{len(wanted)}",
        "told": len(told),
        "then told": len(then),
        "seconds": round(tried["seconds"], 1),
        "outcome": "; ".join(fault for fault, is_so in faults.items() if is_so) or "good",
        "lines": told,
    }
