"""The evaluation through its own command line, on collections that the tests make."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant.types import Paper

ROOT = Path(__file__).parent.parent


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eval", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, **env})
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection in BEIR's layout: 12 documents, two of them the same, and three queries, one without judgements."""
    folder = tmp_path_factory.mktemp("bench")
    documents = [{"_id": f"d{i}", "title": r["title"], "text": r["abstract"]} for i, r in enumerate(make_records(11))]
    documents.append({**documents[3], "_id": "twin"})
    with gzip.open(folder / "corpus.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(document) + "\n" for document in documents)
    queries = [("q1", "method m3 on set s3"), ("q2", "robots with device d18"), ("q3", "not judged")]
    write_jsonl(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in queries])
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td3\t1\nq1\ttwin\t1\nq2\td6\t2\n")
    return folder


def test_a_collection_is_scored_without_merging_and_unjudged_queries_are_counted(bench: Path, tmp_path: Path) -> None:
    result = json.loads(run("retrieval", "--bench", bench, "--run", tmp_path / "own.run", "--json").stdout)
    assert result["skipped"] == 1
    assert set(result["systems"]["all"]) == {"hybrid", "bm25", "dense", "rrf"}
    hybrid = result["systems"]["all"]["hybrid"]
    assert hybrid["nDCG@10"]["mean"] == 1.0 and hybrid["nDCG@10"]["n"] == 2
    lines = [line.split() for line in (tmp_path / "own.run").read_text().splitlines()]
    assert {line[2] for line in lines if line[0] == "q1"} >= {"d3", "twin"}
    first = result["per_query"]["q1"]
    assert first["found"][0] == make_records(4)[3]["title"] and first["missed"] == [] and "question" not in first
    assert all(len(line) == 6 and line[1] == "Q0" for line in lines)


def test_the_same_run_gives_the_same_numbers_whatever_the_hash_seed(bench: Path) -> None:
    one, two = (run("retrieval", "--bench", bench, "--json", PYTHONHASHSEED=seed).stdout for seed in ("1", "2"))
    assert one == two


def test_a_peers_run_is_scored_and_compared_by_the_same_commands(bench: Path, tmp_path: Path) -> None:
    peer, out = tmp_path / "peer.run", tmp_path / "result.json"
    peer.write_text("q1 Q0 d9 1 3.0 peer\nq1 Q0 d3 2 2.0 peer\n")
    assert run("retrieval", "--bench", bench, "--run", peer, "--out", out).returncode == 0
    values = json.loads(out.read_text())["systems"]["all"]["peer"]
    assert values["MRR@10"]["mean"] == pytest.approx(0.25)
    done = run("compare", out, out, "--systems", "peer", "hybrid", "--measure", "MRR@10", "--json")
    found = json.loads(done.stdout)
    assert found["difference"]["mean"] == pytest.approx(0.75) and (found["wins"], found["losses"]) == (2, 0)
    assert 0 < found["p"] <= 1


def test_trec_qrels_serve_as_well(bench: Path, tmp_path: Path) -> None:
    qrels = tmp_path / "trec.qrels"
    qrels.write_text("q3 0 d1 1\nq1 0 d3 0\n")
    result = json.loads(run("retrieval", "--bench", bench, "--qrels", qrels, "--json").stdout)
    assert result["skipped"] == 1 and set(result["per_query"]) == {"q1", "q3"}


def test_questions_are_scored_by_kind_with_their_history(tmp_path: Path) -> None:
    papers = write_jsonl(tmp_path / "papers.jsonl", make_records(12))
    title = make_records(12)[7]["title"]
    gold = [{"title": title, "grade": 2}]
    turns = [{"role": "user", "content": "What does m7 reach on set s7?"}]
    questions = [
        {"id": "a", "kind": "fact", "question": "What does m7 reach on set s7?", "gold": gold},
        {"id": "b", "kind": "followup", "question": "And what device?", "gold": gold, "history": turns},
        {"id": "c", "kind": "unanswerable", "question": "Who?", "gold": [], "answerable": False},
    ]  # fmt: skip
    file = write_jsonl(tmp_path / "questions.jsonl", questions)
    result = json.loads(run("retrieval", "--questions", file, "--papers", papers, "--json").stdout)
    assert set(result["systems"]) == {"all", "fact", "followup"} and result["skipped"] == 1
    assert result["per_query"]["b"]["hybrid"]["Success@1"] == 1.0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td3\n", "qrels.tsv, line 2"),
        ("qrels.tsv", "q1 0 d3 1\nq1 d4 1\n", "qrels.tsv, line 2.*4 columns"),
        ("qrels.tsv", "q1 0 d3 high\n", "qrels.tsv, line 1"),
        ("qrels.tsv", "", "no judgements"),
        ("qrels.tsv", "other 0 d3 1\n", "no query of"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}\n{"_id": "q1", "text": "y"}\n', "line 2.*'q1' occurred before"),
        ("queries.jsonl", '{"_id": "q1"}\n', "line 1 has no _id or no text"),
        ("queries.jsonl", "{oops\n", "line 1: invalid JSON"),
        ("corpus.jsonl", "", "corpus.jsonl: the file is empty"),
        ("corpus.jsonl", '{"_id": "d1", "title": "t"}\n', "line 1: no abstract"),
    ],
)
def test_bad_files_are_refused_by_name_and_line(
    bench: Path, tmp_path: Path, file: str, content: str, message: str
) -> None:
    import re

    for name in ("corpus.jsonl.gz", "queries.jsonl", "qrels.tsv"):
        (tmp_path / name).write_bytes((bench / name).read_bytes())
    (tmp_path / file).write_text(content)
    done = run("retrieval", "--bench", tmp_path)
    assert done.returncode == 3 and re.search(message, done.stderr), done.stderr


def test_a_gold_title_that_the_library_lacks_is_named(tmp_path: Path) -> None:
    papers = write_jsonl(tmp_path / "papers.jsonl", make_records(3))
    question = {"id": "a", "question": "q", "gold": [{"title": "Nobody wrote this", "grade": 2}]}
    done = run("retrieval", "--questions", write_jsonl(tmp_path / "q.jsonl", [question]), "--papers", papers)
    assert done.returncode == 3 and "line 1: the gold title 'Nobody wrote this' of question a" in done.stderr


def test_nothing_to_measure_is_wrong_usage() -> None:
    assert run("retrieval").returncode == 2
    assert run("retrieval", "--benhc", "x").returncode == 2


def test_answers_are_scored_held_to_floors_and_repeatable(tmp_path: Path) -> None:
    papers = write_jsonl(tmp_path / "papers.jsonl", make_records(12))
    gold = [{"title": make_records(12)[7]["title"], "grade": 2}]
    questions = [
        {
            "id": "a",
            "kind": "fact",
            "question": "What does method m7 reach on set s7?",
            "gold": gold,
            "fact_strings": [["57.7"], ["never said"]],
        },
        {
            "id": "b",
            "kind": "unanswerable",
            "question": "Who won the football World Cup?",
            "gold": [],
            "answerable": False,
        },
    ]
    file = write_jsonl(tmp_path / "questions.jsonl", questions)
    floor = tmp_path / "floor.json"
    floor.write_text(json.dumps({"fact": {"fact recall": {"least": 0.5}, "verbatim quotes": {"least": 1.0}}}))
    claims = write_jsonl(tmp_path / "claims.jsonl", [{"text": "Cats purr at night."}, {"text": "Bees dance."}])
    done = run(
        "answers", "--questions", file, "--papers", papers, "--off-topic", claims, "--floor", floor, "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["per_query"]["a"]["fact recall"] == 0.5
    assert result["per_query"]["a"]["gold recall"] == 1.0 and result["per_query"]["a"]["citation precision"] == 1.0
    assert result["abstention"]["recall"] == 1.0
    assert result["abstention"]["off-topic refused"]["n"] == 2
    floor.write_text(json.dumps({"fact": {"fact recall": {"least": 0.6}}}))
    missed = run("answers", "--questions", file, "--papers", papers, "--floor", floor)
    assert missed.returncode == 1 and "fact, fact recall: 0.5000 is not within 0.6" in missed.stderr


def test_an_endpoints_replies_are_kept_and_the_run_repeated_without_it(tmp_path: Path) -> None:
    from endpoint import Endpoint, answer

    papers = write_jsonl(tmp_path / "papers.jsonl", make_records(12))
    question = {
        "id": "a",
        "kind": "fact",
        "question": "What does method m7 reach on set s7?",
        "fact_strings": [["57.7"]],
    }
    file = write_jsonl(tmp_path / "questions.jsonl", [question])
    common = [
        "answers",
        "--questions",
        file,
        "--papers",
        papers,
        "--model",
        "m",
        "--cache",
        tmp_path / "kept",
        "--json",
    ]
    with Endpoint(answer("It reaches 57.7 percent [1]. By 99.9 it won [2].")) as endpoint:
        first = json.loads(run(*common, "--llm", endpoint.url).stdout)
        url = endpoint.url
    again = json.loads(run(*common, "--llm", url).stdout)
    for result in (first, again):
        del result["per_query"]["a"]["seconds"]
    assert first == again
    assert first["per_query"]["a"]["fact recall"] == 1.0 and first["per_query"]["a"]["citation recall"] == 0.5
    assert first["per_query"]["a"]["figures supported"] == 0.5


def test_the_default_of_the_study_ranks_as_the_product_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from assistant.index import Index
    from assistant.ingest import ingest
    from assistant.retrieve import search
    from assistant.store import Store
    from eval.data import Question
    from eval.study import Lab, Recipe

    records, encoder = make_records(40), HashingEncoder()
    encoder.max_tokens = 256  # room for chunks of 128
    asked = [
        Question(str(i), "fact", f"What does methd m{i} reach on set s{i}?", gold={records[i]["title"]: 2})
        for i in range(0, 40, 7)
    ]
    with Store(tmp_path / "library", create=True) as store:
        ingest(store, encoder, [write_jsonl(tmp_path / "a.jsonl", records)])
        index, lab = Index.open(store), Lab.of_questions("few", encoder, asked, store.papers())
        run = lab.run(Recipe(), depth=10)
        for question in asked:
            hits = search(store, index, encoder, question.question, k=10)
            expected = {hit.paper.id: hit.score for hit in hits}
            assert run[question.id] == pytest.approx(expected, abs=2e-3)  # the library keeps half precision


def test_the_study_compares_each_change_with_the_default_and_cross_validates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from eval import study
    from eval.data import Question
    from eval.study import Lab

    records = make_records(40)
    papers = [Paper(str(i), record["title"], record["abstract"]) for i, record in enumerate(records)]
    asked = [Question(str(i), "fact", f"Which set is m{i} for?", gold={records[i]["title"]: 2}) for i in range(20)]
    found = study.study([Lab.of_questions("few", HashingEncoder(), asked, papers)], lambda _: None)
    first, rest = found["rows"][0], found["rows"][1:]
    assert first["variant"] == "default" and first["collections"]["few"]["difference"]["mean"] == 0
    for row in rest:
        here = row["collections"]["few"]
        assert here["difference"]["mean"] == pytest.approx(here["mean"] - first["collections"]["few"]["mean"], abs=2e-6)
    assert found["chosen"]["reached"]["few"]["n"] == 20
    assert sum(recipe["folds"] for recipe in found["chosen"]["recipes"]) == study.FOLDS
