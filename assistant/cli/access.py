"""The commands that say who may use the server: its users, and the tokens of programs.

A password is typed without an echo or read from stdin, never an argument, which others on the machine could see.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from assistant.access import SCOPES, Who
from assistant.cli.options import common
from assistant.cli.show import print_json, say, warn
from assistant.errors import ConfigError


@click.group()
def users() -> None:
    """Say who may log in to the page."""


@click.group()
def tokens() -> None:
    """Make, list and revoke the tokens that programs show."""


# --- Users ------------------------------------------------------------------------------------------------------------


@users.command("add")
@click.argument("name")
@common
def add_user(*, name: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Add a user NAME; the password is asked for, or is the first line of stdin."""
    from assistant.accounts import Accounts

    del settings, config_file
    user = Accounts().add_user(name, _read_password())
    _audit("user added", user.name)
    _tell(as_json, {"user": asdict(user)}, f"added the user {user.name}")


@users.command("list")
@common
def list_users(*, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """List the users."""
    from assistant.accounts import Accounts

    del settings, config_file
    found = Accounts().users()
    lines = [f"{each.name}  since {each.created_at}" for each in found] or ["there are no users"]
    _tell(as_json, {"users": [asdict(each) for each in found]}, *lines)


@users.command("remove")
@click.argument("name")
@common
def remove_user(*, name: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Remove the user NAME, who is logged out at once, with all conversations."""
    from assistant.accounts import Accounts
    from assistant.conversations import Conversations, default_file

    del settings, config_file
    accounts = Accounts()
    erased = Conversations(default_file()).forget(accounts.remove_user(name))
    _audit("user removed", name)
    _tell(as_json, {"removed": name, "conversations": erased}, f"removed the user {name} and {erased} conversations")
    if not accounts.are_usable:
        warn([f"nobody can come in now; to let everybody on this machine in again, delete {accounts.file}"])


@users.command("password")
@click.argument("name")
@common
def change_password(*, name: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Give the user NAME another password; who is logged in as that user is logged out."""
    from assistant.accounts import Accounts

    del settings, config_file
    Accounts().set_password(name, _read_password())
    _audit("password changed", name)
    _tell(as_json, {"changed": name}, f"changed the password of {name}")


# --- Tokens -----------------------------------------------------------------------------------------------------------


@tokens.command("add")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Good for; may be repeated."
)
@common
def add_token(
    *, name: str, scopes: Sequence[str], as_json: bool, settings: dict[str, Any], config_file: str | None
) -> None:
    """Make a token NAME for a program and print it, this once."""
    from assistant.accounts import Accounts

    del settings, config_file
    token, secret = Accounts().add_token(name, scopes)
    _audit("token added", f"{token.name} ({token.id}) for {', '.join(token.scopes)}")
    document = {"id": token.id, "name": token.name, "scopes": token.scopes, "created_at": token.created_at}
    _tell(as_json, {"token": secret, **document}, secret)
    if not as_json:
        warn(["keep it now, it is shown this once; a program sends it as `Authorization: Bearer TOKEN`"])


@tokens.command("list")
@common
def list_tokens(*, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """List the tokens, without their secrets."""
    from assistant.accounts import Accounts

    del settings, config_file
    found = Accounts().tokens()
    lines = [
        f"{each.id}  {each.name}  {','.join(each.scopes)}  since {each.created_at}, "
        + (f"revoked {each.revoked_at}" if each.revoked_at else f"last used {each.used_at or 'never'}")
        for each in found
    ]
    _tell(as_json, {"tokens": [asdict(each) for each in found]}, *(lines or ["there are no tokens"]))


@tokens.command("revoke")
@click.argument("name_or_id")
@common
def revoke_token(*, name_or_id: str, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """End the token NAME_OR_ID; a running server refuses it at once."""
    from assistant.accounts import Accounts

    del settings, config_file
    token = Accounts().revoke(name_or_id)
    _audit("token revoked", f"{token.name} ({token.id})")
    _tell(as_json, {"revoked": token.id, "name": token.name}, f"revoked the token {token.name} ({token.id})")


def _read_password() -> str:
    """Return a password that is typed twice, or the first line of stdin."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the two passwords differ; type the same one twice")
        return password
    line = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not line:
        raise ConfigError("stdin holds no password; write it there as one line, or type it at a terminal")
    return line


def _audit(deed: str, detail: str) -> None:
    from assistant.audit import audit

    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number that has no name
        name = None
    audit(Who(name, "", address="command line"), deed, detail)


def _tell(as_json: bool, document: dict[str, Any], *lines: str) -> None:  # noqa: FBT001 - as the commands have it
    if as_json:
        print_json(document)
    else:
        for line in lines:
            say(line)
