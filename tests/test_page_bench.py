"""The measurement of the page through its own command, each wait once; how long anything takes is asserted nowhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eval", "page", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, **env})


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium in PATH; on Debian: apt-get install chromium")
def test_each_wait_is_measured_and_set_beside_its_bar(tmp_path: Path) -> None:
    done = run("--repeats", "1", "--json", "--out", tmp_path / "page.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "page.json").read_text())
    assert {name: row["bar"] for name, row in result["figures"].items()} == {
        "first paint": 2000,
        "question box usable": 2000,
        "“writing” shown": 150,
        "first sentence shown": 150,
        "search result per key": 100,
    }
    for row in result["figures"].values():
        assert row["n"] == len(row["values"]) == 1 and row["median"] == row["p95"] == row["values"][0] > 0
        assert row["met"] == (row["p95"] <= row["bar"])
    assert result["what"] == "page" and result["machine"]["cpus"] >= 1 and result["machine"]["model"]
    assert result["machine"]["browser"].startswith("Chromium ")
    assert "Traceback" not in done.stderr and "question 1 of 1" in done.stderr


def test_a_machine_without_chromium_is_told_in_one_plain_line(tmp_path: Path) -> None:
    done = run(PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "eval: cannot measure the page: no chromium in PATH; on Debian: apt-get install chromium\n"
