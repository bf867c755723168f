"""Rounds of the product and its peer, in turns on this machine -> what each took, round by round.

Every job runs in a process of its own (`ours`, `peers/`, `machine`), which tells what it measured as JSON. The peer has
an environment of its own in the user's cache folder, made at its first use, and so have the made-up libraries: they are
kept there to be measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assistant.config import cache_folder
from assistant.errors import AssistantError, ConfigError
from assistant.export import built_in_folder
from assistant.index import FORMAT
from assistant.store import SCHEMA
from eval.bench import machine, made

ROOT = Path(__file__).parent.parent.parent
PEER = Path(__file__).parent / "peers" / "langchain_and_chroma.py"
PEER_CHUNKS = 100_000
"""The peer is measured up to so many: it stores about 1,000 a second."""
K = 10
PATIENCE_S = 4 * 3600
"""A job that takes longer will not end: the longest fills a library of a million chunks."""
HELP_RUNS = 5
"""Runs of `assistant --help` in a round."""

Part = Literal["ingest", "search", "help"]
Tell = Callable[[str], None]
Job = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    papers: tuple[str, ...]
    """Sources whose ingest is measured, and which are searched."""
    questions: tuple[str, ...]
    """What they are asked."""
    chunks: tuple[int, ...]
    """Sizes of the made-up libraries that are searched, in chunks."""
    repeats: int
    """Rounds; in so many as search has parts (four), each part has met each question."""
    parts: frozenset[Part]
    alone: bool = False
    """Without the peer."""


def default_papers() -> tuple[str, ...]:
    """Return the corpus that the tests use where it is at hand, else the built-in sample."""
    corpus = Path(os.environ.get("ASSISTANT_TEST_DATA", ROOT.parent / "shared")) / "corpus"
    return (str(corpus if corpus.is_dir() else ROOT / "assistant" / "data" / "sample.jsonl"),)


def read_sizes(text: str) -> tuple[int, ...]:
    """Return sizes written like `10k,100k,1M`.

    Raises:
        ConfigError: One is no size.
    """
    sizes = []
    for each in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"([1-9]\d{0,8})([kM]?)", each)
        if not match:
            raise ConfigError(f"cannot read the size {each!r} in {text!r}; write sizes like 10k,100k,1M")
        sizes.append(int(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]])
    return tuple(sizes)


def measure(plan: Plan, tell: Tell) -> dict[str, Any]:
    """Measure and return what each took: `report.figures` makes the figures of it.

    Raises:
        AssistantError: The peer's environment cannot be made, or a job fails.
    """
    with tempfile.TemporaryDirectory(prefix="assistant-bench-") as folder:
        return _Rounds(plan, Path(folder), tell).run()


class _Rounds:
    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self.plan, self.folder, self.tell = plan, folder, tell
        self._papers = [str(Path(each).absolute()) for each in plan.papers]
        self._weights = str(built_in_folder())
        self._peer = None if plan.alone else peer_python(tell)
        self._encoder = ""
        self._limits: list[dict[str, float]] = []

    def run(self) -> dict[str, Any]:
        about = machine.about()
        self.tell("the texts that an ingest encodes")
        texts = self._ours({"do": "texts", "papers": self._papers, "out": str(self.folder / "texts.jsonl")})
        self._encoder = texts["encoder"]
        found: dict[str, Any] = {"texts": texts, "ingest": [], "search": {}, "help": []}
        self._look_at_machine()
        if "ingest" in self.plan.parts:
            found["ingest"] = self._ingest()
        if "search" in self.plan.parts:
            found["search"] = self._search(found["ingest"])
        if "help" in self.plan.parts:
            found["help"] = self._help()
        limits = {name: [each[name] for each in self._limits] for name in self._limits[0]}
        return {"machine": {**about, "load_after": machine.about()["load"], **limits}, **found}

    # --- The parts ----------------------------------------------------------------------------------------------------

    def _ingest(self) -> list[dict[str, Any]]:
        rounds = []
        for turn in range(self.plan.repeats):
            self.tell(f"ingest, round {turn + 1} of {self.plan.repeats}")
            ours, peer = (self.folder / f"{name}-{turn}" for name in ("ours", "peer"))
            jobs: dict[str, Job] = {
                "ours": {"do": "ingest", "papers": self._papers, "folder": str(ours)},
                "peer": {
                    "do": "ingest",
                    "weights": self._weights,
                    "texts": str(self.folder / "texts.jsonl"),
                    "folder": str(peer),
                },
            }
            rounds.append(self._in_turn(turn, jobs))
            self._look_at_machine()
        return rounds

    def _search(self, ingested: Sequence[object]) -> dict[str, Any]:
        if not ingested:
            self._ours({"do": "ingest", "papers": self._papers, "folder": str(self.folder / "ours-0")})
            if self._peer:
                job = {"do": "ingest", "weights": self._weights, "texts": str(self.folder / "texts.jsonl")}
                self._peers({**job, "folder": str(self.folder / "peer-0")})
        found = {"papers": self._search_size("the papers", self.folder / "ours-0", self.folder / "peer-0", None)}
        self.tell("answers")
        asked: Job = {"do": "answers", "folder": str(self.folder / "ours-0"), "questions": list(self.plan.questions)}
        found["papers"]["answers"] = [self._ours(asked) for _ in range(self.plan.repeats)]
        for n in self.plan.chunks:
            folder = self._made(n)
            has_peer = n <= PEER_CHUNKS
            found[str(n)] = self._search_size(
                f"{n:,} chunks", folder / "library", folder / "chroma" if has_peer else None, n
            )
        return found

    def _search_size(self, name: str, ours: Path, peer: Path | None, n_chunks: int | None) -> dict[str, Any]:
        questions = made.questions(n_chunks) if n_chunks else list(self.plan.questions)
        same = {"do": "search", "questions": questions, "k": K}
        jobs: dict[str, Job] = {"ours": {**same, "folder": str(ours)}}
        if peer:
            jobs["peer"] = {**same, "folder": str(peer), "weights": self._weights}
        parts = {"do": "parts", "folder": str(ours), "questions": questions, "k": K}
        where = made.LATER_HALF if n_chunks else None
        rounds = []
        warm = questions[:2]
        self._in_turn(0, {side: {**job, "questions": warm} for side, job in jobs.items()})  # maybe mends its index
        for turn in range(self.plan.repeats):
            self.tell(f"search in {name}, round {turn + 1} of {self.plan.repeats}")
            rounds.append(self._in_turn(turn, jobs))
            rounds[-1]["parts"] = self._ours({**parts, "turn": turn, "where": where})
            self._look_at_machine()
        return {"chunks": rounds[0]["parts"]["chunks"], "rounds": rounds}

    def _help(self) -> list[dict[str, float]]:
        self.tell("assistant --help")
        commands = {"help": [sys.executable, "-m", "assistant", "--help"], "bare": [sys.executable, "-c", "pass"]}
        rounds = []
        for _ in range(self.plan.repeats * HELP_RUNS):
            taken = {}
            for name, command in commands.items():
                begun = time.perf_counter()
                env = _environment(PYTHONPATH=str(ROOT))
                subprocess.run(command, env=env, cwd=self.folder, capture_output=True, check=True)  # noqa: S603 - ours
                taken[name] = time.perf_counter() - begun
            rounds.append(taken)
        return rounds

    # --- What is kept -------------------------------------------------------------------------------------------------

    def _made(self, n_chunks: int) -> Path:
        """Return the folder of a made-up library, for the peer too where it takes part; made when it is not there."""
        stamp = f"{self._encoder} {SCHEMA} {FORMAT}".encode()
        key = hashlib.sha256(Path(made.__file__).read_bytes() + stamp).hexdigest()[:16]
        folder = cache_folder() / "eval" / f"made-{n_chunks}-{key}"
        if not folder.exists():
            self.tell(f"making a library of {n_chunks:,} chunks in {folder}")
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
            self._ours({"do": "fill", "n_chunks": n_chunks, "folder": str(draft), "for_peers": n_chunks <= PEER_CHUNKS})
            draft.rename(folder)
        chroma = folder / "chroma"
        if self._peer and n_chunks <= PEER_CHUNKS and not chroma.exists():
            self.tell(f"making the same for LangChain + Chroma in {chroma}")
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder))
            made_of = {"vectors": str(folder / "vectors.npy"), "texts": str(folder / "texts.jsonl")}
            self._peers({"do": "fill", **made_of, "folder": str(draft)})
            draft.rename(chroma)
        return folder

    # --- Processes ----------------------------------------------------------------------------------------------------

    def _in_turn(self, turn: int, jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Run a round: who begins changes from one to the next."""
        names = [name for name in jobs if name == "ours" or self._peer]
        run = {"ours": self._ours, "peer": self._peers}
        return {name: run[name](jobs[name]) for name in (names if turn % 2 == 0 else names[::-1])}

    def _ours(self, job: Job) -> dict[str, Any]:
        return _run([sys.executable, "-m", "eval.bench.ours"], job, self.folder, _environment(PYTHONPATH=str(ROOT)))

    def _peers(self, job: Job) -> dict[str, Any]:
        return _run([str(self._peer), str(PEER)], job, self.folder, _environment())

    def _look_at_machine(self) -> None:
        command = [sys.executable, "-m", "eval.bench.machine"]
        self._limits.append(_run(command, {}, self.folder, _environment(PYTHONPATH=str(ROOT))))


def peer_python(tell: Tell) -> Path:
    """Return the Python of the environment that LangChain + Chroma has of its own; made at its first use.

    Raises:
        AssistantError: It cannot be made.
    """
    wanted = PEER.with_suffix(".txt")
    key = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache_folder() / "eval" / f"{PEER.stem}-{key}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    finished = folder / "finished"
    if not finished.exists():
        tell(f"installing LangChain + Chroma in {folder}, once: some minutes, 2 GB")
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was stopped
        folder.parent.mkdir(parents=True, exist_ok=True)
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            wanted,
        ]
        commands: list[list[str | Path]] = [[sys.executable, "-m", "venv", folder], pip]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
            if done.returncode:
                why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
                raise AssistantError(
                    f"cannot install what {wanted} names: {' '.join(why)}; check the network, or measure with --alone"
                )
        finished.touch()
    return python


def _run(command: Sequence[str], job: Job, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Run a job in a process of its own; return what it tells, and when its first result was there since it began."""
    begun = time.time()
    done = subprocess.run(  # noqa: S603 - our own
        [*command, json.dumps(job)],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise AssistantError(
            f"the job {job.get('do')!r} of {command[-1]} failed and said {said[0][:300]!r}; run it alone"
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["process_seconds"] = time.time() - begun
    if "first_at" in result:
        result["first_seconds"] = result.pop("first_at") - begun
    return result


def _environment(**more: str) -> dict[str, str]:
    """Return the environment of a job: nothing asks a hub, nothing reports home; the product's settings stay."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False", **more}
