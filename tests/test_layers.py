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
    "provenance": {"core", "media", "models"},
    "pipeline": {"core", "media", "models", "faces", "provenance"},
    "datasets": {"core", "media", "faces.types", "faces.align", "faces.masks"},
    "metrics": {"core", "media", "models", "faces"},
    "train": {"core", "models", "losses", "datasets", "metrics"},
    "evaluation": {"core", "media", "models", "faces", "pipeline", "metrics"},
}
TOP = {"scripts", "cli"}
PACKAGES = {*ALLOWED, *TOP}


def folder(package: str) -> Path:
    """Where a package stands in the checkout."""
    inside = ROOT / "videoretalking" / package
    return inside if inside.is_dir() else ROOT / package


def imports(path: Path) -> Iterator[str]:
    """Every imported name of the project, without ``videoretalking.``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # "from faces import types" names a module, "from faces.types import Face" does not
            names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            assert top not in PACKAGES - {"cli"}, f"{path} imports {name} without videoretalking"
            if top == "videoretalking" and rest:
                yield rest


def allowed(package: str, imported: str) -> bool:
    top = imported.split(".")[0]
    if top == package or top not in PACKAGES:
        return True
    return any(imported == name or imported.startswith(f"{name}.") for name in ALLOWED[package])


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_package_imports_only_what_its_layer_may(package: str) -> None:
    files = sorted(folder(package).rglob("*.py"))
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
        for path in folder(package).rglob("*.py"):
            assert "sys.path" not in path.read_text(encoding="utf-8"), path
