"""Moving a whole library: `pack` writes it, `parcel` reads and checks it, `move` takes it into another one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HashingEncoder, make_records, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import CorpusError, EncoderMismatch
from assistant.index import Index
from assistant.ingest import Ledger, ingest, split
from assistant.move import check, take_in
from assistant.pack import LINE_BYTES, MANIFEST, PAPERS, UNITS, VECTORS, pack
from assistant.parcel import Parcel
from assistant.recover import open_library
from assistant.retrieve import search
from assistant.store import FILE_NAME, Store
from assistant.whole import write_whole


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "library", create=True) as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "other", create=True) as store:
        yield store


def export(store: Store, file: Path) -> Path:
    write_whole(file, pack(store))
    return file


def bring(store: Store, file: Path, encoder: HashingEncoder | None = None, **options: Any) -> Ledger:
    """Import a file as the product does: checked first, then taken in."""
    encoder = encoder or HashingEncoder()
    with Parcel(file) as parcel:
        check(parcel, encoder)
        return take_in(store, encoder, parcel, **options)


def counts(ledger: Ledger) -> dict[str, int]:
    assert ledger.totals["found"] == sum(value for name, value in ledger.totals.items() if name != "found")
    return {name: value for name, value in ledger.totals.items() if value and name != "found"}


def whole(store: Store) -> list[tuple[Any, ...]]:
    """All that a library holds, in the order its papers entered."""
    found = []
    for each in store.papers():
        paper, units = store.paper(each.id), store.units(each.id)
        apart = store.select("SELECT digest FROM apart JOIN papers USING (n) WHERE id = ? ORDER BY digest", (each.id,))
        vectors = units and (units.chunks, units.sentences, units.vectors.tobytes())
        found.append((paper, store.records(each.id), apart, vectors))
    return found


class RandomEncoder(HashingEncoder):
    """For many papers: quicker, for it does not read the texts."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.random.default_rng(len(texts)).standard_normal((len(texts), self.dim), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(
    store: Store,
    folder: Path,
    *lists: list[dict[str, object]],
    name: str = "list",
    kind: type[HashingEncoder] = HashingEncoder,
) -> None:
    files = [write_jsonl(folder / f"{name}{i}.jsonl", records) for i, records in enumerate(lists)]
    ingest(store, kind(), files)


def member(file: Path, name: str) -> bytes:
    with zipfile.ZipFile(file) as packed:
        return packed.read(name)


# --- There and back ---------------------------------------------------------------------------------------------------


TITLES = ["Kettles", "Kettles, part II", "Teapots"]
TEXTS = [str(each["abstract"]) for each in make_records(4)]
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"title": st.sampled_from(TITLES), "abstract": st.sampled_from([*TEXTS, *(f"{text} More." for text in TEXTS)])},
        optional={
            "doi": st.sampled_from(["10.1000/a", "10.1000/b"]),
            "arxiv_id": st.sampled_from(["1706.03762", "2001.00001"]),
            "id": st.sampled_from(["1", "2"]),
            "venue": st.just("Kitchen"),
        },
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.tuples(RECORDS, st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_a_library_that_was_moved_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[list[dict[str, object]], bool, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("moved")
    with Store(folder / "a", create=True) as a, Store(folder / "b", create=True) as b:
        for records, is_first, is_split in rounds:
            ingest(a, None, [write_jsonl(folder / f"{'first' if is_first else 'second'}.jsonl", records)])
            paper = a.papers()[0]
            digests = [digest for _, digest, _ in a.records(paper.id)]
            if is_split and len(set(digests)) > 1:
                split(a, paper.id, digests[:1])
        fill(a, folder, make_records(1, offset=9))  # encodes what waits
        file = export(a, folder / "a.zip")
        with Parcel(file) as parcel:
            check(parcel, None)
            assert counts(take_in(b, None, parcel)) == {"new": a.counts()[0]}
            assert whole(b) == whole(a)
            assert (b.digest(), b.counts()) == (a.digest(), a.counts())
            assert export(b, folder / "b.zip").read_bytes() == file.read_bytes()
            assert set(counts(take_in(b, None, parcel))) == {"unchanged"}
            assert whole(b) == whole(a)


def test_the_same_question_finds_the_same_papers(store: Store, other: Store, tmp_path: Path) -> None:
    fill(store, tmp_path, make_records(60))
    bring(other, export(store, tmp_path / "a.zip"))
    hits = [
        [(hit.paper.id, hit.score, hit.passage) for hit in search(each, Index.open(each), HashingEncoder(), "g", k=9)]
        for each in (store, other)
    ]
    assert hits[0] == hits[1] and len(hits[0]) == 9


def test_the_members_are_what_other_programs_read(store: Store, tmp_path: Path) -> None:
    fill(store, tmp_path, make_records(5))
    file = export(store, tmp_path / "a.zip")
    lines = [json.loads(line) for line in member(file, PAPERS).decode().splitlines()]
    assert [line["id"] for line in lines] == [paper.id for paper in store.papers()]
    assert lines[0]["records"][0]["source"] == str(tmp_path / "list0.jsonl")
    units = store.units(lines[1]["id"])
    vectors = np.load(io.BytesIO(member(file, VECTORS)), allow_pickle=False)
    assert units is not None and vectors.shape == (5 * len(units.vectors), 32)
    assert np.array_equal(vectors[len(units.vectors) : 2 * len(units.vectors)], units.vectors)
    manifest = json.loads(member(file, MANIFEST))
    assert manifest["members"][PAPERS]["sha256"] == hashlib.sha256(member(file, PAPERS)).hexdigest()
    assert (manifest["papers"], manifest["encoded"], manifest["encoder"]) == (5, 5, store.encoder)


def test_an_export_shows_the_library_as_it_was_when_it_began(store: Store, other: Store, tmp_path: Path) -> None:
    fill(store, tmp_path, make_records(20))
    before = whole(store)
    pieces = pack(store)
    first = next(pieces)
    with Store(tmp_path / "library") as second:
        fill(second, tmp_path, make_records(20, offset=100), name="more")
    write_whole(tmp_path / "a.zip", iter([first, *pieces]))
    bring(other, tmp_path / "a.zip")
    assert whole(other) == before and store.counts()[0] == 40


def test_an_empty_library_can_be_moved(store: Store, other: Store, tmp_path: Path) -> None:
    assert counts(bring(other, export(store, tmp_path / "a.zip"))) == {}
    assert other.counts() == (0, 0)


def test_papers_that_wait_to_be_encoded_are_moved_and_encoded(store: Store, other: Store, tmp_path: Path) -> None:
    fill(store, tmp_path, make_records(3))
    ingest(store, None, [write_jsonl(tmp_path / "more.jsonl", make_records(4, offset=10))])
    done: list[int] = []
    ledger = bring(other, export(store, tmp_path / "a.zip"), progress=done.append)
    assert (counts(ledger), ledger.encoded, sum(done)) == ({"new": 7}, 4, 7)
    assert not other.waiting() and len(Index.open(other)) == 7


def test_vectors_of_another_encoder_stay_behind(store: Store, other: Store, tmp_path: Path) -> None:
    fill(store, tmp_path, make_records(3))
    encoder = HashingEncoder("another")
    ledger = bring(other, export(store, tmp_path / "a.zip"), encoder)
    assert (counts(ledger), ledger.encoded) == ({"new": 3}, 3)
    assert other.encoder is not None and other.encoder.startswith("another/")
    with pytest.raises(EncoderMismatch, match="another"):
        bring(other, tmp_path / "a.zip")


def test_what_was_brought_is_in_the_journal(store: Store, other: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    fill(store, tmp_path, [{**a, "doi": "10.1000/x"}], [{**b, "arxiv_id": "2001.00001"}])
    bridge = {**a, "doi": "10.1000/x", "arxiv_id": "2001.00001"}
    fill(store, tmp_path, [bridge], name="bridge")
    (paper,) = store.papers()
    wrong = next(digest for _, digest, payload in store.records(paper.id) if json.loads(payload)["title"] == b["title"])
    split(store, paper.id, [wrong])
    fill(store, tmp_path, [])
    bring(other, export(store, tmp_path / "a.zip"))
    before = whole(other)
    other.close()
    (tmp_path / "other" / FILE_NAME).unlink()
    restored, notes = open_library(tmp_path / "other")
    with restored:
        assert notes and [row[:3] for row in whole(restored)] == [row[:3] for row in before]


# --- Into a library with papers ---------------------------------------------------------------------------------------


def test_a_paper_that_is_here_is_merged_and_keeps_both_ids(store: Store, other: Store, tmp_path: Path) -> None:
    a, b, c = make_records(3)
    fill(store, tmp_path, [{**a, "doi": "10.1000/x", "year": 1999}, b], name="there")
    fill(other, tmp_path, [{**a, "title": "Renamed", "doi": "10.1000/x", "venue": "Here", "year": None}, c], name="h")
    here, there = other.papers()[0].id, store.papers()[0].id
    encoder = HashingEncoder()
    ledger = bring(other, export(store, tmp_path / "a.zip"), encoder)
    assert counts(ledger) == {"updated": 1, "new": 1}
    paper = other.paper(there)
    assert paper is not None and paper.id == here and there in paper.aliases
    assert (paper.year, paper.venue, len(paper.sources)) == (1999, "Here", 2)
    assert other.counts()[0] == 3 and not other.waiting()
    assert counts(bring(other, tmp_path / "a.zip")) == {"unchanged": 2}


def test_vectors_are_taken_where_the_text_here_is_the_same(store: Store, other: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    fill(store, tmp_path, [a, b], name="there")
    ingest(other, None, [write_jsonl(tmp_path / "here.jsonl", [a, {**b, "abstract": f"{b['abstract']} And more."}])])
    encoder = HashingEncoder()
    ledger = bring(other, export(store, tmp_path / "a.zip"), encoder)
    assert (counts(ledger), ledger.encoded) == ({"updated": 2}, 1)


def test_two_papers_of_the_file_that_are_one_here_are_merged(store: Store, other: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    fill(store, tmp_path, [{**a, "doi": "10.1000/x"}, {**b, "arxiv_id": "2001.00001"}], name="there")
    fill(other, tmp_path, [{**a, "doi": "10.1000/x", "arxiv_id": "2001.00001", "venue": "Here"}], name="here")
    file = export(store, tmp_path / "a.zip")
    assert counts(bring(other, file)) == {"updated": 1, "merged": 1}
    (paper,) = other.papers()
    for each in store.papers():
        assert other.paper(each.id) == other.paper(paper.id)
    before = whole(other)
    assert counts(bring(other, file)) == {"unchanged": 1, "merged": 1}
    assert whole(other) == before


def test_a_paper_that_names_two_papers_here_makes_them_one(store: Store, other: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    fill(other, tmp_path, [{**a, "doi": "10.1000/x"}, {**b, "arxiv_id": "2001.00001"}], name="here")
    fill(store, tmp_path, [{**a, "doi": "10.1000/x", "arxiv_id": "2001.00001"}], name="there")
    ledger = bring(other, export(store, tmp_path / "a.zip"))
    assert counts(ledger) == {"updated": 1} and other.counts()[0] == 1
    (reason,) = [reason for *_, reason in other.events(["updated"]) if reason]
    assert "the same paper" in reason


def test_a_paper_under_the_id_of_another_one_takes_nothing_from_it(store: Store, other: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    fill(store, tmp_path, [a], name="there")
    fill(other, tmp_path, [b], name="here")
    mine = other.papers()[0]
    file = forge(export(store, tmp_path / "a.zip"), {PAPERS: one_id(mine.id), UNITS: one_id(mine.id)})
    assert counts(bring(other, file)) == {"new": 1}
    assert [paper.title for paper in other.papers()] == [b["title"], a["title"]]
    assert other.paper(mine.id) == other.paper(other.papers()[0].id)
    before = whole(other)
    assert counts(bring(other, file)) == {"unchanged": 1} and whole(other) == before


def test_numbers_in_a_file_of_the_same_name_elsewhere_name_other_papers(
    store: Store, other: Store, tmp_path: Path
) -> None:
    a, b = make_records(2)
    fill(store, tmp_path, [{**a, "id": "1"}])
    fill(other, tmp_path, [{**b, "id": "1"}])
    file = export(store, tmp_path / "a.zip")
    assert counts(bring(other, file)) == {"new": 1}
    before = whole(other)
    assert counts(bring(other, file)) == {"unchanged": 1} and whole(other) == before
    fill(other, tmp_path, [{**b, "id": "1", "venue": "Later"}])
    assert [paper.title for paper in other.papers()] == [b["title"], a["title"]]


def test_an_import_that_was_interrupted_goes_on_when_it_is_run_again(
    store: Store, other: Store, tmp_path: Path
) -> None:
    fill(store, tmp_path, make_records(2_300), kind=RandomEncoder)
    file = export(store, tmp_path / "a.zip")
    calls: list[int] = []

    def interrupt(n: int) -> None:
        calls.append(n)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(other, file, progress=interrupt)
    assert other.counts()[0] == sum(calls) == 2_000
    encoder = HashingEncoder()
    assert counts(bring(other, file, encoder)) == {"unchanged": 2_000, "new": 300}
    assert encoder.encoded == 0 and whole(other) == whole(store)


def test_the_ledger_of_an_import_can_be_read_later(store: Store, other: Store, tmp_path: Path) -> None:
    fill(store, tmp_path, make_records(2))
    bring(other, export(store, tmp_path / "a.zip"))
    ids = [paper.id for paper in store.papers()]
    events = [event for event in other.events() if event[0] == str(tmp_path / "a.zip")]
    assert [(place, kind, paper) for _, place, kind, paper, _ in events] == [
        (f"paper {i} ({each})", "new", each) for i, each in enumerate(ids, 1)
    ]


def test_memory_does_not_grow_with_the_library(store: Store, other: Store, tmp_path: Path) -> None:
    peaks = []
    for n in (600, 2_400):
        fill(store, tmp_path, make_records(n), kind=RandomEncoder)
        runs = []
        for _ in range(3):  # what else goes on in this process counts too, in some of them
            tracemalloc.start()
            with Parcel(export(store, tmp_path / "a.zip")) as parcel:
                parcel.check()
            runs.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        peaks.append(min(runs))
    assert peaks[1] < 1.5 * peaks[0]


# --- Files that are damaged or mean harm ------------------------------------------------------------------------------


Change = Callable[[bytes], bytes]


def forge(file: Path, changes: dict[str, Change], *, seal: bool = True, **about: Any) -> Path:
    """Change members of a file; sealed, the manifest agrees with what they are then."""
    with zipfile.ZipFile(file) as packed:
        members = {name: changes.get(name, lambda data: data)(packed.read(name)) for name in packed.namelist()}
    manifest = json.loads(members[MANIFEST]) if seal else {}
    for name in (PAPERS, UNITS, VECTORS) if seal else ():
        manifest["members"][name] = {
            "bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()
        }  # fmt: skip
    if seal:
        members[MANIFEST] = json.dumps(manifest | about).encode()
    target = file.with_name("forged.zip")
    with zipfile.ZipFile(target, "w") as out:
        for name, data in members.items():
            out.writestr(name, data, zipfile.ZIP_STORED if name in {VECTORS, MANIFEST} else zipfile.ZIP_DEFLATED)
    return target


def edited(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the first line of JSON."""

    def run(data: bytes) -> bytes:
        first, _, rest = data.partition(b"\n")
        value = json.loads(first)
        change(value)
        return json.dumps(value).encode() + b"\n" + rest

    return run


def one_id(paper_id: str) -> Change:
    return edited(lambda line: line.update(id=paper_id))


def recorded(**fields: object) -> Change:
    return edited(lambda line: line["records"][0]["record"].update(fields))


def vector(value: float) -> Change:
    return lambda data: data[:-2] + np.array(value, dtype="<f2").tobytes()


HARMS: dict[str, tuple[dict[str, Change], str]] = {
    "a line that is cut": ({PAPERS: lambda data: data[:-9]}, "has no end"),
    "a line that is no JSON": ({PAPERS: lambda data: data.replace(b'"id"', b"'id'", 1)}, "line 1 of papers.jsonl"),
    "JSON of great depth": ({PAPERS: lambda _: b"[" * 200_000 + b"\n"}, "line 1 of papers.jsonl"),
    "an int of great length": ({PAPERS: lambda _: b"9" * 10_000 + b"\n"}, "line 1 of papers.jsonl"),
    "a line of great length": ({PAPERS: lambda _: b" " * (LINE_BYTES + 2**20)}, "a line of papers.jsonl is longer"),
    "bytes that are no text": ({PAPERS: lambda data: b"\xff" + data}, "line 1 of papers.jsonl"),
    "an id that is a path": ({PAPERS: one_id("../../etc/passwd")}, "its id is '../../etc/passwd'"),
    "an id with markup": ({PAPERS: one_id("<b>")}, "its id is '<b>'"),
    "an id that is a number": ({PAPERS: edited(lambda line: line.update(id=7))}, "id is 7"),
    "an alias of no kind": ({PAPERS: edited(lambda line: line.update(aliases=["file:x"]))}, "an alias is 'file:x'"),
    "a digest that is none": ({PAPERS: edited(lambda line: line.update(apart=["' OR 1"]))}, "a digest is"),
    "no records": ({PAPERS: edited(lambda line: line.update(records=[]))}, "it has no record"),
    "a record that is a list": ({PAPERS: edited(lambda line: line.update(records=[[]]))}, "line 1 of papers.jsonl"),
    "a record without an abstract": (
        {PAPERS: edited(lambda line: line["records"][0]["record"].pop("abstract"))}, "a record has the fields",
    ),
    "a record with a field more": ({PAPERS: recorded(where="x")}, "a record has the fields"),
    "an abstract that is a list": ({PAPERS: recorded(abstract=["x"])}, "abstract is a list"),
    "a year that is a truth": ({PAPERS: recorded(year=True)}, "year is true"),
    "an author that is a number": ({PAPERS: recorded(authors=[1])}, "authors[0] is 1"),
    "a source with a null": ({PAPERS: edited(lambda line: line["records"][0].update(source="a\0b"))}, "a source is"),
    "a paper less": ({PAPERS: lambda data: data.partition(b"\n")[2]}, "holds 2 papers where 3 are announced"),
    "papers in another order": (
        {PAPERS: lambda data: b"\n".join(data.splitlines()[::-1]) + b"\n"}, "which is no paper that comes there",
    ),
    "units of a paper that is not there": ({UNITS: one_id("nobody")}, "tells of 'nobody'"),
    "a chunk outside": ({UNITS: edited(lambda line: line["chunks"].append([0, 9**9, 1]))}, "no runs"),
    "a chunk that ends too late": ({UNITS: edited(lambda line: line["chunks"][0].__setitem__(1, 5_000))}, "no runs"),
    "a chunk that begins before": ({UNITS: edited(lambda line: line["chunks"][0].__setitem__(0, -1))}, "no lists"),
    "a chunk of a million tokens": ({UNITS: edited(lambda line: line["chunks"][0].__setitem__(2, 10**6))}, "no runs"),
    "sentences that run back": ({UNITS: edited(lambda line: line["sentences"].reverse())}, "no runs"),
    "a span with a fraction": ({UNITS: edited(lambda line: line["sentences"][0].__setitem__(0, 0.5))}, "no lists"),
    "a span without an end": ({UNITS: edited(lambda line: line["sentences"][0].pop())}, "no lists"),
    "one unit less": ({UNITS: edited(lambda line: line["sentences"].pop())}, "vectors"),
    "no chunk": ({UNITS: edited(lambda line: line.update(chunks=[], sentences=line["sentences"] * 2))}, "no lists"),
    "a vector that is no number": ({VECTORS: vector(float("nan"))}, "has the length nan"),
    "a vector without end": ({VECTORS: vector(float("inf"))}, "has the length inf"),
    "a vector that is too long": ({VECTORS: vector(9.0)}, "has the length 9"),
    "an array of objects": ({VECTORS: lambda data: data.replace(b"<f2", b"|O ")}, "is no array"),
    "an array of another width": ({VECTORS: lambda data: data.replace(b", 32)", b", 16)")}, "is no array"),
    "an array that is cut": ({VECTORS: lambda data: data[:-64]}, "is cut short"),
    "an array that goes on": ({VECTORS: lambda data: data + b"\0" * 64}, "goes on behind its end"),
    "a pickle in place of the array": ({VECTORS: lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR." * 9}, "is no array"),
}  # fmt: skip


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a library of three papers."""
    folder = tmp_path_factory.mktemp("three")
    with Store(folder / "library", create=True) as store:
        fill(store, folder, make_records(3))
        return export(store, folder / "three.zip")


def refused(file: Path, store: Store) -> str:
    """Import what must be refused without a change; return what is said."""
    before, epoch, size = whole(store), store.epoch, store.file.stat().st_size
    with pytest.raises(CorpusError) as caught:
        bring(store, file)
    assert (whole(store), store.epoch, store.file.stat().st_size) == (before, epoch, size)
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_means_harm_is_refused_and_named(three: Path, store: Store, tmp_path: Path, harm: str) -> None:
    fill(store, tmp_path, make_records(2))
    changes, word = HARMS[harm]
    file = forge(shutil.copy(three, tmp_path / "a.zip"), changes)
    assert word in refused(Path(file), store)


@pytest.mark.parametrize("name", [PAPERS, UNITS, VECTORS])
def test_a_member_whose_digest_is_another_one_is_refused(three: Path, store: Store, tmp_path: Path, name: str) -> None:
    def change(data: bytes) -> bytes:
        if name == VECTORS:  # two numbers change places: the length of the vector stays
            return data[:-4] + data[-2:] + data[-4:-2]
        return data.replace(b"Study 1", b"Study 9").replace(b'"text": "', b'"text": "f')

    file = forge(shutil.copy(three, tmp_path / "a.zip"), {name: change}, seal=False)
    said = refused(Path(file), store)
    assert name in said


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"format": "other"}, "is not that of a library"),
        ({"version": 2}, "version 2"),
        ({"version": [[]]}, "version a list"),
        ({"papers": 10**30}, "are announced"),
        ({"papers": -1}, "impossible numbers"),
        ({"dim": 10**12}, "impossible numbers"),
        ({"dim": 64}, "64"),
        ({"rows": "many"}, "rows is 'many'"),
        ({"encoded": 2}, "are of no paper"),
        ({"members": {}}, "does not name the other members"),
        ({"encoder": 3}, "encoder is 3"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    three: Path, store: Store, tmp_path: Path, about: dict[str, Any], word: str
) -> None:
    assert word in refused(forge(Path(shutil.copy(three, tmp_path / "a.zip")), {}, **about), store)


def is_sound(file: Path) -> bool:
    try:
        with Parcel(file) as parcel:
            check(parcel, None)
    except CorpusError:
        return False
    return True


def test_any_byte_that_is_changed_is_refused_or_does_no_harm(three: Path, tmp_path: Path) -> None:
    data, sown = three.read_bytes(), random.Random(7)
    with Store(tmp_path / "good", create=True) as good:
        bring(good, three)
        wanted = whole(good)
    places = [*range(len(data) - 700, len(data), 3), *range(0, 700, 14), *sown.sample(range(len(data)), 150)]
    file, n_refused = tmp_path / "a.zip", 0
    for place in places:
        harmed = bytearray(data)
        harmed[place] ^= 1 << sown.randrange(8)
        file.write_bytes(harmed)
        if is_sound(file):
            with Store(tmp_path / f"library{place}", create=True) as fresh, Parcel(file) as parcel:
                take_in(fresh, None, parcel)
                assert whole(fresh) == wanted
        else:
            n_refused += 1
    assert n_refused > len(places) // 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10**6), junk=st.binary(max_size=200), is_end=st.booleans())
def test_a_file_that_is_cut_or_torn_is_refused(
    three: Path, tmp_path: Path, cut: int, junk: bytes, *, is_end: bool
) -> None:
    data = three.read_bytes()
    place = cut % len(data)
    torn = data[:place] + junk + (b"" if is_end else data[place + len(junk) + 1 :])
    (tmp_path / "a.zip").write_bytes(torn)
    with pytest.raises(CorpusError, match="cannot import"), Parcel(tmp_path / "a.zip") as parcel:
        parcel.check()


def zipped(file: Path, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as out:
        for name, data in members:
            out.writestr(name, data)
    return file


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_other_members_is_refused(three: Path, store: Store, tmp_path: Path) -> None:
    with zipfile.ZipFile(three) as packed:
        own = [(name, packed.read(name)) for name in packed.namelist()]
    for extra in ("../outside.txt", "/etc/passwd", PAPERS, "more.pickle"):
        file = zipped(tmp_path / "a.zip", [*own, (extra, b"x")], zipfile.ZIP_STORED)
        assert "and not just what a library has" in refused(file, store)
    assert "there is no manifest.json" in refused(zipped(tmp_path / "a.zip", [("a.txt", b"x")]), store)
    assert "there is no manifest.json" in refused(zipped(tmp_path / "a.zip", []), store)


def test_a_bomb_is_refused_before_it_unpacks(three: Path, store: Store, tmp_path: Path) -> None:
    blank = b"\n" * (100 << 20)
    file = forge(Path(shutil.copy(three, tmp_path / "a.zip")), {PAPERS: lambda _: blank})
    tracemalloc.start()
    assert "unpacks to" in refused(file, store)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_list_of_members_without_end_takes_no_memory(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as out:
        for n in range(5_000):
            out.writestr(f"{n}{'x' * 60}", b"")
    assert "list of members is too long" in refused(file, store)


def test_what_is_no_such_file_is_refused(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "noise").write_bytes(random.Random(1).randbytes(5_000))
    write_jsonl(tmp_path / "list", make_records(2))
    words = {"pipe": "no ordinary file", "empty": "not a zip", "noise": "not a zip", "list": "`assistant ingest`"}
    for name, word in {**words, "missing": "No such file", "library": "no ordinary file"}.items():
        assert word in refused(tmp_path / name, store)


def test_a_record_that_is_not_clean_is_cleaned_and_told(three: Path, store: Store, tmp_path: Path) -> None:
    text = "One\u202e hidden\x00 word. \ud800Two  more words."
    file = forge(Path(shutil.copy(three, tmp_path / "a.zip")), {PAPERS: recorded(abstract=text, year=99, url="x y")})
    encoder = HashingEncoder()
    ledger = bring(store, file, encoder)
    assert counts(ledger) == {"new": 3} and ledger.encoded == 1
    (warning,) = ledger.sources[0].warnings
    assert "cleaned anew" in warning and "paper 1 " in warning
    paper = store.papers()[0]
    assert (paper.abstract, paper.year, paper.url) == ("One hidden word. Two more words.", None, None)
    assert counts(bring(store, file)) == {"unchanged": 3}


def test_a_paper_that_no_source_could_bring_is_rejected_and_told(three: Path, store: Store, tmp_path: Path) -> None:
    file = forge(Path(shutil.copy(three, tmp_path / "a.zip")), {PAPERS: recorded(abstract="...")})
    ledger = bring(store, file)
    assert counts(ledger) == {"new": 2, "rejected": 1}
    (one,) = ledger.sources[0].rejected
    assert one.where.startswith("paper 1 (") and "no abstract" in one.reason
