"""One frozen `Config`: argument over environment over file over default; unknown names are refused.

The only place that reads the environment or `assistant.toml`. Each setting remembers where its value came from, because
a key may travel only with an address of the same standing (see `Config.api_key`).
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast
from urllib.parse import urlsplit

import platformdirs

from assistant.errors import ConfigError

Origin = Literal["argument", "environment", "file", "default"]

OPENAI_URL = "https://api.openai.com/v1"
FILE_NAME = "assistant.toml"
BUILT_IN_ENCODER = "built-in"
"""all-MiniLM-L6-v2, whose weights come with a package: nothing is downloaded."""


class Settings(TypedDict, total=False):
    """The settings as keyword arguments; see `Config` for each one."""

    library: str | Path | None
    llm_base_url: str
    llm_model: str | None
    llm_api_key: str | None
    llm_timeout_s: float
    encoder: str
    encoder_backend: str
    search: str
    reranker: str | None
    prompts: str | Path | None
    k: int
    evidence_tokens: int
    answer_tokens: int
    answer_language: str | None
    max_tokens_field: str
    contact: str | None
    ncbi_api_key: str | None
    openalex_api_key: str | None
    s2_api_key: str | None
    source_hosts: str | None
    hosts: str | None
    rate: int


def _setting(default: object, **limits: object) -> Any:
    return field(metadata={"default": default, **limits})


@dataclass(frozen=True, init=False, repr=False)
class Config:
    """All settings, resolved. `Config(k=12)` sets one by argument; the rest come from outside or by default.

    >>> Config(k=12).k
    12

    Args:
        file: A TOML file to read instead of `assistant.toml` in the working folder.
        settings: The settings given by argument, by the names below.

    Raises:
        ConfigError: An unknown name (the nearest right one is offered), a value of the wrong type or out of range, or
            an unreadable file.
    """

    library: Path | None = _setting(None)
    """Folder of the library; None: the user's data folder, and while that is empty the built-in sample."""
    llm_base_url: str = _setting(OPENAI_URL)
    """Address of an endpoint that speaks OpenAI's protocol, with its `/v1`."""
    llm_model: str | None = _setting(None)
    """Name of the model; without one no LLM is asked and answers are extractive."""
    llm_api_key: str | None = _setting(None, secret=True)
    """Key of the endpoint; local servers need none."""
    llm_timeout_s: float = _setting(60.0, low=0.1, high=3600.0)
    """Wall-clock deadline of a whole question, in seconds."""
    encoder: str = _setting(BUILT_IN_ENCODER)
    """`built-in`, or name or path of a sentence-transformers model; only a name of a hub model contacts the hub."""
    encoder_backend: str = _setting("auto", choices=("auto", "onnx", "openvino", "torch"))
    """auto: onnx for the built-in encoder, its documents in bf16 by openvino where that can be; torch for any other."""
    search: str = _setting("auto", choices=("auto", "exact", "chroma"))
    """How dense candidates are found: exact scan, Chroma, or by the library's size."""
    reranker: str | None = _setting(None)
    """Name or folder of a sentence-transformers cross-encoder that puts the best papers in order; None: none."""
    prompts: Path | None = _setting(None)
    """Folder whose files override those of `prompts/`."""
    k: int = _setting(8, low=1, high=100)
    """Papers put before the answerer."""
    evidence_tokens: int = _setting(4000, low=100, high=1_000_000)
    """Budget for the evidence in a prompt, in tokens."""
    answer_tokens: int = _setting(800, low=16, high=100_000)
    """Greatest length of an LLM's answer, in tokens."""
    answer_language: str | None = _setting(None)
    """Language that an LLM is asked to answer in; None: that of the question."""
    max_tokens_field: str = _setting("max_tokens", choices=("max_tokens", "max_completion_tokens"))
    """Name of the request field that carries `answer_tokens`; some reasoning models want the second."""
    contact: str | None = _setting(None)
    """E-mail address that live sources are told, so that they can write before they block."""
    ncbi_api_key: str | None = _setting(None, secret=True)
    """Key of PubMed's service; with one it answers more often."""
    openalex_api_key: str | None = _setting(None, secret=True)
    """Key of OpenAlex."""
    s2_api_key: str | None = _setting(None, secret=True)
    """Key of Semantic Scholar."""
    source_hosts: str | None = _setting(None)
    """Other addresses of live sources, such as a mirror: `arxiv=http://127.0.0.1:8000,s2=...`."""

    hosts: str | None = _setting(None)
    """Names by which the server may be called beside localhost: `papers.example.org,192.168.1.5`."""
    rate: int = _setting(120, low=0, high=1_000_000)
    """Questions that one user or token may ask a server within a minute; 0: any number."""

    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)
    """Where each value came from."""

    def __init__(self, file: str | Path | None = None, **settings: Unpack[Settings]) -> None:
        """Resolve every setting; see the class."""
        given = cast("dict[str, object]", dict(settings))
        _refuse_unknown(given, "argument")
        path = Path(file) if file else Path(FILE_NAME)
        from_file = _read_file(path, required=file is not None)
        _refuse_unknown(from_file, f"setting in {path}")
        environment = _read_environment()
        origins: dict[str, Origin] = {}
        for each in _settings():
            layers: tuple[tuple[Origin, Mapping[str, object]], ...] = (
                ("argument", given),
                ("environment", environment),
                ("file", from_file),
                ("default", {each.name: each.metadata["default"]}),
            )
            origin, values = next(layer for layer in layers if each.name in layer[1])
            object.__setattr__(self, each.name, _convert(each.name, values[each.name], each.metadata, origin))
            origins[each.name] = origin
        object.__setattr__(self, "origins", origins)
        _check_address(self.llm_base_url)

    def changed(self, **settings: Unpack[Settings]) -> Config:
        """Return these settings with some of them changed, as by argument.

        Another `llm_base_url` leaves the key behind, unless one comes with it: whoever changes the address may not be
        the one whom the key belongs to.

        Raises:
            ConfigError: As for the class.
        """
        given = cast("dict[str, object]", dict(settings))
        _refuse_unknown(given, "argument")
        if given.get("llm_base_url", self.llm_base_url) != self.llm_base_url:
            given.setdefault("llm_api_key", None)
        new, origins = copy.copy(self), dict(self.origins)
        for each in _settings():
            if each.name in given:
                value = _convert(each.name, given[each.name], each.metadata, "argument")
                object.__setattr__(new, each.name, value)
                origins[each.name] = "argument"
        object.__setattr__(new, "origins", origins)
        _check_address(new.llm_base_url)
        return new

    @property
    def api_key(self) -> str | None:
        """The key that may be sent to `llm_base_url`, or None.

        A key from the environment never goes to an address that came from a file in the working folder: whoever wrote
        the file would receive it. `OPENAI_API_KEY` goes to `OPENAI_BASE_URL` or OpenAI itself alone.
        """
        trusted = self.origins["llm_base_url"] != "file"
        if self.llm_api_key is not None:
            return self.llm_api_key if trusted or self.origins["llm_api_key"] != "environment" else None
        key = os.environ.get("OPENAI_API_KEY")
        own = {OPENAI_URL, os.environ.get("OPENAI_BASE_URL", OPENAI_URL)}
        return key if key and self.llm_base_url.rstrip("/") in {url.rstrip("/") for url in own} else None

    @property
    def source_keys(self) -> dict[str, str]:
        """The keys of live sources, by the name of the service.

        None from the environment while the addresses come from a file in the working folder: see `api_key`.
        """
        is_trusted = self.origins["source_hosts"] != "file"
        names = {"ncbi": "ncbi_api_key", "openalex": "openalex_api_key", "s2": "s2_api_key"}
        keys = {service: getattr(self, name) for service, name in names.items()}
        return {
            service: key for service, key in keys.items() if key
            and (is_trusted or self.origins[names[service]] != "environment")
        }  # fmt: skip

    @property
    def source_addresses(self) -> dict[str, str]:
        """The addresses of `source_hosts`, by the name of the service.

        Raises:
            ConfigError: It is no list of `name=address`.
        """
        pairs = [pair.strip().partition("=") for pair in (self.source_hosts or "").split(",") if pair.strip()]
        for name, _, address in pairs:
            if not name or not address.startswith(("http://", "https://")):
                raise ConfigError(f"source_hosts holds {name!r}; give a list such as arxiv=http://127.0.0.1:8000")
        return {name: address for name, _, address in pairs}

    @property
    def host_names(self) -> frozenset[str]:
        """The names of `hosts`, in lower case.

        Raises:
            ConfigError: One of them is no name, but an address with a scheme or a port, or a pattern.
        """
        names = [each.strip().strip("[]").lower() for each in (self.hosts or "").split(",") if each.strip()]
        for name in names:
            if not re.fullmatch(r"[\w.-]+|[0-9a-f:.]+", name, re.ASCII) or re.fullmatch(r"[\w.-]+:\d+", name):
                raise ConfigError(
                    f"hosts holds {name!r}; give names alone, without scheme and port, such as papers.example.org"
                )
        return frozenset(names)

    @property
    def endpoint(self) -> str:
        """`llm_base_url` as it may be shown and kept: without user, password and query."""
        url = urlsplit(self.llm_base_url)
        return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings that shape an answer (no key, no folder, no address)."""
        apart = {
            "library", "prompts", "llm_api_key", "llm_base_url",
            "contact", "ncbi_api_key", "openalex_api_key", "s2_api_key", "source_hosts", "hosts", "rate",
        }  # fmt: skip
        return {each.name: getattr(self, each.name) for each in _settings() if each.name not in apart}

    @property
    def digest(self) -> str:
        """First 16 hex digits of sha256 over the settings that shape an answer."""
        return hashlib.sha256(json.dumps(self.shaping, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        """Show what differs from the defaults; a key is shown as `***`."""
        shown = {
            each.name: "***" if each.metadata.get("secret") else _without_password(getattr(self, each.name))
            for each in _settings()
            if self.origins[each.name] != "default" and getattr(self, each.name) is not None
        }
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _without_password(value: object) -> object:
    """Return a value with the user and password that an address may hold masked."""
    return re.sub(r"//[^/@\s]+@", "//***@", value) if isinstance(value, str) else value


def default_library() -> Path:
    """Return the library in the user's data folder, which need not exist."""
    return Path(platformdirs.user_data_dir("assistant", appauthor=False)) / "library"


def cache_folder() -> Path:
    """Return the folder for what can be made again: exported encoders and the opened sample library."""
    return Path(platformdirs.user_cache_dir("assistant", appauthor=False))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _settings() -> list[Any]:
    return [each for each in fields(Config) if "default" in each.metadata]


def _check_address(address: str) -> None:
    try:
        url = urlsplit(address)
        sound = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        sound = False
    if not sound:
        shown = _without_password(address)
        raise ConfigError(f"llm_base_url is {shown!r}; give an http or https address, such as {OPENAI_URL}")


def _refuse_unknown(given: Mapping[str, object], what: str) -> None:
    known = [each.name for each in _settings()]
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f"; the names are {', '.join(known)}"
            raise ConfigError(f"unknown {what}: {name!r}{hint}")


def _read_environment() -> dict[str, object]:
    known = [each.name for each in _settings()]
    values: dict[str, object] = {
        name: os.environ[f"ASSISTANT_{name.upper()}"] for name in known if os.environ.get(f"ASSISTANT_{name.upper()}")
    }
    if os.environ.get("OPENAI_BASE_URL"):
        values.setdefault("llm_base_url", os.environ["OPENAI_BASE_URL"])
    return values


def _read_file(path: Path, *, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if required:
            raise ConfigError(
                f"cannot read the settings: {path} does not exist; check the name after --config"
            ) from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"cannot read the settings in {path}: {error}; mend the file or name another with --config"
        ) from error


def _convert(name: str, value: object, limits: Mapping[str, Any], origin: Origin) -> object:
    default, shown = limits["default"], "***" if limits.get("secret") else repr(value)
    try:
        if value is None or value == default:
            return default
        if name in {"library", "prompts"}:
            return Path(cast("str", value)).expanduser()
        if isinstance(default, (int, float)):
            number = type(default)(cast("str", value))
            if isinstance(value, bool) or not limits["low"] <= number <= limits["high"]:
                raise ValueError
            return number
        if not isinstance(value, str):
            raise TypeError
    except (TypeError, ValueError) as error:
        wanted = f"a number from {limits['low']} to {limits['high']}" if "low" in limits else "a text"
        raise ConfigError(f"{name} (from {origin}) is {shown}; give {wanted}") from error
    if value not in limits.get("choices", (value,)):
        raise ConfigError(f"{name} (from {origin}) is {shown}; choose one of {', '.join(limits['choices'])}")
    return value
