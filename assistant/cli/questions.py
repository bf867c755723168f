"""The commands that search, ask, replay and serve."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from assistant.cli.options import HISTORY, WHERE, answering, common, open_assistant, read_history
from assistant.cli.show import cite, mention_sample, print_answer, print_json, print_stream, say, warn
from assistant.errors import AssistantError, ConfigError

if TYPE_CHECKING:
    from assistant.asking import AnswerStream
    from assistant.types import Turn


@click.command()
@click.argument("query")
@click.option("-k", default=10, show_default=True, help="Most papers.")
@WHERE
@HISTORY
@common
def search(
    *,
    query: str,
    k: int,
    where: Sequence[str],
    history: str | None,
    as_json: bool,
    settings: dict[str, Any],
    config_file: str | None,
) -> None:
    """Rank the papers for QUERY, each with the passage that matched."""
    with open_assistant(settings, config_file) as assistant:
        hits = assistant.search(query, k=k, where=where, history=read_history(history))
        if as_json:
            print_json(hits.as_dict())
            return
        for hit in hits:
            found = ", ".join(f"{name} {rank}" for name, rank in hit.retrievers.items())
            say(
                f"{hit.rank:3}. {cite(hit.paper.as_dict())}\n     {hit.passage}\n"
                f"     score {hit.score:.2f}; {found}; id {hit.paper.id}"
            )
        warn([*hits.warnings, *([hits.reason] if hits.reason else [])])
        mention_sample(assistant.library)


@click.command()
@click.argument("question")
@click.option("-k", type=int, help="Papers put before the answerer.")
@WHERE
@HISTORY
@click.option("--save", metavar="FILE", help="Save the answer with all it rests on, for `assistant replay`.")
@answering
@common
def ask(
    *,
    question: str,
    k: int | None,
    where: Sequence[str],
    history: str | None,
    save: str | None,
    llm: str | None,
    as_json: bool,
    settings: dict[str, Any],
    config_file: str | None,
) -> None:
    """Answer QUESTION from the library, each claim with its source."""
    if save is not None:
        from assistant.replay import check_place

        check_place(save)
    with open_assistant(settings, config_file, llm=llm) as assistant:
        stream = assistant.stream(question, history=read_history(history), k=k, where=where)
        print_stream(stream, as_json=as_json)
        if save is not None:
            _save(stream, save)


@click.command("replay")
@click.argument("file", metavar="FILE")
@common
def replay_file(*, file: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Give the answer saved in FILE again, offline, from what it rests on; tell if it is not the same.

    The file alone is read: no library, no endpoint, no settings.
    """
    from assistant.replay import replay

    del settings, config_file
    answer = replay(file)
    print_answer([answer.text], lambda: answer, as_json=as_json)


@click.command()
@answering
@common
def chat(*, llm: str | None, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Hold a conversation in the terminal; an empty line or Ctrl-D ends it."""
    with open_assistant(settings, config_file, llm=llm) as assistant:
        mention_sample(assistant.library)
        history: list[Turn] = []
        while True:
            question = _read_question()
            if not question:
                return
            try:
                stream = assistant.stream(question, history=history)
                print_stream(stream, as_json=as_json, is_chat=True)
            except ConfigError as error:
                print(f"assistant: {error}", file=sys.stderr)
                continue
            history += [{"role": "user", "content": question}, {"role": "assistant", "content": stream.answer.text}]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Others reach it only with a login.")
@click.option("--port", default=7860, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that serve the API; with more than one there is no chat page.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Log a line for each request, in this form.")
@click.option("--without-login", is_flag=True, help="Let others reach it while there is no user and no token.")
@click.option("--behind-proxy", metavar="ADDRESS", help="Believe the X-Forwarded headers that come from there.")
@answering
@common
def serve(
    *,
    host: str,
    port: int,
    workers: int,
    log_format: str | None,
    without_login: bool,
    behind_proxy: str | None,
    llm: str | None,
    as_json: bool,
    settings: dict[str, Any],
    config_file: str | None,
) -> None:
    """Open the chat page, and the API for programs, on this machine, or with a login for others."""
    if as_json:
        raise ConfigError("serve prints no document; leave --json out")
    with open_assistant(settings, config_file, llm=llm) as assistant:
        from assistant.server import serve as run

        if without_login:
            warn([f"warning: while there is no user and no token, whoever reaches {host}:{port} may do everything"])
        run(
            assistant, host=host, port=port, workers=workers, log_format=log_format,
            without_login=without_login, behind_proxy=behind_proxy,
        )  # fmt: skip


def _save(stream: AnswerStream, file: str) -> None:
    """Save an answer that is already printed: a failure is told on stderr alone."""
    try:
        stream.save(file)
    except AssistantError as error:
        warn([str(error)])
        sys.exit(error.exit_code)
    warn([f"saved to {file}; `assistant replay {file}` gives the same answer"])


def _read_question() -> str:
    if sys.stdin.isatty():
        print("\nYou: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip()
