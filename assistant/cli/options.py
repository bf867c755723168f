"""The options that commands share, and how they open the assistant."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant.errors import ConfigError

if TYPE_CHECKING:
    from assistant.answer import Assistant
    from assistant.types import Turn

Command = Callable[..., None]


def common(command: Command) -> Command:
    """Add --library, --config and --json to a command."""

    @wraps(command)
    def run(*, library: str | None, config_file: str | None, **options: Any) -> None:
        settings = options.pop("settings", {}) | ({"library": library} if library else {})
        command(settings=settings, config_file=config_file, **options)

    add = [
        click.option("--library", metavar="DIR", help="Folder of the library."),
        click.option("--config", "config_file", metavar="FILE", help="Settings file instead of assistant.toml."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
    ]
    for option in reversed(add):
        run = option(run)
    return run


def answering(command: Command) -> Command:
    """Add the options that say who answers: --no-llm, --llm, --model."""

    @wraps(command)
    def run(*, no_llm: bool, llm: str | None, model: str | None, **options: Any) -> None:
        settings: dict[str, Any] = {"llm_base_url": llm} if llm else {}
        settings |= {"llm_model": None} if no_llm else {"llm_model": model} if model else {}
        command(settings=settings, llm=llm, **options)

    add = [
        click.option("--no-llm", is_flag=True, help="Answer with verbatim sentences even if a model is configured."),
        click.option("--llm", metavar="URL", help="Endpoint that speaks OpenAI's protocol, with its /v1."),
        click.option("--model", metavar="NAME", help="Model of the endpoint; naming one turns the LLM on."),
    ]
    for option in reversed(add):
        run = option(run)
    return run


WHERE = click.option(
    "--where", multiple=True, metavar="EXPR", help="Filter such as year>=2022 or author~Smith; may be repeated."
)
HISTORY = click.option("--history", metavar="FILE", help="JSON list of earlier turns, {role, content}.")


@contextmanager
def open_assistant(settings: dict[str, Any], config_file: str | None, *, llm: str | None = None) -> Iterator[Assistant]:
    """Give the assistant that the options describe."""
    from assistant.answer import Assistant
    from assistant.config import Config

    config = Config(config_file, **settings)
    if llm and not config.llm_model and "llm_model" not in settings:
        raise ConfigError(f"--llm {llm} names an endpoint but no model; add --model NAME")
    with Assistant(config) as assistant:
        yield assistant


def read_history(file: str | None) -> list[Turn]:
    """Return the earlier turns that a file holds."""
    if file is None:
        return []
    try:
        turns = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the history {file}: {error}; give a JSON list of {{role, content}}") from error
    return turns  # type: ignore[no-any-return]  # checked where it is used
