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
IS_CHECKOUT = len(videoretalking.__path__) > 1


def bundled(name: str) -> Path:
    """A file or folder that ships with the program, such as ``"configs/lnet.yaml"`` or ``"examples"``."""
    return ROOT / name


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
