"""The files of `deploy/`: they can be read by what they are for, and agree with each other."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from assistant.cli import main

DEPLOY = Path(__file__).parent.parent / "deploy"


def test_systemd_understands_the_unit_and_finds_it_confined(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    unit = (DEPLOY / "assistant.service").read_text()
    copy = tmp_path / "assistant.service"
    copy.write_text(unit.replace("/opt/assistant/bin/assistant", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", copy], capture_output=True, text=True)
    exposure = re.search(r"exposure level for assistant.service: ([\d.]+)", judged.stdout)
    assert exposure and float(exposure[1]) < 2.5, judged.stdout + judged.stderr


def test_the_compose_file_builds_the_container_and_keeps_what_has_to_be_kept() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["assistant"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    mounts = [each.partition(":") for name in compose["services"] for each in compose["services"][name]["volumes"]]
    assert {name for name, *_ in mounts} == set(compose["volumes"])
    assert {place for *_, place in mounts} == {"/data", "/root/.ollama"}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_container_holds_what_the_package_is_built_from_and_does_not_run_as_root() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    allowed = {line[1:] for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert copied == allowed
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    hatch = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*hatch["packages"], *hatch["force-include"], project["project"]["readme"], "pyproject.toml"}
    assert needed | set(project["project"]["license-files"]) == copied
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["assistant"]
    [starts] = [i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT")]
    assert lines.index("USER assistant") < starts


def test_every_option_of_the_notes_is_one_of_ours() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in sorted(DEPLOY.iterdir()) if path.is_file())
    page = io.StringIO()
    with contextlib.redirect_stdout(page), pytest.raises(SystemExit):
        main(["serve", "--help"])
    options = set(re.findall(r"--(?:host|behind-proxy|log-format|without-login|workers)\b", said))
    assert options
    for option in options:
        assert option in page.getvalue()
