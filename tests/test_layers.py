from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "assistant"

LAYERS = {
    "types": 0, "errors": 0, "text": 0, "rebuild": 0, "whole": 0,
    "clean": 1, "config": 1, "tokens": 1, "chunk": 1, "completion": 1, "figures": 1,
    "cues": 1, "layout": 1,
    "names": 2, "papers": 2, "export": 2, "store": 2, "prompt": 2, "llm": 2, "abstain": 2, "table": 2, "topics": 2,
    "conversations": 2,
    "embed": 3, "rerank": 3, "followup": 3, "cite": 3, "markers": 3, "probe": 3,
    "index": 4, "units": 4, "ideas": 4,
    "ingest": 5, "retrieve": 5, "extract": 5, "gate": 5, "atlas": 5,
    "bibliography": 6, "sample": 6, "draft": 6, "explore": 6, "suggest": 6,
    "replay": 7,
    "answer": 8,
    "ui.guard": 9, "ui.shown": 9, "ui.plot": 9,
    "ui.desk": 10, "ui.fragments": 10,
    "ui.messages": 11, "ui.cards": 11, "ui.saved": 11, "ui.settings": 11, "ui.adding": 11,
    "ui.chat": 12, "ui.library": 12, "ui.explore": 12,
    "ui.server": 13,
    "ui": 14,
    "cli": 15,
    "__main__": 16,
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
    "bm25s": {"index"},
    "gradio": {"ui.server", "ui.chat", "ui.saved", "ui.settings", "ui.library", "ui.explore", "ui.adding"},
    "openai": {"llm"},
    "httpx2": {"completion", "llm"},
    "tiktoken": {"tokens"},
    "torch": {"export"},
    "onnx": {"export"},
    "transformers": {"export"},
    "sentence_transformers": {"embed", "export", "rerank"},
    "huggingface_hub": {"embed", "export", "rerank"},
    "onnxruntime": {"embed", "export"},
    "tokenizers": {"embed", "export"},
    "sqlite3": {"store", "conversations"},
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
