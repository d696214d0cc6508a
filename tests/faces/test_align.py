"""Alignment: the pixel convention, exact inverses, and crops that land where they promise."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from videoretalking.faces import align
from videoretalking.faces.types import Crop


def ramp(width: int, height: int) -> np.ndarray:
    """A plane, which bilinear sampling reproduces exactly if and only if the coordinates are right."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y, 0.5 * x - 0.25 * y], axis=2)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_box_of_its_own_size_is_a_slice() -> None:
    image = noise(60, 50)
    crop = align.box_crop([7, 11, 39, 31], (32, 20))
    assert np.array_equal(align.extract(image, crop), image[11:31, 7:39])


def test_cutting_and_placing_back_is_the_identity() -> None:
    image = noise(64, 48)
    crop = align.box_crop([-3, 8, 42, 40], (45, 32))
    placed = align.place(align.extract(image, crop), crop, (64, 48))
    assert placed is not None
    assert placed.coverage.shape == (32, 42) and placed.coverage.min() == 1
    assert np.array_equal(placed.pixels, image[placed.rows, placed.columns])


@pytest.mark.parametrize("scale", [0.31, 0.9, 1.7])
def test_turned_crops_come_back_without_shift(scale: float) -> None:
    image = ramp(200, 160)
    cosine, sine = scale * np.cos(0.4), scale * np.sin(0.4)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    shift = np.array([[40.0], [40.0]]) - linear @ np.array([[100.0], [80.0]])
    crop = Crop(np.concatenate([linear, shift], axis=1), (81, 81))
    placed = align.place(align.extract(image, crop), crop, (200, 160))
    assert placed is not None
    # away from the crop's border, where nothing is repeated
    y, x = np.mgrid[placed.rows, placed.columns]
    inside = np.abs(crop.to_crop(np.stack([x, y], axis=-1)) - 40.0).max(axis=-1) < 32
    inside &= (np.minimum(x, 199 - x) > 8) & (np.minimum(y, 159 - y) > 8)
    assert inside.sum() > 500
    difference = np.abs(placed.pixels - image[placed.rows, placed.columns])[inside]
    assert difference.max() < 0.06 / min(scale, 1.0)  # warpAffine may interpolate in steps of 1/32 pixel


def test_shrinking_does_not_alias() -> None:
    checker = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(255)
    crop = align.extract(checker.astype(np.uint8), align.box_crop([0, 0, 256, 256], (64, 64)))
    assert np.abs(crop.astype(float) - 127.5).max() <= 1


def test_a_shrinking_crop_averages_what_it_skips() -> None:
    # a quarter of the size: without a filter the crop would show two columns in four, all of them white
    stripes = np.tile(np.array([0, 255, 255, 0], dtype=np.uint8), (64, 16))[..., None].repeat(3, axis=2)
    crop = align.extract(stripes, align.box_crop([0, 0, 64, 64], (16, 16)))
    assert np.abs(crop.astype(float) - 127.5).max() < 8
    turned = align.extract(stripes, align.square_crop([31.5, 31.5], 44, 11, angle=np.pi / 4))
    assert abs(turned.mean() - 127.5) < 8 and turned.std() < 20


@pytest.mark.parametrize("size", [24, 96])  # shrunk, and enlarged
@pytest.mark.parametrize("channels", [1, 4, 5])
def test_any_number_of_channels_is_cut_out_alike(channels: int, size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 70, channels), dtype=np.uint8)
    crop = align.box_crop([3, 4, 60, 81], (size, size))
    together = align.extract(image, crop).reshape(size, size, channels)
    for channel in range(channels):
        assert np.array_equal(together[..., channel], align.extract(image[..., channel], crop))


def test_place_touches_only_the_crop() -> None:
    crop = align.box_crop([50, 60, 70, 90], (40, 60))
    patch = noise(40, 60)
    placed = align.place(patch, crop, (100, 80))
    assert placed is not None
    assert (placed.rows.stop, placed.columns.start) == (80, 50)
    assert placed.coverage.shape == placed.pixels.shape[:2] == (20, 20)
    assert align.place(patch, crop, (40, 80)) is None
    with pytest.raises(ValueError, match="does not fit"):
        align.place(patch, align.box_crop([0, 0, 4, 4], (8, 8)), (100, 80))


def test_similarity_is_recovered_and_never_mirrors() -> None:
    rng = np.random.default_rng(3)
    source = rng.normal(size=(6, 2))
    matrix = np.array([[0.6, -1.1, 4.0], [1.1, 0.6, -2.0]])
    target = source @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(align.fit_similarity(source, target), matrix)
    assert np.linalg.det(align.fit_similarity(source, source * [-1, 1])[:, :2]) >= 0
    with pytest.raises(ValueError, match="coincide"):
        align.fit_similarity(np.zeros((3, 2)), source[:3])


def test_anchor_crop_ignores_the_mouth_and_centers_the_face(frontal: np.ndarray) -> None:
    crop = align.anchor_crop(frontal, 256)
    speaking = frontal.copy()
    speaking[48:] += [0, 9]
    speaking[:17] += [0, 5]
    assert np.array_equal(align.anchor_crop(speaking, 256).matrix, crop.matrix)
    eyes = crop.to_crop(np.stack([frontal[36:42].mean(axis=0), frontal[42:48].mean(axis=0)]))
    assert eyes[0, 1] == pytest.approx(eyes[1, 1])
    assert eyes.mean(axis=0)[0] == pytest.approx(127.5)
    inside = crop.to_crop(frontal)
    assert inside.min() > 0 and inside.max() < 255


def test_anchor_crop_stays_level_and_steady_when_the_head_turns(face3d: np.ndarray) -> None:
    scales = []
    for yaw in (-0.5, 0.0, 0.5):
        x = face3d[:, 0] * np.cos(yaw) + face3d[:, 2] * np.sin(yaw)
        crop = align.anchor_crop(np.stack([x, -face3d[:, 1]], 1) * 70 + [160, 120])
        assert abs(crop.matrix[0, 1]) < 1e-9  # no roll
        scales.append(crop.scale)
    assert scales[0] == pytest.approx(scales[2], rel=1e-6)
    assert scales[0] / scales[1] < 1.08


def test_landmark_crop_levels_the_eyes(frontal: np.ndarray) -> None:
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    upright = align.landmark_crop(frontal).to_crop(frontal)
    turned_points = (frontal - 150) @ turn.T * 2.5 + 400
    turned = align.landmark_crop(turned_points).to_crop(turned_points)
    assert np.allclose(turned, upright, atol=1e-4)
    assert upright.min() > 15 and upright.max() < 112
    flat = align.box_landmark_crop(align.landmarks_box(frontal)).to_crop(frontal)
    assert np.allclose(flat, upright, atol=1e-4)


def test_recognition_and_enhancer_templates_agree(frontal: np.ndarray) -> None:
    points = align.five_points(frontal)
    in_recognition = align.recognition_crop(frontal).to_crop(points)
    in_enhancer = align.enhancer_crop(frontal, 512).to_crop(points)
    assert np.allclose(in_enhancer, (in_recognition + 28) * 512 / 168)
    assert np.abs(in_enhancer - align.enhancer_template(512)).max() < 40


def test_lipsync_box_holds_the_face_and_scales_with_it(frontal: np.ndarray) -> None:
    box = align.lipsync_box(frontal)
    tight = align.landmarks_box(frontal)
    assert (box[:2] <= tight[:2]).all() and (box[2:] >= tight[2:]).all()
    assert np.allclose(align.lipsync_box(frontal * 3), box * 3, rtol=1e-5)
    height = box[3] - box[1]
    assert 0.06 < (box[3] - tight[3]) / height < 0.08  # 20 pixels on a face of about 290
    assert align.lipsync_box(np.stack([frontal, frontal])).shape == (2, 4)
    crop = align.box_crop(box, (96, 96))
    assert np.allclose(crop.to_crop(box[:2] - 0.5), -0.5, atol=1e-4)
    assert np.allclose(crop.to_crop(box[2:] - 0.5), 95.5, atol=1e-4)


def test_recon_alignment_is_invertible(frontal: np.ndarray) -> None:
    alignment = align.recon_alignment(frontal, (320, 240))
    up = align.flip_y(frontal, 240)
    again = align.ReconAlignment.from_params(alignment.params)
    assert again.box == alignment.box
    assert np.allclose(alignment.from_crop_up(alignment.to_crop_up(up)), up)
    assert np.allclose(align.flip_y(up, 240), frontal)
    with pytest.raises(ValueError, match="span a face"):
        align.recon_alignment(np.zeros((68, 2)), (320, 240))


def published_landmarks_in_crop(
    landmarks: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """The published steps of the 3DMM alignment, y up, from float32 landmarks; with its five numbers."""
    up = landmarks.copy()
    up[:, 1] = height - 1 - up[:, 1]
    pairs = [up[[36, 39]].mean(axis=0), up[[42, 45]].mean(axis=0)]
    five = np.concatenate([pairs, up[[30, 48, 54]]])
    assert five.dtype == np.float32
    system = np.zeros((10, 8))  # one row for each coordinate: x on the first four unknowns, y on the others
    system[0::2, :4] = system[1::2, 4:] = np.concatenate([align.RECON_TEMPLATE, np.ones((5, 1))], axis=1)
    unknown = np.linalg.lstsq(system, five.astype(np.float64).ravel(), rcond=None)[0]
    scale = 102 / ((np.linalg.norm(unknown[:3]) + np.linalg.norm(unknown[4:7])) / 2)
    x, y = unknown[3], unknown[7]
    moved = np.stack([up[:, 0] - np.float64(x) + width / 2, up[:, 1] - np.float64(y) + height / 2], axis=1)
    corner = [int(width * scale) / 2 - 112, int(height * scale) / 2 - 112]
    return moved * scale - corner, np.float32([width, height, scale, x, y])


@pytest.mark.parametrize("face_height", [30, 60, 90, 400, 900])
@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (320, 240)])
def test_recon_alignment_rounds_as_published_for_faces_of_any_size(
    face3d: np.ndarray, face_height: int, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(face_height)
    for _ in range(20):
        pixels = face3d[:, :2] * [1.0, -1.0] * face_height / 1.6 + rng.uniform(0.2, 0.8, 2) * size
        landmarks = (pixels + rng.normal(0, 0.02 * face_height, (68, 2))).astype(np.float32)
        alignment = align.recon_alignment(landmarks, size)
        in_crop, params = published_landmarks_in_crop(landmarks, *size)
        assert np.abs(alignment.to_crop_up(align.flip_y(landmarks, size[1])) - in_crop).max() < 1e-8
        assert np.array_equal(alignment.params, params)


@pytest.mark.parametrize("scale", [30.0, 70.0, 170.0])
def test_recon_crop_equals_resizing_the_whole_frame(face3d: np.ndarray, scale: float) -> None:
    image = noise(331, 257)
    landmarks = face3d[:, :2] * [scale, -scale] + [70, 150]  # spills over the left border
    alignment = align.recon_alignment(landmarks, (331, 257))
    crop = align.recon_crop(image, alignment)
    whole = Image.fromarray(image).resize(alignment.resized, Image.Resampling.BICUBIC)
    assert np.array_equal(crop, np.asarray(whole.crop(alignment.box)))


def test_recon_crop_outside_the_frame_is_black(frontal: np.ndarray) -> None:
    alignment = align.ReconAlignment((320, 240), 1.5, np.array([5000.0, 100.0]))
    assert not align.recon_crop(noise(320, 240), alignment).any()


def test_alignments_of_many_frames_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    template = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], dtype=np.float64)
    landmarks = np.repeat(template[[0] * 40 + [1] * 8 + [2] * 8 + [3] * 6 + [4] * 6][None], 9, axis=0)
    landmarks = landmarks * rng.uniform(0.8, 3.0, (9, 1, 1)) + rng.normal(0, 1.0, landmarks.shape)
    sizes = [(256 + 10 * k, 240 + 7 * k) for k in range(9)]
    singles = [align.recon_alignment(points, size) for points, size in zip(landmarks, sizes, strict=True)]
    many = align.ReconAlignments.fit(landmarks, np.array(sizes, dtype=np.float64))
    assert np.array_equal(many.params, np.stack([single.params for single in singles]))
    places = rng.uniform(0, 200, (9, 2))
    in_crops = many.to_crop_up(places)
    expected = [single.to_crop_up(place) for single, place in zip(singles, places, strict=True)]
    np.testing.assert_allclose(in_crops, np.stack(expected), atol=1e-9)
    np.testing.assert_allclose(many.from_crop_up(in_crops), places, atol=1e-9)
    stored = align.ReconAlignments.from_params(many.params.astype(np.float64))
    np.testing.assert_allclose(stored.to_crop_up(places), in_crops, atol=0.6)  # sizes are cut to whole pixels
    with pytest.raises(ValueError, match="do not span a face"):
        align.ReconAlignments.fit(np.zeros((2, 68, 2)), np.full((2, 2), 100.0))
