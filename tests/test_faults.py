"""Every fault of an endpoint, through every door: `ask`, `stream`, the command line (the chat page: `test_ui`)."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faults
import pytest
from endpoint import Endpoint
from faults import KEY, MODES, QUESTION, REST, SAID, SLACK_S, Mode, Ran, chosen

ROOT = Path(__file__).parent.parent
DOORS = chosen(
    "connection refused",
    "no answer",
    "connection reset",
    "401 with the key",
    "a line of 50 MB",
    "shown text, then nothing",
    "shown text, then cut",
    "finish_reason length",
    "500, once",
)
"""Modes that go through the other doors too."""
PRINTED = [mode for mode in DOORS if mode.expected != "llm_timeout after text"]
"""A process opens its library within its deadline: how much of that is left for text depends on the machine."""


def timeout_s(mode: Mode) -> float:
    """Return the deadline of a process: a short one where nothing else ends the question."""
    return 6.0 if mode.expected == "llm_timeout" else 60.0


by_mode = functools.partial(pytest.mark.parametrize, ids=lambda mode: mode.name)


@pytest.fixture(scope="module")
def asked() -> dict[str, Ran]:
    """What came of each mode through `ask`."""
    return {ran.mode.name: ran for ran in faults.run(at_once=4)}


@pytest.fixture(scope="module")
def streamed() -> dict[str, Ran]:
    return {ran.mode.name: ran for ran in faults.run(DOORS, at_once=2, stream=True)}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What `assistant ask --json` prints in each mode."""
    folder = tmp_path_factory.mktemp("printed")

    def run(mode: Mode) -> subprocess.CompletedProcess[str]:
        with Endpoint(mode.script) as endpoint:
            command = [sys.executable, "-m", "assistant", "-v", "ask", QUESTION, "--json"]
            command += ["--llm", mode.address.format(endpoint.port), "--model", "scripted"]
            env = {"PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(folder), "ASSISTANT_LLM_API_KEY": KEY}
            env |= {"ASSISTANT_LLM_TIMEOUT_S": str(timeout_s(mode))}
            return subprocess.run(
                command, capture_output=True, text=True, timeout=120, cwd=folder, env={**os.environ, **env}
            )

    with faults.alone(), ThreadPoolExecutor(3) as threads:
        return {mode.name: done for mode, done in zip(PRINTED, threads.map(run, PRINTED), strict=True)}


@by_mode("mode", MODES)
def test_every_fault_ends_in_time_and_in_a_cited_answer_that_names_it(asked: dict[str, Ran], mode: Mode) -> None:
    assert asked[mode.name].broken == []


@by_mode("mode", DOORS)
def test_a_stream_ends_as_the_whole_answer_does(streamed: dict[str, Ran], asked: dict[str, Ran], mode: Mode) -> None:
    ran, whole = streamed[mode.name], asked[mode.name]
    assert ran.broken == []
    assert (ran.text, ran.outcome) == (whole.text, whole.outcome)


@by_mode("mode", PRINTED)
def test_the_command_line_prints_the_answer_with_its_fault_and_no_key(
    printed: dict[str, subprocess.CompletedProcess[str]], asked: dict[str, Ran], mode: Mode
) -> None:
    done, whole = printed[mode.name], asked[mode.name].answer
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and KEY not in done.stdout + done.stderr
    given: dict[str, Any] = json.loads(done.stdout)
    assert (given["text"], given["complete"], given["reason"]) == (whole.text, whole.complete, None)
    assert (given["fallback"] or {}).get("error") == (whole.fallback and whole.fallback.error)
    assert given["citations"] and all(each["quote"] in whole.evidence[0].paper.abstract for each in given["citations"])
    assert given["seconds"]["total"] < timeout_s(mode) + SLACK_S
    assert given["usage"]["llm_calls"] <= 3


def test_the_list_holds_each_fault_once_before_and_after_the_first_text() -> None:
    names = [mode.name for mode in MODES]
    assert len(names) == len(set(names)) > 100
    kinds = {"llm_timeout", "llm_unavailable", "llm_rejected", "llm_unparsable"}
    expected = {mode.expected for mode in MODES}
    assert expected >= kinds | {f"{kind} after text" for kind in kinds} | {"recovered", "cut"}
    assert REST not in SAID
