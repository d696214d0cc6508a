"""The mark of the picture: what the eye gets, and what the detector finds after damage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import cv2
import numpy as np
import pytest
from media_clips import picture, psnr

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError
from videoretalking.media.images import save_image
from videoretalking.provenance import pieces, placements, search, statistics
from videoretalking.provenance.carriers import carriers_of, draw_tile, period_for
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload, encode
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import detect_video
from videoretalking.provenance.whitening import whiten
from videoretalking.scripts.mark_attacks import video as attacks

PAYLOAD = Payload(0x0123456789AB)
SIZE = 384

Frames = list[Image8]


def clip(count: int = 12, height: int = SIZE, width: int = SIZE) -> Frames:
    """A still background with grain before which a textured disk moves."""
    ground, texture = picture(width, height), picture(width, height, seed=1, grain=12.0)
    frames = []
    for number in range(count):
        disk = np.zeros((height, width, 1), dtype=np.uint8)
        cv2.circle(disk, (width // 2 + 3 * number, height // 2), height // 5, 1, -1)
        frames.append(np.where(disk > 0, texture, ground).astype(np.uint8))
    return frames


@pytest.fixture(scope="module")
def marked() -> Frames:
    mark = VideoMark(PUBLIC_KEY, PAYLOAD)
    return [mark.apply(frame) for frame in clip()]


@pytest.mark.parametrize(
    "frame",
    [picture(500, 300), picture(90, 70, grain=20), np.full((200, 200, 3), 90, np.uint8), picture(1920, 1080)],
    ids=["soft", "busy", "plain", "large"],
)
def test_mark_stays_above_44_decibels_and_below_what_is_seen_on_plain_areas(frame: Image8) -> None:
    after = VideoMark(PUBLIC_KEY, PAYLOAD).apply(frame)
    assert after.dtype == np.uint8 and after.shape == frame.shape
    assert 44.0 <= psnr(frame, after) < 60.0

    if frame.std() == 0:
        gray = cv2.cvtColor(after, cv2.COLOR_RGB2GRAY).astype(np.float64)
        assert gray.std() < 1.5 and np.abs(gray - gray.mean()).max() < 7
        assert abs(gray.mean() - 90) < 0.1


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_are_kept_from_turning_round(level: int) -> None:
    after = VideoMark(PUBLIC_KEY, PAYLOAD).apply(np.full((160, 160, 3), level, np.uint8))
    assert np.abs(after.astype(int) - level).max() < 16


def test_mask_leaves_the_bytes_of_all_other_pixels(tmp_path: Path) -> None:
    mask = np.zeros((SIZE, SIZE), dtype=np.float32)
    cv2.circle(mask, (SIZE // 2, SIZE // 2), 110, 1.0, -1)
    mark, before = VideoMark(PUBLIC_KEY, PAYLOAD), clip()
    after = [mark.apply(frame, mask) for frame in before]
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one[mask == 0], other[mask == 0])
        assert not np.array_equal(one, other)
    attacks.write(tmp_path / "face.mkv", after)
    assert detect_video(tmp_path / "face.mkv").payload == PAYLOAD


ATTACKS: dict[str, tuple[Callable[[Frames], Frames], list[attacks.Encode]]] = {
    "crf 28": (lambda frames: frames, [attacks.x264(28)]),
    "half size": (attacks.scale(0.5, 0.5), []),
    "another aspect, crf 23": (attacks.scale(1.0, 0.8), [attacks.x264(23)]),
    "crop, crf 23": (attacks.crop(0.2), [attacks.x264(23)]),
    "turn, crf 23": (attacks.rotate(2.2), [attacks.x264(23)]),
    "mirror": (lambda frames: [frame[:, ::-1] for frame in frames], []),
    "upside down": (lambda frames: [frame[::-1, ::-1] for frame in frames], []),
    "quarter turn": (lambda frames: [np.rot90(frame) for frame in frames], [attacks.x264(23)]),
    "every second frame": (lambda frames: frames[::2], []),
    "logo": (attacks.logo, []),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_payload_survives(name: str, marked: Frames, tmp_path: Path) -> None:
    change, encodes = ATTACKS[name]
    attacks.apply(attacks.Attack(name, 100, change, encodes), marked, tmp_path / "x.mkv")
    seen = detect_video(tmp_path / "x.mkv", quiet=True)
    assert seen.found and seen.payload == PAYLOAD and seen.log10_p < -6
    assert seen.mirrored == (name == "mirror")
    assert seen.scale == pytest.approx(
        {"half size": 0.5, "another aspect, crf 23": 0.8**0.5}.get(name, 1), rel=0.02
    )
    assert seen.aspect == pytest.approx(1.25 if name.startswith("another") else 1, rel=0.03)
    angle = {"turn, crf 23": 2.2, "upside down": 180.0, "quarter turn": 90.0}.get(name, 0.0)
    assert seen.angle == pytest.approx(angle, abs=0.6)


@pytest.mark.parametrize("key", [PUBLIC_KEY, Key(b"the key of another house")], ids=["unmarked", "other key"])
def test_nothing_is_found_where_nothing_is(key: Key, marked: Frames, tmp_path: Path) -> None:
    attacks.write(tmp_path / "x.mkv", clip() if key == PUBLIC_KEY else marked)
    seen = detect_video(tmp_path / "x.mkv", key)
    assert not seen.found and seen.payload is None and seen.p_value > 1e-3
    assert "payload" not in seen.as_dict() and "scale" not in seen.as_dict()


def test_place_where_the_mark_is_found(marked: Frames, tmp_path: Path) -> None:
    plain = clip(1)[0]
    attacks.write(tmp_path / "x.mkv", [plain] * 100 + [marked[0]] * 50)
    seen = detect_video(tmp_path / "x.mkv")
    assert [piece.start for piece in seen.pieces] == [0.0, 2.0, 4.0]
    assert [piece.log10_p < -20 for piece in seen.pieces] == [False, False, True]
    assert seen.payload == PAYLOAD


def test_long_videos_are_sampled_from_start_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attacks.write(tmp_path / "x.mkv", [np.full((64, 64, 3), 2 * n % 256, np.uint8) for n in range(500)])
    monkeypatch.setattr(pieces, "MAX_PIECES", 3)
    found = list(pieces.read_pieces(tmp_path / "x.mkv"))
    assert [piece.start for piece in found] == pytest.approx([0.0, 9.0, 18.0])
    for piece in found:
        times = np.arange(round(piece.start * 25), round(piece.end * 25))
        assert piece.mean.mean() == pytest.approx((2 * times % 256).mean(), abs=4)
        assert 20 <= piece.num_frames <= 26


def test_a_single_picture_is_enough(marked: Frames, tmp_path: Path) -> None:
    save_image(tmp_path / "x.png", marked[0])
    seen = detect_video(tmp_path / "x.png")
    assert seen.payload == PAYLOAD and seen.num_frames == 1


def test_tiny_pictures_are_an_error_of_one_line(tmp_path: Path) -> None:
    save_image(tmp_path / "x.png", picture(60, 200))
    with pytest.raises(UserError, match="60x200"):
        detect_video(tmp_path / "x.png")


def test_waves_of_the_public_key_never_change() -> None:
    carriers = carriers_of(PUBLIC_KEY)
    assert len(np.unique(np.concatenate([carriers.sync, carriers.data]), axis=0)) == 334
    drawn = np.concatenate([carriers.sync.ravel(), carriers.data.ravel(), carriers.bits]).astype("<i8")
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == "8672c0dd7aeb33a5"
    assert np.bincount(carriers.bits).min() >= 1


def test_tile_is_even_and_grows_with_the_picture() -> None:
    carriers = carriers_of(PUBLIC_KEY)
    small, large = (draw_tile(carriers, encode(PAYLOAD), period) for period in (140, 280))
    for tile in (small, large):
        assert abs(tile.mean()) < 1e-6 and np.square(tile).mean() == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(large[::2, ::2], small, atol=1e-4)
    assert (period_for(240, 320), period_for(512, 900), period_for(1920, 1080)) == (140, 160, 338)


def test_bound_of_the_search_holds_for_keys_of_nobody() -> None:
    spectrum = search.fold(whiten(clip(1)[0][..., 1]), placements.Placement(1.0))
    shares = []
    for number in range(60):
        carriers = carriers_of(Key(b"nobody's" + number.to_bytes(8, "big")))
        values = spectrum[carriers.sync[:, 1], carriers.sync[:, 0]]
        score = (values * np.exp(-1j * carriers.sync_phases)).real.sum()
        shares.append(statistics.log_p_phases(float(score), np.abs(values), sharp=True))
    for level in (0.5, 0.1):
        assert np.mean(np.exp(shares) <= level) <= level + 0.1


def test_message_near_the_likeliest_one_is_read_where_its_checksum_fits() -> None:
    carriers, rng = carriers_of(PUBLIC_KEY), np.random.default_rng(5)
    code = encode(PAYLOAD)
    near = wrong = 0
    for _ in range(10):
        spectrum = np.zeros((140, 140), dtype=np.complex128)
        for waves, values in (
            (carriers.sync, np.exp(1j * carriers.sync_phases)),
            (carriers.data, code[carriers.bits] * np.exp(1j * carriers.data_phases)),
        ):
            noise = rng.normal(0, 1.45, (2, len(waves)))
            spectrum[waves[:, 1], waves[:, 0]] = values + noise[0] + 1j * noise[1]
        decoded, _ = search.read_message(spectrum, carriers, (0.0, 0.0))
        if decoded.payload is None:
            found, _ = search.read_message(spectrum, carriers, (0.0, 0.0), near=True)
            near += found.payload == PAYLOAD
            wrong += found.payload not in (None, PAYLOAD)
    assert near >= 3 and wrong == 0


def test_several_threads_begin_to_mark_at_once() -> None:
    """As in the main job, which composites and marks chunks beside each other."""
    frames = [picture(160, 120), picture(96, 128)] * 4
    expected = [VideoMark(PUBLIC_KEY, PAYLOAD).apply(frame) for frame in frames[:2]] * 4
    for _ in range(5):
        mark, start = VideoMark(PUBLIC_KEY, PAYLOAD), Barrier(len(frames))

        def run(frame: Image8, mark: VideoMark = mark, start: Barrier = start) -> Image8:
            start.wait()
            return mark.apply(frame)

        with ThreadPoolExecutor(len(frames)) as pool:
            marked = list(pool.map(run, frames))
        assert all(np.array_equal(*pair) for pair in zip(marked, expected, strict=True))
