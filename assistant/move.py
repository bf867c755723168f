"""A library's file -> another library: what one has, the other has too, its ids, names and vectors included.

A paper goes to the one it is here: the one of its id, if they look alike, or else by the rules of every source
(`identity`). Two papers of the file become one only by what is said of them here. A paper counts once, in this order:
rejected; merged (it is a paper that this run has already touched); new; unchanged; else updated. Vectors are taken
when they are of the same encoder and text; what lacks them is encoded. Papers are committed in batches: an interrupted
import, run again, goes on from there, and once it is whole another one changes nothing.

The sources of the records go along, which are names of files on the machine that they were read on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from assistant import index
from assistant.embed import Encoder, same_space
from assistant.errors import CorpusError
from assistant.identity import contradict, new_id, same_abstract, strong_keys, title_key
from assistant.ingest import Ledger, SourceLedger, encode_waiting, identity, refresh
from assistant.papers import Rejected
from assistant.parcel import Packed, Parcel, Said
from assistant.store import Store
from assistant.write import Writer, writing

BATCH, BATCH_BYTES = 1_000, 32 << 20
"""Papers committed together, at most; fewer when so much text or so many bytes of vectors have come together."""
MOST_WARNINGS = 1_000
"""Warnings that the ledger names."""
ELSEWHERE = " (imported)"
"""Stands behind a source that has the same name here as there and means another paper by the same id of its own."""

Progress = Callable[[int], None]
"""Called with a number of papers that are stored together with their vectors."""


def check(parcel: Parcel, encoder: Encoder | None) -> None:
    """Hold that the whole file can be taken in; nothing is changed.

    Args:
        parcel: The file.
        encoder: That of the library that it is for.

    Raises:
        CorpusError: Something in it is not as it should be.
    """
    about = parcel.manifest
    is_comparable = encoder and about.encoder and same_space(about.encoder, identity(encoder))
    if encoder and is_comparable and about.rows and about.dim != encoder.dim:
        raise CorpusError(
            f"cannot import {parcel.file}: its vectors have {about.dim} columns, and those of {about.encoder} have"
            f" {encoder.dim}; export the library again"
        )
    parcel.check()


def take_in(
    store: Store,
    encoder: Encoder | None,
    parcel: Parcel,
    *,
    progress: Progress | None = None,
    search: str = "auto",
) -> Ledger:
    """Take a library's file, which has been checked, into a library.

    Args:
        store: The library.
        encoder: Makes the vectors that are missing; must be the one that made those already there. None: nothing is
            encoded or indexed, and vectors are taken where they are of the library's own encoder or it has none.
        parcel: The file.
        progress: Called as papers are stored.
        search: `Config.search`, for the index.

    Raises:
        CorpusError: The file has changed since it was checked; what came before stays.
        EncoderMismatch: The library's vectors are another encoder's.
        LibraryBusy: Another process is writing.
        StoreError: The library cannot be written.
    """
    begun, progress = time.monotonic(), progress or (lambda _n: None)
    if encoder is not None:
        store.check_encoder(identity(encoder))
    with writing(store, "import") as writer:
        run = _Run(store, writer, encoder, parcel)
        run.read(progress)
        encoded = encode_waiting(store, writer, encoder, progress) if encoder else 0
        papers, chunks = store.counts()
        ledger = Ledger([run.ledger], papers, chunks, encoded, time.monotonic() - begun)
        with writer.transaction():
            writer.end_run(run.number, ledger.as_dict())
        if papers and encoder is not None:
            index.seal(store, search)
    ledger.seconds = time.monotonic() - begun
    return ledger


class _Run:
    """One import."""

    def __init__(self, store: Store, writer: Writer, encoder: Encoder | None, parcel: Parcel) -> None:
        self._store, self._writer, self._parcel = store, writer, parcel
        self._encoder = identity(encoder) if encoder else store.encoder or parcel.manifest.encoder
        self._dim = encoder.dim if encoder else store.dim or parcel.manifest.dim
        self._events: list[tuple[object, ...]] = []
        self.ledger = SourceLedger(str(parcel.file), "library")
        self.number = 0

    def read(self, progress: Progress) -> None:
        """Take the papers in, in committed batches."""
        key, papers = str(self._parcel.file.resolve()), self._parcel.papers()
        with self._writer.transaction():
            self.number = self._writer.begin_run()
            if self._encoder:
                self._writer.set_encoder(self._encoder, self._dim)
        done = False
        while not done:
            with self._writer.transaction():
                done, n = self._batch(papers)
                self._writer.add_events(key, self.number, self._events)
                self._events.clear()
                if done:
                    self._writer.drop_older_events(key, self.number)
            progress(n)

    def _batch(self, papers: Iterator[Packed]) -> tuple[bool, int]:
        """Take some papers; return whether these were the last, and how many have their vectors."""
        n_bytes = n_whole = 0
        for seen, paper in enumerate(papers, 1):
            for note in paper.notes[: MOST_WARNINGS - len(self.ledger.warnings)]:
                self.ledger.warnings.append(f"{paper.where} ({paper.id}): {note}")
            if paper.said:
                self.ledger.found += 1
                kind, n, reason = self._take(paper)
                self.ledger.count(kind)
                self._note(paper, kind, self._writer.id_of(n), reason)
                n_whole += self._take_units(n, paper)
            else:
                self.ledger.reject(Rejected(f"{paper.where} ({paper.id})", paper.notes[0]))
                self._note(paper, "rejected", None, paper.notes[0])
            n_bytes += sum(len(each.payload) for each in paper.said)
            n_bytes += paper.units.vectors.nbytes if paper.units else 0
            if seen >= BATCH or n_bytes >= BATCH_BYTES:
                return False, n_whole
        return True, n_whole

    def _note(self, paper: Packed, kind: str, paper_id: str | None, reason: str | None) -> None:
        self._events.append((self.ledger.found, f"{paper.where} ({paper.id})", kind, paper_id, reason))

    # --- A paper ------------------------------------------------------------------------------------------------------

    def _take(self, paper: Packed) -> tuple[str, int, str | None]:
        """Let a paper in; return how it counts, the paper it is, and why it is that one."""
        found, why = self._resolve(paper)
        is_touched = any(self._writer.was_named(each, self.number) for each in found)
        n = found[0] if found else self._writer.add_paper(self._free_id(paper), paper.merged)
        changes = len(found) != 1
        for other in found[1:]:
            why = f"{why}, which makes {self._writer.id_of(other)} the same paper"
            self._writer.unite(n, other)
        for each in paper.said:
            source = self._source(each, n)
            if self._writer.has_record(source, n, each.digest):
                self._writer.touch_record(source, n, each.digest, self.number)
            else:
                self._writer.put_record(source, n, each.payload, self.number)
                changes = True
        changes = self._take_names(n, paper) or changes
        if changes:
            refresh(self._writer, n)
        kind = "merged" if is_touched else "new" if not found else "updated" if changes else "unchanged"
        return kind, n, why

    def _take_names(self, n: int, paper: Packed) -> bool:
        """Let all names of a paper lead to it, and keep apart what is apart; True when one is new."""
        known, own = set(self._writer.aliases(n)), self._writer.id_of(n)
        missing = [name for name in (paper.id, *paper.aliases) if name not in known and name != own]
        keys = [name for name in missing if ":" in name]
        self._writer.add_aliases(n, keys)
        ids = [name for name in missing if ":" not in name and not self._named(name)]
        for name in ids:
            # As if the paper of this id had been here, and was united: so the journal tells it too.
            self._writer.unite(n, self._writer.add_paper(name, paper.merged))
        kept = self._digests("apart", n)
        apart = [digest for digest in paper.apart if digest not in kept]
        for digest in apart:
            self._writer.keep_apart(n, digest)
        return bool(keys or ids or apart)

    def _take_units(self, n: int, paper: Packed) -> bool:
        """Take a paper's vectors where they fit it and it has none; True when it has them in the end."""
        if self._store.select("SELECT 1 FROM units WHERE n = ?", (n,)):
            return True
        fits = paper.units and self._encoder == self._parcel.manifest.encoder
        if not fits or self._writer.text(n) != (paper.merged["title"], paper.merged["abstract"]):
            return False
        assert paper.units
        self._writer.put_units(n, paper.units)
        self._writer.mark_changed(n)
        return True

    def _free_id(self, paper: Packed) -> str:
        """Return the paper's id, unless it leads to another one here."""
        paper_id = paper.id
        if self._named(paper_id):
            paper_id = new_id(max((each.record for each in paper.said), key=lambda record: len(record.abstract)))
        while self._named(paper_id):
            paper_id += "x"
        return paper_id

    def _source(self, said: Said, n: int) -> str:
        """Return under which name a source goes here: another file of its name may give its own id to another paper."""
        if said.record.own_id and not self._writer.has_record(said.source, n, said.digest):
            for other in self._writer.candidates(f"own:{said.source}#{said.record.own_id}", said.digest):
                if other != n and not self._is_of_this_file(other):
                    return said.source + ELSEWHERE
        return said.source

    # --- Which paper --------------------------------------------------------------------------------------------------

    def _resolve(self, paper: Packed) -> tuple[list[int], str | None]:
        """Find the papers that a paper is here, in the order they entered: more than one are one paper by it."""
        keys = [key for each in paper.said for key in strong_keys(each.record, each.source)]
        by_id = self._by_id(paper, keys)
        found = {} if by_id is None else {by_id: "its id"}
        for each in paper.said:
            # What is said of it here already makes it one with no other paper.
            if by_id is None or not self._writer.has_record(self._source(each, by_id), by_id, each.digest):
                for key in strong_keys(each.record, each.source):
                    for n in self._writer.candidates(key, each.digest)[:1]:
                        if n not in found and self._may_be(n, paper, key) and not self._are_two(found, n, keys):
                            found[n] = key
        if found:
            return sorted(found), f"by {' and '.join(dict.fromkeys(found.values()))}"
        for each in paper.said:
            for n in self._writer.candidates(title_key(each.record), each.digest):
                if (
                    same_abstract(each.record.abstract, self._writer.abstract(n))
                    and not contradict(keys, self._writer.aliases(n))
                    and self._may_be(n, paper, "")
                ):
                    return [n], "by title and abstract"
        return [], None

    def _by_id(self, paper: Packed, keys: list[str]) -> int | None:
        """Return the paper that has this one's id here, or an id that one of the two once had, if they look alike."""
        for name in (paper.id, *(each for each in paper.aliases if ":" not in each)):
            own = self._writer.number_of(name)
            for n in self._named(name):
                is_apart = n != own and self._is_apart(n, paper)
                if not is_apart and self._looks_like(n, paper) and not contradict(keys, self._writer.aliases(n)):
                    return n
        return None

    def _named(self, name: str) -> list[int]:
        own = self._writer.number_of(name)
        return [*([] if own is None else [own]), *self._writer.candidates(name)]

    def _may_be(self, n: int, paper: Packed, key: str) -> bool:
        """Tell whether a key may make a paper here one with a paper of the file."""
        return (
            not self._is_of_this_file(n)
            and not self._is_apart(n, paper)
            and (not key.startswith("own:") or self._looks_like(n, paper))
        )

    def _are_two(self, found: dict[int, str], other: int, keys: list[str]) -> bool:
        """Tell whether a paper is not the one that was found before, by their keys or because they were split."""
        if not found:
            return False
        n, theirs = next(iter(found)), self._writer.aliases(other)
        is_other = contradict(self._writer.aliases(n), theirs) or contradict(keys, theirs)
        return is_other or self._writer.are_apart(n, other)

    def _looks_like(self, n: int, paper: Packed) -> bool:
        """Tell whether a paper here has a title or the text of a paper of the file."""
        titles = {title_key(each.record) for each in paper.said} & set(self._writer.aliases(n))
        return bool(titles) or same_abstract(paper.merged["abstract"], self._writer.abstract(n))

    def _is_of_this_file(self, n: int) -> bool:
        """Tell whether all that is said of a paper stands in the file too: where it came from, they are two."""
        sql = "SELECT 1 FROM records WHERE n = ? AND run <> ? LIMIT 1"
        return not self._store.select(sql, (n, self.number))

    def _is_apart(self, n: int, paper: Packed) -> bool:
        """Tell whether somebody has said that two papers are not one."""
        digests = {each.digest for each in paper.said}
        return bool(
            self._digests("apart", n) & digests or (paper.apart and self._digests("records", n) & {*paper.apart})
        )

    def _digests(self, table: str, n: int) -> set[str]:
        return {row[0] for row in self._store.select(f"SELECT digest FROM {table} WHERE n = ?", (n,))}
