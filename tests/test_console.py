"""The console command: what it lists, what it starts, and how the same programs are called from the checkout."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from videoretalking import __version__, cli
from videoretalking.core.commands import CommandParser, program_name
from videoretalking.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "cv2", "av", "librosa", "torchvision", "face_alignment")


def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with the checkout on its path, as an installed package would be."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def has_command_line(path: Path) -> bool:
    """Whether a file ends in ``if __name__ == "__main__": run_command(main)``."""
    last = ast.parse(path.read_text(encoding="utf-8")).body[-1]
    return (
        isinstance(last, ast.If) and "__name__" in ast.unparse(last.test) and "main" in ast.unparse(last.body)
    )


def test_every_program_has_a_command() -> None:
    programs = set()
    for top in ("scripts", "train", "datasets"):
        for path in (ROOT / top).rglob("*.py"):
            if has_command_line(path):
                programs.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    programs.add("pipeline.cli")
    assert programs == {command.module for command in cli.COMMANDS.values()}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_can_be_started(name: str) -> None:
    assert callable(import_module(f"videoretalking.{cli.COMMANDS[name].module}").main)


def test_help_lists_all_commands_and_loads_nothing_heavy() -> None:
    code = "import sys; from videoretalking.cli import main\n"
    code += f"try: main()\nfinally: print(set({HEAVY}) & sys.modules.keys())"
    result = run("-c", code, "--help")
    assert result.returncode == 0 and result.stdout.endswith("set()\n")
    lines = [line.strip() for line in result.stdout.splitlines()]
    for name, command in cli.COMMANDS.items():
        assert any(line.startswith(f"{name}  ") and line.endswith(f"  {command.help}") for line in lines), (
            name
        )


def test_version_and_mistakes(tmp_path: Path) -> None:
    assert (
        run("-m", "videoretalking", "--version", folder=tmp_path).stdout == f"videoretalking {__version__}\n"
    )
    wrong = run("-m", "videoretalking", "dbu", "--face", "x", folder=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: unknown command 'dbu', did you mean 'dub'? see videoretalking --help\n"
    assert run("-m", "videoretalking", folder=tmp_path).returncode == 2


def test_a_command_of_two_words() -> None:
    assert cli.find_command(["preprocess", "clips", "--work", "w"]) == ("preprocess clips", ["--work", "w"])
    assert cli.find_command(["preprocess", "--root", "clips"]) == ("preprocess", ["--root", "clips"])
    with pytest.raises(UserError, match="did you mean 'train'"):
        cli.find_command(["trian"])
    with pytest.raises(UserError, match=f"^unknown command 'zzzz'; see {cli.CONSOLE} --help$"):
        cli.find_command(["zzzz"])


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (("-m", "videoretalking", "dub"), "videoretalking dub"),
        (("inference.py",), "python inference.py"),
        (("-m", "videoretalking", "preprocess", "label"), "videoretalking preprocess label"),
        (("-m", "scripts.preprocess.label_landmarks"), "python -m scripts.preprocess.label_landmarks"),
    ],
)
def test_help_calls_the_program_as_the_user_did(arguments: tuple[str, ...], program: str) -> None:
    result = run(*arguments, "--help")
    assert result.returncode == 0 and result.stdout.startswith(f"usage: {program} "), result.stderr


def test_packages_that_are_programs_have_short_names(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/train/__main__.py"])
    monkeypatch.setattr(
        main, "__spec__", import_module("videoretalking.train.__main__").__spec__, raising=False
    )
    assert program_name() == "python -m videoretalking.train"
    monkeypatch.setattr(sys, "argv", ["videoretalking train"])
    assert program_name() == "videoretalking train"


def test_mistakes_of_any_program_are_one_line() -> None:
    parser = CommandParser(prog="program")
    parser.add_argument("--face-index")
    parser.add_argument("--number", type=int)
    for arguments, words in (
        (["--face-idx", "1"], r"unknown flag --face-idx, did you mean --face-index\? see program --help"),
        (["--something", "1"], r"unknown flag --something; see program --help"),
        (["--helpp"], r"unknown flag --helpp; see program --help"),
        (["one", "two"], r"unexpected one two; see"),
        (["--number", "x"], r"argument --number: invalid int value: 'x'; see"),
    ):
        with pytest.raises(UserError, match=f"^{words}"):
            parser.parse_args(arguments)


def test_demo_dubs_the_bundled_examples_into_results(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    sheets: list[list[str]] = []
    demo = import_module("videoretalking.scripts.demo")
    monkeypatch.setattr(demo.cli, "main", calls.append)
    monkeypatch.setattr(
        "videoretalking.scripts.compare.compare", lambda report, outfile: sheets.append([report, outfile])
    )
    monkeypatch.setattr("videoretalking.scripts.make_contact_sheet.main", sheets.append)
    monkeypatch.setattr(sys, "argv", ["videoretalking", "demo", "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    results = []
    for call in calls:
        files = dict(zip(call[::2], call[1::2], strict=True))
        assert Path(files["--face"]).is_file() and Path(files["--audio"]).is_file()
        assert files["--device"] == "cpu"
        results.append(files["--outfile"])
    assert results == ["results/demo.mp4", "results/portrait.mp4"]
    comparison = Path("results/demo_comparison.mp4")
    assert sheets[0] == [Path("results/demo.json"), comparison] and sheets[1][0] == str(comparison)
