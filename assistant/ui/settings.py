"""The tab of settings: which model answers, how long, in which language, from how many sources.

They are those of one owner, kept in the memory of the server until it ends. A key is never sent back to the page, and a
key of the server's own never goes to an address that was typed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.events import Dependency

from assistant import shown
from assistant.config import Config, Settings
from assistant.errors import ConfigError
from assistant.probe import probe
from assistant.ui.desk import OWNERS, Desk, owner

LENGTHS = {"short": 300, "medium": 800, "long": 2000}
"""Lengths of an answer, in tokens."""
SOURCES = (2, 20)
"""Fewest and most sources that the slider offers."""
LANGUAGES = ("as the question", "English", "Deutsch", "Español", "Français", "Português", "中文", "日本語", "العربية")
LANGUAGE_CHARS = 60
_KEY = ("No key is set.", "A key is set.")
_KEY_HELP = "Kept in the memory of the server alone, never in this browser; leave it empty to keep the one that is set."
_FIELDS = {"llm_base_url": "the address", "llm_model": "the model", "llm_api_key": "the key"}
"""Settings, as the page calls them."""


def build_tab(desk: Desk, page: gr.Blocks) -> list[Dependency]:
    """Build the tab inside the page; return the events after which other settings may hold."""
    tab = _Tab(desk)
    return tab.listen(page)


class _Tab:
    """The components of the tab, and what happens when they are used."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.at_rest: dict[str, str] = {}
        """Of those who chose to have no model asked, the model that they named."""
        with gr.Column(elem_id="settings"):
            with gr.Row():
                with gr.Column(min_width=300):
                    self._build_answers()
                with gr.Column(min_width=300):
                    self._build_model()
            with gr.Row(elem_id="settings-acts"):
                self.save = gr.Button("Save", variant="primary", scale=0, min_width=100)
                self.test = gr.Button("Save and test the connection", scale=0, min_width=240)
            self.outcome = gr.Markdown("", elem_id="settings-outcome", latex_delimiters=[])

    def _build_answers(self) -> None:
        base, info = self.desk.assistant.config, "Most papers that an answer may rest on."
        gr.Markdown("## Answers")
        self.k = gr.Slider(*SOURCES, _sources(base), step=1, label="Sources", info=info)
        self.extractive = gr.Checkbox(
            label="Sentences of the abstracts alone, word for word", info="No language model is asked.",
        )  # fmt: skip
        self.length = gr.Dropdown(
            list(LENGTHS), value=_length(base), filterable=False,
            label="Length of an answer", info="Of one that a language model writes.",
        )  # fmt: skip
        self.language = gr.Dropdown(
            list(LANGUAGES), label="Language of an answer", info="One of these, or any other.", allow_custom_value=True
        )

    def _build_model(self) -> None:
        gr.Markdown("## Language model")
        self.url = gr.Textbox(label="Address of the endpoint", info="With its /v1; OpenAI's protocol.")
        self.model = gr.Textbox(label="Model", info="Empty: no language model is asked.")
        self.key = gr.Textbox(
            label="Key", type="password", info=_KEY_HELP, html_attributes=gr.InputHTMLAttributes(autocomplete="off")
        )

    def listen(self, page: gr.Blocks) -> list[Dependency]:
        """Connect the components with what they do; none of it is an API."""
        fields = [self.k, self.extractive, self.length, self.language, self.url, self.model]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(self.show, None, [*fields, self.key], **private)
        outputs = [self.url, self.key, self.outcome]
        return [
            self.save.click(self.keep, {*fields, self.key}, outputs, **private),
            self.test.click(self.try_out, {*fields, self.key}, outputs, **private),
        ]

    def show(self, request: gr.Request) -> list[Any]:
        """Return what is set, for each field."""
        whose = owner(request)
        config, language = self.desk.config(whose), self.desk.config(whose).answer_language or LANGUAGES[0]
        is_at_rest = config.llm_model is None and whose in self.at_rest
        model = self.at_rest[whose] if is_at_rest else config.llm_model or ""
        return [_sources(config), is_at_rest, _length(config), language, config.endpoint, model, _key(config)]

    def keep(self, values: dict[Any, Any], request: gr.Request) -> tuple[Any, Any, str]:
        """Keep the settings; say what follows from them."""
        try:
            config = self._keep(owner(request), values)
        except ConfigError as error:
            return gr.skip(), gr.skip(), _told(str(error), kind="fault")
        said = "Answers are sentences of the abstracts, word for word."
        if config.llm_model:
            said = f"Answers are written by {config.llm_model} at {config.endpoint}."
        return config.endpoint, _key(config), _told(f"Saved. {said}")

    def try_out(self, values: dict[Any, Any], request: gr.Request) -> Iterator[tuple[Any, Any, str]]:
        """Keep the settings, then ask the endpoint for a word; say exactly what came of it."""
        try:
            config = self._keep(owner(request), values)
        except ConfigError as error:
            yield gr.skip(), gr.skip(), _told(str(error), kind="fault")
            return
        yield config.endpoint, _key(config), _told("Saved. Testing the connection…")
        model = _typed(values[self.model])
        found = probe(config.changed(llm_model=model) if model else config)
        resting = " It is not asked: answers are sentences of the abstracts alone." if values[self.extractive] else ""
        said = found.message + resting * bool(found.ok)
        yield gr.skip(), gr.skip(), _told(said, kind="sound" if found.ok else "fault")

    def _keep(self, whose: str, values: dict[Any, Any]) -> Config:
        """Keep the settings of the fields as an owner's, and return them."""
        if not whose:
            raise ConfigError("this browser keeps no cookies, so that nobody's settings can be kept; allow them")
        config = self._config(self.desk.config(whose), values)
        self.desk.configure(whose, config)
        self.at_rest.pop(whose, None)
        if values[self.extractive]:
            while len(self.at_rest) >= OWNERS:
                del self.at_rest[next(iter(self.at_rest))]
            self.at_rest[whose] = _typed(values[self.model])
        return config

    def _config(self, before: Config, values: dict[Any, Any]) -> Config:
        """Return the settings of the fields; an address that was left alone keeps its key, another one leaves it."""
        base = self.desk.assistant.config
        url, model, key = (_typed(values[each]) for each in (self.url, self.model, self.key))
        language = _typed(values[self.language])[:LANGUAGE_CHARS]
        changes: Settings = {
            "answer_language": None if language in {"", LANGUAGES[0]} else language,
            "llm_model": None if values[self.extractive] or not model else model,
        }
        # What the fields cannot show exactly, such as a length between two of theirs, stays until it is changed.
        if values[self.k] != _sources(before):
            changes["k"] = int(values[self.k])
        if values[self.length] != _length(before):
            changes["answer_tokens"] = LENGTHS.get(values[self.length], before.answer_tokens)
        if key:
            changes["llm_api_key"] = key
        if url == before.endpoint:
            return before.changed(**changes)
        if url in {"", base.endpoint}:  # the server's own, with its own key, as far as that may travel
            return base.changed(k=before.k, answer_tokens=before.answer_tokens).changed(**changes)
        return before.changed(llm_base_url=url).changed(**changes)


def _typed(value: object) -> str:
    return " ".join(str(value or "").split())


def _sources(config: Config) -> int:
    """Return the place of the slider."""
    return max(SOURCES[0], min(config.k, SOURCES[1]))


def _length(config: Config) -> str:
    """Return the length that comes nearest."""
    return min(LENGTHS, key=lambda name: abs(LENGTHS[name] - config.answer_tokens))


def _key(config: Config) -> Any:
    """Return the field for a key, which never shows one."""
    return gr.update(value="", placeholder=_KEY[config.api_key is not None])


def _told(message: str, *, kind: str = "sound") -> str:
    """Return the line that says what came of it, in the words of the page."""
    message = re.sub("|".join(_FIELDS), lambda found: _FIELDS[found[0]], message)
    message = message if message.startswith("http") else message[:1].upper() + message[1:]
    return f'<p class="{kind}">{shown.markdown(message)}</p>'
