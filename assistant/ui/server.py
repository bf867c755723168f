"""The server of the page: an `Assistant` in, an application behind its guard out, run until Ctrl-C.

Refused: to be within the reach of others while nobody could log in; see `rules`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from assistant.answer import Assistant
from assistant.errors import AssistantError
from assistant.ui import chat, explore, fragments, library, login, saved, settings
from assistant.ui.desk import AT_ONCE, WAITING, Desk
from assistant.ui.guard import Guard
from assistant.ui.rules import Rules, make_rules

NAME = "Paper Assistant"
STATIC = Path(__file__).with_name("static")
PAINT_S = 3.0
"""So long a page that is opened at once may take to be shown before the library is warmed up: both want the processor
(first paint 0.5 s instead of 1.3)."""
_QUIET, _QUIET_DARK = "#57606f", "#a3adbb"
_CONTRAST: dict[str, Any] = {
    **{f"{name}_text_color": _QUIET for name in ("block_info", "block_label", "block_title")},
    **{f"{name}_text_color_dark": _QUIET_DARK for name in ("block_info", "block_label", "block_title")},
    "body_text_color_subdued": _QUIET,
    "body_text_color_subdued_dark": _QUIET_DARK,
    "input_placeholder_color": _QUIET,
    "input_placeholder_color_dark": _QUIET_DARK,
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_600",
}
"""Where the theme's own colours are too faint to be read by everybody (WCAG 2.2, 1.4.3)."""
_log = logging.getLogger(__name__)


def serve(
    assistant: Assistant, *, host: str, port: int, without_login: bool = False, behind_proxy: str | None = None
) -> None:
    """Show the page until Ctrl-C.

    Args:
        assistant: Answers.
        host: What to listen on; one that others can reach needs a user or a token, see `rules`.
        port: Likewise.
        without_login: Others may reach it while no user and no token is set up.
        behind_proxy: Address of a proxy, which is believed what it says of whom it passes on.

    Raises:
        ConfigError: Others could reach it and nobody asked who they are.
        AssistantError: The port is taken, or the library that was named cannot be read.
    """
    names = assistant.config.host_names
    rules = make_rules(host, names, without_login=without_login, behind_proxy=behind_proxy)
    if assistant.config.library is not None:  # one that cannot be read is told now, not at the first question
        _log.info("serving %s", assistant.library)
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        why = f"port {port} of {address} cannot be used ({why})"
        raise AssistantError(f"cannot serve the chat page: {why}; choose another with --port") from error
    with listener, suppress(KeyboardInterrupt):
        desk = Desk(assistant)
        app = build_app(desk, rules)
        threading.Thread(target=_prepare, args=(desk,), name="prepare", daemon=True).start()
        try:
            _run(app, listener, f"http://{f'[{address}]' if ':' in address else address}:{port}", behind_proxy)
        finally:
            desk.close()


def _prepare(desk: Desk) -> None:
    """Open all that a first question needs; then encode the library anew if the settings name another encoder."""
    desk.seen.wait(PAINT_S)
    try:
        desk.assistant.warm_up()
        desk.first_questions()
        desk.assistant.reencode()
    except Exception as error:  # noqa: BLE001 - a border: the first question will say it too
        _log.warning("the library could not be made ready ahead of the first question: %s", error)


def _run(app: FastAPI, listener: socket.socket, url: str, proxy: str | None) -> None:
    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # each page still open would be told as a fault
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"assistant: the chat page is open at {url} (Ctrl-C stops it)", file=sys.stderr)  # noqa: T201

    quiet = {"log_level": "warning", "access_log": False, "server_header": False}
    believed = {"proxy_headers": proxy is not None, "forwarded_allow_ips": proxy or ""}
    # An open page holds a connection that never ends by itself.
    Server(uvicorn.Config(app, ws="none", timeout_graceful_shutdown=1, **quiet, **believed)).run(sockets=[listener])  # type: ignore[arg-type]


def build_app(desk: Desk, rules: Rules | None = None) -> FastAPI:
    """Return the page behind its guard, as one application; without rules, as on loopback."""
    rules = rules or Rules()
    app = FastAPI(openapi_url=None)
    app.add_middleware(Guard, rules=rules)
    fragments.tell_errors(app)
    app.include_router(login.routes(rules.accounts))
    for part in (chat, library, explore, saved):
        app.include_router(part.routes(desk), prefix="/page")
    app.mount("/page/static", StaticFiles(directory=STATIC))
    fonts: Any = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}  # none is fetched
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", **fonts).set(**_CONTRAST)
    scripts = "".join(
        f'<script type="module" src="/page/static/{each.name}"></script>' for each in sorted(STATIC.glob("*.js"))
    )
    look = {"theme": theme, "css_paths": sorted(STATIC.glob("*.css")), "head": scripts, "footer_links": []}
    limits = {"run_history": False, "show_error": False, "max_file_size": "1kb"}
    return gr.mount_gradio_app(app, _build_page(desk), path="/", **look, **limits)  # type: ignore[no-any-return]


def _build_page(desk: Desk) -> Any:
    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True) as page:
        header = chat.build_header(NAME)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Ask", id="ask", elem_id="ask-tab"):
                conversation = chat.Tab(desk, NAME, header)
            with gr.Tab("Library", id="library", elem_id="library-tab"):
                library.build_tab(desk)
            with gr.Tab("Explore", id="explore", elem_id="explore-tab"):
                explore.build_tab(desk)
            with gr.Tab("Saved", id="saved", elem_id="saved-tab"):
                saved.build_tab(desk)
            with gr.Tab("Settings", id="settings", elem_id="settings-tab"):
                changes = settings.build_tab(desk, page)
        conversation.listen(page, changes)
    return page.queue(max_size=None, default_concurrency_limit=AT_ONCE + WAITING)
