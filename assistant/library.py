"""A library, opened to be read and changed: its store, its index and its encoder, and how they are kept current.

Everything is opened at first use. A library that another process changes is opened anew within a second; one that is
damaged is restored; one whose vectors come from another encoder than the settings name is searched with its own
encoder until `reencode` has made it anew.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant import index as _index
from assistant import ingest as _ingest
from assistant.config import Config, default_library
from assistant.embed import Encoder, document_encoder, open_encoder, same_space
from assistant.errors import AssistantError, EncoderMismatch, LibraryBusy, LibraryDamaged
from assistant.index import Index
from assistant.recover import open_library, restore
from assistant.store import Store
from assistant.write import writing

if TYPE_CHECKING:
    from assistant.sources import Source

LEAVE_S = 60.0
"""How long a library that has changed stays open as it was, for those who are reading it."""

_log = logging.getLogger(__name__)

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class View:
    """What one question is answered from."""

    store: Store
    index: Index
    encoder: Encoder
    """The encoder of the index's vectors."""
    warnings: tuple[str, ...]
    """What had to be restored, or is not as the settings say, in words."""


class Library:
    """The library that a configuration names; safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.notes: tuple[str, ...] = ()
        """What had to be restored, in words."""
        self._lock = threading.RLock()
        self._wanted: Encoder | None = None
        self._own: Encoder | None = None
        self._store: Store | None = None
        self._index: Index | None = None
        self._left: list[tuple[float, Store]] = []
        self._is_sample = False

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for store in (self._store, *(store for _, store in self._left)):
                if store:
                    store.close()
            self._store = self._index = None
            self._left = []

    # --- Reading ------------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where papers are ingested to."""
        return self.config.library or default_library()

    @property
    def name(self) -> str:
        """What answers: the folder of the library, or "sample" while the default library is empty."""
        self.store()
        return "sample" if self._is_sample else str(self.folder)

    def store(self) -> Store:
        """Return the store, opened, and restored where that was needed."""
        with self._lock:
            if self._store is not None and not self._is_sample and not self._store.is_current:
                self.forget()
            if self._store is None:
                self._store, self._is_sample = self._find_store()
            return self._store

    def view(self) -> View:
        """Return what one question is answered from: index, encoder and store agree with each other."""
        store, wanted = self.store(), self.wanted_encoder()
        index, warnings = self._open_index(store), self.notes
        if index.encoder is None or same_space(index.encoder, _ingest.identity(wanted)):
            return View(store, index, wanted, warnings)
        other = (
            f"searched with {index.encoder}, which encoded the library; the settings name {_ingest.identity(wanted)}:"
            " `assistant serve` or the next ingest encodes it anew"
        )
        return View(store, index, self._open_own(store, str(index.encoder)), (*warnings, other))

    def _open_index(self, store: Store) -> Index:
        """Return the index, opened anew when the store has changed."""
        with self._lock:
            if self._index is None or store.epoch != self._index.epoch:
                self._index = Index.open(store, self._index)
            return self._index

    def wanted_encoder(self) -> Encoder:
        """Return the encoder that the settings name."""
        with self._lock:
            if self._wanted is None:
                self._wanted = open_encoder(self.config)
            return self._wanted

    def _document_encoder(self, made_by: str | None) -> Encoder:
        """Return what encodes documents for a library whose vectors were made by this encoder, or by none yet."""
        return document_encoder(self.config, self.wanted_encoder(), made_by)

    def _open_own(self, store: Store, identity: str) -> Encoder:
        """Return the encoder of the library's vectors, which is another one than the settings name.

        Raises:
            EncoderMismatch: It is not to be had.
        """
        with self._lock:
            if self._own is not None and same_space(_ingest.identity(self._own), identity):
                return self._own
            name = store.meta("encoder_name")
            try:
                own = open_encoder(self.config.changed(encoder=name, encoder_backend="auto")) if name else None
            except AssistantError:
                own = None
            if own is None or not same_space(_ingest.identity(own), identity):
                raise EncoderMismatch(
                    f"the library in {store.folder} was encoded by {identity}, which is not to be had here, and the"
                    f" settings name {_ingest.identity(self.wanted_encoder())}; set the encoder back, or run `assistant"
                    " ingest` on any source to have the library encoded anew"
                )
            self._own = own
            return own

    def restore(self, error: LibraryDamaged) -> None:
        """Restore a library that turned out to be damaged while it was read, and open it anew."""
        with self._lock:
            note = restore(self.folder, str(error))
            self._tell([note] if note else [])
            self.forget()
            with Store(self.folder) as store:
                self._complete(store)

    def forget(self) -> None:
        """Open the library anew at the next call: it has changed, or is no longer the sample.

        The one before stays open for a while: other threads may be reading it.
        """
        with self._lock:
            now = time.monotonic()
            while self._left and self._left[0][0] < now - LEAVE_S:
                self._left.pop(0)[1].close()
            if self._store:
                self._left.append((now, self._store))
            self._store = self._index = None

    def _find_store(self) -> tuple[Store, bool]:
        if self.config.library is not None or self.folder.is_dir():
            store, notes = open_library(self.folder)
            if notes:
                self._tell(notes)
                self._complete(store)
            if self.config.library is not None or not store.is_empty:
                return store, False
            store.close()
        from assistant.sample import open_sample

        return open_sample(self.wanted_encoder()), True

    def _complete(self, store: Store) -> None:
        """Encode what a restored library no longer holds the vectors of; whoever is at it already is not disturbed."""
        if not store.waiting(limit=1):
            return
        encoder = self._document_encoder(store.encoder)
        identity = _ingest.identity(encoder)
        if store.encoder not in {None, identity}:
            return
        try:
            with writing(store, "restore") as writer:
                with writer.transaction():
                    writer.set_encoder(identity, encoder.dim)
                _ingest.encode_waiting(store, writer, encoder, lambda _n: None)
        except LibraryBusy as error:
            _log.info("restored papers are not encoded here: %s", error)

    def _tell(self, notes: Sequence[str]) -> None:
        self.notes = tuple(dict.fromkeys([*self.notes, *notes]))

    # --- Changing -----------------------------------------------------------------------------------------------------

    def ingest(
        self, sources: Sequence[Source], reading: _ingest.Reading, progress: Progress | None = None
    ) -> _ingest.Ledger:
        """Read sources into the library; see `assistant.ingest`. One of another encoder is encoded anew first."""
        if reading.dry and not self.folder.is_dir():
            with (
                tempfile.TemporaryDirectory(prefix="assistant-dry-") as empty,
                Store(Path(empty), create=True) as store,
            ):
                return _ingest.ingest(store, None, sources, reading=reading)
        store, notes = open_library(self.folder, create=True)
        self._tell(notes)
        with store:
            if reading.dry:
                return _ingest.ingest(store, None, sources, reading=reading)
            encoder = self._document_encoder(store.encoder)
            self._reencode(store, encoder, progress)
            ledger = _ingest.ingest(
                store, encoder, sources, reading=reading, progress=progress, search=self.config.search
            )
            self._name_encoder(store)
        self.forget()
        return ledger

    def take_in(self, file: Path, progress: Progress | None = None) -> _ingest.Ledger:
        """Take in a library's file, checked as a whole before anything is changed; see `assistant.move`."""
        from assistant import move  # most runs move nothing
        from assistant.parcel import Parcel

        with Parcel(file) as parcel:
            move.check(parcel, self.wanted_encoder())
            store, notes = open_library(self.folder, create=True)
            self._tell(notes)
            with store:
                encoder = self._document_encoder(store.encoder or parcel.manifest.encoder)
                self._reencode(store, encoder, progress)
                ledger = move.take_in(store, encoder, parcel, progress=progress, search=self.config.search)
                self._name_encoder(store)
        self.forget()
        return ledger

    def remove(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Delete papers by id or any key; return the names that were found and those that were not."""
        store, _ = open_library(self.folder)
        with store:
            result = _ingest.remove(store, names)
        self.forget()
        return result

    def split(self, paper_id: str, digests: Sequence[str]) -> list[str]:
        """Undo merges; see `assistant.ingest.split`."""
        store, _ = open_library(self.folder)
        with store:
            made = _ingest.split(store, paper_id, digests)
            self._complete(store)
        self.forget()
        return made

    def reencode(self, progress: Progress | None = None) -> int:
        """Encode the library anew if its vectors are not of the encoder that the settings name; return how many papers.

        It can be read, searched and added to meanwhile; the switch comes at the end, as one change.
        """
        if self.name == "sample":
            return 0
        store, _ = open_library(self.folder)
        with store:
            wanted = _ingest.identity(self.wanted_encoder())
            if self.config.encoder_backend == "auto" and same_space(store.encoder or wanted, wanted):
                return 0  # Only an ingest minds the precision.
            n = self._reencode(store, self._document_encoder(store.encoder), progress)
        if n:
            self.forget()
        return n

    def _reencode(self, store: Store, encoder: Encoder, progress: Progress | None) -> int:
        identity, total = _ingest.identity(encoder), 0
        if store.encoder in {None, identity} or store.is_empty:
            return 0
        _log.warning("encoding %s papers anew: %s -> %s", store.counts()[0], store.encoder, identity)
        if store.meta("next_encoder") != identity:
            with writing(store, "reencode") as writer, writer.transaction():
                writer.drop_next_units()
                store.set_meta("next_encoder", identity)
        while True:
            # The lock is held for one batch at a time, so that others can write in between.
            with writing(store, "reencode") as writer:
                done = _ingest.encode_some(store, writer, encoder, progress or (lambda _n: None), "next_units")
                total += done
                if not done:
                    with writer.transaction():
                        writer.switch_units(identity, encoder.dim)
                    self._name_encoder(store)
                    _index.seal(store, self.config.search)
                    return total

    def _name_encoder(self, store: Store) -> None:
        """Keep the name under which the encoder of the vectors can be opened again."""
        wanted = _ingest.identity(self.wanted_encoder())
        if store.meta("encoder_name") != self.config.encoder and same_space(store.encoder or "", wanted):
            with store.transaction():
                store.set_meta("encoder_name", self.config.encoder)
