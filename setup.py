"""Package metadata of the VideoReTalking reference implementation.

The dependencies live in one place, ``requirements.txt``, and are read from there.
"""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = (
    "core",
    "media",
    "models",
    "faces",
    "losses",
    "pipeline",
    "datasets",
    "metrics",
    "train",
    "scripts",
)
ROOT = Path(__file__).resolve().parent
REQUIREMENTS = [
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

setup(
    name="videoretalking",
    version="0.1.0",
    description="Reference implementation of VideoReTalking (SIGGRAPH Asia 2022)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[f"{name}*" for name in PACKAGES]),
    py_modules=["inference"],
    package_data={"scripts": ["*.html"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "metrics": ["torchmetrics>=1.4", "torch-fidelity>=0.3"],
        "restore": ["spandrel>=0.4", "facexlib>=0.3"],
        "cluster": ["ray>=2.40"],
        "dev": ["pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "mypy>=1.11", "types-PyYAML", "types-tqdm"],
    },
)
