"""Wheel and source package, installed beside Hugging Face's ``datasets``; requirements; one name a module."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from media_clips import noise_bursts, write_wav
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from videoretalking import __version__
from videoretalking.media.video import VideoReader

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = ("models", "datasets", "losses", "train", "scripts")
FRAMES = 8  # of the dubbed clip
RATE = 16_000

# Import name -> name in the package index, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "face_alignment": "face-alignment",
    "skimage": "scikit-image",
    "torch_fidelity": "torch-fidelity",
    "yaml": "pyyaml",
}
FOREIGN = {"mediapipe"}  # needs an environment of its own, see scripts/preprocess/label_landmarks.py

# Runs inside the new environment and says what it sees.
LOOK_AROUND = """
import json, sys
try:
    import datasets
    hugging_face = [datasets.__file__, callable(datasets.Dataset.from_dict)]
except ImportError:
    hugging_face = None
import videoretalking
from videoretalking import Retalker
retalker = Retalker.from_pretrained()
import videoretalking.train.__main__
json.dump({
    "hugging_face": hugging_face,
    "path": list(videoretalking.__path__),
    "weights": str(retalker.weights.folder),
    "files": [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "videoretalking" and m.__file__],
}, sys.stdout)
"""


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that must not see the checkout; its output is in the result."""
    clean = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIDEORETALKING_HOME")
    }
    return subprocess.run(
        [str(item) for item in command],
        cwd=folder,
        env={**clean, "XDG_CACHE_HOME": str(folder / "cache"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def checked(command: Sequence[str | Path], folder: Path) -> str:
    """Standard output of a program that must end well."""
    result = run(command, folder)
    assert result.returncode == 0, f"{command}\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}"
    return result.stdout


class Environment:
    """A new virtual environment that borrows the libraries of the running one, but not the checkout.

    The path file names a plain folder, whose own path files Python does not read, so an editable install stays out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hugging_face = False
        checked([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        query = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.packages = Path(checked([self.python, "-c", query], folder).strip())
        self._borrowed = self.packages / "borrowed.pth"
        self.borrow(True)

    def borrow(self, wanted: bool) -> None:
        """Whether libraries of the running environment can be imported."""
        self._borrowed.write_text(f"{sysconfig.get_path('purelib')}\n" if wanted else "")

    def install(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run ``pip install`` for this environment."""
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-compile"]
        return run([*pip, *arguments], self.folder)

    def command(self, *arguments: str) -> list[str | Path]:
        """The console command of the installed package."""
        return [self.python.with_name("videoretalking"), *arguments]


def copy_checkout(target: Path) -> Path:
    """What git would commit, so that building leaves nothing in the checkout and takes nothing else from it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "typings/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def build(kind: str, folder: Path) -> Path:
    """The wheel of the checkout, or the one that pip makes of its source package."""
    source = copy_checkout(folder / "source")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        f"--{kind}",
        "--outdir",
        folder / "dist",
        source,
    ]
    checked(command, folder)
    (package,) = (folder / "dist").iterdir()
    if kind == "wheel":
        return package
    make = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", package]
    checked([*make, "--wheel-dir", folder / "wheel"], folder)
    (wheel,) = (folder / "wheel").iterdir()
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A new environment in which Hugging Face's ``datasets`` came first, if it can be fetched."""
    environment = Environment(tmp_path_factory.mktemp("packages") / "venv")
    environment.hugging_face = environment.install("datasets").returncode == 0
    return environment


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_installed_package_works_from_an_empty_folder_beside_hugging_face(
    kind: str, environment: Environment, tmp_path: Path
) -> None:
    package = build(kind, tmp_path)
    environment.borrow(False)  # else pip would take the running environment's package for installed
    installed = environment.install("--no-deps", "--force-reinstall", package)
    assert installed.returncode == 0, installed.stderr
    environment.borrow(True)

    check_contents(environment)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert checked(environment.command("--version"), empty) == f"videoretalking {__version__}\n"
    check_surroundings(environment, empty)
    check_dubbing(environment, empty)
    check_training_config(environment, empty)
    if not environment.hugging_face:
        pytest.skip("all is well but for Hugging Face's datasets, which cannot be fetched here")


def check_contents(environment: Environment) -> None:
    """One top-level name, and everything that a user needs below it."""
    (found,) = importlib.metadata.distributions(name="videoretalking", path=[str(environment.packages)])
    files = [
        file for file in found.files or () if file.parts[0] != ".." and ".dist-info" not in file.parts[0]
    ]
    assert {file.parts[0] for file in files} == {"videoretalking"}
    names = {file.relative_to("videoretalking").as_posix() for file in files}
    for folder, pattern in (
        ("configs", "*.yaml"),
        ("checkpoints/demo", "*.safetensors"),
        ("examples", "*.*"),
    ):
        shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern)}
        assert shipped and shipped <= names
    modules = {path.relative_to(ROOT).as_posix() for top in TOP_LEVEL for path in (ROOT / top).rglob("*.py")}
    modules |= {
        path.relative_to(ROOT / "videoretalking").as_posix()
        for path in (ROOT / "videoretalking").rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == modules
    assert "scripts/user_study_page.html" in names


def check_surroundings(environment: Environment, empty: Path) -> None:
    """Both packages called ``datasets`` work, and nothing comes from the checkout."""
    seen = json.loads(checked([environment.python, "-c", LOOK_AROUND], empty))
    inside = environment.packages / "videoretalking"
    assert seen["path"] == [str(inside)]
    assert Path(seen["weights"]) == inside / "checkpoints" / "demo"
    assert seen["files"] and all(Path(file).is_relative_to(inside) for file in seen["files"])
    if environment.hugging_face:
        assert seen["hugging_face"] == [str(environment.packages / "datasets" / "__init__.py"), True]


def check_dubbing(environment: Environment, empty: Path) -> None:
    """The bundled portrait speaks; its path is the one of the documentation."""
    speech = write_wav(empty / "speech.wav", noise_bursts(RATE, FRAMES / 25), RATE)
    arguments = [
        "dub",
        "--face",
        "examples/portrait.jpg",
        "--audio",
        str(speech),
        "--outfile",
        "out/dubbed.mp4",
    ]
    checked(environment.command(*arguments, "--face-backend", "bundled", "--device", "cpu"), empty)
    with VideoReader(empty / "out" / "dubbed.mp4") as reader:
        assert sum(1 for _ in reader) == FRAMES and reader.info.has_audio
    assert sorted(path.name for path in empty.iterdir()) == ["cache", "out", "speech.wav"]


def check_training_config(environment: Environment, empty: Path) -> None:
    """A bundled config is found by its name; what is missing then is the data."""
    result = run(environment.command("train", "configs/debug/lnet.yaml"), empty)
    assert result.returncode == 2 and "data/debug" in result.stderr and "configs" not in result.stderr


def product_files() -> Iterator[Path]:
    """Every Python file that ships."""
    for folder in ("videoretalking", *TOP_LEVEL):
        yield from (ROOT / folder).rglob("*.py")


def imported_libraries() -> set[str]:
    """Distributions that the product imports, inside functions too."""
    names = set()
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    names -= {*sys.stdlib_module_names, "videoretalking", *FOREIGN}
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in names}


def read_setup() -> Any:
    """Arguments of ``setup()``, without building anything."""
    spec = importlib.util.spec_from_file_location("setup_of_the_project", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    seen: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("setuptools.setup", lambda **arguments: seen.update(arguments))
        spec.loader.exec_module(module)
    return seen


def test_what_is_imported_is_required_and_what_is_required_is_imported() -> None:
    arguments = read_setup()
    extras = [line for name in ("metrics", "cluster", "hub") for line in arguments["extras_require"][name]]
    required = {
        canonicalize_name(Requirement(line).name) for line in (*arguments["install_requires"], *extras)
    }
    assert required == imported_libraries()


def test_the_lock_file_holds_a_fitting_version_of_every_requirement() -> None:
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    locked = dict(line.split("==") for line in lines)
    locked = {canonicalize_name(name): version for name, version in locked.items()}
    for line in read_setup()["install_requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), line


def test_this_environment_satisfies_every_requirement() -> None:
    for line in read_setup()["install_requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(importlib.metadata.version(requirement.name)), line


IMPORT_ALL = """
import importlib, json, os, sys
wanted = json.load(sys.stdin)  # module name -> its file
for name in wanted:
    importlib.import_module(name)
names = {}
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file and name != "__main__":
        names.setdefault(os.path.realpath(file), []).append(name)
json.dump({name: names[file] for name, file in wanted.items()}, sys.stdout)
"""


def test_every_module_imports_under_one_name_only() -> None:
    files = {}
    for path in product_files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts if parts[0] == "videoretalking" else ("videoretalking", *parts))
        files[name.removesuffix(".__init__")] = str(path.resolve())
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        input=json.dumps(files),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout) == {name: [name] for name in files}
