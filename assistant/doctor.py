"""Settings -> a list of checks: what was looked at, what was found, and what to do about it.

Looked at are the program and its packages, the settings, the folders, the library with its journal and its index, the
encoder, the token counts and the endpoint of the model, if one is named. Nothing is changed but what opening a library
changes by itself (an index that is missing or damaged is built), and nothing is raised: what goes wrong is a finding.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assistant import journal
from assistant.config import OPENAI_URL, Config, cache_folder, default_library
from assistant.embed import Encoder, open_encoder, same_space
from assistant.errors import AssistantError, LibraryBusy, StoreError
from assistant.index import Index
from assistant.ingest import identity
from assistant.library import Library
from assistant.probe import probe
from assistant.prompt import load_templates
from assistant.store import FILE_NAME, Store
from assistant.tokens import count_tokens
from assistant.write import locked

PROGRAM = "paper-assistant"
ENDPOINT_S = 10.0
"""How long the test of the endpoint may take."""
FREE_BYTES = 1 << 30
"""With less space than this, or than the library takes, an ingest may fail."""
SENTENCE = "Attention weighs every word of a sentence against every other one."

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    """failed: questions cannot be answered as they should be; warning: they can, but see to it."""
    found: str
    next_step: str | None = None
    """What to do about it; None when there is nothing to do."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The check as lines for people."""
        advice = [f"{'':20} -> {self.next_step}"] if self.next_step else []
        return [f"{self.state:8} {self.name:10}  {self.found}", *advice]


def examine(config: Config, say: Callable[[Check], None]) -> bool:
    """Look at everything, in the order in which one thing needs another; True when nothing failed.

    Args:
        config: The settings.
        say: Called with each finding as soon as it is there.
    """
    patient, well = _Patient(config), True
    try:
        for name, look in patient.looks.items():
            for check in _fenced(name, look):
                say(check)
                well = well and check.state != "failed"
    finally:
        patient.close()
    return well


def _fenced(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield what is found; what goes wrong is the last of it."""
    try:
        yield from look()
    except AssistantError as error:
        found, _, step = str(error).partition("; ")
        yield Check(name, "failed", found, step or None)
    except Exception as error:  # noqa: BLE001 - a border: whatever is wrong is what was looked for
        what = f"{type(error).__name__}: {str(error)[:300]}"
        yield Check(name, "failed", what, "set ASSISTANT_DEBUG=1 and run the command that fails to see where")


class _Patient:
    """What is looked at, opened once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.library or default_library()
        self._store: Store | None = None
        self._encoder: Encoder | None = None
        self._is_busy = False
        self.looks: dict[str, Callable[[], Iterator[Check]]] = {
            "program": self._program, "settings": self._settings, "prompts": self._prompts, "folders": self._folders,
            "encoder": self._own_encoder, "library": self._library, "lock": self._lock, "store": self._records,
            "journal": self._journal, "index": self._index, "tokens": self._tokens, "endpoint": self._endpoint,
        }  # fmt: skip

    def close(self) -> None:
        if self._store:
            self._store.close()

    # --- The program --------------------------------------------------------------------------------------------------

    def _program(self) -> Iterator[Check]:
        python = f"Python {platform.python_version()} on {platform.platform(terse=True)}"
        try:
            own, wanted = metadata.version(PROGRAM), metadata.requires(PROGRAM) or []
        except metadata.PackageNotFoundError:
            advice = "`pip install .` checks that all packages are there"
            yield Check("program", "warning", f"run from a checkout, not installed; {python}", advice)
            return
        faults, shown = _unmet(wanted)
        if faults:
            yield Check("program", "failed", "; ".join(faults), f"install it again: pip install --upgrade {PROGRAM}")
        yield Check("program", "ok", f"{PROGRAM} {own}, {python}; {shown}")

    def _settings(self) -> Iterator[Check]:
        chosen = [
            f"{name}={_shown(self._config, name)} ({origin})"
            for name, origin in self._config.origins.items()
            if origin != "default"
        ]
        yield Check("settings", "ok", ", ".join(chosen) or "all as they are by default")
        if self._config.llm_api_key and not self._config.api_key:
            yield Check(
                "settings", "warning", "the key from the environment is not sent to an address from a file",
                "set llm_base_url and llm_api_key in the same place",
            )  # fmt: skip

    def _prompts(self) -> Iterator[Check]:
        load_templates(self._config.prompts)
        yield Check("prompts", "ok", f"read from {self._config.prompts or 'the program itself'}")

    def _folders(self) -> Iterator[Check]:
        for folder, what in ((cache_folder(), "the exported encoder"), (default_library().parent, "conversations")):
            fault = _why_unwritable(folder)
            if fault:
                step = f"make {folder} writable, or what is kept there ({what}) is made anew or lost each time"
                yield Check("folders", "warning", f"cannot write to {folder}: {fault}", step)
            else:
                yield Check("folders", "ok", f"{folder} can be written")

    def _own_encoder(self) -> Iterator[Check]:
        begun = time.monotonic()
        self._encoder = open_encoder(self._config)
        opened = time.monotonic()
        (vector,) = self._encoder.encode_queries([SENTENCE])
        took = f"opened in {opened - begun:.1f} s, a sentence takes {1_000 * (time.monotonic() - opened):.0f} ms"
        length = float(np.linalg.norm(vector))
        if vector.shape != (self._encoder.dim,) or not math.isclose(length, 1, abs_tol=0.01):
            found = f"{self._encoder.identity} gives vectors of shape {vector.shape} and length {length:.3f}"
            yield Check("encoder", "failed", found, "choose another encoder")
        else:
            yield Check("encoder", "ok", f"{identity(self._encoder)}, {self._encoder.dim} dimensions; {took}")

    # --- The library --------------------------------------------------------------------------------------------------

    def _library(self) -> Iterator[Check]:
        folder = self._folder
        if not folder.is_dir():
            if self._config.library is None:
                found = f"none yet in {folder}: the built-in sample answers"
                yield Check("library", "ok", found, "`assistant ingest FILE` starts your own")
            else:
                step = "check the name, or run `assistant ingest` to make it"
                yield Check("library", "failed", f"there is no folder {folder}", step)
            return
        fault, free = _why_unwritable(folder), shutil.disk_usage(folder).free
        if fault:
            step = "check its permissions; until then it can be read only"
            yield Check("library", "warning", f"cannot write to {folder}: {fault}", step)
        size = sum(each.stat().st_size for each in folder.glob("*") if each.is_file())
        shown = f"{size / 1e6:,.0f} MB in {folder}, {free / 1e9:,.1f} GB free"
        if free < max(FREE_BYTES, size):
            yield Check("library", "warning", shown, "free some space: an ingest needs as much as the library takes")
        else:
            yield Check("library", "ok", shown)

    def _lock(self) -> Iterator[Check]:
        # The lock is tried only where somebody seems to hold it: whoever comes to write must not find it taken.
        if (self._folder / "write.holder").exists():
            try:
                with locked(self._folder, "doctor"):
                    yield Check("lock", "ok", "nobody is writing; the last one who did was stopped in the middle")
            except LibraryBusy as error:
                self._is_busy = True
                found, _, step = str(error).partition("; ")
                yield Check("lock", "ok", found, f"it can be searched meanwhile; to add papers {step}")
        elif self._folder.is_dir():
            yield Check("lock", "ok", "nobody is writing")

    def _records(self) -> Iterator[Check]:
        if not self._folder.is_dir():
            return
        try:
            self._store = Store(self._folder)
            self._store.check(thorough=True)
        except AssistantError as error:
            step = "run `assistant papers`: a library that is read is restored from its journal"
            yield Check("store", "failed", str(error), step)
            self._store = None
            return
        papers, chunks = self._store.counts()
        waiting = papers - _count(self._store, "units")
        yield Check("store", "ok", f"{papers} papers in {chunks} chunks, every checksum agrees")
        if waiting:
            step = "run `assistant ingest` on any source: it encodes them first"
            found = f"{waiting} papers are not encoded yet, and no question finds them"
            yield Check("store", "ok" if self._is_busy else "warning", found, step)
        own, wanted = self._store.encoder, identity(self._encoder) if self._encoder else None
        if papers and own and wanted and not same_space(own, wanted):
            yield from self._other_encoder(own, wanted)

    def _other_encoder(self, own: str, wanted: str) -> Iterator[Check]:
        found = f"the library was encoded by {own}, the settings name {wanted}"
        step = "the next ingest, or `assistant serve`, encodes it anew; or set the encoder back"
        yield Check("encoder", "warning", found, step)
        library = Library(self._config)
        try:
            library.view()
        finally:
            library.close()

    def _journal(self) -> Iterator[Check]:
        if self._store is None or not (self._folder / FILE_NAME).exists():
            return
        n_commits = n_damaged = 0
        for _, entries in journal.read(self._folder):
            n_commits += entries is not None
            n_damaged += entries is None
        size, standing = journal.size(self._folder), self._store.standing
        if n_damaged:
            found = f"{n_damaged} stretches of {size:,} bytes cannot be read"
            yield Check("journal", "warning", found, "the library itself is sound; the next ingest writes it anew")
        elif standing == "other":
            step = "the library itself is sound; the next ingest writes it anew"
            yield Check(
                "journal", "warning", f"it is not the one that the library was written with, {size:,} bytes", step
            )
        elif standing == "ahead" and not self._is_busy:
            step = "run `assistant status`: opening the library restores them"
            yield Check("journal", "warning", "it holds changes that the library has lost", step)
        else:
            yield Check("journal", "ok", f"{n_commits} commits in {size:,} bytes, in step with the library")

    def _index(self) -> Iterator[Check]:
        if self._store is None or not _count(self._store, "units"):
            return
        index, n = Index.open(self._store), _count(self._store, "units")
        for warning in index.warnings:
            yield Check("index", "warning", warning, "nothing: it is mended; if it comes again, check the disk")
        if self._store.epoch == index.epoch and (len(index), index.encoder) != (n, self._store.encoder):
            found = f"it holds {len(index)} papers by {index.encoder}, the library {n} by {self._store.encoder}"
            yield Check("index", "failed", found, f"delete {self._folder / 'index'}: it is built anew")
            return
        chunks = index.generation.part.chunks
        if len(chunks) and index.generation.folder is not None and index.uses_chroma(self._config.search):
            try:
                index.generation.nearest(chunks[0], 1)
            except StoreError as error:
                yield Check("index", "warning", str(error), "until then every vector is looked at, which takes longer")
                return
        tail = index.n_tail
        yield Check("index", "ok", f"sound, {len(index)} papers" + (f", {tail} of them in the tail" if tail else ""))

    # --- The model ----------------------------------------------------------------------------------------------------

    def _tokens(self) -> Iterator[Check]:
        model = self._config.llm_model
        if count_tokens(SENTENCE, model).exact:
            yield Check("tokens", "ok", "counted exactly")
            return
        step = "with a network, once: python -c \"import tiktoken; tiktoken.get_encoding('o200k_base')\""
        found = "estimated, with a margin of a tenth: the vocabulary of tiktoken is not in its cache"
        yield Check("tokens", "warning" if model else "ok", found, step if model else None)

    def _endpoint(self) -> Iterator[Check]:
        if not self._config.llm_model:
            address = self._config.origins["llm_base_url"] != "default" and self._config.endpoint != OPENAI_URL
            step = "set llm_model to have the model there asked" if address else None
            found = "no model is named: answers are verbatim sentences"
            yield Check("endpoint", "warning" if address else "ok", found, step)
            return
        tried = probe(self._config, deadline_s=ENDPOINT_S)
        state: State = "failed" if not tried.ok else "ok" if tried.kind == "ok" else "warning"
        step = None if tried.ok else "until then questions are answered with verbatim sentences, and say so"
        yield Check("endpoint", state, tried.message, step)


def _unmet(wanted: list[str]) -> tuple[list[str], str]:
    """Return which requirements are not met, and the versions of the packages that matter most."""
    from packaging.requirements import Requirement

    faults, versions = [], {}
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            versions[requirement.name] = found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            faults.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            faults.append(f"{requirement.name} is {found}, {requirement.specifier} is needed")
    main = ("chromadb", "onnxruntime", "tokenizers", "torch", "sentence-transformers", "numpy")
    return faults, ", ".join(f"{name} {versions[name]}" for name in main if name in versions)


def _shown(config: Config, name: str) -> str:
    """Return a setting as it may be shown."""
    if name == "llm_api_key":
        return "***"
    return config.endpoint if name == "llm_base_url" else str(getattr(config, name))


def _why_unwritable(folder: Path) -> str | None:
    """Return why no file can be made in a folder, or in the one that it would be made in; nothing is left behind."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return "no permission"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _count(store: Store, table: str) -> int:
    return int(store.select(f"SELECT count(*) FROM {table}")[0][0])
