from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "assistant"

LAYERS = {
    "types": 0, "errors": 0, "text": 0,
    "clean": 1, "config": 1, "tokens": 1, "chunk": 1, "completion": 1, "figures": 1,
    "cues": 1, "layout": 1,
    "names": 2, "papers": 2, "export": 2, "store": 2, "prompt": 2, "llm": 2, "abstain": 2, "table": 2, "topics": 2,
    "embed": 3, "rerank": 3, "followup": 3, "cite": 3, "markers": 3,
    "index": 4, "units": 4, "ideas": 4,
    "ingest": 5, "retrieve": 5, "extract": 5, "gate": 5, "atlas": 5,
    "sample": 6, "draft": 6, "explore": 6, "suggest": 6,
    "replay": 7,
    "answer": 8,
    "ui": 9,
    "cli": 10,
    "__main__": 11,
}  # fmt: skip
"""Data travels one way: a module imports only from lower layers."""


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "assistant":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_layers(path: Path) -> None:
    if path.stem == "__init__":
        return
    for name in imports(path):
        assert LAYERS[name] < LAYERS[path.stem], f"{path.stem} imports {name}"


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
    "gradio": {"ui"},
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
    "sqlite3": {"store"},
}
"""Who may import a foreign package, and so translates its errors."""


def test_foreign_packages_are_imported_by_the_modules_that_own_them() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert path.stem in OWNERS.get(name.split(".")[0], {path.stem}), f"{path.stem} imports {name}"
