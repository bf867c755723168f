"""Passwords as they are kept: an argon2 hash, which is slow and hungry for memory so that guessing is, too.

Refused: a password that is too short, or longer than anybody types.
"""

from __future__ import annotations

import functools
import secrets
import unicodedata
from typing import TYPE_CHECKING

from assistant.errors import ConfigError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

CHARS = (8, 256)
"""Shortest and longest password."""


def make_hash(password: str) -> str:
    """Return what is kept of a password, with a salt of its own."""
    low, high = CHARS
    if not low <= len(password) <= high:
        raise ConfigError(f"the password has {len(password)} characters; give {low} to {high}")
    return _hasher().hash(_bytes(password))


def fits(hashed: str, password: str) -> bool:
    """Tell whether a password is the one of a hash; a hash that is damaged fits none."""
    from argon2.exceptions import Argon2Error, InvalidHashError

    hash_of_nobody()  # made with the first password, whosever that is
    try:
        return len(password) <= CHARS[1] and _hasher().verify(hashed, _bytes(password))
    except (Argon2Error, InvalidHashError):
        return False


@functools.cache
def hash_of_nobody() -> str:
    """Return a hash that no password fits, over which a name that nobody has takes as long as any other."""
    return _hasher().hash(secrets.token_urlsafe(32))


@functools.cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()  # argon2id with 64 MiB: the second choice of RFC 9106, for when memory is not plenty


def _bytes(password: str) -> bytes:
    """Return a password as it is hashed, however its accents were typed."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
