from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant.atlas import STEPS, Atlas, make_atlas, open_atlas
from assistant.embed import Encoder
from assistant.index import Index
from assistant.ingest import ingest
from assistant.layout import layout, nearest
from assistant.sample import open_sample
from assistant.store import Store
from assistant.topics import cluster, count_topics, name_topics
from assistant.types import Paper


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path: Path, hashing: HashingEncoder) -> Iterator[Store]:
    with Store(tmp_path / "library", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(70))])
        yield store


@pytest.fixture(scope="module")
def sample(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Atlas, Index, Store]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with open_sample(encoder) as store:
            index = Index.open(store)
            yield make_atlas(store, index), index, store


def holds(atlas: Atlas, store: Store) -> None:
    papers = {paper.id: paper.title for paper in store.papers()}
    assert dict(zip(atlas.ids, atlas.titles, strict=True)) == papers and list(atlas.ids) == sorted(papers)
    assert atlas.x.dtype == atlas.y.dtype == np.float32
    for axis in (atlas.x, atlas.y):
        assert len(axis) == len(papers) and np.isfinite(axis).all() and axis.min() >= 0 and axis.max() <= 1
    assert set(atlas.topic.tolist()) == set(range(len(atlas.names)))


def kept(atlas: Atlas, vectors: np.ndarray, k: int = 10) -> float:
    """Return the share of each paper's k nearest papers that are its nearest on the map."""
    places = np.stack([atlas.x, atlas.y], axis=1)
    near, seen = nearest(vectors, vectors, k, same=True), nearest(places, places, k, same=True)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(near.tolist(), seen.tolist(), strict=True)]))


def test_every_paper_has_a_place_and_a_topic(store: Store) -> None:
    holds(make_atlas(store, Index.open(store)), store)


def vectors_of(sample: tuple[Atlas, Index, Store]) -> np.ndarray:
    atlas, index, store = sample
    rows = {int(n): row for row, n in enumerate(index.numbers)}
    return index.whole(np.array([rows[int(store.numbers("id = ?", [each])[0])] for each in atlas.ids]))


def test_papers_that_are_alike_lie_side_by_side(sample: tuple[Atlas, Index, Store]) -> None:
    holds(sample[0], sample[2])
    assert kept(sample[0], vectors_of(sample)) > 0.3


def test_papers_beyond_those_laid_out_lie_amid_the_nearest_of_them(sample: tuple[Atlas, Index, Store]) -> None:
    atlas = make_atlas(sample[2], sample[1], most=300)
    holds(atlas, sample[2])
    assert kept(atlas, vectors_of(sample)) > 0.2


def test_topics_are_named_by_what_tells_them_apart(sample: tuple[Atlas, Index, Store]) -> None:
    names = sample[0].names
    assert len(set(names)) == len(names) == 9
    text = "; ".join(names)
    assert "graph neural networks" in text and "click-through" in text.casefold() and "segmentation" in text
    assert not {"model", "method", "paper", "results", "we"} & set(text.replace(",", "").replace(";", "").split())
    sizes = np.bincount(sample[0].topic)
    assert sizes.min() >= 5 and sizes.max() < len(sample[0]) / 3


def test_equal_libraries_have_equal_maps_in_every_process_and_order(tmp_path: Path, hashing: HashingEncoder) -> None:
    records = make_records(60)
    for name, own in (("a", records), ("b", records[::-1])):
        with Store(tmp_path / name, create=True) as store:
            ingest(store, hashing, [write_jsonl(tmp_path / f"{name}.jsonl", own)])
            Index.open(store)
    script = (
        "import sys, pathlib, hashlib; from assistant.store import Store; from assistant.index import Index;"
        "from assistant.atlas import make_atlas; store = Store(pathlib.Path(sys.argv[1]));"
        "atlas = make_atlas(store, Index.open(store));"
        "print(hashlib.sha256(atlas.x.tobytes() + atlas.y.tobytes() + atlas.to_json().encode()).hexdigest())"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / name)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parent.parent,
        ).stdout
        for name, seed in (("a", "1"), ("a", "2"), ("b", "3"))
    ]  # fmt: skip
    assert len(set(told)) == 1


def test_a_map_is_kept_until_the_library_changes(store: Store, tmp_path: Path, hashing: HashingEncoder) -> None:
    first = open_atlas(store, Index.open(store))
    [file] = (store.folder / "index").glob("atlas-*.npz")
    before = file.stat().st_mtime_ns
    assert open_atlas(store, Index.open(store)).to_json() == first.to_json()
    assert file.stat().st_mtime_ns == before
    ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(1, offset=900))])
    holds(open_atlas(store, Index.open(store)), store)
    assert not file.exists() and len(list((store.folder / "index").glob("atlas-*.npz"))) == 1


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_map_is_made_anew(store: Store, damage: bytes | None) -> None:
    index = Index.open(store)
    first = open_atlas(store, index)
    [file] = (store.folder / "index").glob("atlas-*.npz")
    file.write_bytes(file.read_bytes()[:2000] if damage is None else damage)
    assert open_atlas(store, index).to_json() == first.to_json()
    assert len(file.read_bytes()) > 2000


def test_a_map_of_another_library_is_not_taken_for_its_own(
    store: Store, tmp_path: Path, hashing: HashingEncoder
) -> None:
    open_atlas(store, Index.open(store))
    [file] = (store.folder / "index").glob("atlas-*.npz")
    with Store(tmp_path / "other", create=True) as other:
        ingest(other, hashing, [write_jsonl(tmp_path / "o.jsonl", make_records(70, offset=200))])
        index = Index.open(other)
        shutil.copy(file, other.folder / "index" / f"atlas-{index.epoch:010d}.npz")
        holds(open_atlas(other, index), other)


def test_where_the_library_cannot_be_written_the_cache_keeps_the_map(store: Store, cache: Path) -> None:
    index = Index.open(store)
    blocked = store.folder / "index" / f"atlas-{index.epoch:010d}.npz"
    (blocked / "in the way").mkdir(parents=True)
    first = open_atlas(store, index)
    [file] = cache.rglob("atlas-*.npz")
    before = file.stat().st_mtime_ns
    assert open_atlas(store, index).to_json() == first.to_json() and file.stat().st_mtime_ns == before


def test_an_empty_library_has_an_empty_map(tmp_path: Path) -> None:
    with Store(tmp_path / "none", create=True) as store:
        atlas = open_atlas(store, Index.open(store))
    assert len(atlas) == 0 and json.loads(atlas.to_json())["ids"] == []


@pytest.mark.parametrize("n", [1, 2, 3, 4, 17])
def test_a_handful_of_papers_has_a_map_too(n: int, tmp_path: Path, hashing: HashingEncoder) -> None:
    with Store(tmp_path / "few", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "few.jsonl", make_records(n))])
        holds(make_atlas(store, Index.open(store)), store)


def test_the_json_form_is_compact_and_keeps_every_place(store: Store) -> None:
    atlas = make_atlas(store, Index.open(store))
    told = json.loads(atlas.to_json())
    assert told["ids"] == list(atlas.ids) and told["names"] == list(atlas.names) and told["steps"] == STEPS
    assert np.abs(np.array(told["x"]) / STEPS - atlas.x).max() <= 0.5 / STEPS + 1e-7
    assert len(told["middles"]) == len(atlas.names) and ", " not in atlas.to_json().split('"titles"')[1].split('"x"')[1]


def test_equal_points_share_a_place() -> None:
    points = np.ones((40, 5), dtype=np.float32)
    assert np.isfinite(layout(points)).all()
    labels, centres = cluster(points, 3)
    assert set(labels.tolist()) == {0} and np.isfinite(centres).all()


def test_clusters_far_apart_are_found() -> None:
    chance = np.random.default_rng(1)
    points = np.concatenate([chance.normal(10 * i, 0.1, (20 + i, 4)) for i in range(5)]).astype(np.float32)
    labels, _ = cluster(points, 5)
    runs = np.split(labels, np.cumsum([20, 21, 22, 23]))
    assert [set(run.tolist()) for run in runs] == [{4}, {3}, {2}, {1}, {0}]
    places = layout(points - points.mean(axis=0))
    middles = [places[labels == i].mean(axis=0) for i in range(5)]
    assert all(np.abs(places[labels == i] - middles[i]).max() < np.ptp(places) / 4 for i in range(5))


def test_there_are_six_to_fourteen_topics_and_fewer_of_a_handful() -> None:
    assert [count_topics(n) for n in (1, 12, 60, 451, 2_000, 1_000_000)] == [1, 2, 6, 9, 14, 14]


def test_a_name_is_written_as_the_papers_write_it() -> None:
    does = ["count", "sort", "draw"] * 2
    graphs = [Paper(str(i), f"Graph Kernels {i}", f"We {do} graph kernels and the ViTs.") for i, do in enumerate(does)]
    tides = [Paper(str(i), f"Tides {i}", f"We {do} harbour tides, and the ViTs.") for i, do in enumerate(does)]
    assert name_topics([graphs, tides]) == ("graph kernels", "harbour tides")
    assert name_topics([tides]) == ("harbour tides",)


def test_topics_that_share_every_word_have_numbers() -> None:
    papers = [Paper(str(i), "Tides", "Tides rise.") for i in range(4)]
    assert name_topics([papers, papers]) == ("topic 1", "topic 2")
