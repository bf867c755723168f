"""Whom the guard lets in: by which names the server may be called, and whether it asks who calls.

Refused: to be within the reach of others while no user and no token is set up, unless somebody says so plainly.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from assistant.accounts import Accounts
from assistant.errors import ConfigError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the guard goes by."""

    accounts: Accounts = field(default_factory=Accounts)
    names: frozenset[str] = frozenset()
    """Names of the server beside those of loopback, in lower case."""
    always: bool = False
    """True: who calls is asked even while no credentials are set up; then nobody comes in."""

    def know(self, authority: str) -> bool:
        """Tell whether `name` or `name:port` is this server."""
        found = _AUTHORITY.fullmatch(authority)
        return bool(found) and (found[1] or found[2]).lower() in LOOPBACK | self.names  # type: ignore[index]


def make_rules(
    host: str, names: frozenset[str], *, without_login: bool = False, behind_proxy: str | None = None
) -> Rules:
    """Return the rules of a server.

    Args:
        host: What it listens on.
        names: By which else it is called.
        without_login: Others may reach it while no user and no token is set up.
        behind_proxy: Address of a proxy, through which others reach it whatever it listens on.

    Raises:
        ConfigError: Others could reach it and nobody asked who they are; or the proxy's address is none.
        StoreError: The accounts cannot be read.
    """
    if behind_proxy is not None:
        _check_proxy(behind_proxy)
    accounts, is_near = Accounts(), is_loopback(host) and behind_proxy is None
    if not (is_near or without_login or accounts.are_usable):
        reach = f"host is {host!r}" if not is_loopback(host) else f"a proxy at {behind_proxy} passes requests on"
        raise ConfigError(
            f"cannot serve: {reach}, so that others could reach it, and nobody could log in; create one with "
            "`assistant users add NAME`, or say --without-login if everybody may do everything"
        )
    own = {host.lower()} if re.search(r"\w", host) and not _is_any(host) else set()
    return Rules(accounts, names | own, always=not (is_near or without_login))


def is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine can reach what listens there."""
    return host in LOOPBACK


def _is_any(host: str) -> bool:
    """Tell whether it is the address that stands for all of a machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _check_proxy(address: str) -> None:
    try:
        is_everybody = ipaddress.ip_network(address, strict=False).prefixlen == 0
    except ValueError as error:
        raise ConfigError(
            f"--behind-proxy is {address!r}; give the IP address that the proxy's requests come from, such as 127.0.0.1"
        ) from error
    if is_everybody:
        raise ConfigError(f"--behind-proxy is {address!r}, so that everybody could lie; give the proxy's own address")
