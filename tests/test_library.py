from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from conftest import make_records, write_jsonl

from assistant import Assistant, Config
from assistant.errors import EncoderMismatch
from assistant.export import built_in_folder
from assistant.store import FILE_NAME

QUERY = "graphs under condition"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library of a dozen papers."""
    with Assistant(Config(library=tmp_path / "library")) as assistant:
        assistant.ingest([write_jsonl(tmp_path / "a.jsonl", make_records(12))])
    return tmp_path / "library"


def test_another_encoder_takes_over_when_it_has_encoded_the_whole_library(folder: Path) -> None:
    other = str(built_in_folder())
    with Assistant(Config(library=folder, encoder=other)) as assistant:
        before = assistant.status()["encoder"]
        hits = assistant.search(QUERY)
        assert len(hits) == 10 and "encoded the library; the settings name" in hits.warnings[0]
        assert assistant.reencode() == 12
        hits = assistant.search(QUERY)
        assert len(hits) == 10 and hits.warnings == ()
        assert assistant.status()["encoder"] != before
        assert assistant.reencode() == 0


def test_an_encoder_that_is_gone_is_replaced_by_the_next_ingest(folder: Path, tmp_path: Path) -> None:
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("UPDATE meta SET value = 'lost@0/chunk128' WHERE key = 'encoder'")
        db.execute("UPDATE meta SET value = '/nowhere/lost' WHERE key = 'encoder_name'")
    db.close()
    with Assistant(Config(library=folder)) as assistant:
        with pytest.raises(EncoderMismatch, match="encoded by lost@0/chunk128, which is not to be had"):
            assistant.search(QUERY)
        ledger = assistant.ingest([tmp_path / "a.jsonl"])
        assert (ledger.totals["unchanged"], ledger.encoded) == (12, 0)
        hits = assistant.search(QUERY)
        assert len(hits) == 10 and hits.warnings == ()


def test_a_library_that_is_damaged_while_it_is_open_is_restored_and_says_so(folder: Path) -> None:
    with Assistant(Config(library=folder)) as assistant:
        before = [hit.paper.id for hit in assistant.search(QUERY)]
        with sqlite3.connect(folder / FILE_NAME) as db:
            db.execute("UPDATE papers SET abstract = 'We found nothing at all.'")
        db.close()
        hits = assistant.search(QUERY, k=12)  # two more, which are not in memory yet
        assert [hit.paper.id for hit in hits][:10] == before
        assert any("12 papers were restored from its journal" in warning for warning in hits.warnings)
        assert "nothing at all" not in hits[0].passage
    with Assistant(Config(library=folder)) as assistant:
        assert assistant.search(QUERY).warnings == ()


@pytest.mark.parametrize("name", ["10.1000/X", "doi:10.1000/x", "https://doi.org/10.1000/x"])
def test_a_paper_is_shown_and_removed_by_any_of_its_names(folder: Path, tmp_path: Path, name: str) -> None:
    record = {**make_records(13)[12], "doi": "10.1000/x"}
    with Assistant(Config(library=folder)) as assistant:
        assistant.ingest([write_jsonl(tmp_path / "b.jsonl", [record])])
        paper = assistant.paper(name)
        assert paper is not None and paper.title == record["title"]
        assert assistant.remove([name, "10.1000/none"]) == ([name], ["10.1000/none"])
        assert assistant.paper(paper.id) is None
