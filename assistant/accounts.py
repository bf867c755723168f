"""Who may use the server: users, tokens of programs, and the logins that are open, in one SQLite file.

In go names, passwords and secrets; out comes who they are. A password is kept as its argon2 hash, a token and a login
as the sha256 of a random secret, which is shown once. Refused as `NotAllowed`: a wrong login; as `Busy`: one after too
many wrong ones. Once the file exists the doors are shut, also after the last user is removed: no removal opens them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from assistant import passwords, throttle
from assistant.access import SCOPES, Who
from assistant.config import default_library, nearest
from assistant.errors import Busy, ConfigError, NotAllowed, StoreError
from assistant.sqlite_file import SqliteFile

SCHEMA = 1
"""Version of the tables below."""
PREFIX = "assistant_"
"""What a token begins with, by which people and scanners of secrets know it."""
LOGIN_DAYS = 30
"""So long a login lasts."""
USED_S = 300
"""How exactly it is known when a token was last used: each use would be a write."""

_TABLES = f"""
CREATE TABLE users (
    n INTEGER PRIMARY KEY, name TEXT NOT NULL, folded TEXT NOT NULL UNIQUE, password TEXT NOT NULL,
    owner TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL, owner TEXT NOT NULL,
    created_at TEXT NOT NULL, used_at TEXT, revoked_at TEXT
);
CREATE TABLE logins (id TEXT PRIMARY KEY, digest TEXT NOT NULL, n INTEGER NOT NULL, ends REAL NOT NULL);
{throttle.TABLE}
"""
"""`owner` is the secret whose conversations they see; no cookie can say the same. Of a token and a login, `id` is the
part that anybody may know: it is looked up by that, and the rest compared in constant time."""

_NAME = re.compile(r"[\w.@+-]{1,64}")
_TOKEN = re.compile(PREFIX + r"([0-9a-f]{12})_([\w-]{43})", re.ASCII)
_LOGIN = re.compile(r"([0-9a-f]{12})_([\w-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    name: str
    created_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows instead of a login; the secret itself is not in it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: str
    """ISO 8601, UTC."""
    used_at: str | None
    """When it was last used, to some minutes; None: never."""
    revoked_at: str | None


def default_file() -> Path:
    """Return the file in the user's data folder, beside the default library; it need not exist."""
    return default_library().parent / "accounts.sqlite"


class Accounts:
    """The users, tokens and logins of a file; share it between threads, open the same one in several processes.

    The file is made by the first user or token. Each method raises `StoreError` when it cannot be used, and
    `ConfigError` for a name or password that cannot be, or for one who is not there.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or default_file()
        self._file = SqliteFile(self.file, what="the accounts", schema=SCHEMA, tables=_TABLES)

    @property
    def are_set_up(self) -> bool:
        """True once there has been a user or a token, also when the file that says so cannot be read."""
        try:
            self.file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    @property
    def are_usable(self) -> bool:
        """True when somebody can come in: there is a user, or a token that is not revoked."""
        return bool(self._file.all("SELECT 1 FROM users UNION SELECT 1 FROM tokens WHERE revoked_at IS NULL"))

    # --- Users --------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: str) -> User:
        """Add somebody who may log in."""
        user, hashed = User(_name(name), _now()), passwords.make_hash(password)
        values = (user.name, _fold(user.name), hashed, f"user {secrets.token_urlsafe(32)}", user.created_at)
        with self._file.transaction(create=True) as db:
            try:
                db.execute("INSERT INTO users VALUES (NULL, ?, ?, ?, ?, ?)", values)
            except sqlite3.IntegrityError as error:
                raise ConfigError(
                    f"there is a user {name!r} already; choose another name, or give a new password with"
                    f" `assistant users password {name}`"
                ) from error
        return user

    def users(self) -> list[User]:
        """Return the users, by name."""
        return [User(*row) for row in self._file.all("SELECT name, created_at FROM users ORDER BY folded")]

    def set_password(self, name: str, password: str) -> None:
        """Give a user another password; who is logged in as that user is so no longer."""
        hashed = passwords.make_hash(password)
        with self._file.transaction() as db:
            n = self._find(db, name)
            db.execute("UPDATE users SET password = ? WHERE n = ?", (hashed, n))
            db.execute("DELETE FROM logins WHERE n = ?", (n,))

    def remove_user(self, name: str) -> str:
        """Remove a user with all logins; return whose conversations nobody can see any more.

        A new user of the same name is somebody else.
        """
        with self._file.transaction() as db:
            n = self._find(db, name)
            (owner,) = db.execute("SELECT owner FROM users WHERE n = ?", (n,)).fetchone()
            for table in ("logins", "users"):
                db.execute(f"DELETE FROM {table} WHERE n = ?", (n,))
        return str(owner)

    def _find(self, db: sqlite3.Connection, name: str) -> int:
        row = db.execute("SELECT n FROM users WHERE folded = ?", (_fold(name),)).fetchone()
        if not row:
            names = [known for (known,) in db.execute("SELECT name FROM users").fetchall()]
            raise ConfigError(
                f"there is no user {name!r}{nearest(name, names) or '; `assistant users list` shows all'}"
            )
        return int(row[0])

    # --- Logins -------------------------------------------------------------------------------------------------------

    def log_in(self, name: str, password: str, address: str) -> str:
        """Begin a login.

        Args:
            name: Of the user; a name that nobody has costs as much time as one that somebody has.
            password: As it was typed.
            address: Where the request comes from.

        Returns:
            The secret that `who_logged_in` knows.

        Raises:
            NotAllowed: The name or the password is wrong.
            Busy: Too many were wrong; the password was not looked at.
        """
        keys = throttle.keys(_fold(name), address)
        with self._file.transaction() as db:
            wait_s = throttle.count(db, keys)
            row = db.execute("SELECT n, password FROM users WHERE folded = ?", (_fold(name),)).fetchone()
        if wait_s:
            busy = Busy(f"too many logins failed; try again in {wait_s} s")
            busy.retry_s = wait_s
            raise busy
        n, hashed = row or (-1, passwords.hash_of_nobody())
        if not passwords.fits(hashed, password) or not row:
            raise NotAllowed("the name or the password is wrong; check both, and whether Caps Lock is on")
        identity, secret = _secret()
        with self._file.transaction() as db:
            throttle.forgive(db, keys)
            db.execute("DELETE FROM logins WHERE ends < ?", (time.time(),))
            ends = time.time() + timedelta(days=LOGIN_DAYS).total_seconds()
            made = db.execute(  # unless the password was changed in between
                "INSERT INTO logins SELECT ?, ?, n, ? FROM users WHERE n = ? AND password = ?",
                (identity, _digest(secret), ends, n, hashed),
            )
            if not made.rowcount:
                raise NotAllowed("the password was changed a moment ago; log in with the new one")
        return f"{identity}_{secret}"

    def who_logged_in(self, login: str) -> Who | None:
        """Return whose login a secret is; None when it is none, or ended."""
        found = _LOGIN.fullmatch(login)
        rows = found and self._file.all(
            "SELECT digest, ends, name, owner FROM logins JOIN users USING (n) WHERE id = ?", (found[1],)
        )
        if not found or not rows:
            return None
        digest, ends, name, owner = rows[0]
        is_sound = secrets.compare_digest(digest, _digest(found[2])) and ends > time.time()
        return Who(name, owner) if is_sound else None

    def log_out(self, login: str) -> None:
        """End a login; nothing happens when it is none."""
        found = _LOGIN.fullmatch(login)
        if found and self.who_logged_in(login):
            with self._file.transaction() as db:
                db.execute("DELETE FROM logins WHERE id = ?", (found[1],))

    # --- Tokens -------------------------------------------------------------------------------------------------------

    def add_token(self, name: str, scopes: Sequence[str]) -> tuple[Token, str]:
        """Make a token for a program.

        Args:
            name: What to call it; no two that are not revoked have the same.
            scopes: What it is good for, of `SCOPES`.

        Returns:
            The token, and its secret, which nobody can be shown again.
        """
        unknown = [each for each in scopes if each not in SCOPES]
        if unknown or not scopes:
            given = repr(unknown[0]) if unknown else "not given"
            raise ConfigError(f"the scope of a token is {given}; give one or more of {', '.join(SCOPES)}")
        identity, secret = _secret()
        token = Token(identity, _name(name), tuple(each for each in SCOPES if each in scopes), _now(), None, None)
        owner = f"token {secrets.token_urlsafe(32)}"
        values = (token.id, _digest(secret), token.name, ",".join(token.scopes), owner, token.created_at)
        with self._file.transaction(create=True) as db:
            if db.execute("SELECT 1 FROM tokens WHERE name = ? AND revoked_at IS NULL", (token.name,)).fetchone():
                raise ConfigError(f"there is a token {name!r} already; choose another name, or revoke that one first")
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)", values)
        return token, f"{PREFIX}{identity}_{secret}"

    def tokens(self) -> list[Token]:
        """Return all tokens in the order they were made, the revoked ones too."""
        rows = self._file.all("SELECT id, name, scopes, created_at, used_at, revoked_at FROM tokens ORDER BY rowid")
        return [Token(row[0], row[1], tuple(row[2].split(",")), *row[3:]) for row in rows]

    def revoke(self, name_or_id: str) -> Token:
        """End a token, for good."""
        live = [each for each in self.tokens() if not each.revoked_at]
        found = [each for each in live if name_or_id in {each.name, each.id}]
        if not found:
            hint = nearest(name_or_id, [each.name for each in live]) or "; `assistant tokens list` shows all"
            # a token itself may have been pasted
            shown = f"{PREFIX}…" if name_or_id.startswith(PREFIX) else repr(name_or_id)
            raise ConfigError(f"there is no token {shown} that is not revoked{hint}")
        with self._file.transaction() as db:
            db.execute("UPDATE tokens SET revoked_at = ? WHERE id = ?", (_now(), found[0].id))
        return found[0]

    def who_shows(self, token: str) -> Who | None:
        """Return whose token a secret is; None when it is none, or revoked."""
        found = _TOKEN.fullmatch(token)
        rows = found and self._file.all(
            "SELECT digest, name, scopes, owner, used_at FROM tokens WHERE id = ? AND revoked_at IS NULL", (found[1],)
        )
        if not found or not rows:
            return None
        digest, name, scopes, owner, used_at = rows[0]
        if not secrets.compare_digest(digest, _digest(found[2])):
            return None
        if not used_at or datetime.fromisoformat(used_at) < datetime.now(UTC) - timedelta(seconds=USED_S):
            with suppress(StoreError), self._file.transaction() as db:  # a full disk shuts nobody out
                db.execute("UPDATE tokens SET used_at = ? WHERE id = ?", (_now(), found[1]))
        return Who(name, owner, frozenset(scopes.split(",")))


def _name(name: str) -> str:
    """Return a name as it is kept."""
    kept = unicodedata.normalize("NFKC", name)
    if not _NAME.fullmatch(kept):
        raise ConfigError(f"{name[:80]!r} cannot be a name; give up to 64 letters, digits and . @ + - _")
    return kept


def _fold(name: str) -> str:
    """Return a name by which it is found: capitals do not count."""
    return unicodedata.normalize("NFKC", name).casefold().encode("utf-8", "replace").decode()


def _secret() -> tuple[str, str]:
    """Return a new secret, and what it is found by."""
    return secrets.token_hex(6), secrets.token_urlsafe(32)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
