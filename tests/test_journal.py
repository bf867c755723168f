from __future__ import annotations

import gzip
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant import journal
from assistant.store import Store
from assistant.write import writing

COMMITS = [
    [{"commit": n, "library": "L"}, {"put": f"paper-{n}", "source": "s", "record": f"words {n}\u2028 and\x85 more"}]
    for n in range(1, 9)
]


def write(folder: Path) -> list[int]:
    """Append the commits; return where each ends."""
    return [journal.length(journal.append(folder, commit)) for commit in COMMITS]


def read(folder: Path, start: int = 0) -> list[list[journal.Entry] | None]:
    return [entries for _, entries in journal.read(folder, start)]


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    ends = write(tmp_path)
    assert list(journal.read(tmp_path)) == list(zip(ends, COMMITS, strict=True))
    assert read(tmp_path, ends[5]) == COMMITS[6:]
    assert journal.is_whole(tmp_path)


def test_any_program_can_unpack_it(tmp_path: Path) -> None:
    write(tmp_path)
    with gzip.open(tmp_path / journal.FILE_NAME, "rt", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == [entry for commit in COMMITS for entry in commit]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == [] and journal.size(tmp_path) == 0 and journal.compare(tmp_path, None) == "same"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_costs_the_commits_it_touches_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    ends = write(folder)
    content = bytearray((folder / journal.FILE_NAME).read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    n = data.draw(st.integers(1, 60))
    noise = bytes(a ^ b | 1 for a, b in zip(content[start : start + n], random.Random(n).randbytes(n), strict=False))
    content[start : start + n] = noise
    (folder / journal.FILE_NAME).write_bytes(content)
    untouched = [
        commit
        for commit, begin, end in zip(COMMITS, [0, *ends], ends, strict=False)
        if end <= start or begin >= start + n
    ]
    found = read(folder)
    kept = [entries for entries in found if entries is not None]
    assert [each for each in kept if each in untouched] == untouched
    assert all(each in COMMITS for each in kept), "nothing is made up"
    assert len(kept) == len(COMMITS) or None in found, "no loss is silent"


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1))
def test_a_torn_end_costs_the_last_commit_alone(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.mktemp("journal")
    ends = write(folder)
    n_bytes = int(share * ends[-1])
    journal.cut(folder, n_bytes)
    whole = sum(end <= n_bytes for end in ends)
    is_torn = n_bytes not in {0, *ends}
    assert read(folder) == COMMITS[:whole] + [None] * is_torn
    assert journal.is_torn(folder, ends[whole - 1] if whole else 0)
    assert journal.is_whole(folder) != is_torn


def test_the_beginning_of_a_commit_is_told_from_noise(tmp_path: Path) -> None:
    ends = write(tmp_path)
    file = tmp_path / journal.FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole[: ends[-1] - 5])
    assert journal.is_torn(tmp_path, ends[-2])
    file.write_bytes(whole[: ends[-2]] + random.Random(1).randbytes(50))
    assert not journal.is_torn(tmp_path, ends[-2])
    file.write_bytes(whole)
    assert not journal.is_torn(tmp_path, ends[-2]), "a whole commit is none that was begun"


def test_a_mark_tells_how_a_journal_has_changed(tmp_path: Path) -> None:
    ends = write(tmp_path)
    marks = [journal.mark(tmp_path, end) for end in ends]
    assert [journal.compare(tmp_path, mark) for mark in marks] == ["ahead"] * 7 + ["same"]
    assert journal.compare(tmp_path, None) == "ahead"
    journal.cut(tmp_path, ends[3])
    assert [journal.compare(tmp_path, mark) for mark in marks] == ["ahead"] * 3 + ["same"] + ["other"] * 4
    journal.rewrite(tmp_path, COMMITS[1:])
    assert {journal.compare(tmp_path, mark) for mark in marks} == {"other"}
    (tmp_path / journal.FILE_NAME).unlink()
    assert {journal.compare(tmp_path, mark) for mark in marks} == {"other"}


@pytest.mark.parametrize(
    "text", [b"no JSON", b"[1]\n", b"{" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"\xff\xfe", b'"text"\n{}\n']
)
def test_a_member_without_sense_is_a_stretch_that_cannot_be_read(tmp_path: Path, text: bytes) -> None:
    write(tmp_path)
    with (tmp_path / journal.FILE_NAME).open("ab") as file:
        file.write(gzip.compress(text))
    journal.append(tmp_path, COMMITS[0])
    assert read(tmp_path) == [*COMMITS, None, COMMITS[0]]


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_MEMBER_BYTES", 1000)
    journal.append(tmp_path, COMMITS[0])
    (tmp_path / journal.FILE_NAME).write_bytes(
        (tmp_path / journal.FILE_NAME).read_bytes() + gzip.compress(b" " * 50_000_000)
    )
    journal.append(tmp_path, COMMITS[1])
    assert read(tmp_path) == [COMMITS[0], None, COMMITS[1]]


NO_ROOM = """
import resource, sys
from pathlib import Path
from assistant import journal
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size(folder) + 40,) * 2)
try:
    journal.append(folder, [{"commit": 9, "put": "x" * 1000}])
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_commit_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    ends = write(tmp_path)
    run = [sys.executable, "-c", NO_ROOM, tmp_path]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout == "OSError\n"
    assert journal.size(tmp_path) == ends[-1]


def test_a_transaction_that_fails_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store, writing(store, "test") as writer:
        with writer.transaction():
            pass
        before = journal.size(tmp_path)
        with pytest.raises(RuntimeError), writer.transaction():
            raise RuntimeError
        assert journal.size(tmp_path) == before and store.standing == "same"
