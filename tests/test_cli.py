"""The command line as people and scripts use it: real processes, their output and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_records, write_jsonl
from endpoint import Endpoint, answer, status

Done = subprocess.CompletedProcess[str]


def run(*arguments: object, stdin: str = "", **env: str) -> Done:
    command = [sys.executable, "-m", "assistant", *map(str, arguments)]
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": root, **env},
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


def document(done: Done) -> dict:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    file = write_jsonl(folder / "a.jsonl", make_records(30))
    done = run("ingest", file, "--library", folder / "library", "--json")
    assert done.returncode == 0, done.stderr
    ledger = document(done)
    assert ledger["totals"] == {"found": 30, "new": 30, "updated": 0, "unchanged": 0, "merged": 0, "rejected": 0}
    assert ledger["library"]["papers"] == 30 and ledger["library"]["chunks"] >= 30 and ledger["seconds"] > 0
    assert set(ledger["sources"][0]) >= {
        "source",
        "format",
        "found",
        "new",
        "updated",
        "unchanged",
        "merged",
        "rejected",
    }
    return folder / "library"


def test_help_lists_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("ingest", "search", "ask", "replay", "chat", "serve", "status", "papers", "remove"):
        assert f"\n  {command} " in done.stdout


def test_search_prints_ranked_papers_as_json(library: Path) -> None:
    found = document(run("search", "method m7", "--library", library, "-k", 3, "--where", "year>=2001", "--json"))
    assert set(found) == {"query", "searched", "reason", "hits", "warnings"}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    hit = found["hits"][0]
    assert hit["paper"]["title"].startswith("Study 7 ")
    assert set(hit) == {"rank", "score", "paper", "passage", "start", "end", "retrievers"}
    assert set(hit["paper"]) == {"id", "title", "url", "authors", "year", "venue", "doi", "arxiv_id"}


def test_ask_prints_the_answer_and_its_sources(library: Path) -> None:
    done = run("ask", "What does method m7 reach on set s7?", "--library", library)
    assert done.returncode == 0
    assert "57.7 percent" in done.stdout and "Sources:" in done.stdout and "[1] Study 7 " in done.stdout


def test_ask_as_json_is_one_document_with_every_field(library: Path) -> None:
    fields = document(run("ask", "What does method m7 reach on set s7?", "--library", library, "--json"))
    assert set(fields) >= {
        "question", "searched", "text", "answerer", "model", "abstained", "reason", "citations", "evidence", "closest",
        "checks", "fallback", "usage", "seconds", "digest", "library", "complete",
    }  # fmt: skip
    citation = fields["citations"][0]
    assert set(citation) == {"number", "paper", "quote", "start", "end", "text_start", "text_end", "support"}
    assert fields["text"][citation["text_start"] : citation["text_end"]] == f"[{citation['number']}]"


def test_ask_with_an_endpoint_streams_its_answer(library: Path) -> None:
    with Endpoint(answer("It reaches 57.7 percent [1].", 3)) as endpoint:
        done = run(
            "ask", "What does method m7 reach on set s7?", "--library", library, "--llm", endpoint.url, "--model", "m"
        )
        assert done.stdout.startswith("It reaches 57.7 percent [1].")
        off = run(
            "ask",
            "What does m7 reach?",
            "--library",
            library,
            "--llm",
            endpoint.url,
            "--model",
            "m",
            "--no-llm",
            "--json",
        )
        assert document(off)["answerer"] == "extractive" and len(endpoint.requests) == 1


def test_a_fault_of_the_endpoint_is_named_once_on_stderr(library: Path) -> None:
    with Endpoint(status(500)) as endpoint:
        asked = ("ask", "What does method m7 reach?", "--library", library, "--llm", endpoint.url, "--model", "m")
        done, given = run(*asked), run(*asked, "--json")
    assert done.returncode == 0 and "[1]" in done.stdout
    assert document(given)["fallback"]["error"] == "llm_unavailable"
    for each in (done, given):
        assert each.stderr.count("status 500") == each.stderr.count("llm_unavailable") == 1
        assert len(each.stderr.splitlines()) == 1


def test_what_the_gate_doubts_is_told_beside_the_answer(library: Path) -> None:
    with Endpoint(answer("Method m7 reaches 99.9 percent with FooNet [1].")) as endpoint:
        done = run("ask", "What does method m7 reach?", "--library", library, "--llm", endpoint.url, "--model", "m")
    assert "not found in the cited abstracts: 99.9" in done.stderr and "99.9" in done.stdout


def test_an_abstention_is_done_not_failed(library: Path) -> None:
    done = run("ask", "zebra crossing paint", "--library", library, "--where", "year>=2090")
    assert done.returncode == 0 and "No paper of the library passes the filter" in done.stdout


def test_history_from_a_file_is_used(library: Path, tmp_path: Path) -> None:
    turns = tmp_path / "history.json"
    turns.write_text(json.dumps([{"role": "user", "content": "What does method m7 reach?"}]))
    found = document(
        run("search", "and how much less does it need?", "--history", turns, "--library", library, "--json")
    )
    assert "m7" in found["searched"] and found["hits"][0]["paper"]["title"].startswith("Study 7 ")


def test_chat_holds_a_conversation(library: Path) -> None:
    done = run(
        "chat", "--library", library, stdin="What does method m7 reach on set s7?\nand what device does it use?\n\n"
    )
    assert done.returncode == 0 and "57.7" in done.stdout and "d21" in done.stdout


def test_chat_sends_the_conversation_and_tells_of_a_fault(library: Path) -> None:
    replies = [answer("Method m7 reaches 57.7 percent [1]."), answer("What device does method m7 use?"), status(401)]
    with Endpoint(replies) as endpoint:
        stdin = "What does method m7 reach on set s7?\nand what device does it use?\n\nnot read\n"
        done = run("chat", "--library", library, "--llm", endpoint.url, "--model", "m", stdin=stdin)
        first, rewriting, second = (request["body"]["messages"] for request in endpoint.requests)
    assert done.returncode == 0 and "57.7 percent" in done.stdout and "d21" in done.stdout
    assert len(first) == 2 and "Method m7 reaches 57.7 percent" in rewriting[1]["content"]
    assert [each["content"] for each in second[1:3]] == [
        "What does method m7 reach on set s7?", "Method m7 reaches 57.7 percent.",
    ]  # fmt: skip
    assert done.stderr.count("llm_rejected") == 1 and "status 401" in done.stderr


def test_papers_are_listed_found_and_removed(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    run("ingest", write_jsonl(tmp_path / "a.jsonl", make_records(5)), "--library", folder)
    listed = document(run("papers", "--library", folder, "--json"))["papers"]
    assert len(listed) == 5
    assert len(document(run("papers", "robots", "--library", folder, "--json"))["papers"]) == 0
    assert len(document(run("papers", "GRAPHS", "--library", folder, "--json"))["papers"]) == 1
    done = run("remove", listed[0]["id"], "--library", folder)
    assert done.returncode == 0
    assert run("remove", listed[0]["id"], "--library", folder).returncode == 1
    assert document(run("status", "--library", folder, "--json"))["papers"] == 4


def test_status_counts(library: Path) -> None:
    report = document(run("status", "--library", library, "--json"))
    assert report["papers"] == 30 and report["index"] == "sound" and report["encoder"].startswith("all-MiniLM-L6-v2@")


def test_the_sample_answers_and_says_so() -> None:
    done = run("ask", "What does VOLO reach on ImageNet?")
    assert done.returncode == 0 and "87.1%" in done.stdout and "built-in sample library" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sarch", "x"], 2, "No such command"),
        (["search"], 2, "Missing argument"),
        (["search", "x", "--libary", "y"], 2, "--library"),
        (["search", "x", "-k", "many"], 2, "many"),
        (["search", "x", "-k", "0"], 2, "k is 0"),
        (["search", "x", "--where", "yaer>=1"], 2, "did you mean 'year'"),
        (["search", "x", "--library", "nowhere"], 3, "no such folder"),
        (["ask", "x", "--library", "nowhere", "--json"], 3, "no such folder"),
        (["ask", "x", "--llm", "http://127.0.0.1:1/v1"], 2, "names an endpoint but no model"),
        (["ask", " "], 2, "empty"),
        (["ask", "x", "--config", "none.toml"], 2, "none.toml does not exist"),
        (["ask", "x", "--history", "none.json"], 2, "none.json"),
        (["ask", "x", "--save", "none/answer.json"], 2, "there is no folder"),
        (["replay", "none.json"], 3, "cannot read the saved answer none.json"),
        (["replay"], 2, "Missing argument"),
        (["ingest", "missing.txt", "--library", "l"], 3, "no good record in missing.txt"),
        (["ingest", "x", "--format", "pdf", "--library", "l"], 2, "unknown format 'pdf'"),
        (["remove", "x", "--library", "nowhere"], 3, "no such folder"),
        (["serve", "--host", "0.0.0.0"], 2, "0.0.0.0"),
        (["serve", "--port", "99999"], 2, "99999"),
    ],
)
def test_a_failure_is_one_plain_line_and_the_right_code(arguments: list[str], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.startswith("assistant: ") and len(done.stderr.splitlines()) == 1
    if "--json" in arguments:
        assert set(document(done)["error"]) == {"type", "message"}


def test_bad_input_is_refused_by_name_and_place_and_the_good_is_kept(tmp_path: Path) -> None:
    lines = [json.dumps(record) for record in make_records(4)]
    lines.insert(2, '{"title": oops}')
    (tmp_path / "five.jsonl").write_text("\n".join(lines))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "orphan.txt").write_text("A title without anything\n")
    (tmp_path / "lone.jsonl").write_text(
        '{"title": "Lone \\ud800", "abstract": "A \\udc00 surrogate lived here in peace."}\n'
    )
    sources = ["five.jsonl", "empty.txt", "noise.bin", "orphan.txt", "lone.jsonl"]
    done = run("ingest", *sources, "--library", "library", "--json")
    assert done.returncode == 3
    ledger = document(done)
    assert ledger["totals"] == {"found": 9, "new": 5, "updated": 0, "unchanged": 0, "merged": 0, "rejected": 4}
    reasons = {Path(source["source"]).name: source["rejected"] for source in ledger["sources"]}
    assert reasons["five.jsonl"][0]["where"] == "line 3"
    assert "empty" in reasons["empty.txt"][0]["reason"] and "no text" in reasons["noise.bin"][0]["reason"]
    assert reasons["orphan.txt"][0] == {
        "where": "line 1",
        "reason": "no abstract after the title 'A title without anything'",
    }
    plain = run("ingest", *sources, "--library", "library")
    assert "rejected: five.jsonl, line 3: invalid JSON" in plain.stdout


def test_output_is_plain_where_the_terminal_speaks_ascii(library: Path) -> None:
    done = run("search", "method m7 — naïve", "--library", library, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.returncode == 0


def test_control_characters_of_a_model_never_reach_the_terminal(library: Path) -> None:
    with Endpoint(answer("It \x1b[31mreaches\x07 57.7 percent [1].")) as endpoint:
        done = run("ask", "What does method m7 reach?", "--library", library, "--llm", endpoint.url, "--model", "m")
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout and "57.7" in done.stdout


def test_nothing_is_fetched_with_all_names_unresolvable(tmp_path: Path) -> None:
    guard = tmp_path / "sitecustomize.py"
    guard.write_text(
        "import sys\n"
        "def hook(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'):\n"
        "        open('tried', 'a').write(repr(args) + '\\n')\n"
        "        raise OSError('no network here')\n"
        "sys.addaudithook(hook)\n"
    )
    root = Path(__file__).parent.parent
    done = run("ask", "What does VOLO reach on ImageNet?", PYTHONPATH=f"{tmp_path}{os.pathsep}{root}")
    assert "87.1%" in done.stdout
    done = run(
        "ingest",
        write_jsonl(tmp_path / "a.jsonl", make_records(3)),
        "--library",
        "l",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{root}",
    )
    assert done.returncode == 0 and not (tmp_path / "tried").exists()
