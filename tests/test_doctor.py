"""`assistant.doctor`: what is told of a healthy library and of each thing that can be wrong with it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl
from endpoint import Endpoint, Reply, answer, clean_surroundings, imported_client, status  # noqa: F401 - fixtures

from assistant import journal
from assistant.answer import Assistant
from assistant.config import Config
from assistant.doctor import Check, examine
from assistant.ingest import ingest
from assistant.store import FILE_NAME, Store
from assistant.write import locked, writing

KEY = "sk-secret-of-the-test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of six papers, encoded by the real encoder."""
    folder = tmp_path_factory.mktemp("doctor")
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "a.jsonl", make_records(6))])
        assistant.warm_up()
    return folder / "library"


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "library"))


def look(library: Path | None, **options: object) -> tuple[bool, list[Check]]:
    """Examine; every finding is one line, has its form in JSON, and what is wrong says what to do."""
    checks: list[Check] = []
    settings = {"library": library} if library else {}
    well = examine(Config(**settings, **options), checks.append)  # type: ignore[arg-type]
    assert well == all(check.state != "failed" for check in checks)
    for check in checks:
        assert json.loads(json.dumps(check.as_dict())) == check.as_dict()
        assert all("\n" not in line for line in check.lines)
        assert check.state == "ok" or check.next_step
    return well, checks


def found(checks: list[Check], name: str, state: str = "") -> str:
    """What was found of one name, in one state, with what to do."""
    return "; ".join(f"{c.found} -> {c.next_step}" for c in checks if c.name == name and c.state in {state, c.state})


def wrong(checks: list[Check]) -> set[str]:
    """The names of what is not as it should be; the program itself is not installed where the tests run."""
    return {check.name for check in checks if check.state != "ok"} - {"program", "folders"}


def files(folder: Path) -> dict[str, str]:
    """What a folder holds; not what SQLite and Chroma themselves touch."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "chroma" not in str(path) and not path.name.endswith(("-shm", "-wal"))
    }


def test_of_a_healthy_library_everything_is_well_and_nothing_changes(library: Path) -> None:
    before = files(library)
    well, checks = look(library)
    assert well and not wrong(checks)
    names = list(dict.fromkeys(check.name for check in checks))
    assert names == [
        "program", "settings", "prompts", "folders", "encoder", "library", "lock", "store", "journal", "index",
        "tokens", "endpoint",
    ]  # fmt: skip
    assert "6 papers in 6 chunks" in found(checks, "store")
    assert f"library={library} (argument)" in found(checks, "settings")
    assert "verbatim sentences" in found(checks, "endpoint")
    assert files(library) == before


def test_before_the_first_ingest_the_sample_answers_and_all_is_well() -> None:
    well, checks = look(None)
    assert well and "the built-in sample answers" in found(checks, "library")


def test_a_library_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    well, checks = look(tmp_path / "nothing")
    assert not well and wrong(checks) == {"library"}
    assert "assistant ingest" in found(checks, "library")
    assert not (tmp_path / "nothing").exists()


def test_an_empty_folder_is_an_empty_library(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    well, checks = look(tmp_path / "library")
    assert well and not wrong(checks)
    assert list((tmp_path / "library").iterdir()) == []


def noise(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 64)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def harm_text(file: Path) -> None:
    """Change a letter of an abstract, which no structure tells of."""
    data = bytearray(file.read_bytes())
    for place in range(len(data)):
        if data[place : place + 7] == b"percent":
            data[place] = ord("q")
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [noise, cut, harm_text, lambda file: file.unlink()])
def test_a_damaged_library_is_told_and_left_to_be_restored(library: Path, harm: Callable[[Path], None]) -> None:
    with Store(library) as store:
        store.select("PRAGMA wal_checkpoint(TRUNCATE)")
    harm(library / FILE_NAME)
    before = files(library)
    well, checks = look(library)
    assert not well and "restored from its journal" in found(checks, "store", "failed")
    assert files(library) == before
    with Assistant(Config(library=library)) as assistant:  # as it is advised to
        assert len(assistant.papers()) == 6
    assert look(library)[0]


def test_damage_of_the_journal_is_a_warning(library: Path) -> None:
    file = library / journal.FILE_NAME
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)
    well, checks = look(library)
    assert well and wrong(checks) == {"journal"}


@pytest.mark.parametrize("harm", [cut, noise, lambda file: file.unlink()])
def test_a_journal_that_does_not_go_with_the_library_is_a_warning(library: Path, harm: Callable[[Path], None]) -> None:
    harm(library / journal.FILE_NAME)
    well, checks = look(library)
    assert well and wrong(checks) == {"journal"}


def test_changes_that_the_journal_alone_holds_are_told(library: Path) -> None:
    shutil.copyfile(library / FILE_NAME, library / "before")
    with Store(library) as store, writing(store, "test") as writer, writer.transaction():
        writer.remove(store.papers()[0].id)
    for each in library.glob(f"{FILE_NAME}-*"):
        each.unlink()
    (library / "before").replace(library / FILE_NAME)
    well, checks = look(library)
    assert well and "changes that the library has lost" in found(checks, "journal", "warning")


def test_a_damaged_index_is_built_anew_and_told(library: Path) -> None:
    noise(next((library / "index").glob("gen-*/whole.npy")))
    well, checks = look(library)
    assert well and wrong(checks) == {"index"} and "rebuilt" in found(checks, "index", "warning")
    assert not wrong(look(library)[1])


def test_papers_that_wait_to_be_encoded_are_told(library: Path, tmp_path: Path) -> None:
    with Store(library) as store:
        ingest(store, None, [write_jsonl(tmp_path / "more.jsonl", make_records(2, offset=50))])
    well, checks = look(library)
    assert well and "2 papers are not encoded yet" in found(checks, "store", "warning")


def test_a_library_of_an_encoder_that_is_not_to_be_had_is_a_failure(tmp_path: Path) -> None:
    with Store(tmp_path / "library", create=True) as store:
        ingest(store, HashingEncoder(), [write_jsonl(tmp_path / "a.jsonl", make_records(3))])
    well, checks = look(tmp_path / "library")
    assert not well
    assert "was encoded by hashing" in found(checks, "encoder", "warning") or "hashing" in found(checks, "store")
    assert any("not to be had" in check.found for check in checks)


def test_an_encoder_that_cannot_be_opened_is_a_failure(library: Path, tmp_path: Path) -> None:
    well, checks = look(library, encoder=str(tmp_path / "no-model"))
    assert not well and "no-model" in found(checks, "encoder", "failed")
    assert "every checksum agrees" in found(checks, "store"), "the others are looked at all the same"


def hold(folder: str, ready: object, end: object) -> None:
    with locked(Path(folder), "ingest"):
        ready.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]


@pytest.fixture
def writer(library: Path) -> Iterator[int]:
    """Another process that writes to the library."""
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(library), ready, end))
    process.start()
    assert ready.wait(60)
    yield process.pid or 0
    end.set()
    process.join()
    assert process.exitcode == 0


def test_who_is_writing_is_told_and_not_disturbed(library: Path, writer: int) -> None:
    well, checks = look(library)
    assert well and not wrong(checks)
    assert f"process {writer} (ingest" in found(checks, "lock")
    assert (library / "write.holder").exists()


def test_a_lock_that_was_left_behind_is_no_harm(library: Path) -> None:
    (library / "write.holder").write_text('{"pid": 1, "command": "ingest", "since": "x"}', encoding="utf-8")
    well, checks = look(library)
    assert well and "nobody is writing" in found(checks, "lock")


@pytest.mark.parametrize("name", [FILE_NAME, "journal.gz", "index", "write.holder", "write.lock", ""])
def test_whatever_stands_in_the_place_of_a_file_nothing_is_raised(library: Path, name: str) -> None:
    place = library / name
    if place.is_dir():
        shutil.rmtree(place)
        place.write_text("no folder", encoding="utf-8")
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    if name == "write.lock":
        (library / "write.holder").touch()
    _, checks = look(library)
    assert {"endpoint", "tokens"} <= {check.name for check in checks}


def test_prompts_that_cannot_be_used_are_a_failure(library: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    well, checks = look(library, prompts=tmp_path / "prompts")
    assert not well and "no prompt file" in found(checks, "prompts", "failed")


def test_an_endpoint_that_is_not_there_is_a_failure_and_no_secret_is_shown(library: Path) -> None:
    well, checks = look(
        library, llm_base_url=f"http://user:{KEY}@127.0.0.1:9/v1", llm_model="scripted", llm_api_key=KEY
    )
    assert not well and "Nothing can be reached" in found(checks, "endpoint", "failed")
    assert "llm_api_key=*** (argument)" in found(checks, "settings")
    assert KEY not in str(checks)


def test_an_endpoint_that_answers_is_well(library: Path) -> None:
    def script(body: dict[str, object]) -> Reply:
        return answer("Ready.") if body else status(200, {"object": "list", "data": [{"id": "scripted"}]})

    with Endpoint(script) as served:
        well, checks = look(library, llm_base_url=served.url, llm_model="scripted")
    assert well and "answers" in found(checks, "endpoint")
    assert "estimated" in found(checks, "tokens", "warning") or "exactly" in found(checks, "tokens")
