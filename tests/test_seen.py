from __future__ import annotations

import os
from pathlib import Path

import pytest

from assistant import seen
from assistant.seen import NOTE, differing, note, sha256_of


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A large and a small file with their sums."""
    monkeypatch.setattr(seen, "TRUSTED_BYTES", 1_000)
    (tmp_path / "large").write_bytes(b"a" * 2_000)
    (tmp_path / "small").write_bytes(b"a" * 20)
    return {name: sha256_of(tmp_path / name) for name in ("large", "small")}


@pytest.mark.parametrize("name", ["large", "small"])
def test_a_file_that_was_changed_is_named_though_it_was_sound_before(
    tmp_path: Path, files: dict[str, str], name: str
) -> None:
    assert differing(tmp_path, files) is None
    with (tmp_path / name).open("r+b") as file:
        file.seek(10)
        file.write(b"b")
    assert differing(tmp_path, files) == name
    assert differing(tmp_path, files) == name


def test_a_large_file_is_read_once_while_it_looks_the_same(tmp_path: Path, files: dict[str, str]) -> None:
    assert differing(tmp_path, files) is None
    assert differing(tmp_path, {**files, "large": "another sum"}) is None  # it was not read
    assert differing(tmp_path, {**files, "small": "another sum"}) == "small"


def test_what_has_just_been_written_need_not_be_read(tmp_path: Path, files: dict[str, str]) -> None:
    note(tmp_path, files)
    assert differing(tmp_path, {"large": "another sum"}) is None


def test_a_file_that_was_put_in_its_place_is_read(tmp_path: Path, files: dict[str, str]) -> None:
    assert differing(tmp_path, files) is None
    times = (tmp_path / "large").stat()
    (tmp_path / "other").write_bytes(b"b" * 2_000)
    os.utime(tmp_path / "other", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "other").replace(tmp_path / "large")
    assert differing(tmp_path, files) == "large"


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"large": 3}'])
def test_a_note_that_says_nothing_costs_nothing(tmp_path: Path, files: dict[str, str], text: str) -> None:
    (tmp_path / NOTE).write_text(text)
    assert differing(tmp_path, files) is None


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(FileNotFoundError):
        differing(tmp_path, {**files, "gone": "sum"})
