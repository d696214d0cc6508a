"""The format of prepared clips and the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.constants import MEL_BANDS, MEL_WINDOW
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import META, ClipMeta, ClipWriter, PreparedClip, decode_jpeg, encode_jpeg
from videoretalking.datasets.collection import ClipCollection, DataConfig, mel_start
from videoretalking.datasets.manifest import MANIFEST, ManifestEntry, read_manifest, write_manifest


def smooth_frame(seed: int, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size]
    waves = [127 + 100 * np.sin((x * (c + 1) + y + 20 * seed) / 15.0) for c in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def write_clip(folder: Path, num_frames: int = 12, columns: int = 60, identity: str = "anna") -> None:
    """A clip whose mel columns hold their own number."""
    writer = ClipWriter(folder)
    assert writer.write_frames(smooth_frame(i) for i in range(num_frames)) == num_frames
    writer.write_per_frame("boxes", np.tile(np.array([8, 8, 56, 56], np.float32), (num_frames, 1)))
    mel = np.tile(np.arange(columns, dtype=np.float32), (MEL_BANDS, 1))
    writer.write_audio(np.linspace(-1, 1, 640 * num_frames, dtype=np.float32), mel)
    window = (0.0, 0.0, 64.0, 64.0)
    writer.finish(ClipMeta(identity, num_frames, 64, 64, window, "drawn", "none", release_training=False))


def test_a_clip_comes_back_as_written(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip")
    clip = PreparedClip(tmp_path / "clip")
    assert len(clip) == 12 and clip.meta.identity == "anna"
    for index in (0, 7, 11):
        assert (
            np.abs(clip.frame(index).astype(int) - smooth_frame(index)).mean() < 1.5
        )  # JPEG, right order, RGB
    assert clip.mel.shape == (MEL_BANDS, 60) and clip.boxes[5].tolist() == [8, 8, 56, 56]
    assert np.abs(clip.wave - np.linspace(-1, 1, 640 * 12)).max() < 1e-4
    assert clip.has("mel") and not clip.has("rows") and not clip.has("restored_index")
    with pytest.raises(IndexError):
        clip.frame(12)


@pytest.mark.parametrize(("allowed", "size"), [(1.0, 64), (1.9, 64), (2.0, 32), (5.0, 16), (100.0, 8)])
def test_reduced_decoding_takes_the_largest_allowed_factor(tmp_path: Path, allowed: float, size: int) -> None:
    write_clip(tmp_path)
    frame = PreparedClip(tmp_path).frame(3, max_reduction=allowed)
    assert frame.shape == (size, size, 3)
    blocks = smooth_frame(3).reshape(size, 64 // size, size, 64 // size, 3).mean(axis=(1, 3))
    assert np.abs(frame - blocks).mean() < 2.0


def test_jpeg_keeps_the_channel_order() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    decoded = decode_jpeg(np.frombuffer(encode_jpeg(red), np.uint8))
    assert np.abs(decoded.astype(int) - red).max() <= 3


def test_unfinished_damaged_and_future_clips_are_refused(tmp_path: Path) -> None:
    ClipWriter(tmp_path / "unfinished").write_frames([smooth_frame(0)])
    with pytest.raises(UserError, match=r"no readable meta.json"):
        PreparedClip(tmp_path / "unfinished")
    write_clip(tmp_path / "clip")
    with (tmp_path / "clip" / "frames.bin").open("r+b") as handle:
        handle.write(bytes(400))
    with pytest.raises(UserError, match=r"frame 0 .* is damaged"):
        PreparedClip(tmp_path / "clip").frame(0)
    meta = json.loads((tmp_path / "clip" / META).read_text())
    (tmp_path / "clip" / META).write_text(json.dumps(meta | {"format_version": 99}))
    with pytest.raises(UserError, match="newer format"):
        PreparedClip(tmp_path / "clip")
    for content, message in ((b"\xff\xfe\x00", "is damaged"), (b"[]", "does not describe a clip")):
        (tmp_path / "clip" / META).write_bytes(content)
        with pytest.raises(UserError, match=message):
            PreparedClip(tmp_path / "clip")


def test_clips_of_version_0_1_can_be_read(tmp_path: Path) -> None:
    write_clip(tmp_path)
    meta = json.loads((tmp_path / META).read_text())
    meta["licence"] = meta.pop("license")
    (tmp_path / META).write_text(json.dumps(meta))
    assert PreparedClip(tmp_path).meta.license == "none"


def test_the_writer_refuses_broken_arrays(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path)
    with pytest.raises(ValueError, match="boxes must be finite"):
        writer.write_per_frame("boxes", np.full((3, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="landmarks must be finite"):
        writer.write_per_frame("landmarks", np.zeros((3, 5, 2), np.float32))


ENTRIES = [
    ManifestEntry("b/1", "train", "bert", 10, True),
    ManifestEntry("a/1", "val", "anna", 20, False),
]


def test_manifest_round_trip_is_sorted(tmp_path: Path) -> None:
    write_manifest(tmp_path, ENTRIES)
    assert read_manifest(tmp_path) == sorted(ENTRIES, key=lambda entry: entry.clip)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (ManifestEntry("c/1", "train", "anna", 5, True), "identity anna is in"),
        (ManifestEntry("a/1", "val", "anna", 5, True), "listed twice"),
        (ManifestEntry("c/1", "dev", "carl", 5, True), "split 'dev'"),
    ],
)
def test_manifest_refuses_contradictions(tmp_path: Path, extra: ManifestEntry, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_manifest(tmp_path, [*ENTRIES, extra])
    assert not (tmp_path / MANIFEST).exists()


def test_malformed_manifest_names_the_line(tmp_path: Path) -> None:
    write_manifest(tmp_path, ENTRIES)
    path = tmp_path / MANIFEST
    path.write_text(path.read_text().replace("20", "many"))
    with pytest.raises(UserError, match="line 2 is malformed"):
        read_manifest(tmp_path)
    path.write_bytes(b"clip\xff")
    with pytest.raises(UserError, match="is no table of text"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="prepare the data first"):
        read_manifest(tmp_path / "nowhere")


def two_clips(root: Path) -> None:
    write_clip(root / "anna/1", num_frames=12, columns=60)
    write_clip(root / "bert/1", num_frames=12, columns=16, identity="bert")  # one speech window only
    write_manifest(
        root,
        [
            ManifestEntry("anna/1", "train", "anna", 12, True),
            ManifestEntry("bert/1", "train", "bert", 12, False),
        ],
    )


def test_a_collection_keeps_clips_that_can_be_used(tmp_path: Path) -> None:
    two_clips(tmp_path)
    data = DataConfig(str(tmp_path))
    assert ClipCollection(data, "train", ["boxes"], 2).names == ["anna/1", "bert/1"]
    assert ClipCollection(data, "train", ["boxes", "mel"], 2).names == ["anna/1"]
    assert ClipCollection(data, "train", ["boxes"], 2, release_only=True).names == ["anna/1"]
    for split, needs in (("val", ["boxes"]), ("train", ["rows"])):
        with pytest.raises(UserError, match="no clip of split"):
            ClipCollection(data, split, needs, 2)
    with pytest.raises(UserError, match=r"splits again.*--val-share.*loop\.validate_every=0"):
        ClipCollection(data, "val", ["boxes"], 2)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x93NUMPY"])
def test_a_damaged_spectrogram_is_named(tmp_path: Path, content: bytes) -> None:
    two_clips(tmp_path)
    (tmp_path / "anna/1/mel.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*anna/1/mel\.npy .* run preprocessing for this clip"):
        ClipCollection(DataConfig(str(tmp_path)), "train", ["mel"], 2)
    with pytest.raises(UserError, match=r"cannot read .*anna/1/mel\.npy"):
        _ = PreparedClip(tmp_path / "anna/1").mel


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_speech_windows_follow_the_frame(tmp_path: Path, offset: int) -> None:
    two_clips(tmp_path)
    clips = ClipCollection(DataConfig(str(tmp_path), audio_offset=offset), "train", ["mel"], 2)
    usable = clips.usable_frames(0)
    assert usable.start == max(0, -offset)
    windows = clips.speech_windows(0, usable)
    assert windows.shape == (len(usable), 1, MEL_BANDS, MEL_WINDOW)
    # 25 frames and 80 columns a second: frame i starts at column 3.2 i
    assert windows[:, 0, 0, 0].tolist() == [int(3.2 * (frame + offset)) for frame in usable]
    assert (windows[:, 0, 0, -1] == windows[:, 0, 0, 0] + 15).all()
    assert clips.clip_window(0, 4)[0, 0, 0] == 12
    # the next frame would not have a full window any more, or the clip ends there
    after = usable.stop
    assert after == 12 or mel_start(after + offset) + MEL_WINDOW > 60
