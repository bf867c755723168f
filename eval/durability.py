"""Kill an ingest at any moment, start again, and count what is lost: `python -m eval durability`.

Each trial has a library of its own. One process ingests made-up papers, in three runs with an index built at the end of
each, and is stopped by SIGKILL: at a random time; while index files are written; or between a commit's place in the
journal and in the store. Acknowledged is what another connection reads before that. Then a new process opens the
library, has to find each acknowledged paper by its title, and ingests the same files again: the library has to be equal
to one that was never disturbed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from assistant import index as _index
from assistant import journal
from assistant.answer import Assistant
from assistant.config import Config
from assistant.embed import Encoder
from assistant.errors import LibraryDamaged
from assistant.index import Index
from assistant.ingest import Reading
from assistant.library import Library
from assistant.retrieve import search
from assistant.store import FILE_NAME, Store

ROOT = Path(__file__).parent.parent
PAPERS, FILES, RUNS = 60, 12, 3
"""Papers of a trial, the files they stand in (each is a commit of its own), and the runs they are ingested in."""
STILL_S = 5.0
"""An ingest in which nothing changes for so long has ended."""
LIMIT_S = 60.0
"""A start that has not answered by then has failed."""
_TOPICS = ("graphs", "speech", "proteins", "glaciers", "prices", "poems", "robots", "soils", "tides", "proofs")

Aim = Literal["time", "index", "commit", "real"]


class Hashing:
    """A quick encoder for all but quality: a text is the sum of its words' random directions."""

    identity, dim, max_tokens = "hashing", 32, 64

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, dim) rows of length 1."""
        rows = [
            sum((self._word(word) for word in re.findall(r"\w+", text.lower())), np.full(self.dim, 1e-3))
            for text in texts
        ]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(len(texts), self.dim)

    def encode_documents(
        self, texts: Sequence[str], _progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return (n, dim) rows of length 1."""
        return self.encode_queries(texts)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return the words and signs of each text."""
        return [[match.span() for match in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]

    def _word(self, word: str) -> NDArray[np.float64]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dim)


class HashedLibrary(Library):
    """A library with the quick encoder."""

    def wanted_encoder(self) -> Encoder:
        """Return the quick encoder, whatever the settings name."""
        return Hashing()


def write_papers(folder: Path, n: int = PAPERS, files: int = FILES) -> list[str]:
    """Write files of made-up papers, a JSON line each; return the titles."""
    folder.mkdir(parents=True)
    titles = []
    for i in range(files):
        lines = []
        for number in range(i, n, files):
            topic = _TOPICS[number % len(_TOPICS)]
            titles.append(f"Study {number} of {topic} under condition {number * number}")
            abstract = (
                f"We look at {topic} in setting number {number}. Our method m{number} uses device d{number * 3} and"
                f" reaches {50 + number % 50}.{number % 10} percent on set s{number}. Compared with earlier work"
                f" w{number}, it needs {number + 2} times less."
            )
            lines.append(json.dumps({"title": titles[-1], "abstract": abstract, "year": 2000 + number % 25}) + "\n")
        (folder / f"part-{i:02d}.jsonl").write_text("".join(lines), encoding="utf-8")
    return titles


# --- What runs in processes of their own ------------------------------------------------------------------------------


def ingest_in_runs(folder: Path, sources: Path) -> None:
    """Ingest all files, and print the titles that another connection reads, as soon as it does."""
    _index.TAIL_CHUNKS, _index.TAIL_SHARE = 1, 0.0  # each run builds an index
    files = sorted(sources.iterdir())
    _say("begin")
    threading.Thread(target=_acknowledge, args=(folder,), daemon=True).start()
    with closing(HashedLibrary(Config(library=folder))) as library:
        for run in range(RUNS):
            library.ingest(files[run * len(files) // RUNS : (run + 1) * len(files) // RUNS], Reading())
    for title in committed(folder):
        _say(title)
    _say("done")
    sys.stdin.read()  # until it is killed


def ingest_and_hold(folder: Path, sources: Path) -> None:
    """Ingest all files and keep the library open: its last commits then stand in SQLite's log alone."""
    _index.TAIL_CHUNKS, _index.TAIL_SHARE = 1, 0.0
    _say("begin")
    with Store(folder, create=True), closing(HashedLibrary(Config(library=folder))) as library:
        library.ingest(sorted(sources.iterdir()), Reading())
        _say("done")
        sys.stdin.read()


def start(folder: Path, sources: Path, asked: Path, how: str) -> None:
    """Open a library as a new process does, search for titles, and ingest again if there are sources; print JSON."""
    titles, warnings = json.loads(asked.read_text(encoding="utf-8")), []
    with closing(HashedLibrary(Config(library=folder))) as library:

        def ask(title: str) -> list[str]:
            view = library.view()
            hits = search(view.store, view.index, view.encoder, title, k=10, how=how)
            warnings.extend([*view.warnings, *hits.warnings])
            return [hit.paper.title for hit in hits]

        def find(title: str) -> list[str]:
            try:
                return ask(title)
            except LibraryDamaged as error:  # as `Assistant` does
                library.restore(error)
                return ask(title)

        _say(json.dumps(find(titles[0])))
        found = {title: find(title) for title in titles}
        result: dict[str, Any] = {"found": found, "warnings": list(dict.fromkeys(warnings))}
        result["papers"] = library.store().counts()[0]
        if sources.is_dir():
            result["first"] = _soundness(folder, titles[0])
            library.ingest(sorted(sources.iterdir()), Reading())
            result["again"] = _soundness(folder, titles[0])
    _say(json.dumps(result))


def _soundness(folder: Path, query: str) -> dict[str, Any]:
    """Look a library through."""
    with Store(folder) as store:
        store.check(thorough=True)
        index, encoder = Index.open(store), Hashing()
        by_chroma, exact = (
            [hit.paper.id for hit in search(store, index, encoder, query, k=10, how=how)] for how in ("chroma", "exact")
        )
        return {
            "digest": store.digest(),
            "papers": store.counts()[0],
            "is_indexed": len(index) == store.counts()[0] and not index.warnings and by_chroma == exact,
            "has_journal": store.standing == "same" and journal.is_whole(folder),
            "litter": [path.name for name in ("index/draft-*", "restored-*") for path in folder.glob(name)],
        }


def committed(folder: Path) -> Iterator[str]:
    """Yield the titles that a reader of a library finds now."""
    with closing(sqlite3.connect(f"{(folder / FILE_NAME).as_uri()}?mode=ro", uri=True)) as db:
        yield from (row[0] for row in db.execute("SELECT title FROM papers"))


def _acknowledge(folder: Path) -> None:
    seen: set[str] = set()
    while True:
        with suppress(sqlite3.Error):
            for title in set(committed(folder)) - seen:
                seen.add(title)
                _say(title)
        time.sleep(0.001)


def _say(line: str) -> None:
    os.write(1, (line + "\n").encode())  # at once: a buffer would be lost


def hold_and_kill(folder: Path, sources: Path) -> None:
    """Ingest into a library, and stop the process before it has closed the files."""
    process = _spawn("hold", folder, sources)
    assert process.stdout
    while process.stdout.readline() not in {"done\n", ""}:
        pass
    process.kill()
    process.communicate()


# --- Trials -----------------------------------------------------------------------------------------------------------


@dataclass
class Trial:
    """What became of one library."""

    aim: Aim
    acknowledged: int
    lost: list[str] = field(default_factory=list)
    """Acknowledged titles that the next start did not find."""
    faults: list[str] = field(default_factory=list)
    """What else was not as it has to be."""
    seconds: float = 0.0
    """From the start of the next process to its first answer."""
    warnings: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """True when nothing failed."""
        return not self.lost and not self.faults and self.seconds < LIMIT_S


def run_trials(n: int, real: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run `n` trials, half aimed at index writes; a tenth as many aimed at commits; `real` with the real encoder."""
    rng, trials = random.Random(seed), list[Trial]()  # noqa: S311 - it chooses moments
    aims: list[Aim] = ["index", "time"] * (n // 2)
    aims.extend(["time"] * (n % 2))
    aims.extend(["commit"] * (n // 10))
    with tempfile.TemporaryDirectory(prefix="assistant-durability-") as name:
        home = Path(name)
        sources = home / "sources"
        write_papers(sources)
        span = _measure(home, sources)
        say(f"an undisturbed ingest takes {span.seconds:.2f} s and changes index files {span.events} times")
        for i, aim in enumerate(aims, 1):
            trials.append(_try(home / f"library-{i}", sources, span, aim, rng))
            _report(trials[-1], i, len(aims), say)
        if real:
            say("with the real encoder")
            trials += _try_really(home, sources, real, rng, say)
    return {
        "what": "durability",
        "seed": seed,
        "rows": _rows(trials),
        "failed": [asdict(t) for t in trials if not t.is_good],
    }


def _report(trial: Trial, i: int, n: int, say: Callable[[str], None]) -> None:
    if not trial.is_good:
        say(f"trial {i}, {trial.aim}: {len(trial.lost)} lost, {'; '.join(trial.faults)}, {trial.seconds:.1f} s")
    elif i % 20 == 0:
        say(f"{i} of {n} trials")


def _rows(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    rows = {}
    for aim in ("time", "index", "commit", "real"):
        some = [trial for trial in trials if trial.aim == aim]
        if some:
            rows[aim] = {
                "trials": len(some),
                "acknowledged": sum(trial.acknowledged for trial in some),
                "part-way": sum(0 < trial.acknowledged < PAPERS for trial in some),
                "lost": sum(len(trial.lost) for trial in some),
                "refused": sum("no answer" in " ".join(trial.faults) for trial in some),
                "other faults": sum(bool(trial.faults) for trial in some),
                "told": sum(bool(trial.warnings) for trial in some),
                "slowest_s": round(max(trial.seconds for trial in some), 2),
            }
    return rows


@dataclass(frozen=True, slots=True)
class _Span:
    """How an ingest goes that nobody disturbs."""

    seconds: float
    events: int
    """How often its index files are seen to change."""
    commits: int
    digest: str


def _measure(home: Path, sources: Path) -> _Span:
    folder = home / "undisturbed"
    with _Ingest(folder, sources) as child:
        begun = time.monotonic()
        events, commits, before = 0, 0, (frozenset[Any](), 0)
        while not child.is_done():
            now = (_index_files(folder), journal.size(folder))
            events, commits, before = events + (now[0] != before[0]), commits + (now[1] != before[1]), now
        seconds = time.monotonic() - begun
    with Store(folder) as store:
        return _Span(seconds, events, commits, store.digest())


def _try(folder: Path, sources: Path, span: _Span, aim: Aim, rng: random.Random) -> Trial:
    with _Ingest(folder, sources) as child:
        if aim == "time":
            time.sleep(rng.uniform(0, 1.1 * span.seconds))
        else:
            state = _index_files if aim == "index" else journal.size
            n = span.events if aim == "index" else span.commits
            _wait_for_changes(lambda: state(folder), rng.randint(1, n), child.process)
            if aim == "index":
                time.sleep(rng.choice([0, rng.uniform(0, 0.004)]))
        child.process.kill()
        acknowledged = child.acknowledged()
    trial = Trial(aim, len(acknowledged))
    if folder.is_dir():
        _check_start(folder, sources, sorted(acknowledged) or ["nothing"], span.digest, trial)
    if trial.is_good:
        shutil.rmtree(folder, ignore_errors=True)
    return trial


def _wait_for_changes(state: Callable[[], Any], n: int, process: subprocess.Popen[str]) -> None:
    """Return at once when something was seen to change `n` times, or no more changes come."""
    before, since = state(), time.monotonic()
    while n and process.poll() is None and time.monotonic() - since < STILL_S:
        now = state()
        if now != before:
            n, before, since = n - 1, now, time.monotonic()


def _check_start(folder: Path, sources: Path, titles: list[str], digest: str, trial: Trial) -> None:
    result, trial.seconds, fault = run_start(folder, sources, titles, "auto")
    if result is None:
        trial.faults.append(f"no answer: {fault}")
        return
    trial.warnings = result["warnings"]
    trial.lost = [title for title in titles if title != "nothing" and title not in result["found"][title][:1]]
    first, again = result["first"], result["again"]
    trial.faults += [
        what
        for what, is_fault in {
            "the index is not sound": first["papers"] and not first["is_indexed"],
            "the index is not sound after the second ingest": not again["is_indexed"],
            "the journal is not whole": not first["has_journal"] or not again["has_journal"],
            "the second ingest ended with another library": again["digest"] != digest,
            f"left behind: {again['litter']}": again["litter"],
        }.items()
        if is_fault
    ]


def run_start(folder: Path, sources: Path, titles: list[str], how: str) -> tuple[dict[str, Any] | None, float, str]:
    """Start a new process on a library; return what it found, the seconds to its first answer, and why it failed."""
    asked = folder.with_suffix(".asked")
    asked.write_text(json.dumps(titles), encoding="utf-8")
    begun, process = time.monotonic(), _spawn("start", folder, sources, asked, how)
    assert process.stdout
    timer = threading.Timer(LIMIT_S, process.kill)
    timer.start()
    process.stdout.readline()
    seconds = time.monotonic() - begun
    out, err = process.communicate()
    timer.cancel()
    asked.unlink()
    if process.returncode:
        return None, seconds, f"exit {process.returncode}: {(err.strip().splitlines() or [''])[-1]}"
    return json.loads(out), seconds, ""


class _Ingest:
    """A process that ingests, until it is killed."""

    def __init__(self, folder: Path, sources: Path) -> None:
        self.process = _spawn("ingest", folder, sources)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        assert self.process.stdout
        self.process.stdout.readline()  # begin
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._reader.join()
        self.process.communicate()

    def _read(self) -> None:
        assert self.process.stdout
        self._lines.extend(line.rstrip("\n") for line in self.process.stdout)

    def is_done(self) -> bool:
        """True when nothing more will come."""
        return self._lines[-1:] == ["done"] or self.process.poll() is not None

    def acknowledged(self) -> set[str]:
        """Return what was acknowledged, once it is killed."""
        self._reader.join()
        return set(self._lines) - {"done"}


def _spawn(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "eval.durability", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603


def _index_files(folder: Path) -> frozenset[tuple[str, int]]:
    found = set()
    for home, _, names in os.walk(folder / "index"):
        for name in names:
            with suppress(OSError):
                found.add((f"{home}/{name}", Path(home, name).stat().st_size))
    return frozenset(found)


# --- With the real encoder, by the command line -----------------------------------------------------------------------


def _try_really(home: Path, sources: Path, n: int, rng: random.Random, say: Callable[[str], None]) -> Iterator[Trial]:
    files, folder = sorted(sources.iterdir()), home / "real"
    begun = time.monotonic()
    _command("ingest", *files, "--library", folder).communicate()
    seconds = time.monotonic() - begun
    with Store(folder) as store:
        digest = store.digest()
    shutil.rmtree(folder)
    say(f"an undisturbed ingest takes {seconds:.2f} s")
    for i in range(1, n + 1):
        process = _command("ingest", *files, "--library", folder)
        if i % 2:
            time.sleep(rng.uniform(0.3, 1.05) * seconds)
        else:
            _wait_for_changes(lambda: _index_files(folder), rng.randint(1, 30), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        trial = Trial("real", 0)
        if (folder / FILE_NAME).exists():
            _check_really(folder, files, digest, trial)
        _report(trial, i, n, say)
        shutil.rmtree(folder, ignore_errors=True)
        yield trial


def _check_really(folder: Path, files: Sequence[Path], digest: str, trial: Trial) -> None:
    with suppress(sqlite3.Error):  # no table yet
        acknowledged = sorted(committed(folder))
        trial.acknowledged = len(acknowledged)
    titles = acknowledged if trial.acknowledged else ["nothing"]
    begun, process = time.monotonic(), _command("search", titles[0], "--library", folder, "--json", "-k", "1")
    out, err = process.communicate(timeout=LIMIT_S)
    trial.seconds = time.monotonic() - begun
    if process.returncode:
        trial.faults.append(f"no answer: exit {process.returncode}: {(err.strip().splitlines() or [''])[-1]}")
        return
    trial.warnings = json.loads(out)["warnings"]
    with Assistant(Config(library=folder)) as assistant:
        for title in titles if trial.acknowledged else []:
            if [hit.paper.title for hit in assistant.search(title, k=1)] != [title]:
                trial.lost.append(title)
    _command("ingest", *files, "--library", folder).communicate()
    with Store(folder) as store:
        store.check(thorough=True)
        if store.digest() != digest:
            trial.faults.append("the second ingest ended with another library")
        if Index.open(store).warnings:
            trial.faults.append("the index is not sound after the second ingest")


def _command(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "assistant", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)  # noqa: S603


if __name__ == "__main__":
    if sys.argv[1] == "ingest":
        ingest_in_runs(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "hold":
        ingest_and_hold(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        start(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
