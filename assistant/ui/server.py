"""The page as one application, made of its tabs; the guard stands elsewhere, in front of all doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from assistant.accounts import Accounts
from assistant.ui import chat, explore, fragments, library, login, saved, settings
from assistant.ui.desk import AT_ONCE, WAITING, Desk

NAME = "Paper Assistant"
STATIC = Path(__file__).with_name("static")
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


def build_app(desk: Desk, accounts: Accounts) -> FastAPI:
    """Return the page as one application, with the login in front of it."""
    app = FastAPI(openapi_url=None)
    fragments.tell_errors(app)
    app.include_router(login.routes(accounts))
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
