"""The conversations of the chat page on disk: what was asked and answered, as it was then, in one SQLite file.

In goes an exchange, a question with what came of it; out it comes again, equal to what was saved, with whole papers,
whatever has become of the library. A conversation belongs to an owner, an opaque secret such as a cookie, of which the
file holds a digest alone; for everybody else it does not exist. Refused as `StoreError`: a file that cannot be read or
written, is damaged or of a newer format. A damaged exchange costs itself alone. What `save` has returned from survives
a kill and a power cut.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sqlite3
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from assistant.config import default_library
from assistant.errors import ConfigError
from assistant.rebuild import UnfitError, rebuild, shorten
from assistant.sqlite_file import SqliteFile
from assistant.types import Answer, Citation, Evidence

SCHEMA = 1
"""Version of the tables below, kept in `PRAGMA user_version`; a newer file is refused. A field that is added to
`Answer`, or to a record within it, needs a default: exchanges that were saved before do not have it."""
NAME_CHARS = 80
"""Longest name of a conversation."""

_TABLES = """
CREATE TABLE conversations (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL, library TEXT NOT NULL,
    created_at TEXT NOT NULL, changed_at TEXT NOT NULL, exchanges INTEGER NOT NULL, folded TEXT NOT NULL
);
CREATE INDEX conversations_owner ON conversations (owner);
CREATE TABLE exchanges (
    n INTEGER NOT NULL, number INTEGER NOT NULL, asked_at TEXT NOT NULL, verdict TEXT, word TEXT,
    question TEXT NOT NULL, text TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (n, number)
);
"""
"""`body` is the whole exchange as compressed JSON, a fifth of its length. Beside it stands what is sought, counted or
rated without reading it, and what is left when it is damaged. `folded` is what a search looks through."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stage that a question went through."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the reader thinks of an answer."""

    verdict: Literal["like", "dislike"]
    word: str
    """What is wrong or right about it, in the reader's words; may be empty."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with what came of it."""

    number: int
    """Its place in the conversation, from 1."""
    question: str
    state: Literal["waiting", "searching", "reading", "writing", "done", "failed", "stopped"]
    """Only the last three are kept; the others pass."""
    text: str = ""
    """What was shown of the answer."""
    answer: Answer | None = None
    """None unless it is done."""
    fault: str = ""
    """Why there is no answer, in plain words; empty when there is one."""
    phases: tuple[Phase, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    """What has been found; of an answer, its own."""
    citations: tuple[Citation, ...] = ()
    """The markers in `text`; of an answer, its own."""
    feedback: Feedback | None = None
    asked_at: str = ""
    """ISO 8601, UTC."""

    @property
    def over(self) -> bool:
        """True once nothing more will come of it."""
        return self.state in {"done", "failed", "stopped"}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with all its exchanges, in order."""

    id: str
    name: str
    """The first question, shortened, until it is renamed."""
    library: str
    """The library that was asked last."""
    exchanges: tuple[Exchange, ...]
    created_at: str
    """ISO 8601, UTC."""
    changed_at: str
    """When an exchange was last saved, likewise; neither a name nor a rating changes it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation as a list shows it; the fields are those of `Conversation`."""

    id: str
    name: str
    library: str
    exchanges: int
    """How many there are."""
    changed_at: str


def default_file() -> Path:
    """Return the file in the user's data folder, beside the default library; it need not exist."""
    return default_library().parent / "conversations.sqlite"


class Conversations:
    """The saved conversations of all owners; share it between threads, open the same file in several processes.

    The file is made by the first `save`. Each method raises `StoreError` when the file cannot be used, and
    `ConfigError` without an owner, or when it is to change what this owner does not have.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._file = SqliteFile(file, what="the conversations", schema=SCHEMA, tables=_TABLES)

    # --- Reading ------------------------------------------------------------------------------------------------------

    def open(self, owner: str, conversation_id: str) -> Conversation | None:
        """Return a conversation as it was saved; None when this owner has none of that id."""
        rows = self._file.all(
            "SELECT c.id, c.name, c.library, c.created_at, c.changed_at,"
            " e.number, e.asked_at, e.verdict, e.word, e.question, e.body"
            " FROM conversations c JOIN exchanges e USING (n) WHERE owner = ? AND id = ? ORDER BY number",
            (_digest(owner), _storable(conversation_id)),
        )
        if not rows:
            return None
        found_id, name, library, created_at, changed_at = rows[0][:5]
        return Conversation(found_id, name, library, tuple(_exchange(row[5:]) for row in rows), created_at, changed_at)

    def summaries(self, owner: str, text: str = "", limit: int = 200) -> list[Summary]:
        """Return an owner's conversations, the one that was changed last first.

        Args:
            owner: The owner.
            text: Words that must all be found in the name, the questions or the answers, be it as parts of words.
            limit: Greatest number of conversations.
        """
        words = {word.encode() for word in _fold(text).split()}
        rows = self._file.all(
            f"SELECT changed_at, n, id, name, library, exchanges, {'CAST(folded AS BLOB)' if words else 'NULL'}"
            " FROM conversations WHERE owner = ?",
            (_digest(owner),),
        )
        found = sorted((row[:6] for row in rows if all(word in row[6] for word in words)), reverse=True)
        return [
            Summary(found_id, name, library, exchanges, changed_at)
            for changed_at, _, found_id, name, library, exchanges in found[:limit]
        ]

    def feedback(self, owner: str) -> Iterator[dict[str, Any]]:
        """Iterate the rated answers in the order they were asked for, each as one flat record for a line of JSON.

        Of an exchange without an answer the fields that an answer would give are None.
        """
        rows = self._file.all(
            "SELECT number, asked_at, verdict, word, question, body FROM exchanges JOIN conversations USING (n)"
            " WHERE owner = ? AND verdict IS NOT NULL ORDER BY asked_at, n, number",
            (_digest(owner),),
        )
        return (_rated(_exchange(row)) for row in rows)

    # --- Writing ------------------------------------------------------------------------------------------------------

    def save(self, owner: str, conversation_id: str | None, exchange: Exchange, *, library: str) -> str:
        """Keep an exchange, synced to disk; in place of the one of its number, those after which are then dropped.

        Args:
            owner: The owner.
            conversation_id: The conversation; None begins a new one.
            exchange: The exchange.
            library: The library that was asked.

        Returns:
            The id of the conversation.
        """
        if conversation_id is None:
            conversation_id = secrets.token_urlsafe(16)
            with self._file.transaction(create=True) as db:
                n = _begin(db, owner, conversation_id, _shorten(exchange.question), library)
                _put(db, n, exchange)
        else:
            with self._change(owner, conversation_id) as (db, n):
                _put(db, n, exchange)
                now = (_storable(library), _now(), n)
                db.execute("UPDATE conversations SET library = ?, changed_at = ? WHERE n = ?", now)
        return conversation_id

    def rename(self, owner: str, conversation_id: str, name: str) -> None:
        """Give a conversation another name, which is shortened like the first one."""
        shown = _shorten(name)
        if not shown:
            raise ConfigError(f"a conversation cannot be named {name!r}; give it a name of a word or more")
        with self._change(owner, conversation_id) as (db, n):
            db.execute("UPDATE conversations SET name = ? WHERE n = ?", (shown, n))
            _sum_up(db, n)

    def delete(self, owner: str, conversation_id: str) -> bool:
        """Erase a conversation from the file; False when this owner has none of that id."""
        with self._file.transaction() as db:
            n = _find(db, owner, conversation_id)
            for table in ("exchanges", "conversations"):
                db.execute(f"DELETE FROM {table} WHERE n = ?", (n,))
        return n is not None

    def forget(self, owner: str) -> int:
        """Erase all conversations of an owner, with their feedback; return how many there were."""
        with self._file.transaction() as db:
            mine = "n IN (SELECT n FROM conversations WHERE owner = ?)"
            db.execute(f"DELETE FROM exchanges WHERE {mine}", (_digest(owner),))
            return db.execute("DELETE FROM conversations WHERE owner = ?", (_digest(owner),)).rowcount

    def copy(self, owner: str, conversation_id: str, upto: int) -> str:
        """Begin a new conversation with the exchanges up to a number, unrated, for each rating counts once.

        Returns:
            The id of the new one.
        """
        copied_id = secrets.token_urlsafe(16)
        with self._change(owner, conversation_id) as (db, n):
            name, library = db.execute("SELECT name, library FROM conversations WHERE n = ?", (n,)).fetchone()
            copied = _begin(db, owner, copied_id, f"{name} (copy)", library)
            done = db.execute(
                "INSERT INTO exchanges SELECT ?, number, asked_at, NULL, NULL, question, text, body FROM exchanges"
                " WHERE n = ? AND number <= ?",
                (copied, n, upto),
            )
            if not done.rowcount:
                raise ConfigError(f"there is no exchange up to number {upto}; name one that the conversation has")
            _sum_up(db, copied)
        return copied_id

    def rate(self, owner: str, conversation_id: str, number: int, feedback: Feedback | None) -> None:
        """Keep what the reader thinks of an answer, or that it is taken back."""
        verdict, word = _columns(feedback)
        with self._change(owner, conversation_id) as (db, n):
            rating = (verdict, word, n, number)
            if not db.execute("UPDATE exchanges SET verdict=?, word=? WHERE n=? AND number=?", rating).rowcount:
                raise ConfigError(f"there is no exchange number {number}; rate one that the conversation has")

    @contextmanager
    def _change(self, owner: str, conversation_id: str) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Change one conversation, wholly or not at all."""
        with self._file.transaction() as db:
            n = _find(db, owner, conversation_id)
            if n is None:
                shown = shorten(_storable(conversation_id))
                raise ConfigError(f"there is no conversation {shown} here; open another one, or begin a new one")
            yield db, n


def _find(db: sqlite3.Connection, owner: str, conversation_id: str) -> int | None:
    values = (_digest(owner), _storable(conversation_id))
    row = db.execute("SELECT n FROM conversations WHERE owner = ? AND id = ?", values).fetchone()
    return row[0] if row else None


def _begin(db: sqlite3.Connection, owner: str, conversation_id: str, name: str, library: str) -> int:
    now = _now()
    values = (conversation_id, _digest(owner), name, _storable(library), now, now, 0, "")
    cursor = db.execute(f"INSERT INTO conversations VALUES (NULL{', ?' * len(values)})", values)
    return int(cursor.lastrowid or 0)


def _put(db: sqlite3.Connection, n: int, exchange: Exchange) -> None:
    """Add an exchange to conversation `n`, or replace the one of its number and drop those after it."""
    before = db.execute("SELECT question FROM exchanges WHERE n = ? AND number = ?", (n, exchange.number)).fetchone()
    if before:
        db.execute("DELETE FROM exchanges WHERE n = ? AND number >= ?", (n, exchange.number))
        if exchange.number == 1:  # the name follows the first question, unless somebody chose another
            names = (_shorten(exchange.question), n, _shorten(before[0]))
            db.execute("UPDATE conversations SET name = ? WHERE n = ? AND name = ?", names)
    question = _storable(exchange.question)
    text = _storable(exchange.answer.text if exchange.answer else exchange.text)
    kept = replace(exchange, evidence=(), citations=()) if exchange.answer else exchange  # the answer has them, too
    body = zlib.compress(json.dumps(asdict(kept)).encode())
    row = (n, exchange.number, exchange.asked_at, *_columns(exchange.feedback), question, text, body)
    db.execute("INSERT INTO exchanges VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    _sum_up(db, n)


def _sum_up(db: sqlite3.Connection, n: int) -> None:
    """Keep with conversation `n` how many exchanges it has, and what a search looks through."""
    (name,) = db.execute("SELECT name FROM conversations WHERE n = ?", (n,)).fetchone()
    rows = db.execute("SELECT question, text FROM exchanges WHERE n = ? ORDER BY number", (n,)).fetchall()
    folded = _fold("\n".join([name, *(text for row in rows for text in row)]))
    db.execute("UPDATE conversations SET exchanges = ?, folded = ? WHERE n = ?", (len(rows), folded, n))


def _exchange(row: Sequence[Any]) -> Exchange:
    """Return an exchange from its row; of a damaged one, what is left."""
    number, asked_at, verdict, word, question, body = row
    feedback = Feedback(verdict, word) if verdict else None
    try:
        made = rebuild(Exchange, json.loads(zlib.decompress(body)))
    except (zlib.error, ValueError, TypeError, RecursionError, UnfitError) as error:
        _log.warning("exchange %s of a saved conversation is damaged: %s", number, error)
        fault = "What was saved of this answer is damaged and cannot be shown; ask the question again."
        return Exchange(number, question, "failed", fault=fault, feedback=feedback, asked_at=asked_at)
    if made.answer:
        made = replace(made, evidence=made.answer.evidence, citations=made.answer.citations)
    return replace(made, feedback=feedback)


def _rated(exchange: Exchange) -> dict[str, Any]:
    answer, feedback = exchange.answer, exchange.feedback
    return {
        "question": exchange.question,
        "searched": answer.searched if answer else None,
        "text": answer.text if answer else exchange.text,
        "cited": list(dict.fromkeys(each.paper.id for each in answer.citations)) if answer else None,
        "verdict": feedback.verdict if feedback else None,
        "word": feedback.word if feedback else None,
        "asked_at": exchange.asked_at,
        "answerer": answer.answerer if answer else None,
        "model": answer.model if answer else None,
        "library": answer.library if answer else None,
        "digest": asdict(answer.digest) if answer else None,
    }


def _columns(feedback: Feedback | None) -> tuple[str | None, str | None]:
    return (feedback.verdict, _storable(feedback.word)) if feedback else (None, None)


def _shorten(text: str) -> str:
    """Return a text as a name: one line of at most `NAME_CHARS`, cut between words where it has any."""
    line = " ".join(_storable(text).split())
    if len(line) <= NAME_CHARS:
        return line
    head = line[:NAME_CHARS].rpartition(" ")[0]
    return f"{head if len(head) > NAME_CHARS // 2 else line[: NAME_CHARS - 1]}…"


def _fold(text: str) -> str:
    """Return a text as a search sees it: capitals, the width of letters and how accents are composed do not count."""
    return _storable(unicodedata.normalize("NFKC", text).casefold())


def _storable(text: str) -> str:
    """Return a text as SQLite takes it: half a surrogate pair, which no encoding knows, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _digest(owner: str) -> str:
    """Return what is kept of an owner, from which nobody finds the owner again."""
    if not owner:
        raise ConfigError("conversations belong to somebody, and the owner is ''; give each user a secret of their own")
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
