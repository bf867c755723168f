"""The page: questions in, cited answers out, in a browser on this machine; it shows, and holds no logic of its own.

Gradio is imported once the page is built: a server without a page does without.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assistant.ui.desk import Desk
    from assistant.ui.server import build_app

# Before Gradio is imported, which would report to its makers and look for a newer version.
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")

__all__ = ["Desk", "build_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'assistant.ui' has no attribute {name!r}")
    return getattr(import_module({"Desk": "assistant.ui.desk", "build_app": "assistant.ui.server"}[name]), name)
