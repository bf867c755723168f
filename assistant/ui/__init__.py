"""The page: questions in, cited answers out, in a browser on this machine; it shows, and holds no logic of its own."""

import os

# Before Gradio is imported, which would report to its makers and look for a newer version.
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")

from assistant.ui.desk import Desk
from assistant.ui.server import build_app, serve

__all__ = ["Desk", "build_app", "serve"]
