"""Who comes in: every door with every kind of credentials, the accounts behind it, and what others never see."""

from __future__ import annotations

import http.client
import json
import logging
import os
import pty
import re
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
import uvicorn
from browser import serving
from conftest import make_records, write_jsonl
from fastapi import FastAPI, Request
from test_cli import document, run

from assistant import Assistant, Config, ConfigError, StoreError, throttle
from assistant.access import SCOPES, Who, require, who_of
from assistant.accounts import PREFIX, Accounts
from assistant.audit import audit
from assistant.conversations import Conversations, Exchange, default_file
from assistant.errors import Busy, NotAllowed
from assistant.throttle import FREE, LONGEST_S
from assistant.ui import login
from assistant.ui.guard import COOKIE, Guard
from assistant.ui.rules import Rules, make_rules

PASSWORD = "correct horse battery"
TREASURE = "what is behind the door"
PATIENCE_S = 20.0


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    text: str


class Door(NamedTuple):
    """A way in."""

    method: str
    path: str
    kind: str
    """`open`, `page`, or the scope that a program needs; `any`: every token will do."""


DOORS = [
    Door("GET", "/healthz", "open"),
    Door("GET", "/readyz", "open"),
    Door("GET", "/", "page"),
    Door("GET", "/config", "page"),
    Door("GET", "/page/saved", "page"),
    Door("GET", "/page/static/page.js", "page"),
    Door("POST", "/page/library/remove", "page"),
    Door("POST", "/gradio_api/queue/join", "page"),
    Door("GET", "/openapi.json", "any"),
    Door("GET", "/healthz/", "page"),
    Door("GET", "/something/new", "page"),
    Door("GET", "/apiary", "page"),
    Door("POST", "/api/v1/ask", "ask"),
    Door("POST", "/api/v1/search", "search"),
    Door("GET", "/api/v1/papers/x", "search"),
    Door("POST", "/api/v1/ingest", "ingest"),
    Door("POST", "/v1/chat/completions", "ask"),
    Door("GET", "/v1/models", "search"),
    Door("POST", "/mcp", "search"),
    Door("DELETE", "/mcp", "search"),
    Door("GET", "/metrics", "any"),
    Door("GET", "/.well-known/oauth-protected-resource", "any"),
]
PROGRAMS = [door for door in DOORS if door.kind not in {"open", "page"}]


class House:
    """A small application behind the real guard, and its accounts."""

    def __init__(self, folder: Path) -> None:
        self.accounts = Accounts(folder / "accounts.sqlite")
        self.url = ""

    def app(self, rules: Rules) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.add_middleware(Guard, rules=rules)
        app.include_router(login.routes(self.accounts))
        needed = {door.path: door.kind for door in DOORS}

        @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
        def treasure(request: Request) -> dict[str, Any]:
            kind = needed.get(request.url.path, "page")
            who = require(request.scope, kind) if kind in SCOPES else who_of(request.scope)
            return {"treasure": TREASURE, "name": who.name, "owner": who.owner, "from": who.address}

        return app

    def send(self, method: str, path: str, body: str | None = None, **headers: str) -> Reply:
        return send(self.url, method, path, body, **headers)

    def log_in(self, name: str) -> str:
        """Log in as a person does; return the cookie."""
        form = urlencode({"name": name, "password": PASSWORD})
        reply = self.send("POST", "/login", form)
        assert reply.status == 303
        return reply.headers["set-cookie"].partition(";")[0]


def send(url: str, method: str, path: str, body: str | None = None, **headers: str) -> Reply:
    """Send a request as it is given: fields by their names, `_` for `-`."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read().decode("utf-8", "replace"))


@contextmanager
def running(app: FastAPI, **options: Any) -> Iterator[str]:
    """Serve an application on a socket of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        quiet: dict[str, Any] = {"log_level": "error", "ws": "none", "lifespan": "off", "proxy_headers": False}
        server = uvicorn.Server(uvicorn.Config(app, **(quiet | options)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with users and tokens, known by one more name."""
    made = House(tmp_path_factory.mktemp("house"))
    with running(made.app(Rules(made.accounts, frozenset({"papers.example"})))) as made.url:
        for name in ("anna", "bert"):
            made.accounts.add_user(name, PASSWORD)
        yield made


@pytest.fixture(scope="module")
def tokens(house: House) -> dict[str, str]:
    """A token for each scope, one for all, a revoked one, and some that are none."""
    made = {scope: house.accounts.add_token(f"for {scope}".replace(" ", "-"), [scope])[1] for scope in SCOPES}
    made["all"] = house.accounts.add_token("for-all", SCOPES)[1]
    made["revoked"] = house.accounts.add_token("revoked", SCOPES)[1]
    house.accounts.revoke("revoked")
    return made


@pytest.fixture(scope="module")
def cookie(house: House) -> str:
    """Anna's login."""
    return house.log_in("anna")


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house without credentials."""
    made = House(tmp_path_factory.mktemp("open"))
    with running(made.app(Rules(made.accounts))) as made.url:
        yield made


# --- The table --------------------------------------------------------------------------------------------------------


def refused(reply: Reply, door: Door, status: int) -> None:
    """Check that a door stays shut, and says so in the form of its kind."""
    assert reply.status == status, (door, reply)
    assert TREASURE not in reply.text and "Traceback" not in reply.text
    assert reply.headers["X-Frame-Options"] == "DENY" and reply.headers["Content-Security-Policy"]
    if status == 401:
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    if door in PROGRAMS:
        assert set(json.loads(reply.text)["error"]) == {"type", "message"}


def opened(reply: Reply, name: str | None) -> None:
    assert reply.status == 200, reply
    assert json.loads(reply.text)["treasure"] == TREASURE and json.loads(reply.text)["name"] == name


def as_stranger(door: Door, reply: Reply) -> None:
    """Check what somebody without good credentials is told."""
    if door.kind == "open":
        opened(reply, None)
    elif door.kind != "page":
        refused(reply, door, 401)
    elif door.method == "GET":
        refused(reply, door, 303)
        assert reply.headers["Location"].startswith("/login")
    else:
        refused(reply, door, 401)


STRANGERS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "nothing": lambda _: {},
    "a wrong token": lambda _: {"Authorization": f"Bearer {PREFIX}{'0' * 12}_{'x' * 43}"},
    "a token with another secret": lambda tokens: {"Authorization": f"Bearer {tokens['all'][:-1]}~"},
    "a token cut short": lambda tokens: {"Authorization": f"Bearer {tokens['all'][:-1]}"},
    "a revoked token": lambda tokens: {"Authorization": f"Bearer {tokens['revoked']}"},
    "a token as a password": lambda tokens: {"Authorization": f"Basic {tokens['all']}"},
    "a token without its scheme": lambda tokens: {"Authorization": tokens["all"]},
    "an empty token": lambda _: {"Authorization": "Bearer "},
    "a token as a cookie": lambda tokens: {"Cookie": f"assistant_login={tokens['all']}"},
    "an unknown login": lambda _: {"Cookie": f"assistant_login={'0' * 12}_{'x' * 43}"},
    "the cookie of an owner": lambda _: {"Cookie": f"{COOKIE}={'x' * 43}"},
    "bytes that are no text": lambda _: {"Authorization": "Bearer \xff\xfe", "Cookie": "assistant_login=\xff"},
}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
@pytest.mark.parametrize("shown", STRANGERS)
def test_whoever_shows_nothing_good_stays_outside(house: House, tokens: dict[str, str], door: Door, shown: str) -> None:
    as_stranger(door, house.send(door.method, door.path, **STRANGERS[shown](tokens)))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
def test_a_token_opens_what_its_scope_is_for_and_no_page(house: House, tokens: dict[str, str], door: Door) -> None:
    for scope in (*SCOPES, "all"):
        reply = house.send(door.method, door.path, Authorization=f"Bearer {tokens[scope]}")
        if door.kind in {"open", "page"}:
            as_stranger(door, reply)
        elif scope in {"all", door.kind} or door.kind == "any":
            opened(reply, f"for-{scope}")
        else:
            refused(reply, door, 403)
            assert f"is good for {scope}, not for {door.kind}" in json.loads(reply.text)["error"]["message"]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
def test_a_login_opens_the_page_and_from_the_page_alone_the_doors_of_programs(
    house: House, cookie: str, door: Door
) -> None:
    name = None if door.kind == "open" else "anna"
    here = {"Cookie": cookie, "Origin": house.url}
    opened(house.send(door.method, door.path, **here), name)
    opened(house.send(door.method, door.path, Cookie=cookie, Sec_Fetch_Site="same-origin"), name)
    said_nothing = house.send(door.method, door.path, Cookie=cookie)
    if door in PROGRAMS:
        refused(said_nothing, door, 403)
    else:
        opened(said_nothing, name)
    if door.kind != "open":
        for elsewhere in ({"Origin": "http://127.0.0.1:1"}, {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"}):
            refused(house.send(door.method, door.path, Cookie=cookie, **elsewhere), door, 403)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
def test_a_foreign_host_and_a_foreign_origin_open_no_door_whatever_is_shown(
    house: House, tokens: dict[str, str], cookie: str, door: Door
) -> None:
    for shown in ({}, {"Authorization": f"Bearer {tokens['all']}"}, {"Cookie": cookie}):
        for host in ("evil.invalid", "127.0.0.1.evil.invalid", "papers.example.evil.invalid", "127.0.0.1@evil.invalid"):
            refused(house.send(door.method, door.path, Host=host, **shown), door, 400)
        for origin in ("https://evil.invalid", "null", "http://127.0.0.1.evil.invalid", "file://", "127.0.0.1"):
            refused(house.send(door.method, door.path, Origin=origin, **shown), door, 403)


def test_a_name_of_the_settings_is_one_of_the_servers_own(house: House, tokens: dict[str, str], cookie: str) -> None:
    bearer = f"Bearer {tokens['all']}"
    for host in ("papers.example", "PAPERS.example:8443", "localhost:1", "[::1]:7860"):
        opened(house.send("GET", "/v1/models", Host=host, Authorization=bearer), "for-all")
        opened(house.send("POST", "/page/x", Host=host, Cookie=cookie, Origin=f"https://{host}"), "anna")


def test_a_link_from_elsewhere_leads_to_the_page_and_over_the_login_back_to_where_it_led(house: House) -> None:
    elsewhere = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    opened(house.send("GET", "/?c=abc", Cookie=house.log_in("anna"), **elsewhere), "anna")
    asked = house.send("GET", "/?c=abc&d=%C3%A9", **elsewhere)
    assert asked.headers["Location"] == "/login?next=%2F%3Fc%3Dabc%26d%3D%25C3%25A9"
    shown = house.send("GET", asked.headers["Location"])
    assert shown.status == 200 and 'value="/?c=abc&amp;d=%C3%A9"' in shown.text


@pytest.mark.parametrize(
    "place", ["//evil.invalid", "/\\evil.invalid", "https://evil.invalid", "/\r\nSet-Cookie: x=y", "javascript:1", ""]
)
def test_a_login_leads_nowhere_but_to_this_server(house: House, place: str) -> None:
    form = urlencode({"name": "anna", "password": PASSWORD, "next": place})
    assert house.send("POST", "/login", form).headers["Location"] == "/"


def test_a_fragment_of_an_ended_login_is_told_in_its_place(house: House) -> None:
    reply = house.send("GET", "/page/saved", Sec_Fetch_Mode="cors", Sec_Fetch_Site="same-origin")
    assert reply.status == 401 and "You are not logged in any more" in reply.text and "/login" in reply.text


# --- Where no credentials are set up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
def test_on_loopback_without_credentials_every_door_is_open_and_a_bearer_is_ignored(
    open_house: House, door: Door
) -> None:
    for shown in ({}, {"Authorization": "Bearer whatever"}, {"Authorization": "Basic x"}):
        opened(open_house.send(door.method, door.path, **shown), None)
    refused(open_house.send(door.method, door.path, Host="evil.invalid"), door, 400)
    refused(open_house.send(door.method, door.path, Origin="https://evil.invalid"), door, 403)
    assert open_house.send("GET", "/login").headers["Location"] == "/"


def test_the_doors_shut_with_the_first_credentials_and_no_removal_opens_them_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running(house.app(Rules(house.accounts))) as house.url:
        opened(house.send("GET", "/v1/models"), None)
        _, token = house.accounts.add_token("only", ["search"])
        assert house.send("GET", "/v1/models").status == 401 and house.send("GET", "/").status == 303
        opened(house.send("GET", "/v1/models", Authorization=f"Bearer {token}"), "only")
        house.accounts.revoke("only")
        for shown in ({}, {"Authorization": f"Bearer {token}"}):
            assert house.send("GET", "/v1/models", **shown).status == 401
        for file in tmp_path.iterdir():
            file.unlink()
        assert house.send("GET", "/v1/models").status == 401 and house.send("GET", "/").status == 303
        assert house.send("GET", "/login").status == 200


def test_accounts_that_cannot_be_read_let_nobody_in_and_tell_no_stranger_where_they_are(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.accounts.add_user("anna", PASSWORD)
    _, token = house.accounts.add_token("one", SCOPES)
    house.accounts.file.write_bytes(b"no database " * 1000)
    with running(house.app(Rules(house.accounts))) as house.url:
        assert house.send("GET", "/healthz").status == 200
        form = urlencode({"name": "anna", "password": PASSWORD})
        for method, path, body, fields in (
            ("GET", "/v1/models", None, {"Authorization": f"Bearer {token}"}),
            ("GET", "/", None, {"Cookie": f"assistant_login={'0' * 12}_{'x' * 43}"}),
            ("POST", "/login", form, {}),
        ):
            reply = house.send(method, path, body, **fields)
            assert reply.status == 503 and str(tmp_path) not in reply.text and "accounts cannot be read" in reply.text


def test_a_server_that_others_reach_asks_even_while_nobody_could_come_in(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running(house.app(Rules(house.accounts, always=True))) as house.url:
        assert house.send("GET", "/v1/models").status == 401
        assert house.send("GET", "/").headers["Location"] == "/login"
        assert house.send("GET", "/login").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "papers.example", ""])
def test_a_server_that_others_reach_needs_credentials_or_a_plain_word(host: str) -> None:
    with pytest.raises(ConfigError, match="`assistant users add NAME`, or say --without-login"):
        make_rules(host, frozenset())
    assert not make_rules(host, frozenset(), without_login=True).always
    Accounts().add_token("one", ["ask"])
    assert make_rules(host, frozenset()).always
    Accounts().revoke("one")
    with pytest.raises(ConfigError, match="--without-login"):
        make_rules(host, frozenset())


def test_a_proxy_makes_a_server_one_that_others_reach() -> None:
    assert not make_rules("127.0.0.1", frozenset()).always
    with pytest.raises(ConfigError, match="a proxy at 127.0.0.1"):
        make_rules("127.0.0.1", frozenset(), behind_proxy="127.0.0.1")
    for address in ("*", "proxy", "0.0.0.0/0", ""):
        with pytest.raises(ConfigError, match="give the"):
            make_rules("127.0.0.1", frozenset(), without_login=True, behind_proxy=address)


def test_names_beside_those_of_loopback_come_from_the_settings() -> None:
    assert Config(hosts=" Papers.example, 192.168.1.5,[fe80::1] ").host_names == {
        "papers.example",
        "192.168.1.5",
        "fe80::1",
    }
    assert Config(hosts="a").digest == Config().digest
    rules = make_rules("192.168.1.5", frozenset({"papers.example"}), without_login=True)
    assert rules.know("papers.example:80") and rules.know("192.168.1.5:7860") and rules.know("127.0.0.1")
    assert not rules.know("192.168.1.6") and not make_rules("0.0.0.0", frozenset(), without_login=True).know("0.0.0.0")
    for wrong in ("*", "https://papers.example", "papers.example:80", "*.example", "a b"):
        with pytest.raises(ConfigError, match="hosts holds"):
            _ = Config(hosts=wrong).host_names


# --- Behind a proxy ---------------------------------------------------------------------------------------------------


def test_what_a_proxy_says_is_believed_of_the_proxy_alone(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.accounts.add_user("anna", PASSWORD)
    rules, form = Rules(house.accounts), urlencode({"name": "anna", "password": PASSWORD})
    said = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "203.0.113.9"}
    for trusted in ("127.0.0.1", "192.0.2.1"):
        with running(house.app(rules), proxy_headers=True, forwarded_allow_ips=trusted) as house.url:
            reply = house.send("POST", "/login", form, **said)
            cookie, is_believed = reply.headers["set-cookie"], trusted == "127.0.0.1"
            assert ("Secure" in cookie) == is_believed and "HttpOnly" in cookie and "SameSite=lax" in cookie
            seen = house.send("GET", "/", Cookie=cookie.partition(";")[0], **said)
            assert json.loads(seen.text)["from"] == ("203.0.113.9" if is_believed else "127.0.0.1")


# --- Logins -----------------------------------------------------------------------------------------------------------


def test_a_login_ends_by_logging_out_by_a_new_password_by_removal_and_with_time(house: House) -> None:
    accounts = house.accounts
    accounts.add_user("carl", PASSWORD)

    def is_in(cookie: str) -> bool:
        return house.send("GET", "/", Cookie=cookie).status == 200

    first, second = house.log_in("carl"), house.log_in("carl")
    assert is_in(first) and is_in(second) and first != second
    assert "You are logged in as <b>carl</b>" in house.send("GET", "/logout", Cookie=first).text and is_in(first)
    out = house.send("POST", "/logout", "", Cookie=first, Origin=house.url)
    assert out.status == 303 and "Max-Age=0" in out.headers["set-cookie"]
    assert not is_in(first) and is_in(second)
    assert house.send("POST", "/logout", "", Cookie=second, Origin="https://evil.invalid").status == 403
    assert is_in(second)
    accounts.set_password("carl", PASSWORD)
    assert not is_in(second)
    third = house.log_in("carl")
    with closing(sqlite3.connect(accounts.file)) as db, db:
        db.execute("UPDATE logins SET ends = ?", (time.time() - 1,))
    assert not is_in(third)
    fourth = house.log_in("carl")
    accounts.remove_user("carl")
    assert not is_in(fourth)
    accounts.add_user("carl", PASSWORD)
    assert not is_in(fourth)
    accounts.remove_user("carl")


def test_a_wrong_login_is_told_in_words_and_keeps_the_name_but_not_the_password(house: House) -> None:
    for name in ("anna", "nobody", "<b>", ""):
        reply = house.send("POST", "/login", urlencode({"name": name, "password": "not the one"}))
        assert reply.status == 401 and "The name or the password is wrong" in reply.text
        assert "not the one" not in reply.text and "<b>" not in reply.text and "set-cookie" not in reply.headers


@pytest.mark.parametrize("body", ["", "name=anna", "%ff=%00", "&" * 5000, "name=" + "x" * 20_000, "[]", "a=b&" * 50])
def test_a_form_that_is_none_is_a_wrong_login(tmp_path: Path, body: str) -> None:
    house = House(tmp_path)
    house.accounts.add_user("anna", PASSWORD)
    with running(house.app(Rules(house.accounts))) as house.url:
        assert house.send("POST", "/login", body).status == 401


@pytest.fixture
def tries() -> Iterator[sqlite3.Connection]:
    """The table of logins that failed."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.executescript(throttle.TABLE)
        yield db


def later(db: sqlite3.Connection, seconds: float) -> None:
    """Let all logins that failed have done so that long ago."""
    db.execute("UPDATE tries SET at = ?", (time.time() - seconds,))


def test_each_failure_makes_a_name_wait_longer_whoever_tries_and_never_for_ever(tries: sqlite3.Connection) -> None:
    def fail(n: int) -> int:
        return throttle.count(tries, throttle.keys("anna", f"198.51.100.{n}"))

    assert [fail(n) for n in range(FREE["name"])] == [0] * FREE["name"]
    waits = []
    for n in range(20, 29):
        later(tries, 0)
        waits.append(fail(n))
        later(tries, waits[-1])
        assert fail(n) == 0
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_S, LONGEST_S, LONGEST_S]
    later(tries, -1000)  # the clock was put back
    assert fail(30) == LONGEST_S
    later(tries, throttle.FORGET_S + 1)
    assert [fail(n) for n in range(40, 40 + FREE["name"])] == [0] * FREE["name"]


def test_an_address_that_tries_many_names_waits_and_others_do_not(tries: sqlite3.Connection) -> None:
    for n in range(FREE["address"]):  # a network of IPv6 is one address
        assert throttle.count(tries, throttle.keys(f"user{n}", f"2001:db8::{n:x}")) == 0
    later(tries, 0)
    assert throttle.count(tries, throttle.keys("anna", "2001:db8::ffff")) == 1
    for other in ("2001:db8:0:1::1", "198.51.100.1", "not an address", ""):
        assert throttle.count(tries, throttle.keys("anna", other)) == 0


def test_a_success_forgives_the_name_but_not_what_others_failed_from_the_address(tries: sqlite3.Connection) -> None:
    def try_as(name: str) -> int:
        return throttle.count(tries, throttle.keys(name, "198.51.100.1"))

    for n in range(FREE["name"] - 1):
        assert try_as("anna") == try_as(f"user{n}") == 0
    throttle.forgive(tries, throttle.keys("anna", "198.51.100.1"))
    left = FREE["address"] - 2 * (FREE["name"] - 1) + 1
    assert [try_as("anna" if n < FREE["name"] else f"other{n}") for n in range(left)] == [0] * left
    later(tries, 0)
    assert try_as("somebody else") == 1


def test_names_without_end_leave_the_table_small(tries: sqlite3.Connection) -> None:
    now = time.time()
    rows = [(f"name {n}", 9, now - 60 + n / 1000) for n in range(throttle.MOST + 500)]
    tries.executemany("INSERT INTO tries VALUES (?, ?, ?)", rows)
    assert throttle.count(tries, throttle.keys("one more", "198.51.100.1")) == 0
    assert tries.execute("SELECT count(*) FROM tries").fetchone() == (throttle.MOST,)
    assert throttle.count(tries, throttle.keys("one more", "198.51.100.1")) == 0
    assert tries.execute("SELECT 1 FROM tries WHERE key = 'name 0'").fetchone() is None


def test_a_hundred_tries_at_once_are_no_way_around_the_wait_and_names_are_found_alike(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "a.sqlite")
    accounts.add_user("anna", PASSWORD)

    def outcome(name: str, n: int, password: str = "wrong one") -> type[Exception] | str:
        try:
            return accounts.log_in(name, password, f"198.51.100.{n}")
        except (NotAllowed, Busy) as error:
            return type(error)

    for name in ("anna", "nobody"):
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda n, name=name: outcome(name, n), range(100)))
        assert FREE["name"] <= outcomes.count(NotAllowed) <= FREE["name"] + 4 and outcomes.count(Busy) >= 90
    with closing(sqlite3.connect(accounts.file, isolation_level=None)) as db:
        later(db, 0)
        assert outcome("ANNA", 200, PASSWORD) is Busy  # not even with the right one
        later(db, LONGEST_S)
        assert isinstance(outcome("ANNA", 200, PASSWORD), str)


def test_a_wait_is_told_on_the_page_with_how_long_it_is(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.accounts.add_user("anna", PASSWORD)
    with running(house.app(Rules(house.accounts))) as house.url:
        form = urlencode({"name": "anna", "password": "wrong one"})
        replies = [house.send("POST", "/login", form) for _ in range(FREE["name"])]
        with closing(sqlite3.connect(house.accounts.file, isolation_level=None)) as db:
            later(db, 0)
        replies.append(house.send("POST", "/login", form))
    assert [each.status for each in replies] == [401] * FREE["name"] + [429]
    assert "try again in 1 s" in replies[-1].text and replies[-1].headers["Retry-After"] == "1"


# --- The file ---------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_the_file_in_a_log_or_in_a_repr(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    house = House(tmp_path)
    house.accounts.add_user("anna", PASSWORD)
    made, token = house.accounts.add_token("bot", ["ask"])
    with running(house.app(Rules(house.accounts))) as house.url:
        cookie = house.log_in("anna").partition("=")[2]
        house.send("POST", "/login", urlencode({"name": "typed-in-the-wrong-field", "password": "wrong one"}))
        house.send("POST", "/api/v1/ask", Authorization=f"Bearer {token}")
        house.send("GET", "/", Cookie=f"assistant_login={cookie}")
        seen = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()).decode("latin-1")
    who, person = house.accounts.who_shows(token), house.accounts.who_logged_in(cookie)
    assert who and person
    seen += caplog.text + "".join(capsys.readouterr()) + repr([made, who, person, house.accounts])
    for secret in (PASSWORD, token, token[-43:], cookie, cookie[-43:], "typed-in-the-wrong-field", "wrong one"):
        assert secret not in seen
    assert who.owner not in repr(who) and "$argon2id$" in seen
    assert stat.S_IMODE(house.accounts.file.stat().st_mode) == 0o600
    assert re.fullmatch(PREFIX + r"[0-9a-f]{12}_[\w-]{43}", token) and len(token[-43:]) == 43


def test_passwords_and_tokens_of_the_same_words_are_kept_apart(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "a.sqlite")
    for name in ("anna", "bert"):
        accounts.add_user(name, PASSWORD)
    with closing(sqlite3.connect(accounts.file)) as db:
        rows = db.execute("SELECT password, owner FROM users").fetchall()
    assert len(set(rows[0] + rows[1])) == 4
    assert accounts.add_token("one", ["ask"])[1] != accounts.add_token("two", ["ask"])[1]


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 65, "a\nb", "a/b", "<b>", "\ud800", "a\x00"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    accounts = Accounts(tmp_path / "a.sqlite")
    with pytest.raises(ConfigError, match="cannot be a name"):
        accounts.add_user(name, PASSWORD)
    with pytest.raises(ConfigError, match="cannot be a name"):
        accounts.add_token(name, ["ask"])
    assert not accounts.file.exists() and not accounts.are_set_up


def test_a_password_is_known_however_its_letters_are_composed(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "a.sqlite")
    accounts.add_user("Änne", "pässword Å")
    assert accounts.log_in("änne", "pa\u0308ssword A\u030a", "127.0.0.1")
    for password in ("short", "x" * 257):
        with pytest.raises(ConfigError, match="the password has"):
            accounts.set_password("Änne", password)


def test_several_processes_use_the_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from assistant.accounts import Accounts\n"
        "for n in range(10): Accounts(Path('a.sqlite')).add_token(f'{sys.argv[1]}-{n}', ['ask'])"
    )
    root = str(Path(__file__).parent.parent)
    env = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin"}
    begun = [subprocess.Popen([sys.executable, "-c", code, str(n)], cwd=tmp_path, env=env) for n in range(3)]
    assert [each.wait(60) for each in begun] == [0, 0, 0]
    assert len({each.name for each in Accounts(tmp_path / "a.sqlite").tokens()}) == 30


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "a.sqlite")
    accounts.add_user("anna", PASSWORD)
    with closing(sqlite3.connect(accounts.file)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="the accounts in .* format 99.*update the program"):
        accounts.users()


# --- What belongs to whom ---------------------------------------------------------------------------------------------


def test_two_users_and_two_tokens_never_see_each_others_data(house: House, tokens: dict[str, str]) -> None:
    def owner(**shown: str) -> str:
        return str(json.loads(house.send("POST", "/v1/x", Origin=house.url, **shown).text)["owner"])

    anna, again, bert = (owner(Cookie=house.log_in(name)) for name in ("anna", "anna", "bert"))
    owners = {anna, bert, *(owner(Authorization=f"Bearer {tokens[each]}") for each in ("ask", "all"))}
    assert anna == again and len(owners) == 4
    cookie = f"{COOKIE}={anna}"  # which no browser could send where nobody logs in, either
    assert owner(Cookie=f"{house.log_in('bert')}; {cookie}") == bert
    assert not re.fullmatch(r"[\w-]{43}", anna)


# --- The command line, and a running server ---------------------------------------------------------------------------


def test_users_and_tokens_are_made_listed_and_ended_by_commands() -> None:
    added = run("users", "add", "anna", "--json", stdin=f"{PASSWORD}\n")
    assert added.returncode == 0 and set(document(added)["user"]) == {"name", "created_at"}
    assert PASSWORD not in added.stdout + added.stderr
    made = run("tokens", "add", "bot", "--scope", "search", "--scope", "ask", "--json")
    assert document(made)["token"].startswith(PREFIX) and document(made)["scopes"] == ["ask", "search"]
    listed = run("tokens", "list", "--json")
    assert document(made)["token"] not in listed.stdout
    assert [(each["name"], each["used_at"]) for each in document(listed)["tokens"]] == [("bot", None)]
    who = Accounts().who_shows(document(made)["token"])
    assert who and who.name == "bot" and who.scopes == {"ask", "search"}
    used = document(run("tokens", "list", "--json"))["tokens"][0]["used_at"]
    assert used and used >= document(made)["created_at"]
    assert run("users", "list").stdout.startswith("anna  since 20")
    login = Accounts().log_in("anna", PASSWORD, "127.0.0.1")
    assert run("users", "password", "anna", stdin="another one altogether\n").returncode == 0
    assert Accounts().who_logged_in(login) is None and Accounts().log_in("anna", "another one altogether", "")
    revoked = run("tokens", "revoke", document(made)["id"], "--json")
    assert document(revoked) == {"revoked": document(made)["id"], "name": "bot"}
    assert "revoked 20" in run("tokens", "list").stdout
    again = run("tokens", "add", "bot", "--scope", "ingest")
    assert again.stdout.startswith(PREFIX) and "shown this once" in again.stderr
    anna, kept = (
        Accounts().who_logged_in(Accounts().log_in("anna", "another one altogether", "")),
        Conversations(default_file()),
    )
    assert anna
    for owner in (anna.owner, anna.owner, "somebody else"):
        kept.save(
            owner, None, Exchange(1, "Whose is it?", "stopped", asked_at="2026-01-01T00:00:00Z"), library="sample"
        )
    assert document(run("users", "remove", "ANNA", "--json")) == {"removed": "ANNA", "conversations": 2}
    assert (kept.summaries(anna.owner), len(kept.summaries("somebody else"))) == ([], 1)
    assert document(run("users", "list", "--json")) == {"users": []}
    left = run("tokens", "revoke", "bot"), run("users", "list")
    assert left[0].returncode == 0 and left[1].stdout == "there are no users\n"


def test_a_token_is_found_at_the_front_of_nothing_else(house: House, tokens: dict[str, str]) -> None:
    for wrong in (tokens["all"] + "x", " ".join([tokens["all"]] * 2), tokens["all"].upper(), tokens["all"] + "\x00"):
        assert house.accounts.who_shows(wrong) is None


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["users", "add", "a b"], PASSWORD, 2, "'a b' cannot be a name"),
        (["users", "add", "anna"], "", 2, "stdin holds no password"),
        (["users", "add", "anna"], "short\n", 2, "the password has 5 characters; give 8 to 256"),
        (["users", "add"], PASSWORD, 2, "Missing argument"),
        (["users", "add", "anna", PASSWORD], "", 2, "unexpected extra argument"),
        (["users", "remove", "anna"], "", 2, "there is no user 'anna'"),
        (["users", "password", "anna", "--json"], PASSWORD, 2, "there is no user 'anna'"),
        (["tokens", "add", "bot"], "", 2, "--scope"),
        (["tokens", "add", "bot", "--scope", "everything"], "", 2, "everything"),
        (["tokens", "revoke", "bot", "--json"], "", 2, "there is no token 'bot'"),
    ],
)
def test_a_failure_of_a_command_is_one_line_and_the_right_code(
    arguments: list[str], stdin: str, code: int, message: str
) -> None:
    done = run(*arguments, stdin=stdin)
    assert done.returncode == code and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if "--json" in arguments:
        assert set(document(done)["error"]) == {"type", "message"}
    assert not Accounts().are_set_up


def test_a_second_of_the_same_name_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    assert run("users", "add", "anna", stdin=PASSWORD).returncode == 0
    assert "there is a user 'Anna' already" in run("users", "add", "Anna", stdin=PASSWORD).stderr
    assert run("tokens", "add", "bot", "--scope", "ask").returncode == 0
    assert "there is a token 'bot' already" in run("tokens", "add", "bot", "--scope", "ask").stderr
    assert "did you mean 'anna'" in run("users", "remove", "ana").stderr
    Accounts().file.write_bytes(b"no database " * 1000)
    done = run("users", "list")
    assert done.returncode == 3 and "cannot read the accounts in" in done.stderr


def test_a_pasted_token_is_not_told_again() -> None:
    token = run("tokens", "add", "bot", "--scope", "ask").stdout.strip()
    done = run("tokens", "revoke", token)
    assert done.returncode == 2 and token not in done.stderr and "`assistant tokens list`" in done.stderr


def test_a_password_typed_at_a_terminal_is_asked_for_twice_and_never_shown() -> None:
    for again, code in ((PASSWORD, 0), ("something else", 2)):
        ours, theirs = pty.openpty()
        ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        command = [sys.executable, "-m", "assistant", "users", "add", f"anna{code}"]
        root = str(Path(__file__).parent.parent)
        with subprocess.Popen(command, start_new_session=True, env={**os.environ, "PYTHONPATH": root}, **ends) as asked:
            os.close(theirs)
            shown = ""
            for prompt, typed in (("Password: ", PASSWORD), ("Again: ", again)):
                while not shown.endswith(prompt):
                    shown += os.read(ours, 1000).decode()
                os.write(ours, f"{typed}\n".encode())
            with suppress(OSError):  # so a terminal ends
                while piece := os.read(ours, 1000):
                    shown += piece.decode()
            assert asked.wait(PATIENCE_S) == code
        os.close(ours)
        assert PASSWORD not in shown and again not in shown
    assert [each.name for each in Accounts().users()] == ["anna0"]


def test_a_server_without_a_login_says_so_and_a_wrong_proxy_is_refused() -> None:
    done = run("serve", "--without-login", "--host", "0.0.0.0", "--behind-proxy", "*")
    warned, refused = done.stderr.splitlines()
    assert warned.endswith("while there is no user and no token, whoever reaches 0.0.0.0:7860 may do everything")
    assert done.returncode == 2 and "--behind-proxy is '*'; give the IP address" in refused


def test_what_was_done_is_noted_without_mixing_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "assistant.audit")
    who = Who("anna", "secret-owner", address="203.0.113.9")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: audit(who, "remove", f"paper {n}\n\u202e" + "x" * 1000), range(50)))
    text = (tmp_path / "data/assistant/audit.jsonl").read_text(encoding="ascii")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 50 == len(caplog.records) and "secret-owner" not in text + caplog.text
    assert set(lines[0]) == {"at", "who", "from", "deed", "detail"} and len(lines[0]["detail"]) < 510
    assert (lines[0]["who"], lines[0]["from"], lines[0]["deed"]) == ("anna", "203.0.113.9", "remove")


def test_an_audit_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    audit(Who(None, ""), "ingest", "papers.jsonl")
    assert "cannot note in" in caplog.text


# --- A real server ----------------------------------------------------------------------------------------------------


class Site(NamedTuple):
    """A server with users, who are logged in, and its data folder."""

    url: str
    data: Path
    logins: dict[str, str]
    """The cookie of each login."""
    ids: list[str]
    """Papers of its library."""

    @property
    def accounts(self) -> Accounts:
        return Accounts(self.data / "accounts.sqlite")

    def log_in(self, name: str) -> str:
        reply = send(self.url, "POST", "/login", urlencode({"name": name, "password": PASSWORD}))
        return reply.headers["set-cookie"].partition(";")[0]

    def becomes(self, status: int, path: str, **shown: str) -> None:
        """Wait for a status, no longer than a second."""
        end = time.monotonic() + 1
        while (got := send(self.url, "GET", path, **shown).status) != status:
            assert time.monotonic() < end, got
            time.sleep(0.05)

    def post(self, path: str, fields: dict[str, Any], **shown: str) -> Reply:
        form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": self.url}
        return send(self.url, "POST", path, urlencode(fields, doseq=True), **form, **shown)

    def noted(self) -> list[tuple[str, str, str, str]]:
        lines = (self.data / "audit.jsonl").read_text(encoding="ascii").splitlines()
        return [tuple(json.loads(line)[each] for each in ("who", "from", "deed", "detail")) for line in lines]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with Assistant(Config(library=folder / "library")) as assistant:
        assistant.ingest([write_jsonl(folder / "a.jsonl", make_records(3))])
        ids = [each.id for each in assistant.browse()[0]]
    with serving(folder, "--library", folder / "library") as url:
        made = Site(url, folder / "data/assistant", {}, ids)
        assert send(url, "GET", "/").status == 200
        done = run("users", "add", "anna", stdin=PASSWORD, XDG_DATA_HOME=str(folder / "data"))
        assert done.returncode == 0
        made.becomes(303, "/")
        made.accounts.add_user("bert", PASSWORD)
        made.logins.update(anna=made.log_in("anna"), again=made.log_in("anna"), bert=made.log_in("bert"))
        yield made


def test_the_real_page_is_shut_to_all_but_a_login(site: Site) -> None:
    _, token = site.accounts.add_token("page", SCOPES)
    read = ("/", "/config", "/page/saved", "/page/static/page.js", "/theme.css", "/gradio_api/info")
    for path in read:
        for shown in ({}, {"Authorization": f"Bearer {token}"}, {"Cookie": f"{COOKIE}={'x' * 43}"}):
            assert send(site.url, "GET", path, **shown).status == 303
        assert send(site.url, "GET", path, Cookie=site.logins["anna"]).status in {200, 404}
        assert send(site.url, "GET", path, Cookie=site.logins["anna"], Host="evil.invalid").status == 400
    for path in (
        "/gradio_api/queue/join",
        "/gradio_api/upload",
        "/page/library/remove",
        "/page/library/add",
        "/login/",
    ):
        assert send(site.url, "POST", path, "").status == 401
        for origin in ("https://evil.invalid", "null", "http://127.0.0.1:1"):
            assert send(site.url, "POST", path, "", Cookie=site.logins["anna"], Origin=origin).status == 403


def test_a_running_server_sees_at_once_what_commands_change(site: Site) -> None:
    env = {"XDG_DATA_HOME": str(site.data.parent)}
    token = document(run("tokens", "add", "bot", "--scope", "search", "--json", **env))["token"]
    shown = {"Authorization": f"Bearer {token}"}
    site.becomes(404, "/v1/nothing", **shown)
    site.becomes(401, "/v1/nothing")
    assert run("tokens", "revoke", "bot", **env).returncode == 0
    site.becomes(401, "/v1/nothing", **shown)
    site.accounts.add_user("carl", PASSWORD)
    cookie = site.log_in("carl")
    site.becomes(200, "/", Cookie=cookie)
    assert run("users", "remove", "carl", **env).returncode == 0
    site.becomes(303, "/", Cookie=cookie)
    assert [each[2] for each in site.noted() if each[1] == "command line"][-3:] == [
        "token added",
        "token revoked",
        "user removed",
    ]


def test_conversations_and_feedback_are_seen_by_their_user_alone_in_every_browser(site: Site) -> None:
    anna, again, bert = site.logins.values()
    who = site.accounts.who_logged_in(anna.partition("=")[2])
    kept = Conversations(site.data / "conversations.sqlite")
    asked = Exchange(1, "A question of Anna's own?", "stopped", asked_at="2026-01-01T00:00:00Z")
    assert who
    ident = kept.save(who.owner, None, asked, library="sample")
    listed = [send(site.url, "GET", "/page/saved", Cookie=each).text for each in (anna, again, bert)]
    assert ["own?" in each for each in listed] == [True, True, False]
    for path in (f"/page/question?c={ident}&turn=1", f"/page/saved/{ident}/export"):
        replies = [send(site.url, "GET", path, Cookie=each) for each in (anna, again, bert)]
        assert [each.status for each in replies] == [200, 200, 422] and "own?" not in replies[2].text
    rating = {"c": ident, "turn": "1", "verdict": "like"}
    assert [site.post("/page/feedback", rating, Cookie=each).status for each in (bert, anna)] == [422, 200]
    rated = [send(site.url, "GET", "/page/saved/feedback", Cookie=each).text for each in (anna, again, bert)]
    assert [each.count("\n") for each in rated] == [1, 1, 0]
    assert site.post(f"/page/saved/{ident}/name", {"name": "Bert's"}, Cookie=bert).status == 422
    assert site.post(f"/page/saved/{ident}/delete", {}, Cookie=bert).status == 422
    found = kept.open(who.owner, ident)
    assert found and found.name.startswith("A question")


def test_papers_that_come_and_go_on_the_page_are_noted_with_who_did_it(site: Site) -> None:
    removed = {"ids": [site.ids[0], "unknown"]}
    assert site.post("/page/library/remove", removed, Cookie=site.logins["anna"]).status == 200
    text = '{"title": "A", "abstract": "Bees see colours that people do not."}'
    assert site.post("/page/library/add", {"text": text}, Cookie=site.logins["bert"]).status == 200
    assert ("anna", "127.0.0.1", "remove", site.ids[0]) in site.noted()
    assert ("bert", "127.0.0.1", "ingest", f"pasted text of {len(text)} characters") in site.noted()
    assert ("anna", "127.0.0.1", "login", "") in site.noted()
