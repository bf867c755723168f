"""The command line: `assistant ingest | search | ask | replay | chat | serve | status | papers | export | remove`.

Results go to stdout, progress and warnings to stderr. With `--json` stdout holds one JSON document and nothing else. A
failure is one plain line on stderr and an exit code: 1 failed, 2 wrong usage or configuration, 3 the library or a
source could not be read. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant.clean import drop_unseen
from assistant.errors import AssistantError, ConfigError, CorpusError

if TYPE_CHECKING:
    from assistant.answer import AnswerStream, Assistant
    from assistant.ingest import Ledger
    from assistant.types import Answer, Turn

Command = Callable[..., None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; no traceback reaches the user."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_cli.main(given, prog_name="assistant", standalone_mode=False) or 0)
    except click.ClickException as error:
        _fail("ConfigError", error.format_message(), 2, given, getattr(error, "ctx", None))
    except AssistantError as error:
        _fail(type(error).__name__, str(error), error.exit_code, given)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted", "stopped; what was stored stays stored", 130, given)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); give the interpreter nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ASSISTANT_DEBUG"):
            raise
        _fail(
            "AssistantError",
            f"unexpected {type(error).__name__}: {error}; set ASSISTANT_DEBUG=1 to see where",
            1,
            given,
        )


def _fail(kind: str, message: str, code: int, given: Sequence[str], context: click.Context | None = None) -> None:
    line = _plain(" ".join(message.split()))
    if "--json" in given:
        print(json.dumps({"error": {"type": kind, "message": line}}, ensure_ascii=False))
    hint = f" (see `{context.command_path} --help`)" if context else ""
    print(f"assistant: {line}{hint}", file=sys.stderr)
    sys.exit(code)


# --- Options shared by the commands -----------------------------------------------------------------------------------


def _common(command: Command) -> Command:
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


def _answering(command: Command) -> Command:
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


_WHERE = click.option(
    "--where", multiple=True, metavar="EXPR", help="Filter such as year>=2022 or author~Smith; may be repeated."
)
_HISTORY = click.option("--history", metavar="FILE", help="JSON list of earlier turns, {role, content}.")


@contextmanager
def _open(settings: dict[str, Any], config_file: str | None, *, llm: str | None = None) -> Iterator[Assistant]:
    from assistant.answer import Assistant
    from assistant.config import Config

    config = Config(config_file, **settings)
    if llm and not config.llm_model and "llm_model" not in settings:
        raise ConfigError(f"--llm {llm} names an endpoint but no model; add --model NAME")
    with Assistant(config) as assistant:
        yield assistant


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paper-assistant", prog_name="assistant")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to stderr.")
def _cli(verbose: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Ask questions of research-paper abstracts; every claim cites its source, word for word."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="assistant: %(message)s", stream=sys.stderr)
    logging.getLogger("assistant").setLevel(level)


# --- The library ------------------------------------------------------------------------------------------------------


@_cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--format", "form", metavar="F", help="page or jsonl; default: told by the content.")
@_common
def ingest(
    *, sources: Sequence[str], form: str | None, as_json: bool, settings: dict[str, Any], config_file: str | None
) -> None:
    """Read files, folders or globs into the library and print the ledger.

    Ingesting again costs next to nothing: what has not changed is not encoded.
    """
    from tqdm import tqdm

    with _open(settings, config_file) as assistant:
        with tqdm(
            desc="encoding", unit=" papers", file=sys.stderr, disable=None if not as_json else True, leave=False
        ) as bar:
            ledger = assistant.ingest(sources, form=form, progress=bar.update)
        if as_json:
            _print_json(ledger.as_dict())
        else:
            _print_ledger(ledger, assistant.folder)
    if not all(source.good for source in ledger.sources):
        bad = [source.source for source in ledger.sources if not source.good]
        print(f"assistant: no good record in {', '.join(bad)}; the others are kept", file=sys.stderr)
        sys.exit(CorpusError.exit_code)


@_cli.command()
@click.argument("text", required=False, default="")
@_WHERE
@_common
def papers(
    *, text: str, where: Sequence[str], as_json: bool, settings: dict[str, Any], config_file: str | None
) -> None:
    """List the papers, or those whose title, authors or venue contain TEXT."""
    with _open(settings, config_file) as assistant:
        found = assistant.papers(text, where=where)
        if as_json:
            _print_json({"papers": [paper.as_dict() for paper in found]})
            return
        for paper in found:
            _say(f"{paper.id}  {_cite(paper.as_dict())}")
        print(f"{len(found)} papers in {_name(assistant)}", file=sys.stderr)


@_cli.command()
@click.argument("text", required=False, default="")
@click.option("--id", "ids", multiple=True, metavar="ID", help="A paper, by id or alias; may be repeated.")
@_WHERE
@click.option(
    "--format", "form", metavar="F", help="bibtex, ris, jsonl, csv or markdown; default: by FILE's ending, else bibtex."
)
@click.option("--output", "file", metavar="FILE", help="Write a file, whole or not at all, instead of stdout.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@_common
def export(
    *,
    text: str,
    ids: Sequence[str],
    where: Sequence[str],
    form: str | None,
    file: str | None,
    force: bool,
    as_json: bool,
    settings: dict[str, Any],
    config_file: str | None,
) -> None:
    """Write the papers, or those that TEXT, --id and --where all admit, for other programs to read."""
    from assistant.bibliography import FORMATS

    if as_json and file is None:
        raise ConfigError("export prints the papers on stdout, no document; leave --json out, or add --output FILE")
    form = _export_format(form, file)
    target = None if file is None else _check_output(file, force=force)
    with _open(settings, config_file) as assistant:
        n, chosen = assistant.select(text, ids=ids, where=where, full=form == "jsonl")
        pieces = FORMATS[form].write(chosen)
        if target is None:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(newline="")  # a format's line ends are its own
            sys.stdout.writelines(pieces)
            sys.stdout.flush()
        else:
            _write_pieces(target, pieces)
        if as_json:
            _print_json({"file": file, "format": form, "papers": n})
        print(_plain(f"{n} papers of {_name(assistant)} written{f' to {file}' if file else ''}"), file=sys.stderr)


@_cli.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_common
def remove(*, ids: Sequence[str], as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Delete papers by id, or by any alias such as doi:10.1000/x."""
    with _open(settings, config_file) as assistant:
        gone, missing = assistant.remove(ids)
    if as_json:
        _print_json({"removed": gone, "not_found": missing})
    else:
        _say(f"removed {len(gone)} of {len(ids)}")
    for each in missing:
        print(f"assistant: no paper has the id {_plain(each)!r}; `assistant papers` lists them", file=sys.stderr)
    if missing:
        sys.exit(1)


@_cli.command()
@_common
def status(*, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Show the library, its counts, its encoder and the health of its index."""
    with _open(settings, config_file) as assistant:
        report = assistant.status()
    if as_json:
        _print_json(report)
        return
    for name, value in report.items():
        _say(f"{name:8} {value}")


# --- Questions --------------------------------------------------------------------------------------------------------


@_cli.command()
@click.argument("query")
@click.option("-k", default=10, show_default=True, help="Most papers.")
@_WHERE
@_HISTORY
@_common
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
    with _open(settings, config_file) as assistant:
        hits = assistant.search(query, k=k, where=where, history=_read_history(history))
        if as_json:
            _print_json(hits.as_dict())
            return
        for hit in hits:
            found = ", ".join(f"{name} {rank}" for name, rank in hit.retrievers.items())
            _say(
                f"{hit.rank:3}. {_cite(hit.paper.as_dict())}\n     {hit.passage}\n"
                f"     score {hit.score:.2f}; {found}; id {hit.paper.id}"
            )
        _warn([*hits.warnings, *([hits.reason] if hits.reason else [])])
        _mention_sample(assistant.library)


@_cli.command()
@click.argument("question")
@click.option("-k", type=int, help="Papers put before the answerer.")
@_WHERE
@_HISTORY
@click.option("--save", metavar="FILE", help="Save the answer with all it rests on, for `assistant replay`.")
@_answering
@_common
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
    with _open(settings, config_file, llm=llm) as assistant:
        stream = assistant.stream(question, history=_read_history(history), k=k, where=where)
        _print_stream(stream, as_json=as_json)
        if save is not None:
            _save(stream, save)


@_cli.command("replay")
@click.argument("file", metavar="FILE")
@_common
def replay_file(*, file: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Give the answer saved in FILE again, offline, from what it rests on; tell if it is not the same.

    The file alone is read: no library, no endpoint, no settings.
    """
    from assistant.replay import replay

    del settings, config_file
    answer = replay(file)
    _print_answer([answer.text], lambda: answer, as_json=as_json)


@_cli.command()
@_answering
@_common
def chat(*, llm: str | None, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Hold a conversation in the terminal; an empty line or Ctrl-D ends it."""
    with _open(settings, config_file, llm=llm) as assistant:
        _mention_sample(assistant.library)
        history: list[Turn] = []
        while True:
            question = _read_question()
            if not question:
                return
            try:
                stream = assistant.stream(question, history=history)
                _print_stream(stream, as_json=as_json, is_chat=True)
            except ConfigError as error:
                print(f"assistant: {error}", file=sys.stderr)
                continue
            history += [{"role": "user", "content": question}, {"role": "assistant", "content": stream.answer.text}]


@_cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=7860, show_default=True, type=click.IntRange(1, 65535))
@_answering
@_common
def serve(
    *, host: str, port: int, llm: str | None, as_json: bool, settings: dict[str, Any], config_file: str | None
) -> None:
    """Open the chat page on this machine."""
    if as_json:
        raise ConfigError("serve prints no document; leave --json out")
    with _open(settings, config_file, llm=llm) as assistant:
        from assistant.ui import serve as serve_page

        serve_page(assistant, host=host, port=port)


# --- Printing ---------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Return text that cannot drive a terminal."""
    return drop_unseen(text).replace("\r", "")


def _say(text: str) -> None:
    print(_plain(text))


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"assistant: {_plain(line)}", file=sys.stderr)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _name(assistant: Assistant) -> str:
    return "the built-in sample library" if assistant.library == "sample" else assistant.library


def _mention_sample(library: str) -> None:
    if library == "sample":
        _warn(["this is the built-in sample library; `assistant ingest FILE` starts your own"])


def _cite(paper: dict[str, Any]) -> str:
    authors = paper["authors"]
    who = f"{authors[0]} et al." if len(authors) > 1 else "".join(authors)
    details = ", ".join(str(each) for each in (who, paper["venue"], paper["year"], paper["url"]) if each)
    return f"{paper['title'] or '(no title)'}{f' ({details})' if details else ''}"


def _print_stream(stream: AnswerStream, *, as_json: bool, is_chat: bool = False) -> None:
    logging.getLogger("assistant.answer").setLevel(logging.ERROR)  # An endpoint's fault is told in the notes.
    _print_answer(stream, lambda: stream.answer, as_json=as_json, is_chat=is_chat)


def _print_answer(pieces: Iterable[str], whole: Callable[[], Answer], *, as_json: bool, is_chat: bool = False) -> None:
    """Print an answer piece by piece, or as JSON when it is whole; what is to be known about it goes to stderr."""
    if as_json:
        _print_json(whole().as_dict())
    else:
        for piece in pieces:
            sys.stdout.write(_plain(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
        _print_sources(whole())
    sys.stdout.flush()
    _warn(_notes(whole()))
    if not as_json and not is_chat:
        _mention_sample(whole().library)


def _print_sources(answer: Answer) -> None:
    if answer.abstained and answer.closest:
        _say("\nClosest papers:")
        for paper in answer.closest:
            _say(f"  - {_cite(paper.as_dict())}")
    cited = dict.fromkeys(citation.number for citation in answer.citations)
    if cited:
        _say("\nSources:")
    for number in sorted(cited):
        _say(f"  [{number}] {_cite(answer.evidence[number - 1].paper.as_dict())}")
        for citation in answer.citations:
            if citation.number == number and answer.answerer == "llm":
                _say(f"      “{citation.quote}”")


def _notes(answer: Answer) -> list[str]:
    """Return what is to be known about an answer beside it."""
    notes, checks = list(answer.warnings), answer.checks
    if answer.fallback:
        notes.append(f"answered with verbatim sentences, because {answer.fallback.error}: {answer.fallback.message}")
    if not answer.complete and not answer.fallback:
        notes.append("the endpoint cut this answer at its length limit")
    unheld = [*(each.figure for each in checks.figures_unsupported), *(each.name for each in checks.names_unsupported)]
    if unheld:
        notes.append(f"not found in the cited abstracts: {', '.join(dict.fromkeys(unheld))}")
    doubtful = dict.fromkeys(f"[{each.number}]" for each in checks.citations_unsupported)
    if doubtful:
        notes.append(f"cited for what the abstract may not say: {', '.join(doubtful)}")
    return notes


def _save(stream: AnswerStream, file: str) -> None:
    """Save an answer that is already printed: a failure is told on stderr alone."""
    try:
        stream.save(file)
    except AssistantError as error:
        _warn([str(error)])
        sys.exit(error.exit_code)
    _warn([f"saved to {file}; `assistant replay {file}` gives the same answer"])


def _export_format(form: str | None, file: str | None) -> str:
    """Return the format that is asked for, or told by the ending of the file's name."""
    from assistant.bibliography import FORMATS
    from assistant.config import nearest

    if form == "library":
        raise ConfigError(
            "cannot export as 'library': a whole library cannot be moved yet; jsonl holds what `assistant ingest` reads"
        )
    if form is not None and form not in FORMATS:
        hint = nearest(form, FORMATS) or f"; the formats are {', '.join(FORMATS)}"
        raise ConfigError(f"unknown format {form!r}{hint}")
    by_suffix = {each.suffix: name for name, each in FORMATS.items()}
    return form or by_suffix.get(Path(file or "").suffix.lower(), "bibtex")


def _check_output(file: str, *, force: bool) -> Path:
    """Return where a file will stand, links followed; before anything is read, so that none of it is in vain."""
    try:
        target = Path(file).resolve()
        found = None
        if target.exists():
            if not target.is_file():
                found = "it is a folder" if target.is_dir() else "it is no ordinary file"
            elif not force:
                raise ConfigError(f"cannot write {file}: it is there; name another file, or replace it with --force")
        elif not target.parent.is_dir():
            found = f"there is no folder {target.parent}"
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, a null in it
        found = getattr(error, "strerror", None) or str(error)
    if found:
        raise ConfigError(f"cannot write {file}: {found}; name another file")
    return target


def _write_pieces(target: Path, pieces: Iterable[str]) -> None:
    from assistant.whole import write_whole

    try:
        write_whole(target, (piece.encode("utf-8", "replace") for piece in pieces))
    except OSError as error:
        raise AssistantError(
            f"cannot write {target}: {error.strerror or error}; free some space, or name another file"
        ) from error


def _print_ledger(ledger: Ledger, folder: Path) -> None:
    kinds = ("found", "new", "updated", "unchanged", "merged", "rejected")
    counts = [
        ledger.as_dict()["totals"],
        *({**source, "rejected": len(source["rejected"])} for source in ledger.as_dict()["sources"]),
    ]
    names = ["total", *(Path(source.source).name for source in ledger.sources)]
    rows = [*zip(names[1:], counts[1:], strict=True), (names[0], counts[0])]
    width = max(len(name) for name in names)
    _say(f"{'':{width}}  {'  '.join(f'{kind:>9}' for kind in kinds)}")
    for name, row in rows:
        _say(f"{name:{width}}  {'  '.join(f'{row[kind]:9}' for kind in kinds)}")
    for source in ledger.sources:
        for one in source.rejected:
            _say(f"rejected: {Path(source.source).name}, {one.where}: {one.reason}")
        for warning in source.warnings:
            _say(f"warning: {Path(source.source).name}, {warning}")
    _say(f"{ledger.papers} papers in {folder}, {ledger.encoded} encoded, {ledger.seconds:.1f} s")


def _read_history(file: str | None) -> list[Turn]:
    if file is None:
        return []
    try:
        turns = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the history {file}: {error}; give a JSON list of {{role, content}}") from error
    return turns  # type: ignore[no-any-return]  # checked where it is used


def _read_question() -> str:
    if sys.stdin.isatty():
        print("\nYou: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip()
