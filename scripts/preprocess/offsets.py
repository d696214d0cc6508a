"""Step 6: measure how far the sound of each source is from its picture, mend small shifts, reject the rest.

A lip-sync expert that was trained on sound a few frames off stays at chance, so this filter comes before the
trainings that listen. It needs an expert itself: the released SyncNet family cannot tell which of two data sets
is right, so use one that was trained on clips known to be in sync (the bundled one, or the released one).

    python -m scripts.preprocess.offsets --work data/work --root data/prepared --expert lipsync_expert
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import LNET_SIZE, MEL_WINDOW, SYNC_FRAMES, TRAIN_FPS
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import run_command
from videoretalking.core.files import atomic_path
from videoretalking.datasets.clips import ClipWriter, PreparedClip
from videoretalking.datasets.collection import mel_start, to_image
from videoretalking.datasets.crops import cut_low, face_crop
from videoretalking.media.audio import load_waveform
from videoretalking.metrics.offset import SyncScore, sync_score
from videoretalking.models.catalog import load_network
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.scripts.preprocess.audio import cut_sound
from videoretalking.scripts.preprocess.clips import ClippedSource, clipped_sources
from videoretalking.scripts.preprocess.crew import Crew, read_crew
from videoretalking.scripts.preprocess.runner import Outcome, Rejected, check_range, run_step, step_parser
from videoretalking.scripts.preprocess.sources import Source

_BATCH = 32  # windows embedded at once


@dataclass(frozen=True)
class OffsetConfig:
    """When a source passes.

    Attributes:
        expert: name or path of the lip-sync expert.
        max_shift: frames searched to each side.
        tolerance: offsets up to this many frames stay as they are.
        min_confidence: least gap between the median and the smallest mean distance.
    """

    expert: str = "lipsync_expert"
    max_shift: int = 15
    tolerance: int = 0
    min_confidence: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a search that finds nothing.

        Raises:
            UserError: names the option.
        """
        check_range("--max-shift", self.max_shift, 1)
        check_range("--tolerance", self.tolerance, 0)


@torch.inference_mode()
def embed_clip(clip: PreparedClip, expert: LipSyncExpert) -> tuple[Floats32, Floats32]:
    """Embeddings of every window of a clip.

    Args:
        clip: with boxes and mel.
        expert: in eval mode, on any device.

    Returns:
        Picture and sound, each [windows, D]; none for a clip too short.
    """
    starts = [
        start
        for start in range(len(clip) - SYNC_FRAMES + 1)
        if mel_start(start) + MEL_WINDOW <= clip.mel.shape[1]
    ]
    halves = [
        to_image(cut_low(clip, index, face_crop(clip, index), expert.config.antialias)[LNET_SIZE // 2 :])
        for index in range(len(clip))
    ]
    device = next(expert.parameters()).device
    seen, heard = [], []
    for first in range(0, len(starts), _BATCH):
        batch = starts[first : first + _BATCH]
        faces = np.stack([np.concatenate(halves[start : start + SYNC_FRAMES]) for start in batch])
        audio = np.stack([clip.mel[None, :, mel_start(start) :][..., :MEL_WINDOW] for start in batch])
        seen.append(expert.embed_faces(torch.from_numpy(faces).to(device)).cpu().numpy())
        heard.append(expert.embed_audio(torch.from_numpy(audio).to(device)).cpu().numpy())
    empty = np.zeros((0, expert.config.audio_widths[-1]), np.float32)
    return np.concatenate([empty, *seen]), np.concatenate([empty, *heard])


def judge(score: SyncScore, config: OffsetConfig) -> int:
    """Frames by which the sound has to move later.

    Raises:
        Rejected: the expert is not sure, or the best offset is the last one searched.
    """
    if score.confidence < config.min_confidence:
        raise Rejected(f"no clear offset (confidence below {config.min_confidence:g})")
    if abs(score.offset) >= config.max_shift:
        raise Rejected(f"sound and picture are {config.max_shift} frames apart or more")
    return score.offset if abs(score.offset) > config.tolerance else 0


def mend_source(
    work: Path, root: Path, config: OffsetConfig, expert: LipSyncExpert, job: ClippedSource
) -> None:
    """Measure one source over all its clips and rewrite their sound where it is off."""
    if any(PreparedClip(root / plan.name).meta.sync_offset for plan in job.plans):
        # by another expert, or a run that was killed: offsets count from the sound as it is in the source
        move_sound(root, job, 0)
    clips = [PreparedClip(root / plan.name) for plan in job.plans]
    pairs = [pair for pair in (embed_clip(clip, expert) for clip in clips) if len(pair[0])]
    if not pairs:
        raise Rejected("no window with sound")
    video, audio = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    score = sync_score(video, audio, config.max_shift)
    shift = judge(score, config)
    if shift:
        move_sound(root, job, shift)
    report = {**asdict(config), "offset": score.offset, "confidence": score.confidence, "shift": shift}
    with atomic_path(offset_path(work, job.source)) as temporary:
        temporary.write_text(json.dumps(report), encoding="utf-8")


def move_sound(root: Path, job: ClippedSource, shift: int) -> None:
    """Give all clips of a source its sound, so many frames later; a killed run leaves no moved sound unnoted."""
    wave = load_waveform(job.source.path)
    for plan in job.plans:
        clip = PreparedClip(root / plan.name)
        writer, meta = ClipWriter(clip.folder), replace(clip.meta, sync_offset=float(-shift))
        if shift:
            writer.finish(meta)
        writer.write_audio(*cut_sound(wave, plan.start - shift / TRAIN_FPS, len(plan.frames)))
        writer.finish(meta)


def offset_path(work: Path, source: Source) -> Path:
    """Where the measured offset of a source is kept."""
    return work / "offsets" / f"{source.name}.json"


def build(work: Path, root: Path, config: OffsetConfig, device: str) -> Callable[[ClippedSource], None]:
    """The work of one process, with its expert."""
    network = load_network(config.expert, device=choose_device(device), expected="lipsync_expert")
    assert isinstance(network, LipSyncExpert)
    return partial(mend_source, work, root, config, network)


def run(work: Path, root: Path, config: OffsetConfig, crew: Crew) -> Outcome:
    """Measure and mend all sources whose clips have sound."""
    return run_step(
        "offsets",
        [
            clipped
            for clipped in clipped_sources(work)
            if all((root / plan.name / "mel.npy").is_file() for plan in clipped.plans)
        ],
        partial(build, work, root, config),
        lambda job: offset_path(work, job.source).is_file(),
        work,
        crew,
        networks=True,
    )


def main() -> None:
    """Command line of step 6."""
    parser = step_parser("Step 6: audio-video offset filter", networks=True)
    defaults = OffsetConfig()
    parser.add_argument("--expert", default=defaults.expert, help="name or path of the lip-sync expert")
    parser.add_argument("--max-shift", type=int, default=defaults.max_shift, help="frames")
    parser.add_argument("--tolerance", type=int, default=defaults.tolerance, help="frames")
    parser.add_argument("--min-confidence", type=float, default=defaults.min_confidence)
    arguments = parser.parse_args()
    config = OffsetConfig(
        arguments.expert, arguments.max_shift, arguments.tolerance, arguments.min_confidence
    )
    run(arguments.work, arguments.root, config, read_crew(arguments))


if __name__ == "__main__":
    run_command(main)
