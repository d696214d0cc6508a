"""Weights from a folder or from the Hugging Face hub, which is imported only when a name asks for it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import ModuleType

from videoretalking.core.errors import UserError

logger = logging.getLogger(__name__)

EXTRA = "hub"
WANTED = ("*.safetensors", "*.md", "LICENSE*")  # never code, never pickles
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def import_hub() -> ModuleType:
    """The package ``huggingface_hub``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"the Hugging Face hub needs a package that is absent: pip install 'videoretalking[{EXTRA}]'"
        ) from None
    module: ModuleType = huggingface_hub
    return module


def is_repository(name: str) -> bool:
    """Whether a name could be that of a repository, ``owner/name``."""
    return _REPOSITORY.fullmatch(name) is not None


def fetch_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder of weights that a source means.

    Args:
        source: a folder, or the name of a repository on the hub, ``owner/name``; a folder of that name comes first.
        revision: branch, tag or commit of the repository.

    Returns:
        The folder itself, or the one in the hub's cache.

    Raises:
        UserError: neither, or the hub does not give it.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    name = str(source)
    if not is_repository(name):
        raise UserError(f"{name} is no folder, and no repository of the hub, whose name is owner/name")
    hub = import_hub()
    logger.info("fetching %s from the hub", name)
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(WANTED)))
    except Exception as error:  # its own kinds and those of the network below it have no common one
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot fetch {name} from the hub, and there is no folder of that name: {reason}"
        ) from None
