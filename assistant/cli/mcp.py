"""The command that serves the tools of the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

from typing import Any

import click

from assistant.cli.options import answering, common, open_assistant
from assistant.errors import ConfigError


@click.command()
@answering
@common
def mcp(*, llm: str | None, as_json: bool, settings: dict[str, Any], config_file: str | None) -> None:
    """Serve search_papers, get_paper and ask_papers to an MCP client, on stdin and stdout."""
    if as_json:
        raise ConfigError("mcp speaks its own protocol on stdout; leave --json out")
    with open_assistant(settings, config_file, llm=llm) as assistant:
        if assistant.config.library is not None:  # one that cannot be read is told now, not at the first call
            _ = assistant.library
        from assistant.mcp import run_stdio

        run_stdio(assistant)
