"""Logins that failed, by name and by address, in a table of the accounts: the more, the longer the next one waits.

A try counts as failed before the password is looked at, so that a hundred at once are no way around. Nobody waits
longer than `LONGEST_S`, and an hour without a failure forgets them all. A name is kept as a few digits of its digest,
for it may be a password typed into the wrong field.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import sqlite3
import time

FREE = {"name": 5, "address": 20}
"""So many may fail without a wait; of an address more, since many people may come from one."""
LONGEST_S = 60
"""Longest wait: a guess a minute finds nothing, and whoever is shut out by a stranger's guesses comes in soon."""
FORGET_S = 3600
MOST = 20_000
"""Rows kept; the oldest are forgotten first, of which no address can make many, since it has to wait itself."""
TABLE = "CREATE TABLE tries (key TEXT PRIMARY KEY, failures INTEGER NOT NULL, at REAL NOT NULL);"


def keys(name: str, address: str) -> tuple[str, str]:
    """Return under what a login is counted; a network of IPv6 (/64), which is one person's, is one address."""
    digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:5]
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
        if found.version == 6:
            mapped = found.ipv4_mapped
            found = mapped or ipaddress.ip_network((found, 64), strict=False).network_address
        where = str(found)
    except ValueError:
        where = "unknown"
    return f"name {digits}", f"address {where}"


def count(db: sqlite3.Connection, names: tuple[str, str]) -> int:
    """Count a try as failed; return 0, or the seconds to wait, and then it counts for nothing."""
    now = time.time()
    db.execute("DELETE FROM tries WHERE at < ? OR at > ?", (now - FORGET_S, now + FORGET_S))
    rows = db.execute("SELECT key, failures, at FROM tries WHERE key IN (?, ?)", names).fetchall()
    wait_s = max((_wait_s(key, int(failures), now - at) for key, failures, at in rows), default=0)
    if not wait_s:
        for key in names:
            db.execute(
                "INSERT INTO tries VALUES (?, 1, ?) ON CONFLICT (key) DO UPDATE SET failures = failures + 1, at = ?",
                (key, now, now),
            )
        db.execute("DELETE FROM tries WHERE key IN (SELECT key FROM tries ORDER BY at DESC LIMIT -1 OFFSET ?)", (MOST,))
    return wait_s


def forgive(db: sqlite3.Connection, names: tuple[str, str]) -> None:
    """Take back a try that has succeeded: the name begins anew; an address keeps what others failed from it."""
    name, address = names
    db.execute("DELETE FROM tries WHERE key = ?", (name,))
    db.execute("UPDATE tries SET failures = failures - 1 WHERE key = ?", (address,))


def _wait_s(key: str, failures: int, since_s: float) -> int:
    """Return the seconds still to wait, in whole; a clock that was put back makes nobody wait longer."""
    over = failures - FREE[key.split(maxsplit=1)[0]]
    if over < 0:
        return 0
    longest = min(1 << min(over, 10), LONGEST_S)
    return min(max(0, math.ceil(longest - since_s)), longest)
