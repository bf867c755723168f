"""The report through its command: what a reader of the page sees, and what is refused."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.__main__ import main
from eval.answers import ANSWERED
from eval.measures import compare, estimate
from eval.retrieval import evaluate

ROOT = Path(__file__).parent.parent
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)> $x^2$ 量子'


class Page(HTMLParser):
    """A page as a reader gets it: its text by row, its tags, and what they point to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.html = file.read_text(encoding="utf-8")
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[str] = []
        self.text = ""
        self._row: list[str] | None = None
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "tr":
            self._row = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._row is not None:
            self.rows.append(" ".join(self._row))
            self._row = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._row is not None and data.strip():
            self._row.append(data.strip())

    def row(self, *words: str) -> str:
        """Return the first row that holds all the words."""
        return next(row for row in self.rows if all(word in row for word in words))


def report(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["eval", "report", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def shown(found: Any) -> tuple[str, str]:
    """Return a mean and its interval as the page writes them."""
    raw = found if isinstance(found, dict) else found.as_dict()
    return f"{raw['mean']:.3f}", f"{raw['low']:.3f} to {raw['high']:.3f}"


@functools.cache
def _scored(kind: str, grade: int, peer: str) -> dict[str, Any]:
    """Score five made-up systems on 24 queries: the product finds all but the last three, the peer every third."""
    queries = [f"q{i:02}" for i in range(24)]
    qrels = {query: {f"{query}-gold": grade, f"{query}-near": 1} for query in queries}
    kinds = {query: "fact" if i % 2 else kind for i, query in enumerate(queries)}
    good = {query: {f"{query}-gold": 2.0, "other": 1.0} for query in queries[:-3]}
    partly = {query: {"other": 3.0, f"{query}-gold": 2.0} for query in queries[::3]}
    runs = {"hybrid": good, "bm25": partly, "dense": good, "rrf": good, peer: partly}
    return evaluate(qrels, kinds, runs)


def retrieval_result(kind: str = "survey", *, grade: int = 2, peer: str = "peer") -> dict[str, Any]:
    stamp = {"library": "1a2b3c4d5e", "encoder": "small@1", "config": "c0ffee00aa", "commit": None, "skipped": 7}
    return {"what": "retrieval", "questions": "9f8e7d6c5b", **stamp, **copy.deepcopy(_scored(kind, grade, peer))}


def answers_result() -> dict[str, Any]:
    """Four questions, one of them unanswerable, two refused."""
    per_query = {
        f"q{i}": {"kind": "fact", "answerable": i < 3, "refused": float(i > 1), "fact recall": i / 2} for i in range(4)
    }
    row = {name: estimate([0.25, 0.5, 1.0]).as_dict() for name in ANSWERED} | {"calls": 1.5, "tokens": 812.0}
    nothing = {name: estimate([]).as_dict() for name in ANSWERED} | {"refused": estimate([1.0]).as_dict()}
    refused = {
        "unanswerable refused": estimate([1.0]).as_dict(),
        "answerable refused": estimate([0.0, 0.0, 1.0]).as_dict(),
    }
    return {
        "what": "answers",
        "model": "some-model",
        "tables": {"all": row, "unanswerable": nothing | {"calls": 0.0, "tokens": 0.0}},
        "abstention": {"precision": 0.5, "recall": 1.0, "F1": 2 / 3, **refused},
        "per_query": per_query,
    }


def save(path: Path, result: Any) -> Path:
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


@pytest.fixture
def retrieval(tmp_path: Path) -> Path:
    return save(tmp_path / "small.json", retrieval_result())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_a_retrieval_result_is_shown_with_intervals_tests_and_digests(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path
) -> None:
    assert report(monkeypatch, out, retrieval) == 0
    page, result = Page(out), json.loads(retrieval.read_text())
    for part in ("small", "24", "7", "9f8e7d6c", "1a2b3c4d", "c0ffee00", "small @1"):
        assert part in page.row("small", "nDCG@10, hybrid"), part
    assert "Recall@10 (grade 2)" in page.row("kind", "system")
    for mean in shown(result["systems"]["survey"]["hybrid"]["nDCG@10"]):
        assert mean in page.row("survey", "12 queries", "hybrid")
    values = [{q: each[name]["nDCG@10"] for q, each in result["per_query"].items()} for name in ("peer", "hybrid")]
    found = compare(*values)
    row = page.row("peer", f"+{found.difference.mean:.3f}")
    assert f"+{found.difference.low:.3f} to +{found.difference.high:.3f}" in row
    assert row.endswith(f"{found.p:.4f} {found.wins} {found.losses} {found.ties}")
    assert page.html.count("<svg ") == 2 and "survey</text>" in page.html


def test_the_page_asks_nothing_of_any_network(monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path) -> None:
    report(monkeypatch, out, retrieval, save(retrieval.with_name("answers.json"), answers_result()))
    page = Page(out)
    assert "http://" not in page.html and "https://" not in page.html
    links = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "action", "data"}]
    ids = [value for name, value in page.attributes if name == "id"]
    assert links and all(link.startswith("#") and link[1:] in ids for link in links)
    assert len(ids) == len(set(ids))
    assert page.html.count("url(") == page.html.count("url(#") and "@import" not in page.html
    assert not page.tags & {"script", "link", "img", "iframe", "object"}


def test_the_worst_queries_are_shown_with_what_they_asked_found_and_missed(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path
) -> None:
    report(monkeypatch, out, retrieval)
    bare = Page(out).text.partition("Worst queries")[2]
    assert "3 of 24 are at 0" in bare and "Not in the first ten" not in bare
    order = [bare.index(f"q{i}") for i in (21, 22, 23)]
    assert order == sorted(order) and order[-1] < bare.index("q00") and "q10" not in bare
    result = json.loads(retrieval.read_text())
    extra = {"question": "What is lost?", "found": ["One paper", "Another"], "missed": ["The one that was wanted"]}
    result["per_query"]["q22"] |= extra
    report(monkeypatch, out, save(retrieval, result))
    rich = Page(out).text.partition("Worst queries")[2]
    for text in ("What is lost?", "One paper", "Another", "Not in the first ten", "The one that was wanted"):
        assert text in rich


def test_markup_in_any_text_of_a_result_is_shown_and_never_taken_for_markup(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path
) -> None:
    result = retrieval_result(HOSTILE, peer=HOSTILE) | dict.fromkeys(("encoder", "bench", "commit", "config"), HOSTILE)
    for each in result["per_query"].values():
        each |= {"question": HOSTILE, "found": [HOSTILE, "half \ud800 a pair"], "missed": [HOSTILE]}
    result["per_query"] = {f"{query} {HOSTILE}": each for query, each in result["per_query"].items()}
    study = {"collections": [HOSTILE], "rows": [{"part": HOSTILE, "variant": HOSTILE, "collections": {}}]}
    answers = answers_result() | {"model": HOSTILE}
    files = [save(retrieval.with_name(f"{i}.json"), each) for i, each in enumerate((result, study, answers))]
    assert report(monkeypatch, out, *files) == 0
    page = Page(out)
    assert not page.tags & {"script", "img"} and "<script" not in page.html and "<img" not in page.html
    assert page.text.count(HOSTILE) > 20


def test_answers_are_shown_with_intervals_and_refusals(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path
) -> None:
    result = answers_result()
    assert report(monkeypatch, out, save(tmp_path / "answers.json", result)) == 0
    page = Page(out)
    assert "fact recall, some-model" in page.row("answers")
    assert " ".join(shown(result["tables"]["all"]["gold recall"])) in page.row("all", "3 questions")
    assert page.row("all", "3 questions").endswith("1.50 812")
    assert "– – –" in page.row("unanswerable", "1 questions")
    for name, found in (
        ("precision", estimate([0.0, 1.0])),
        ("recall", result["abstention"]["unanswerable refused"]),
        ("false refusals", result["abstention"]["answerable refused"]),
    ):
        assert " ".join(shown(found)) in page.row(f"{name}: of the")
    assert "0.667" in page.row("F1")


def test_a_measure_of_grades_that_no_query_has_is_left_out(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path
) -> None:
    report(monkeypatch, out, save(retrieval, retrieval_result(grade=1)))
    assert "grade 2" not in Page(out).text


def test_the_refusals_curve_marks_the_threshold_in_use(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path
) -> None:
    report(monkeypatch, out, retrieval)
    page = Page(out)
    model = json.loads((ROOT / "assistant/data/refusal.json").read_text())
    used = next(row for row in model["curve"] if row["threshold"] == round(model["threshold"], 3))
    assert f"{used['answerable']:.3f} {used['unanswerable']:.3f}" in page.row(f"{used['threshold']} used")
    assert f"{used['answerable'] * 100:.1f} % of the answerable" in page.text
    assert len([row for row in page.rows if re.match(r"[\d.]+ used ", row)]) == 1


def test_a_study_is_a_table_with_its_default_marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path) -> None:
    worse = {"mean": 0.7, "difference": {"mean": -0.1, "low": -0.15, "high": -0.05, "n": 9}, "p": 0.0123}
    study = {
        "collections": ["dev", "other"],
        "rows": [
            {"part": "fusion", "variant": "default", "collections": {"dev": {"mean": 0.8}, "other": {"mean": 0.9}}},
            {"part": "fusion", "variant": "rrf", "collections": {"dev": worse}},
        ],
    }
    assert report(monkeypatch, out, save(tmp_path / "my-study.json", study)) == 0
    page = Page(out)
    assert page.row("fusion", "default") == "fusion default used 0.800 0.900"
    assert page.row("fusion", "rrf") == "fusion rrf 0.700 −0.100 [−0.150, −0.050], p 0.012 –"


def test_without_results_the_kept_ones_are_shown(
    monkeypatch: pytest.MonkeyPatch, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(monkeypatch, out) == 0
    kept = sorted((ROOT / "eval/results").glob("*.json"))
    page = Page(out)
    assert all(f">{file.stem}</h2>" in page.html for file in kept)
    assert capsys.readouterr().out == f"wrote {out} from {len(kept)} files\n"


def test_results_of_the_same_name_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    old = save(tmp_path / "old" / retrieval.name, retrieval_result())
    report(monkeypatch, out, old, retrieval)
    text = Page(out).text
    assert str(old) in text and str(retrieval) in text


def test_the_same_results_give_the_same_bytes_whatever_the_hash_seed(retrieval: Path, tmp_path: Path) -> None:
    pages = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.html"
        command = [sys.executable, "-W", "error", "-m", "eval", "report", out, retrieval]
        subprocess.run(command, cwd=ROOT, check=True, timeout=300, env={**os.environ, "PYTHONHASHSEED": seed})
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON", "is no result: Expecting value"),
        ("[1, 2]", "is no result: it holds a list, no object"),
        ("[" * 100_000, "is no result"),
        ({"what": "fit"}, "its 'what' is 'fit', neither retrieval nor answers"),
        ({"what": "retrieval", "per_query": {}}, "is no result: it holds no query"),
        ({"what": "retrieval", "per_query": [1]}, "is no result"),
        ({"what": "answers", "per_query": {"q": {}}, "tables": {"all": {}}}, "is no result: it lacks 'fact recall'"),
        (
            {"rows": [{"part": "a", "variant": "b", "collections": {"c": {"mean": 1e99}}}], "collections": ["c"]},
            "1e.99",
        ),
        ({"rows": [{"part": "a"}], "collections": ["c"]}, "is no result: it lacks 'variant'"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: Any,
    message: str,
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    assert report(monkeypatch, out, file) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"eval: {file} is no result") and said.count("\n") == 1
    assert re.search(message, said) and said.endswith("; give a file written with --out\n")
    assert not out.exists()


@pytest.mark.parametrize(
    "keys",
    [
        ["per_query"],
        ["systems", "fact", "bm25"],
        ["systems", "all", "hybrid", "nDCG@10", "low"],
        ["per_query", "q03", "hybrid"],
    ],
)
def test_what_a_result_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path, capsys: pytest.CaptureFixture[str], keys: list[str]
) -> None:
    result = retrieval_result()
    inner: Any = functools.reduce(dict.__getitem__, keys[:-1], result)
    del inner[keys[-1]]
    assert report(monkeypatch, out, save(retrieval, result)) == 3
    assert f"is no result: it lacks {keys[-1]!r};" in capsys.readouterr().err


def test_a_missing_result_is_named_and_what_was_written_before_stays(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out.write_text("before")
    assert report(monkeypatch, out, retrieval, "missing.json") == 3
    assert "eval: cannot read missing.json: No such file" in capsys.readouterr().err
    assert out.read_text() == "before" and not list(out.parent.glob(".*"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere/report.html", "there is no folder"),
        ("small.json", "that is the name of a result"),
        (".", "no ordinary file"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, retrieval: Path, capsys: pytest.CaptureFixture[str], place: str, message: str
) -> None:
    before = retrieval.read_bytes()
    assert report(monkeypatch, place, retrieval) == 2
    said = capsys.readouterr().err
    assert message in said and "choose another place" in said and said.count("\n") == 1
    assert retrieval.read_bytes() == before
