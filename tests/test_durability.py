from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant.config import Config
from assistant.errors import LibraryBusy, StoreError
from assistant.index import Index
from assistant.ingest import Reading, ingest
from assistant.retrieve import search
from assistant.store import FILE_NAME, Store
from eval.durability import FILES, PAPERS, HashedLibrary, hold_and_kill, run_trials, write_papers

ROOT = Path(__file__).parent.parent
LATE_S = 5.0
"""A finished ingest has to be seen by then."""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    write_papers(tmp_path / "sources")
    return tmp_path / "sources"


def opened(folder: Path) -> HashedLibrary:
    return HashedLibrary(Config(library=folder))


def first(library: HashedLibrary, query: str, how: str = "exact") -> tuple[str | None, list[str]]:
    """Return the title of the best hit, and what is told."""
    view = library.view()
    hits = search(view.store, view.index, view.encoder, query, k=3, how=how)
    return (hits[0].paper.title if len(hits) else None), list(dict.fromkeys([*view.warnings, *hits.warnings]))


def within_seconds(is_so: Callable[[], bool]) -> bool:
    """Tell whether something comes true in time."""
    since = time.monotonic()
    while not is_so() and time.monotonic() - since < LATE_S:
        time.sleep(0.1)
    return is_so()


def add(library: HashedLibrary, sources: Path) -> int:
    return library.ingest(sorted(sources.iterdir()), Reading()).papers


def test_an_ingest_that_is_killed_loses_nothing_that_was_acknowledged() -> None:
    result = run_trials(2, 0, seed=int(time.time()), say=print)
    assert result["failed"] == []
    assert result["rows"]["index"]["trials"] == result["rows"]["time"]["trials"] == 1


# --- Where nothing can be written -------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from contextlib import closing
from pathlib import Path
from assistant.errors import StoreError
import chromadb
from eval.durability import HashedLibrary
from assistant.config import Config
from assistant.ingest import Reading
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
with closing(HashedLibrary(Config(library=Path(sys.argv[1])))) as library:
    try:
        library.ingest(sorted(Path(sys.argv[2]).iterdir()), Reading())
    except StoreError as error:
        print("refused:", error)
    try:
        print("found", len(library.view().index))
    except StoreError as error:
        print("refused:", error)
"""


@pytest.mark.parametrize("n_bytes", [4_000, 90_000, 300_000, 600_000])
def test_a_disk_that_fills_up_is_told_and_the_next_ingest_goes_on(tmp_path: Path, sources: Path, n_bytes: int) -> None:
    library = tmp_path / "library"
    run = [sys.executable, "-c", LIMITED, library, sources, str(n_bytes)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    refusal, after = done.stdout.splitlines()
    assert refusal.startswith("refused: cannot ") and "Traceback" not in done.stderr
    acknowledged = int(after.split()[1]) if after.startswith("found") else 0
    assert acknowledged % 5 == 0, "whole commits of five papers"
    with closing(opened(library)) as again:
        if acknowledged:
            assert len(again.view().index) == acknowledged
        assert add(again, sources) == PAPERS
        assert first(again, "Study 7 of soils under condition 49") == ("Study 7 of soils under condition 49", [])
    assert not list(library.glob("index/draft-*"))


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Take away the right to write in a folder; from the super-user by being another one meanwhile."""
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & 0o555 | 0o444 | (0o111 if path.is_dir() else 0))
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            with suppress(FileNotFoundError):
                path.chmod(mode)


@pytest.mark.parametrize("was_killed", [False, True])
@pytest.mark.parametrize("how", ["exact", "chroma"])
def test_a_library_that_may_only_be_read_is_searched(
    sources: Path, monkeypatch: pytest.MonkeyPatch, how: str, *, was_killed: bool
) -> None:
    files = sorted(sources.iterdir())
    # Not below pytest's own folder, which another user may not enter.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        monkeypatch.chdir(name)
        library = Path(name) / "library"
        if was_killed:
            hold_and_kill(library, sources)
            (library / f"{FILE_NAME}-shm").unlink()
        else:
            with closing(opened(library)) as filled:
                add(filled, sources)
                first(filled, "warm up", how)
        with nobody(library), closing(opened(library)) as reader:
            assert first(reader, "Study 7 of soils under condition 49", how) == (
                "Study 7 of soils under condition 49",
                [],
            )
            with pytest.raises(StoreError, match="cannot write.*check"):
                reader.ingest(files, Reading())
            assert not reader.view().store.is_shared
        # Its owner goes on, and the reader sees it.
        with nobody(library), closing(opened(library)) as reader:
            reader.view()
            os.seteuid(os.getuid())
            for path in [library, *library.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)
            with closing(opened(library)) as writer:
                writer.ingest([write_jsonl(Path(name) / "b.jsonl", make_records(1, offset=99))], Reading())
            added = "Study 99 of speech under condition 9801"
            assert within_seconds(lambda: first(reader, added, how)[0] == added)


def test_a_damaged_library_that_may_only_be_read_is_served_from_a_restored_copy(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        monkeypatch.chdir(name)
        library = Path(name) / "library"
        with closing(opened(library)) as filled:
            add(filled, sources)
        (library / FILE_NAME).write_bytes(b"noise" * 1000)
        with nobody(library), closing(opened(library)) as reader:
            title, (line,) = first(reader, "Study 7 of soils under condition 49")
            assert title == "Study 7 of soils under condition 49"
            assert "restored copy serves" in line


# --- Several at once --------------------------------------------------------------------------------------------------


def test_of_two_writers_one_is_refused_and_nothing_is_mixed(tmp_path: Path, sources: Path) -> None:
    outcomes: list[object] = []
    begun = threading.Barrier(2)
    other = write_jsonl(tmp_path / "other.jsonl", make_records(40, offset=500))

    def write(files: list[Path]) -> None:
        with closing(opened(tmp_path / "library")) as library:
            begun.wait()
            try:
                outcomes.append(library.ingest(files, Reading()).totals["new"])
            except LibraryBusy as error:
                outcomes.append(error)

    Store(tmp_path / "library", create=True).close()
    threads = [threading.Thread(target=write, args=(files,)) for files in (sorted(sources.iterdir()), [other])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (busy,) = [each for each in outcomes if isinstance(each, LibraryBusy)]
    (n,) = [each for each in outcomes if isinstance(each, int)]
    assert "ingest" in str(busy) and str(os.getpid()) in str(busy)
    with closing(opened(tmp_path / "library")) as library:
        assert len(library.view().index) == n in {40, PAPERS}


def test_a_reader_sees_whole_commits_alone_and_the_end_within_seconds(tmp_path: Path, sources: Path) -> None:
    folder = tmp_path / "library"
    with closing(opened(folder)) as library:
        library.ingest([sorted(sources.iterdir())[0]], Reading())
    code = (
        "import sys; from pathlib import Path; from eval.durability import *\n"
        "with closing(HashedLibrary(Config(library=Path(sys.argv[1])))) as library:\n"
        "    for file in sorted(Path(sys.argv[2]).iterdir()):\n"
        "        library.ingest([file], Reading()); time.sleep(0.1)\n"
        "print('done', flush=True); sys.stdin.read()"
    )
    run = [sys.executable, "-c", code, folder, sources]
    process = subprocess.Popen(run, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ended = threading.Event()
    assert process.stdout
    threading.Thread(target=lambda: (process.stdout.read(4), ended.set())).start()  # type: ignore[union-attr]
    seen, since = set(), 0.0
    with closing(opened(folder)) as reader:
        while not since or time.monotonic() - since < LATE_S:
            since = since or (time.monotonic() if ended.is_set() else 0.0)
            view = reader.view()
            seen.add(len(view.index))
            numbers = view.index.numbers[view.index.alive]
            papers = view.store.get(numbers.tolist())
            assert len(papers) == len(view.index), "every row has its paper"
            hits = search(view.store, view.index, view.encoder, "Study 0 of graphs under condition 0", k=70)
            assert len({hit.paper.id for hit in hits}) == len(hits) <= PAPERS
            assert not hits.warnings and not view.warnings
            if len(view.index) == PAPERS:
                break
        assert len(reader.view().index) == PAPERS
    process.communicate()
    assert len(seen) > 2 and all(n % (PAPERS // FILES) == 0 for n in seen)


# --- What is done to a library that is open ---------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, sources: Path) -> Iterator[HashedLibrary]:
    with closing(opened(tmp_path / "library")) as library:
        add(library, sources)
        yield library


QUERY = "Study 7 of soils under condition 49"


@pytest.mark.parametrize("how", ["exact", "chroma"])
def test_a_running_server_outlives_its_index_folder(library: HashedLibrary, tmp_path: Path, how: str) -> None:
    library.view()
    shutil.rmtree(library.folder / "index")
    assert first(library, QUERY, how)[0] == QUERY
    library.ingest([write_jsonl(tmp_path / "b.jsonl", make_records(1, offset=99))], Reading())
    assert first(library, "Study 99 of speech under condition 9801", how)[0] == (
        "Study 99 of speech under condition 9801"
    )
    with Store(library.folder) as store:
        assert Index.open(store).warnings == ()


def test_a_running_server_outlives_index_files_that_are_cut(library: HashedLibrary) -> None:
    library.view()
    for file in (library.folder / "index").rglob("*"):
        if file.is_file():
            os.truncate(file, 0)
    assert first(library, QUERY) == (QUERY, [])
    title, (line,) = first(library, QUERY, "chroma")
    assert title == QUERY and "exact scan" in line


@pytest.mark.parametrize("taken_by", ["nothing", "another library", "noise"])
def test_a_running_server_restores_a_library_whose_file_was_replaced(
    library: HashedLibrary, tmp_path: Path, hashing: HashingEncoder, taken_by: str
) -> None:
    library.view()
    with Store(tmp_path / "other", create=True) as other:
        ingest(other, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(5, offset=200))])
    (tmp_path / "noise").write_bytes(b"noise" * 5000)
    file = library.folder / FILE_NAME
    file.unlink()
    if taken_by != "nothing":
        (tmp_path / ("noise" if taken_by == "noise" else f"other/{FILE_NAME}")).rename(file)
    for log in ("-wal", "-shm"):
        file.with_name(file.name + log).unlink(missing_ok=True)
    title, (line,) = first(library, QUERY)
    assert title == QUERY and "60 papers were restored from its journal" in line
    assert len(library.view().index) == PAPERS


def test_nothing_depends_on_the_clock(library: HashedLibrary, tmp_path: Path) -> None:
    for when in (4_000_000_000, 1):
        for path in [library.folder, *library.folder.rglob("*")]:
            os.utime(path, (when, when))
        with closing(opened(library.folder)) as again:
            assert first(again, QUERY) == (QUERY, [])
            records = make_records(1, offset=when % 1000 + 100)
            again.ingest([write_jsonl(tmp_path / f"{when}.jsonl", records)], Reading())
            assert first(again, str(records[0]["title"])) == (records[0]["title"], [])
        assert within_seconds(lambda title=records[0]["title"]: first(library, str(title)) == (title, []))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no limit of memory here")
def test_a_sparse_terabyte_in_the_index_costs_neither_time_nor_memory(library: HashedLibrary) -> None:
    for file in (library.folder / "index").rglob("*"):
        if file.is_file() and file.name != "chroma.sqlite3":
            os.truncate(file, 1 << 40)
    with closing(opened(library.folder)) as again:
        title, (line,) = first(again, QUERY)
        assert title == QUERY and line.startswith("the index was rebuilt")
