"""A library -> its map: a place on a plane and a topic for each paper, made once for each state of the library.

The map is derived data, kept beside the index as `atlas-<epoch>.npz`, or in the cache folder where the library cannot
be written; one that is damaged or belongs to another state is made anew. Equal libraries give equal maps. Places and
colours say which papers are alike; distances across the map say little, as with every projection of its kind.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assistant.config import cache_folder
from assistant.index import Floats, Index, Ints
from assistant.layout import COMPONENTS, layout, nearest, principal_axes
from assistant.store import Store
from assistant.topics import central, cluster, count_topics, name_topics
from assistant.types import Paper

FORMAT = 1
"""Version of the file; any other is made anew."""
FITTED = 20_000
"""So many papers are laid out together, in 16 s of one core; of a larger library an even sample, and each of the others
amid the `ANCHORS` of these that are nearest to it."""
ANCHORS = 3
CLUSTERED = 5_000
"""So many papers decide what the topics are; the others join the nearest."""
BLOCK = 10_000
"""Vectors read at once."""
STEPS = 10_000
"""To the browser go whole numbers from 0 to this, a tenth of a pixel on the largest screen."""


@dataclass(frozen=True, slots=True)
class Atlas:
    """A map of a library, papers in the order of their ids."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    x: NDArray[np.float32]
    """(papers,) 0 to 1; the longer side of the map is 1, the other one centred."""
    y: NDArray[np.float32]
    """(papers,) 0 to 1."""
    topic: NDArray[np.uint8]
    """(papers,) a row of `names`, the largest topic first."""
    names: tuple[str, ...]
    """The most telling terms of each topic."""

    def __len__(self) -> int:
        """Return the number of papers."""
        return len(self.ids)

    def middles(self) -> list[list[int]]:
        """Return for each topic the place of its name, in the steps of the JSON form: the median of its papers."""
        places = np.stack([self.x, self.y], axis=1) * STEPS
        own = (places[self.topic == number] for number in range(len(self.names)))
        return [np.median(each, axis=0).astype(int).tolist() if len(each) else [0, 0] for each in own]

    def to_json(self) -> str:
        """Return the JSON form for a canvas: one array for each field, places as whole numbers of 0 to 10,000."""
        return json.dumps(
            {
                "steps": STEPS, "names": self.names, "middles": self.middles(), "ids": self.ids, "titles": self.titles,
                "x": np.rint(self.x * STEPS).astype(int).tolist(), "y": np.rint(self.y * STEPS).astype(int).tolist(),
                "topic": self.topic.tolist(),
            },
            ensure_ascii=False, separators=(",", ":"),
        )  # fmt: skip


def open_atlas(store: Store, index: Index) -> Atlas:
    """Return the map of a library: the one that is kept, or a new one, which is then kept.

    Raises:
        StoreError: The library cannot be read.
    """
    key = {"format": FORMAT, "uuid": store.meta("uuid"), "encoder": store.encoder, "epoch": index.epoch}
    for folder in _homes(store):
        found = _load(folder / _file_name(key), key)
        if found is not None:
            return found
    atlas = make_atlas(store, index)
    if len(atlas):
        _keep(store, atlas, key)
    return atlas


def make_atlas(store: Store, index: Index, *, most: int = FITTED) -> Atlas:
    """Compute the map of a library.

    Args:
        store: The library.
        index: Its index.
        most: Papers laid out together; the others are placed amid the nearest of them.
    """
    rows, ids, titles = _rows(store, index)
    if not len(rows):
        nothing = np.zeros(0, dtype=np.float32)
        return Atlas((), (), nothing, nothing, np.zeros(0, dtype=np.uint8), ())
    fitted = _spread(len(rows), most)
    points = _project(index, rows, rows[fitted])
    told = _spread(len(rows), CLUSTERED)
    labels, centres = cluster(points[told], count_topics(len(rows)))
    centres = centres[: int(labels.max()) + 1]
    names = name_topics([_papers(store, index, rows[told[own]]) for own in central(points[told], labels, centres)])
    places = _place(points, fitted, layout(points[fitted]))
    topic = np.concatenate([_nearest_centre(block, centres) for block in _blocks(points)])
    x, y = _unit_square(places).T
    return Atlas(ids, titles, x, y, topic, names)


# --- Steps ------------------------------------------------------------------------------------------------------------


def _rows(store: Store, index: Index) -> tuple[Ints, tuple[str, ...], tuple[str, ...]]:
    """Return the rows of the index that count, by id, with ids and titles."""
    told = {n: (paper_id, title) for n, paper_id, title in store.select("SELECT n, id, title FROM papers")}
    rows = [int(row) for row in np.flatnonzero(index.alive) if int(index.numbers[row]) in told]
    rows.sort(key=lambda row: told[int(index.numbers[row])][0])
    papers = [told[int(index.numbers[row])] for row in rows]
    return np.array(rows, dtype=np.int64), tuple(each[0] for each in papers), tuple(each[1] for each in papers)


def _spread(n: int, most: int) -> Ints:
    """Return at most `most` of the numbers below `n`, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _project(index: Index, rows: Ints, fitted: Ints) -> Floats:
    """Return the coordinates of `rows` along the principal axes of `fitted`."""
    vectors = index.whole(fitted)
    mean = vectors.mean(axis=0)
    axes = principal_axes(vectors - mean, COMPONENTS)
    return np.concatenate([(index.whole(block) - mean) @ axes for block in _blocks(rows)])


def _place(points: Floats, fitted: Ints, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a place for each point: its own where it was fitted, else the mean of its nearest that were."""
    if len(fitted) == len(points):
        return places
    out = np.empty((len(points), 2))
    out[fitted] = places
    others = np.setdiff1d(np.arange(len(points)), fitted)
    for block in _blocks(others):
        out[block] = places[nearest(points[block], points[fitted], ANCHORS)].mean(axis=1)
    return out


def _nearest_centre(points: Floats, centres: Floats) -> NDArray[np.uint8]:
    return cast(
        "NDArray[np.uint8]", ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1).astype(np.uint8)
    )


def _papers(store: Store, index: Index, rows: Ints) -> list[Paper]:
    found = store.get([int(n) for n in index.numbers[rows]])
    return [found[int(n)].paper for n in index.numbers[rows] if int(n) in found]


def _unit_square(places: NDArray[np.float64]) -> NDArray[np.float32]:
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    side = max(float(span.max()), 1e-12)
    return cast("NDArray[np.float32]", ((places - low) / side + (1 - span / side) / 2).astype(np.float32))


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


# --- The file ---------------------------------------------------------------------------------------------------------


def _homes(store: Store) -> tuple[Path, Path]:
    return store.folder / "index", cache_folder() / "atlas" / str(store.meta("uuid"))


def _file_name(key: dict[str, Any]) -> str:
    return f"atlas-{key['epoch']:010d}.npz"


def _load(file: Path, key: dict[str, Any]) -> Atlas | None:
    """Return the map in a file; None when there is none, or not of this state."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            told = json.loads(data["told"].tobytes())
            if told["key"] != key:
                return None
            ids, titles, names = (tuple(told[name]) for name in ("ids", "titles", "names"))
            atlas = Atlas(ids, titles, data["x"], data["y"], data["topic"], names)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    whole = all(len(each) == len(ids) for each in (titles, atlas.x, atlas.y, atlas.topic))
    return atlas if whole and int(atlas.topic.max(initial=0)) < max(1, len(names)) else None


def _keep(store: Store, atlas: Atlas, key: dict[str, Any]) -> None:
    """Write a map where one can be written, in place of older ones; a map that cannot be kept serves all the same."""
    told = {"key": key, "ids": atlas.ids, "titles": atlas.titles, "names": atlas.names}
    text = np.frombuffer(json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"), dtype=np.uint8)
    for home in _homes(store):
        file = home / _file_name(key)
        try:
            home.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=home))
            np.savez(draft / file.name, told=text, x=atlas.x, y=atlas.y, topic=atlas.topic)
            (draft / file.name).replace(file)
            draft.rmdir()
        except OSError:
            continue
        for older in home.glob("atlas-*.npz"):
            if older.name < file.name:
                older.unlink(missing_ok=True)
        return
