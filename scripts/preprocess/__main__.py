"""All preprocessing steps in order: ``python -m scripts.preprocess --root VIDEOS --output data/prepared``.

Runs what is not done yet, so the same command continues an interrupted run; new, changed and returned videos are
prepared, too. Each step is also a command of its own with more options (docs/data.md).
"""

from __future__ import annotations

from pathlib import Path

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import run_command
from videoretalking.faces.detect import AUTO, backend_names
from videoretalking.models.catalog import find_checkpoint
from videoretalking.scripts.preprocess import (
    audio,
    clips,
    coefficients,
    offsets,
    restore,
    sources,
    splits,
    tracks,
)
from videoretalking.scripts.preprocess.crew import add_crew, read_crew


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Prepare videos")
    parser.add_argument("--layout", choices=sorted(sources.LAYOUTS), default="folder")
    parser.add_argument("--root", type=Path, required=True, help="root of the data set")
    sources.add_layout_options(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the prepared clips")
    parser.add_argument("--work", type=Path, help="folder for what the steps hand on; default OUTPUT.work")
    add_crew(parser)
    parser.add_argument("--backend", choices=backend_names(), default=AUTO, help="face detector")
    parser.add_argument("--labels", type=Path, help="folder of label_landmarks, instead of the detector")
    parser.add_argument(
        "--max-face", type=float, default=clips.ClipConfig().max_face, help="pixels as stored"
    )
    parser.add_argument("--reconstructor", choices=["auto", "reconnet", "fit"], default="auto")
    parser.add_argument("--expert", help="name or path of a lip-sync expert: run the offset filter with it")
    parser.add_argument("--restore", action="store_true", help="make E-Net's restored targets with GPEN")
    parser.add_argument("--val-share", type=float, default=0.05, help="share of people that validate")
    arguments = parser.parse_args()
    root, crew = arguments.output, read_crew(arguments)
    work = arguments.work or root.with_name(f"{root.name}.work")

    # what cannot work is said now, not when its step comes after hours
    options = sources.layout_options(arguments)
    clip_config = clips.ClipConfig(max_face=arguments.max_face)
    split_config = splits.SplitConfig(val_share=arguments.val_share)
    needed = [arguments.expert] if arguments.expert else []
    needed += ["gpen"] if arguments.restore else []
    needed += ["reconnet"] if arguments.reconstructor == "reconnet" else []
    for name in needed:
        read_metadata(find_checkpoint(name))

    sources.renew_sources(work, arguments.layout, arguments.root, options=options)
    tracks.run(work, arguments.labels, arguments.backend, crew)
    clips.run(work, root, clip_config, crew)
    audio.run(work, root, crew)
    coefficients.run(work, root, arguments.reconstructor, crew)
    if arguments.expert:
        offsets.run(work, root, offsets.OffsetConfig(expert=arguments.expert), crew)
    if arguments.restore:
        restore.run(work, root, crew)
    splits.run(work, root, split_config)


if __name__ == "__main__":
    run_command(main)
