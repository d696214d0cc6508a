"""Who may import whom: holds the table of docs/architecture.md, function-level imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "media": {"core"},
    "models": {"core"},
    "faces": {"core", "media", "models"},
    "losses": {"core", "models"},
    "pipeline": {"core", "media", "models", "faces"},
    "datasets": {"core", "media", "faces.types", "faces.align", "faces.masks"},
    "metrics": {"core", "media", "models", "faces"},
    "train": {"core", "models", "losses", "datasets", "metrics"},
}
TOP = {"scripts", "tests", "inference"}
PACKAGES = {*ALLOWED, *TOP}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # "from faces import types" names a module, "from faces.types import Face" does not
            yield from (f"{module}.{alias.name}" for alias in node.names)


def allowed(package: str, imported: str) -> bool:
    top = imported.split(".")[0]
    if top == package or top not in PACKAGES:
        return True
    return any(imported == name or imported.startswith(f"{name}.") for name in ALLOWED[package])


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_package_imports_only_what_its_layer_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no code"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if not allowed(package, name)
    ]
    assert not wrong


def test_the_rule_itself_can_fail() -> None:
    assert not allowed("datasets", "faces.detect.FaceDetector")
    assert not allowed("models", "media.audio")
    assert not allowed("core", "scripts.parity")
    assert allowed("datasets", "faces.align.similarity")
    assert allowed("train", "datasets.clips")


def test_no_path_tricks() -> None:
    for package in (*ALLOWED, "scripts"):
        for path in (ROOT / package).rglob("*.py"):
            assert "sys.path" not in path.read_text(encoding="utf-8"), path
