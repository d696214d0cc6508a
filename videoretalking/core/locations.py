"""Where weights, configs, the example and the cache are: the one lookup, the same from every current folder.

What ships with the program lies below the root of a checkout, or inside the package of a wheel. What a user brings
(the converted released weights) lies in ``checkpoints`` of the checkout; an installed package keeps it in the
user's own folder, since nobody should write into ``site-packages``; ``VIDEORETALKING_HOME`` names another one.
"""

from __future__ import annotations

import os
from pathlib import Path

import videoretalking

HOME_VARIABLE = "VIDEORETALKING_HOME"

# The last folder of the package's path: the root of the checkout, or in a wheel the package itself.
ROOT = Path(videoretalking.__path__[-1])
_SHIPPED = ("configs", "examples", "checkpoints")
IS_CHECKOUT = len(videoretalking.__path__) > 1


def bundled(name: str) -> Path:
    """A file or folder that ships with the program, such as ``"configs/lnet.yaml"`` or ``"examples"``."""
    return ROOT / name


def find_file(path: str | Path) -> Path:
    """The file that a path in a config or on a command line means, from any current folder.

    A file below the current folder comes first. Paths as they are written in the checkout then lead to what ships
    (``configs/lnet.yaml``, ``examples/portrait.jpg``) or to the folder of those weights (``checkpoints/demo/...``,
    ``checkpoints/official/...``). A path that leads nowhere comes back as it is.
    """
    path = Path(path)
    if path.is_absolute() or len(path.parts) < 2 or path.parts[0] not in _SHIPPED or path.exists():
        return path
    top, second, *rest = path.parts
    found = checkpoint_folder(second).joinpath(*rest) if top == "checkpoints" else bundled(str(path))
    return found if found.exists() else path


def user_folder() -> Path:
    """The user's folder for what the program keeps: face tracks, and the weights of an installed package.

    The variable ``VIDEORETALKING_HOME``, else ``videoretalking`` in the user's cache folder. A user without a home
    (in containers) has a hidden folder in the current one.
    """
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "videoretalking"
    try:
        return Path.home() / ".cache" / "videoretalking"
    except RuntimeError:
        return Path.cwd() / ".cache" / "videoretalking"


def checkpoint_folder(family: str) -> Path:
    """The folder of a family of weights: ``demo`` ships with the program, the user fills the others.

    ``released`` holds the files as published, ``official`` what ``scripts.convert_official`` makes of them.
    """
    if family == "demo" or (IS_CHECKOUT and not os.environ.get(HOME_VARIABLE)):
        return bundled("checkpoints") / family
    return user_folder() / "checkpoints" / family


def checkpoint_folders() -> tuple[Path, ...]:
    """Folders searched for a network by its bare name: converted released weights, then the bundled ones."""
    return checkpoint_folder("official"), checkpoint_folder("demo")


def find_weights(name: str, folders: tuple[Path, ...] | None = None) -> Path | None:
    """The first file of this name in the folders of weights (:func:`checkpoint_folders`); None if there is none."""
    folders = checkpoint_folders() if folders is None else folders
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
