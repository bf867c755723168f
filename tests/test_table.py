from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.sample import PAPERS
from assistant.table import COLUMNS, compare, own_name
from assistant.types import Paper

CLASSIC = Paper(
    "1",
    "TideNet: Forecasting Harbour Levels with Sparse Convolutions",
    "Forecasting water levels in a harbour is essential for shipping. However, existing numerical models are costly and"
    " often ignore local wind. In this paper, we propose TideNet, a sparse convolutional network for harbour levels. It"
    " also shares weights between stations. Experiments on GaugeSet, NordSea-10 and two private datasets show that"
    " TideNet lowers the mean error by 12.5% and runs 3x faster than the best earlier model. The code is available at"
    " https://example.org/tidenet.",
)
DIGEST = Paper(
    "2",
    "Listening to Bees",
    "Beekeepers commonly open hives to learn how a colony fares, which disturbs it. BuzzFormer (acoustic hive"
    " transformer) listens instead: microphones feed a small transformer that tells swarming from foraging. Across"
    " three apiary datasets it reaches 94.2% accuracy.",
)
SILENT = Paper("3", "A Remark", "Stones are heavy.")


def test_each_column_of_a_usual_abstract_holds_the_sentence_that_tells_it() -> None:
    [row] = compare([CLASSIC])
    assert row.task.text.startswith(("Forecasting water levels", "However, existing numerical models"))
    assert row.method.text.startswith("In this paper, we propose TideNet")
    assert row.data.text.startswith("Experiments on GaugeSet, NordSea-10 and two private datasets")
    assert "12.5%" in row.numbers.text and "3x faster" in row.numbers.text


def test_an_abstract_that_never_says_we_is_read_too() -> None:
    [row] = compare([DIGEST])
    assert row.task.text.startswith("Beekeepers commonly open hives")
    assert row.method.text.startswith("BuzzFormer (acoustic hive transformer)")
    assert row.data.text == "Across three apiary datasets it reaches 94.2% accuracy."
    assert "94.2% accuracy" in row.numbers.text


def test_a_column_that_the_abstract_does_not_tell_is_empty() -> None:
    [silent, empty] = compare([SILENT, Paper("4", "", "")])
    for row in (silent, empty):
        assert [getattr(row, column).text for column in ("method", "data", "numbers")] == ["", "", ""]


def test_a_method_told_first_lends_its_purpose_to_the_task() -> None:
    text = "TideNet is a sparse network for harbour levels that shares weights between stations. It is small."
    [row] = compare([Paper("5", "TideNet: Predicting Harbour Levels", text)])
    assert row.task.text == "harbour levels" and row.method.text.startswith("TideNet is")


def test_where_the_code_lies_is_in_no_column() -> None:
    [row] = compare([CLASSIC])
    assert not any("example.org" in getattr(row, column).text for column in COLUMNS)


def test_cells_of_the_sample_are_verbatim_and_most_papers_have_a_task_and_a_method() -> None:
    papers = [Paper(str(n), **json.loads(line)) for n, line in enumerate(PAPERS.read_text("utf-8").splitlines())]
    rows = compare(papers)
    for row in rows:
        for column in COLUMNS:
            cell = getattr(row, column)
            assert row.paper.abstract[cell.start : cell.end] == cell.text == cell.text.strip()
    for column, least in (("task", 0.8), ("method", 0.8), ("data", 0.5), ("numbers", 0.25)):
        assert sum(bool(getattr(row, column).text) for row in rows) > least * len(rows)


@given(st.text(alphabet="aA1.,;:()[] -%µé\n", max_size=300), st.text(max_size=300))
def test_cells_are_verbatim_whatever_the_text(title: str, abstract: str) -> None:
    for text in (abstract, title, f"We propose A1. On ImageNet, {title} datasets. {abstract} gains 3.5%."):
        [row] = compare([Paper("1", title, text)])
        for column in COLUMNS:
            cell = getattr(row, column)
            assert text[cell.start : cell.end] == cell.text


@pytest.mark.parametrize("piece", ["A", "1,", "A-", "on the ", "On A, ", "we ", "for x", "AAAA BBBB, ", "two ", "(A"])
def test_text_without_end_is_read_all_the_same(piece: str) -> None:
    [row] = compare([Paper("1", piece * 20, "On ImageNet, " + piece * 5_000)])
    assert len(row.as_dict()) == 1 + len(COLUMNS)


@pytest.mark.parametrize(
    ("title", "abstract", "name"),
    [
        ("TideNet: Harbour Levels", "We propose TideNet.", "TideNet"),
        ("Harbour Levels by Sparse Convolution (TIDE)", "TIDE is small.", "TIDE"),
        ("On Harbour Levels", "We present a network called TideNet.", "TideNet"),
        ("Less is more: Harbour Levels", "Fewer gauges do.", ""),
        ("TideNet: Harbour Levels", "It never says its name.", ""),
        ("Harbour Levels", "CNNs are large.", ""),
    ],
)
def test_a_paper_is_called_as_it_calls_itself(title: str, abstract: str, name: str) -> None:
    assert own_name(Paper("1", title, abstract)) == name
