"""The server of the page: an `Assistant` in, an application behind its guard out, run until Ctrl-C.

Refused: to listen on anything but loopback, since the page asks nobody for a password.
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
from assistant.errors import AssistantError, ConfigError
from assistant.ui import chat, explore, fragments, library, saved, settings
from assistant.ui.desk import AT_ONCE, WAITING, Desk
from assistant.ui.guard import Guard

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


def serve(assistant: Assistant, *, host: str, port: int) -> None:
    """Show the page on this machine until Ctrl-C.

    Raises:
        ConfigError: A host that other machines could reach: the page asks nobody for a password.
        AssistantError: The port is taken, or the library that was named cannot be read.
    """
    if host not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigError(
            f"cannot serve the chat page: host is {host!r}, which other machines could reach without a login; keep "
            "127.0.0.1 and put a reverse proxy with a login in front, which sends Host and Origin as 127.0.0.1"
        )
    if assistant.config.library is not None:  # one that cannot be read is told now, not at the first question
        _log.info("serving %s", assistant.library)
    address, family = ("::1", socket.AF_INET6) if host == "::1" else ("127.0.0.1", socket.AF_INET)
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        why = f"port {port} of {address} cannot be used ({os.strerror(error.errno or 0)})"
        raise AssistantError(f"cannot serve the chat page: {why}; choose another with --port") from error
    with listener, suppress(KeyboardInterrupt):
        desk = Desk(assistant)
        app = build_app(desk)
        threading.Thread(target=_prepare, args=(desk,), name="prepare", daemon=True).start()
        try:
            _run(app, listener, f"http://{f'[{address}]' if ':' in address else address}:{port}")
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


def _run(app: FastAPI, listener: socket.socket, url: str) -> None:
    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # each page still open would be told as a fault
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"assistant: the chat page is open at {url} (Ctrl-C stops it)", file=sys.stderr)  # noqa: T201

    quiet = {"log_level": "warning", "access_log": False, "server_header": False, "proxy_headers": False}
    # An open page holds a connection that never ends by itself.
    Server(uvicorn.Config(app, ws="none", timeout_graceful_shutdown=1, **quiet)).run(sockets=[listener])  # type: ignore[arg-type]


def build_app(desk: Desk) -> FastAPI:
    """Return the page behind its guard, as one application."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(Guard)
    fragments.tell_errors(app)
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
