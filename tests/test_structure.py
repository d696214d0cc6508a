"""The shape of the code: sizes of functions and folders, no circle of imports, links that type checkers follow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = ("models", "datasets", "losses", "train", "scripts")
MAX_LINES = 100
MAX_FILES = 25
TRAINING_LOOP = ("train/loop.py", "_train")  # flat on purpose: it is read from top to bottom


def product_files() -> dict[str, Path]:
    """Module name -> file of everything that ships."""
    files = {}
    for folder in (ROOT / "videoretalking", *(ROOT / name for name in TOP_LEVEL)):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if parts[0] == "videoretalking" else ("videoretalking", *parts))
            files[name.removesuffix(".__init__")] = path
    return files


FILES = product_files()


def imported_modules(path: Path) -> Iterator[str]:
    """Modules of the project that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("videoretalking"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES else str(node.module)


def test_no_function_is_longer_than_a_hundred_lines_but_the_training_loop() -> None:
    long = []
    for path in (*FILES.values(), ROOT / "inference.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= MAX_LINES:
                long.append((path.relative_to(ROOT).as_posix(), node.name))
    assert long in ([], [TRAINING_LOOP])


def test_no_folder_holds_more_than_25_files() -> None:
    counts: dict[Path, int] = {}
    for path in FILES.values():
        counts[path.parent] = counts.get(path.parent, 0) + 1
    assert not {str(folder): count for folder, count in counts.items() if count > MAX_FILES}


def test_no_circle_of_imports() -> None:
    # the lazy names of a package's own __init__ are no dependency of what lies inside it
    graph = {
        name: {
            target
            for target in imported_modules(path)
            if not name.startswith(f"{target}.") and target != name
        }
        for name, path in FILES.items()
        if name != "videoretalking"
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_type_checkers_see_every_package() -> None:
    seen = ROOT / "typings" / "videoretalking"
    inside = {
        path.name for path in (ROOT / "videoretalking").iterdir() if not path.name.startswith("__pycache__")
    }
    assert {path.name for path in seen.iterdir()} == inside | set(TOP_LEVEL)
    for link in seen.iterdir():
        target = ROOT / link.name if link.name in TOP_LEVEL else ROOT / "videoretalking" / link.name
        assert link.resolve() == target.resolve()
