from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from pathlib import Path

import pytest

import assistant
from assistant.cli import main
from assistant.config import Config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_and_its_options_are_in_the_readme() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^  ([a-z]+) ", out.getvalue().split("Commands:")[1], re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        assert f"`assistant {command}" in README
        page = io.StringIO()
        with contextlib.redirect_stdout(page), pytest.raises(SystemExit):
            main([command, "--help"])
        for option in re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", page.getvalue(), re.MULTILINE):
            assert option in README or option == "--help", f"{command} {option}"


def test_every_setting_and_its_default_is_in_the_readme() -> None:
    for field in dataclasses.fields(Config):
        if "default" in field.metadata:
            row = re.search(rf"^\| `ASSISTANT_{field.name.upper()}` \| (.+?) \|", README, re.MULTILINE)
            assert row, field.name
            if isinstance(field.metadata["default"], (int, float)):
                assert row[1] == f"{field.metadata['default']:g}"


def test_every_error_is_in_the_readme() -> None:
    for name in assistant.__all__:
        if isinstance(getattr(assistant, name), type) and issubclass(getattr(assistant, name), Exception):
            assert f"`{name}`" in README


def test_the_answer_in_the_readme_is_the_real_one() -> None:
    question = re.search(r'\$ assistant ask "(.+?)"\n(.+?)\n\nSources', README, re.DOTALL)
    assert question
    assert assistant.ask(question[1]).text == question[2]
