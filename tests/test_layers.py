from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "assistant"

LAYERS = {
    "arrays": 0, "clean": 0, "cues": 0, "errors": 0, "layout": 0, "products": 0, "rebuild": 0, "seen": 0, "sharing":
    0, "sources.live.hosts": 0, "sources.parquet_rows": 0, "text": 0, "throttle": 0, "tokens": 0, "types": 0,
    "ui.plot": 0, "ui.requests": 0, "whole": 0,
    "abstain": 1, "access": 1, "api.events": 1, "api.schema": 1, "chunk": 1, "completion": 1, "config": 1,
    "figures": 1, "journal": 1, "lexicon": 1, "metrics": 1, "papers": 1, "passwords": 1, "prompt": 1, "readable": 1,
    "shown": 1, "sources.find": 1, "sources.jats": 1, "sources.live.kept": 1, "sources.live.wire": 1, "spans": 1,
    "sqlite_file": 1, "topics": 1,
    "accounts": 2, "audit": 2, "conversations": 2, "export": 2, "followup": 2, "identity": 2, "llm": 2, "markers":
    2, "names": 2, "notebook": 2, "sources.content": 2, "sources.json_text": 2, "sources.live.fetch": 2,
    "sources.live.names": 2, "sources.shapes": 2, "sources.tables": 2, "store": 2, "table": 2, "tools": 2,
    "ui.fragments": 2, "watch": 2,
    "cite": 3, "ideas": 3, "minilm": 3, "pack": 3, "probe": 3, "rerank": 3, "sources.bibtex": 3, "sources.csv_text":
    3, "sources.live.asking": 3, "sources.markup": 3, "sources.ooxml": 3, "sources.page": 3, "sources.parquet": 3,
    "sources.records": 3, "sources.unpack": 3, "ui.login": 3, "ui.messages": 3, "ui.rules": 3, "units": 3, "write":
    3,
    "embed": 4, "gate": 4, "index": 4, "parcel": 4, "sources.archive": 4, "sources.excel": 4, "sources.live.arxiv":
    4, "sources.live.indexes": 4, "sources.live.pubmed": 4, "sources.tagged": 4, "sources.web": 4, "ui.guard": 4,
    "atlas": 5, "draft": 5, "extract": 5, "retrieve": 5, "sources.live.dois": 5,
    "bibliography": 6, "explore": 6, "replay": 6, "sources.live.services": 6, "suggest": 6,
    "sources.live": 7,
    "sources": 8,
    "ingest": 9,
    "added": 10, "move": 10, "recover": 10,
    "sample": 11,
    "library": 12,
    "asking": 13, "doctor": 13,
    "answer": 14, "line": 14,
    "api.faults": 15, "api.forms": 15, "api.shared": 15, "cli.options": 15, "cli.show": 15, "mcp": 15, "ui.desk":
    15, "workers": 15,
    "api.caller": 16, "api.chat": 16, "api.ingest": 16, "api.routes": 16, "cli.access": 16, "cli.library": 16,
    "cli.mcp": 16, "ui.adding": 16, "ui.cards": 16, "ui.saved": 16, "ui.settings": 16,
    "api": 17, "ui.chat": 17, "ui.explore": 17, "ui.library": 17,
    "ui.server": 18,
    "ui": 19,
    "server": 20,
    "cli.questions": 21,
    "cli": 22,
    "__main__": 23,
}  # fmt: skip
"""Data travels one way: a module imports only from lower layers."""


def module(path: Path) -> str:
    """The name of a module below the package: `config`, or `ui.desk`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> set[str]:
    """The modules of ours that one imports."""
    known, found = {module(each) for each in PACKAGE.rglob("*.py")}, set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "assistant":
            inside = node.module.split(".")[1:]
            names = {".".join([*inside, alias.name]) for alias in node.names} | {".".join(inside)}
            found |= names & known
            if any(name in known for name in names if len(name.split(".")) > len(inside)):
                found -= {".".join(inside)}  # a module of a package, not the package itself
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module)
def test_a_module_imports_only_from_lower_layers(path: Path) -> None:
    if module(path) == "__init__":
        return
    for name in imports(path):
        assert LAYERS[name] < LAYERS[module(path)], f"{module(path)} imports {name}"


@pytest.mark.parametrize("code", ["import assistant", "import assistant.cli; assistant.cli.main(['--help'])"])
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    heavy = "{'torch', 'chromadb', 'gradio', 'openai', 'sentence_transformers', 'transformers', 'onnxruntime', 'numpy'}"
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(sorted({heavy} & set(sys.modules)))"
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip().endswith("[]")


OWNERS = {
    "chromadb": {"index"},
    "gradio": {"ui.server", "ui.chat", "ui.saved", "ui.settings", "ui.library", "ui.explore", "ui.adding"},
    "openai": {"llm"},
    "prometheus_client": {"metrics", "workers"},
    "opentelemetry": {"spans"},
    "httpx2": {"completion", "llm", "sources.live.wire"},
    "tiktoken": {"tokens"},
    "torch": {"export"},
    "onnx": {"export"},
    "transformers": {"export"},
    "sentence_transformers": {"embed", "export", "rerank"},
    "huggingface_hub": {"embed", "export", "rerank"},
    "onnxruntime": {"minilm", "export"},
    "openvino": {"minilm"},
    "tokenizers": {"minilm", "export"},
    "mcp": {"mcp"},
    "mcp_types": {"mcp"},
    "argon2": {"passwords"},
    "sqlite3": {"store", "write", "recover", "conversations", "sqlite_file", "accounts", "throttle"},
    "lxml": {"sources.jats", "sources.web"},
    "pylatexenc": {"sources.bibtex"},
    "pyarrow": {"sources.parquet_rows"},
    "zstandard": {"sources.unpack"},
    "charset_normalizer": {"sources.content"},
}
"""Who may import a foreign package, and so translates its errors."""


def test_foreign_packages_are_imported_by_the_modules_that_own_them() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                owners = OWNERS.get(name.split(".")[0], {module(path)})
                assert module(path) in owners, f"{module(path)} imports {name}"
