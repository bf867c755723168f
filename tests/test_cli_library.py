"""The commands that fill, show, move and mend a library, as people use them: real processes, output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_records, write_jsonl
from live_server import LiveServer
from test_cli import document, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "library"


def test_a_table_is_read_from_standard_input_by_its_columns(folder: Path) -> None:
    table = "Headline;Blurb;When\nKettles;We boil water and report how long it takes.;2019\n"
    done = run(
        "ingest", "-", "--map", "title=Headline", "--map", "abstract=Blurb", "--map", "year=When",
        "--library", folder, "--json", stdin=table,
    )  # fmt: skip
    assert document(done)["sources"][0] | {"warnings": []} == {
        "source": "-", "format": "csv", "found": 1, "new": 1, "updated": 0, "unchanged": 0, "merged": 0, "rejected": [],
        "removed": 0, "mend": None, "warnings": [],
    }  # fmt: skip
    (paper,) = document(run("papers", "--library", folder, "--json"))["papers"]
    assert (paper["title"], paper["year"]) == ("Kettles", 2019)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "abstract"], "is no FIELD=COLUMN"),
        (["--map", "abstrct=Blurb"], "unknown field 'abstrct'; did you mean 'abstract'"),
        (["--format", "bibtx"], "unknown format 'bibtx'; did you mean 'bibtex'"),
        (["arxiv:"], "arxiv:1706.03762"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_nearest_right_name(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = run("ingest", "x.jsonl", *arguments, "--library", folder)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_dry_run_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", make_records(3))
    done = run("ingest", file, "--dry-run", "--library", folder, "--json")
    ledger = document(done)
    assert (ledger["totals"]["new"], ledger["dry_run"]) == (3, True)
    assert not folder.exists()


def test_sync_the_ledger_and_the_file_of_refusals(folder: Path, tmp_path: Path) -> None:
    records = make_records(4)
    file = write_jsonl(tmp_path / "a.jsonl", [*records, {"title": "Bare"}])
    done = run("ingest", file, "--library", folder)
    assert done.returncode == 0 and "rejected: a.jsonl, line 5: no abstract for the title 'Bare'" in done.stdout
    mend = document(run("ingest", file, "--library", folder, "--json"))["sources"][0]["mend"]
    assert json.loads(Path(mend).read_text("utf-8"))["title"] == "Bare"
    lines = [json.loads(line) for line in run("ledger", "--library", folder, "--json").stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["unchanged"] * 4 + ["rejected"]
    assert run("ledger", "--kind", "rejected", "--library", folder).stdout.count("\n") == 1
    done = run("ingest", write_jsonl(file, records[1:]), "--sync", "--library", folder)
    assert "removed: 1 papers that a.jsonl no longer holds" in done.stdout


def test_a_merge_is_shown_and_undone(folder: Path, tmp_path: Path) -> None:
    a, b = make_records(2)
    file = write_jsonl(tmp_path / "a.jsonl", [{**a, "doi": "10.1000/x"}, {**b, "title": "Unlike", "doi": "10.1000/x"}])
    run("ingest", file, "--library", folder)
    listed = run("split", "10.1000/x", "--library", folder).stdout.splitlines()
    number = next(line.split(".")[0].strip() for line in listed if "Unlike" in line)
    done = run("split", "10.1000/x", number, "--library", folder)
    assert "is a paper of its own now" in done.stdout
    papers = document(run("papers", "--library", folder, "--json"))["papers"]
    assert {paper["title"] for paper in papers} == {a["title"], "Unlike"}
    assert run("split", "nobody", "--library", folder).returncode == 2


def test_a_live_source_is_asked_and_a_dead_one_costs_one_line(folder: Path) -> None:
    with LiveServer(3) as server:
        hosts = ",".join(f"{name}={url}" for name, url in server.hosts.items())
        paper = server.papers[1]
        done = run("ingest", f"arxiv:{paper.arxiv}", "--library", folder, "--json", ASSISTANT_SOURCE_HOSTS=hosts)
        assert document(done)["totals"]["new"] == 1
    (found,) = document(run("papers", paper.arxiv, "--library", folder, "--json"))["papers"]
    assert found["arxiv_id"] == paper.arxiv
    dead = "arxiv=http://127.0.0.1:9,crossref=http://127.0.0.1:9,datacite=http://127.0.0.1:9"
    done = run("ingest", "doi:10.1000/x", "--library", folder, ASSISTANT_SOURCE_HOSTS=dead)
    assert done.returncode == 3
    assert "cannot reach" in done.stdout and done.stderr.count("\n") == 1


def test_a_library_moves_as_one_file(folder: Path, tmp_path: Path) -> None:
    run("ingest", write_jsonl(tmp_path / "a.jsonl", make_records(5)), "--library", folder)
    moved, file = tmp_path / "moved", tmp_path / "mine.assistant.zip"
    assert run("export", "--library", folder, "--output", file).returncode == 0
    first = document(run("import", file, "--library", moved, "--json"))
    assert (first["totals"]["new"], first["encoded"]) == (5, 0)
    ids = [
        [paper["id"] for paper in document(run("papers", "--library", each, "--json"))["papers"]]
        for each in (folder, moved)
    ]
    assert ids[0] == ids[1]
    assert document(run("import", file, "--library", moved, "--json"))["totals"]["unchanged"] == 5
    file.write_bytes(file.read_bytes()[:-100])
    done = run("import", file, "--library", moved)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1
    done = run("export", "--format", "library", "--library", folder)
    assert done.returncode == 2 and "--output" in done.stderr


def test_the_doctor_looks_at_every_part(folder: Path, tmp_path: Path) -> None:
    run("ingest", write_jsonl(tmp_path / "a.jsonl", make_records(2)), "--library", folder)
    report = document(run("doctor", "--library", folder, "--json"))
    assert report["ok"] and {"library", "store", "journal", "index", "encoder", "endpoint"} <= {
        check["name"] for check in report["checks"]
    }
    (folder / "library.sqlite").write_bytes(b"not a database at all" * 1000)
    done = run("doctor", "--library", folder)
    assert "restored" in done.stdout + done.stderr
