"""Who did what, when and from where: a line for each login, ingest, removal, and change of who may.

In goes a deed; out goes a line of JSON to the log `assistant.audit` and to a file beside the accounts. No secret is in
it: of a login that failed, the name only where it is a user's, since people type passwords into the wrong field.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from assistant.access import Who
from assistant.config import default_library

DETAIL_CHARS = 500
"""Longest detail; the rest is left out."""
_log = logging.getLogger(__name__)


def default_file() -> Path:
    """Return the file in the user's data folder; it need not exist."""
    return default_library().parent / "audit.jsonl"


def audit(who: Who, deed: str, detail: str = "") -> None:
    """Note a deed; a file that cannot be written to is told in the log, and stops nothing.

    Args:
        who: Who did it, as the guard found out; its address is where from.
        deed: What: `login`, `login failed`, `ingest`, `remove` and the like.
        detail: To what, such as a name or the ids of papers.
    """
    if len(detail) > DETAIL_CHARS:
        detail = detail[:DETAIL_CHARS] + "…"
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps({"at": now, "who": who.name, "from": who.address, "deed": deed, "detail": detail})
    _log.info("%s", line)
    file = default_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(out, f"{line}\n".encode())  # one write, so that no two processes mix their lines
        finally:
            os.close(out)
    except OSError as error:
        _log.warning("cannot note in %s what was done: %s; check that it may be written to", file, error.strerror)
