"""The benchmark through its own command, on a few papers, and its parts; no time is asserted anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_records, write_jsonl

from assistant.errors import ConfigError, CorpusError
from eval.bench import made, ours, report
from eval.bench.run import PEER, read_sizes

ROOT = Path(__file__).parent.parent
PEAKS = {"fp32_flops": [1e11, 2e11], "bf16_flops": [4e11, 2e11], "read_bytes_s": [1e10, 2e10]}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eval", "bench", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("papers") / "papers.jsonl"
    write_jsonl(file, make_records(4))
    return file


@pytest.fixture
def found() -> dict[str, object]:
    """What two rounds may have found."""

    def side(seconds: float, ms: float, mb: float) -> dict[str, object]:
        return {
            "seconds": seconds, "again": seconds / 100, "encoding": seconds / 2, "process_seconds": seconds + 1,
            "first_seconds": seconds / 10, "ms": [ms] * 20, "peak_bytes": mb * 1e6,
        }  # fmt: skip

    ms = {"search": [6.0] * 20, "dense": [5.0] * 20, "encode": [4.0] * 20, "scan": [1.0] * 20, "filtered": [9.0] * 20}
    parts = {"ms": ms, "recall": 0.99, "chunks": 1000, "scan_bytes": 2e7, "flops": 4e8}
    rounds = [
        {"ours": side(10, 6, 200), "peer": side(20, 18, 800), "parts": parts},
        {"ours": side(10, 6, 200), "peer": side(40, 24, 800), "parts": parts},
    ]
    machine = {"cpus": 2, "model": "a processor", "python": "3.11.0", "load": 0.0, "load_after": 0.0, **PEAKS}
    search = {name: {"chunks": 1000, "rounds": rounds} for name in ("papers", report.RECALL_AT, report.LARGEST)}
    took = {"answer 20": 12, "answer 420": 32, "request 20": 2, "request 420": 6, "encode": 4, "extractive": 10}
    search["papers"]["answers"] = [{"ms": {name: [ms] * 3 for name, ms in took.items()}, "tokens": [20, 420]}] * 2
    texts = {"papers": 9, "chunks": 20, "texts": 90, "tokens": 9000, "flops": 1e12}
    return {
        "machine": machine,
        "texts": texts,
        "ingest": rounds,
        "search": search,
        "help": [{"help": 0.1, "bare": 0.01}],
    }


@pytest.mark.slow
def test_each_part_is_measured_on_the_product_alone_and_a_missed_bar_fails_the_command(
    papers: Path, tmp_path: Path
) -> None:
    bars = tmp_path / "bars.json"
    bars.write_text('{"assistant --help / python -c pass": {"most": 0}, "ingest again / first": {"most": 1000}}')
    out, plot = tmp_path / "bench.json", tmp_path / "bench.svg"
    done = run("--alone", "--papers", papers, "--sizes", 40, "--repeats", 1, "--check", bars, "--out", out,
               "--plot", plot)  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "eval: assistant --help / python -c pass: " in done.stderr and "is <= 0" in done.stderr
    result = json.loads(out.read_text())
    assert result["texts"]["papers"] == 4 and result["texts"]["texts"] >= 8 and result["texts"]["flops"] > 0
    assert set(result["search"]) == {"papers", "40"} and result["search"]["40"]["chunks"] == 40
    for size in result["search"].values():
        (round_,) = size["rounds"]
        assert "peer" not in round_ and round_["ours"]["found"] > 0 and round_["ours"]["peak_bytes"] > 50e6
        assert round_["parts"]["recall"] == 1.0 and round_["parts"]["ms"]["search"]
    (answered,) = result["search"]["papers"]["answers"]
    assert all(answered["ms"].values())
    assert result["figures"]["assistant --help / python -c pass"]["met"] is False
    assert result["figures"]["ingest again / first"]["met"] is True
    assert "ingest, LC / ours" not in result["figures"]
    assert all(len(result["machine"][name]) == 4 and result["machine"][name][0] > 0 for name in PEAKS)
    assert "40 chunks" in done.stdout and "GFLOP/s" in done.stdout and plot.read_text().startswith("<?xml")


def test_ratios_are_formed_within_rounds_and_limits_are_the_best_that_was_reached(found: dict[str, object]) -> None:
    rows = report.figures(found, report.read_bars(report.BARS))
    assert set(rows) == set(report.read_bars(report.BARS))
    values = {name: row["value"] for name, row in rows.items()}
    assert values == {
        "ingest, LC / ours": 3.0,
        "encoding, share of bf16 peak": 0.5,
        "start to first result, ours / LC": 0.375,
        "search p50, ours / LC": round((6 / 18 + 6 / 24) / 2, 4),
        "search p95 / (encode p95 + scan p95)": 1.2,
        "hybrid p50 / dense p50": 1.2,
        "peak memory of a query, ours / LC": 0.25,
        "recall@10 against exact, 100k": 0.99,
        "filtered p50 / unfiltered p50, 100k": 1.5,
        "ingest again / first": 0.01,
        "search p50 / bandwidth limit, 1M": 6.0,
        "assistant --help / python -c pass": 10.0,
        "answer, our own part, ms": 12 - 2 - 4,
        "streaming, our own part, ms a token": 0.04,
        "extractive answer without encoding, ms": 10 - 4,
    }
    assert (rows["ingest, LC / ours"]["low"], rows["ingest, LC / ours"]["high"]) == (2.0, 4.0)
    assert [line.split(":")[0] for line in report.missed(rows)] == [
        "encoding, share of bf16 peak",
        "start to first result, ours / LC",
        "hybrid p50 / dense p50",
        "answer, our own part, ms",
        "extractive answer without encoding, ms",
        "recall@10 against exact, 100k",
        "search p50 / bandwidth limit, 1M",
    ]


def test_the_tables_show_every_figure_beside_its_bar_and_every_cost_beside_its_floor(found: dict[str, object]) -> None:
    rows = report.figures(found, report.read_bars(report.BARS))
    shown = report.tables(found, rows)
    assert all(name in shown for name in rows) and ">= 2.3" in shown and "missed" in shown
    assert "tokens/s" in shown and "fp32 200 and bf16 400 GFLOP/s, reading 20.0 GB/s" in shown
    (papers, *_) = report.costs(found)
    assert papers["floor_ms"] == 2.0 and papers["ours_ms"] == (6, 6, 6) and papers["peer_ms"] == (21, 18, 24)


def test_the_plot_shows_both_products_and_the_floor(found: dict[str, object], tmp_path: Path) -> None:
    report.draw(found, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert all(f">{label}<" in drawn for label in ("ours", "LangChain + Chroma", "floor", "chunks in the library"))


def test_what_was_not_measured_is_no_figure_and_misses_no_bar(found: dict[str, object]) -> None:
    nothing = {**found, "ingest": [], "search": {}, "help": []}
    rows = report.figures(nothing, report.read_bars(report.BARS))
    assert rows == {} and report.missed(rows) == []
    assert "GFLOP/s" in report.tables(nothing, rows)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"least": "much"}}', "\0"])
def test_bars_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bars.json"
    file.write_text(text)
    with pytest.raises(CorpusError, match="cannot read the bars in .*; write them like those in"):
        report.read_bars(file)


def test_sizes_are_written_as_people_write_them() -> None:
    assert read_sizes("10k, 100k,1M,64") == (10_000, 100_000, 1_000_000, 64) and read_sizes("") == ()
    for wrong in ("0", "10K", "-5", "ten", "1.5M"):
        with pytest.raises(ConfigError, match="cannot read the size"):
            read_sizes(wrong)


def test_a_made_up_library_is_the_same_each_time_and_its_vectors_lie_in_clusters() -> None:
    one, two = (list(made.draw(4 * made.BLOCK + 4 * 10, 64)) for _ in range(2))
    assert [len(block.units) for block in one] == [made.BLOCK, 10]
    for a, b in zip(one, two, strict=True):
        assert a.records == b.records
        assert all(np.array_equal(x.vectors, y.vectors) for x, y in zip(a.units, b.units, strict=True))
    record, units = one[0].records[0], one[0].units[0]
    assert all(chunk.text == record.abstract[chunk.start : chunk.end] for chunk in units.chunks)
    assert [record.abstract[a:b][-1] for a, b in units.sentences] == ["."] * made.SENTENCES
    assert len(units.vectors) == 1 + made.CHUNKS + made.SENTENCES
    whole = np.array([each.vectors[0] for each in one[0].units], dtype=np.float32)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-2)
    likeness = whole @ whole.T
    np.fill_diagonal(likeness, -1)
    assert np.median(likeness.max(axis=1)) > np.median(likeness) + 0.3
    assert made.questions(40) == made.questions(40) != made.questions(44)
    assert len(set(made.questions(40))) == made.QUESTIONS


def test_the_work_of_a_text_grows_with_its_tokens_and_more_than_in_step() -> None:
    six_layers = 6 * (8 * 384**2 + 4 * 384 * 1536 + 4 * 256 * 384) * 256
    assert ours._flops(256) == six_layers > 2 * ours._flops(128)


def test_the_peer_is_pinned_and_its_script_takes_nothing_of_ours() -> None:
    pins = [line for line in PEER.with_suffix(".txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in pin or "<" in pin for pin in pins) and any("<2.14" in pin for pin in pins)
    script = PEER.read_text(encoding="utf-8")
    assert "import assistant" not in script and "from assistant" not in script and "from eval" not in script
