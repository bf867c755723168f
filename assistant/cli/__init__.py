"""The command line: `assistant ingest | search | ask | chat | serve | status ...`.

Results go to stdout, progress and warnings to stderr. With `--json` stdout holds one JSON document and nothing else. A
failure is one plain line on stderr and an exit code: 1 failed, 2 wrong usage or configuration, 3 the library or a
source could not be read. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence

import click

from assistant.cli import access, library, mcp, questions
from assistant.cli.show import plain
from assistant.errors import AssistantError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; no traceback reaches the user."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see `products`; in a process of our own alone
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
    line = plain(" ".join(message.split()))
    if "--json" in given:
        print(json.dumps({"error": {"type": kind, "message": line}}, ensure_ascii=False))
    hint = f" (see `{context.command_path} --help`)" if context else ""
    print(f"assistant: {line}{hint}", file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paper-assistant", prog_name="assistant")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to stderr.")
def _cli(verbose: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Ask questions of research-paper abstracts; every claim cites its source, word for word."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="assistant: %(message)s", stream=sys.stderr)
    logging.getLogger("assistant").setLevel(level)


for _command in (
    questions.search, questions.ask, questions.chat, questions.replay_file, questions.serve,
    library.ingest, library.papers, library.ledger, library.split, library.remove, library.export, library.import_file,
    library.status, library.doctor, mcp.mcp, access.users, access.tokens,
):  # fmt: skip
    _cli.add_command(_command)
