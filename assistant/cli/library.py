"""The commands that fill, show, move and mend a library."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant.cli.options import WHERE, common, open_assistant
from assistant.cli.show import cite, name_of, plain, print_json, say
from assistant.errors import AssistantError, ConfigError, CorpusError

if TYPE_CHECKING:
    from assistant.ingest import Ledger

MOST_SHOWN = 20
"""Refusals and warnings of one source that are printed."""


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--format", "form", metavar="F", help="Format of all sources; default: told by the content.")
@click.option("--map", "pairs", multiple=True, metavar="FIELD=COLUMN", help="Where a source keeps a field of a paper.")
@click.option("--sync", is_flag=True, help="What has left a source leaves the library.")
@click.option("--dry-run", is_flag=True, help="Tell what would become of each record, and keep nothing.")
@common
def ingest(
    *,
    sources: Sequence[str],
    form: str | None,
    pairs: Sequence[str],
    sync: bool,
    dry_run: bool,
    as_json: bool,
    settings: dict[str, Any],
    config_file: str | None,
) -> None:
    """Read files, folders, globs, archives, `-` or live sources into the library and print the ledger.

    Ingesting again costs next to nothing: what has not changed is not encoded. What was refused is kept in a file that
    can be mended and ingested.
    """
    from tqdm import tqdm

    mapping = _read_mapping(pairs)
    with open_assistant(settings, config_file) as assistant:
        with tqdm(
            desc="encoding", unit=" papers", file=sys.stderr, disable=None if not as_json else True, leave=False
        ) as bar:
            ledger = assistant.ingest(
                sources, form=form, mapping=mapping, sync=sync, dry_run=dry_run, progress=bar.update
            )
        if as_json:
            print_json(ledger.as_dict())
        else:
            _print_ledger(ledger, assistant.folder)
    if not all(source.good for source in ledger.sources):
        bad = [source.source for source in ledger.sources if not source.good]
        print(plain(f"assistant: no good record in {', '.join(bad)}; the others are kept"), file=sys.stderr)
        sys.exit(CorpusError.exit_code)


def _read_mapping(pairs: Sequence[str]) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not column:
            raise ConfigError(f"--map {pair!r} is no FIELD=COLUMN, such as abstract=Summary")
        mapping[field.strip()] = column
    return mapping


@click.command()
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["new", "updated", "unchanged", "merged", "rejected"]),
    help="Records of this kind alone; may be repeated.",
)
@common
def ledger(*, kinds: Sequence[str], as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Show what became of every record when its source was last ingested; with --json a JSON object on each line."""
    with open_assistant(settings, config_file) as assistant:
        for each in assistant.ledger(kinds=kinds):
            if as_json:
                print_json(each)
            else:
                what = " ".join(part for part in (each["kind"], each["paper"], each["reason"]) if part)
                say(f"{each['source']}, {each['where']}: {what}")


@click.command()
@click.argument("paper_id", metavar="ID")
@click.argument("numbers", nargs=-1, type=click.IntRange(1), metavar="[NUMBER]...")
@common
def split(
    *, paper_id: str, numbers: Sequence[int], as_json: bool, settings: dict[str, Any], config_file: str | None
) -> None:
    """Undo a merge: make papers of their own of the records NUMBER of a paper, for good; without one, list them."""
    with open_assistant(settings, config_file) as assistant:
        records = assistant.records(paper_id)
        if not records:
            raise ConfigError(f"no paper {paper_id!r} to split; see `assistant papers` for the ids")
        beyond = [number for number in numbers if number > len(records)]
        if beyond:
            raise ConfigError(f"{paper_id} has {len(records)} records and no number {beyond[0]}")
        made = assistant.split(paper_id, [records[number - 1][1] for number in numbers]) if numbers else []
    if as_json:
        listed = [{"number": i, "source": source, **fields} for i, (source, _, fields) in enumerate(records, 1)]
        print_json({"split": made} if numbers else {"records": listed})
        return
    for name in made:
        say(f"{name} is a paper of its own now")
    for i, (source, _, fields) in enumerate([] if numbers else records, 1):
        keys = ", ".join(str(fields[name]) for name in ("doi", "arxiv_id", "pmid", "year", "venue") if fields[name])
        say(f"{i:3}. {fields['title']}{f' ({keys})' if keys else ''}\n     from {source}")


@click.command()
@click.argument("text", required=False, default="")
@WHERE
@common
def papers(
    *, text: str, where: Sequence[str], as_json: bool, settings: dict[str, Any], config_file: str | None
) -> None:
    """List the papers, or those whose title, authors or venue contain TEXT."""
    with open_assistant(settings, config_file) as assistant:
        found = assistant.papers(text, where=where)
        if as_json:
            print_json({"papers": [paper.as_dict() for paper in found]})
            return
        for paper in found:
            say(f"{paper.id}  {cite(paper.as_dict())}")
        print(f"{len(found)} papers in {name_of(assistant)}", file=sys.stderr)


@click.command()
@click.argument("text", required=False, default="")
@click.option("--id", "ids", multiple=True, metavar="ID", help="A paper, by id or alias; may be repeated.")
@WHERE
@click.option(
    "--format",
    "form",
    metavar="F",
    help="bibtex, ris, jsonl, csv, markdown or library; default: by FILE's ending, else bibtex.",
)
@click.option("--output", "file", metavar="FILE", help="Write a file, whole or not at all, instead of stdout.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@common
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
    """Write the papers, or those that TEXT, --id and --where all admit, for other programs to read.

    With --format library all of it with its vectors, for `assistant import`; the names of the files that the papers
    came from go along.
    """
    from assistant.bibliography import FORMATS

    if as_json and file is None:
        raise ConfigError("export prints the papers on stdout, no document; leave --json out, or add --output FILE")
    form = _export_format(form, file)
    target = None if file is None else _check_output(file, force=force)
    with open_assistant(settings, config_file) as assistant:
        if form == "library":
            if target is None or text or ids or where:
                raise ConfigError("a whole library goes to a file, unselected: give --output FILE.assistant.zip alone")
            _write_pieces(target, assistant.pack())
            n = assistant.status()["papers"]
            if as_json:
                print_json({"file": file, "format": form, "papers": n})
            print(plain(f"the library of {n} papers written to {file}"), file=sys.stderr)
            return
        n, chosen = assistant.select(text, ids=ids, where=where, full=form == "jsonl")
        pieces = FORMATS[form].write(chosen)
        if target is None:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(newline="")  # a format's line ends are its own
            sys.stdout.writelines(pieces)
            sys.stdout.flush()
        else:
            _write_pieces(target, (piece.encode("utf-8", "replace") for piece in pieces))
        if as_json:
            print_json({"file": file, "format": form, "papers": n})
        print(plain(f"{n} papers of {name_of(assistant)} written{f' to {file}' if file else ''}"), file=sys.stderr)


@click.command("import")
@click.argument("file", metavar="FILE")
@common
def import_file(*, file: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Take in a whole library, as `assistant export --format library` wrote it; again, it changes nothing."""
    from tqdm import tqdm

    with open_assistant(settings, config_file) as assistant:
        with tqdm(
            desc="importing", unit=" papers", file=sys.stderr, disable=None if not as_json else True, leave=False
        ) as bar:
            ledger = assistant.import_library(file, progress=bar.update)
        if as_json:
            print_json(ledger.as_dict())
        else:
            _print_ledger(ledger, assistant.folder)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@common
def remove(*, ids: Sequence[str], as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Delete papers by id, or by any alias such as doi:10.1000/x."""
    with open_assistant(settings, config_file) as assistant:
        gone, missing = assistant.remove(ids)
    if as_json:
        print_json({"removed": gone, "not_found": missing})
    else:
        say(f"removed {len(gone)} of {len(ids)}")
    for each in missing:
        print(f"assistant: no paper has the id {plain(each)!r}; `assistant papers` lists them", file=sys.stderr)
    if missing:
        sys.exit(1)


@click.command()
@common
def status(*, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Show the library, its counts, its encoder and the health of its index."""
    with open_assistant(settings, config_file) as assistant:
        report = assistant.status()
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        say(f"{name:8} {value}")


@click.command()
@common
def doctor(*, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Look at the program, the library, the encoder and the endpoint, and say what to do."""
    from assistant.config import Config
    from assistant.doctor import Check, examine

    checks: list[Check] = []

    def tell(check: Check) -> None:
        checks.append(check)
        for line in [] if as_json else check.lines:
            say(line)

    is_well = examine(Config(config_file, **settings), tell)
    if as_json:
        print_json({"ok": is_well, "checks": [each.as_dict() for each in checks]})
    if not is_well:
        sys.exit(1)


def _export_format(form: str | None, file: str | None) -> str:
    """Return the format that is asked for, or told by the ending of the file's name."""
    from assistant.bibliography import FORMATS
    from assistant.config import nearest

    if form == "library" or (form is None and (file or "").endswith(".assistant.zip")):
        return "library"
    if form is not None and form not in FORMATS:
        known = [*FORMATS, "library"]
        hint = nearest(form, known) or f"; the formats are {', '.join(known)}"
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


def _write_pieces(target: Path, pieces: Iterable[bytes]) -> None:
    from assistant.whole import write_whole

    try:
        write_whole(target, pieces)
    except OSError as error:
        raise AssistantError(
            f"cannot write {target}: {error.strerror or error}; free some space, or name another file"
        ) from error


def _print_ledger(ledger: Ledger, folder: Path) -> None:
    kinds = ("found", "new", "updated", "unchanged", "merged", "rejected")
    rows = [(Path(source.source).name, {**vars(source), "rejected": source.refused}) for source in ledger.sources]
    rows.append(("total", dict(ledger.totals)))
    width = max(len(name) for name, _ in rows)
    say(f"{'':{width}}  {'  '.join(f'{kind:>9}' for kind in kinds)}")
    for name, row in rows:
        say(f"{name:{width}}  {'  '.join(f'{row[kind]:9}' for kind in kinds)}")
    for source in ledger.sources:
        name = Path(source.source).name
        for one in source.rejected[:MOST_SHOWN]:
            say(f"rejected: {name}, {one.where}: {one.reason}")
        if source.refused > MOST_SHOWN:
            say(f"rejected: {name}: {source.refused - MOST_SHOWN} more; `assistant ledger --kind rejected` lists them")
        for warning in source.warnings[:MOST_SHOWN]:
            say(f"warning: {name}, {warning}")
        if source.removed:
            say(f"removed: {source.removed} papers that {name} no longer holds")
        if source.mend:
            say(f"to mend: {source.mend} holds what was refused; fill in what is missing and ingest that file")
    kept = "nothing was kept, for this was a dry run" if ledger.dry else f"{ledger.encoded} encoded"
    say(f"{ledger.papers} papers in {folder}, {kept}, {ledger.seconds:.1f} s")
