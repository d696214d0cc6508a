"""Convert released checkpoints into this project's format.

``python -m scripts.convert_official`` looks through ``checkpoints/released`` (or ``--src DIR``) for every released
file it knows, maps the keys strictly by the tables in ``models/official``, and writes one self-describing
safetensors file per network to ``checkpoints/official``. Pickles are read without running code.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from tqdm import tqdm

from videoretalking.core.checkpoint import read_foreign, save_checkpoint
from videoretalking.core.coefficients import NUM_EXPRESSION
from videoretalking.core.commands import CommandParser
from videoretalking.core.config import to_dict
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.expressions import EXPRESSION_TEMPLATES
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folder
from videoretalking.models.catalog import build_network
from videoretalking.models.official.layout import Layout, rename, unwrap
from videoretalking.models.official.tables import BY_FILE, converted_name
from videoretalking.scripts.released_files import check_content

logger = logging.getLogger(__name__)

EXPRESSION_FILE = "expression.mat"
EXPRESSION_NETWORK = "expression_templates"
_LICENSE = "Apache-2.0, VideoReTalking release (github.com/OpenTalker/video-retalking)"


def convert_state(payload: Any, layout: Layout, where: str) -> tuple[dict[str, torch.Tensor], Any]:
    """State dict under our names and the config of the network it fills.

    Args:
        payload: content of a released file.
        layout: its key table.
        where: file name for errors.

    Raises:
        UserError: wrong nesting, left-over, missing or wrongly shaped tensors.
    """
    # the meta device gives names and shapes without drawing or holding a single number
    with torch.device("meta"):
        network = build_network(layout.network)
    return rename(unwrap(payload, layout, where), layout, network.state_dict(), where), network.config


def convert_file(source: Path, target: Path, layout: Layout) -> None:
    """Convert one released file.

    Raises:
        UserError: as :func:`convert_state`, ``core.checkpoint.read_foreign`` and ``released_files.check_content``.
    """
    check_content(source)
    state, config = convert_state(read_foreign(source), layout, str(source))
    save_checkpoint(
        target,
        state,
        network=layout.network,
        config=to_dict(config),
        license=layout.license,
        extra={"source": source.name, "source_sha256": file_hash(source)},
    )


def convert_expressions(source: Path, target: Path) -> None:
    """Convert the expression templates (``expression.mat``) into a checkpoint of [64] tensors.

    Raises:
        UserError: not a MATLAB file, or the templates are not in it.
    """
    check_content(source)
    try:
        content = loadmat(source)
    except Exception as error:  # a damaged file fails wherever SciPy's reader happens to stumble
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{source} is damaged, no templates can be read ({reason}): fetch it again") from None
    state = {}
    for option, key in EXPRESSION_TEMPLATES.items():
        if key not in content or np.size(content[key]) != NUM_EXPRESSION:
            raise UserError(f"{source} has no template {key!r} of {NUM_EXPRESSION} numbers")
        state[option] = torch.from_numpy(np.asarray(content[key], dtype=np.float32).reshape(NUM_EXPRESSION))
    save_checkpoint(
        target,
        state,
        network=EXPRESSION_NETWORK,
        config={},
        license=_LICENSE,
        extra={"source": source.name, "source_sha256": file_hash(source)},
    )


def convert_folder(src: Path, dst: Path) -> list[Path]:
    """Convert every known released file under ``src``.

    Every file is tried; the ones that fail are named together at the end, the others are kept.

    Returns:
        The files written.

    Raises:
        UserError: ``src`` is missing or holds no released file, or some file could not be converted.
    """
    if not src.is_dir():
        raise UserError(f"--src {src} is not a folder")
    known = {*BY_FILE, EXPRESSION_FILE}
    sources = sorted(path for path in src.rglob("*") if path.name in known and path.is_file())
    if not sources:
        raise UserError(f"--src {src} holds none of the released files: {', '.join(sorted(known))}")
    written: list[Path] = []
    failures: list[str] = []
    for source in tqdm(sources, desc="converting", unit="file"):
        try:
            if source.name == EXPRESSION_FILE:
                target = dst / "expressions.safetensors"
                convert_expressions(source, target)
            else:
                target = dst / converted_name(source.name)
                convert_file(source, target, BY_FILE[source.name])
            written.append(target)
        except UserError as error:
            failures.append(str(error))
        except OSError as error:
            raise UserError(f"cannot write into {dst}: {error.strerror or error}") from None
    for target in written:
        logger.info("wrote %s", target)
    if failures:
        raise UserError(f"{len(failures)} of {len(sources)} files were not converted: " + "; ".join(failures))
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--src",
        type=Path,
        default=checkpoint_folder("released"),
        help="folder with the released files (default: %(default)s)",
    )
    parser.add_argument(
        "--dst", type=Path, default=checkpoint_folder("official"), help="target folder (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    convert_folder(options.src, options.dst)


if __name__ == "__main__":
    run_command(main)
