from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media_clips import picture, psnr, read
from PIL import Image

from videoretalking.core.errors import UserError
from videoretalking.media.images import is_still_image, load_image, save_image

UPRIGHT = picture(40, 30, grain=0.0)


def test_png_and_jpeg_round_trip(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", UPRIGHT)
    save_image(tmp_path / "a.jpg", UPRIGHT)
    assert (load_image(tmp_path / "a.png") == UPRIGHT).all()
    assert psnr(load_image(tmp_path / "a.jpg"), UPRIGHT) > 35


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, UPRIGHT),
        (2, UPRIGHT[:, ::-1]),
        (3, UPRIGHT[::-1, ::-1]),
        (6, np.rot90(UPRIGHT)),
        (8, np.rot90(UPRIGHT, 3)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, stored: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert (load_image(tmp_path / "a.png") == UPRIGHT).all()


def test_transparency_is_flattened_onto_white(tmp_path: Path) -> None:
    alpha = np.zeros((30, 40, 1), np.uint8)
    alpha[:, 20:] = 255
    Image.fromarray(np.concatenate([UPRIGHT, alpha], axis=2)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert (image[:, :20] == 255).all()
    assert (image[:, 20:] == UPRIGHT[:, 20:]).all()


def test_gray_of_8_and_16_bits_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1))
    Image.fromarray(levels).save(tmp_path / "8.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "16.png")
    for name in ("8.png", "16.png"):
        assert (load_image(tmp_path / name) == levels[..., None]).all()


def test_palette_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).quantize(64).save(tmp_path / "a.png")
    assert psnr(load_image(tmp_path / "a.png"), UPRIGHT) > 24
    Image.fromarray(UPRIGHT).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert psnr(load_image(tmp_path / "a.jpg"), UPRIGHT) > 30


def test_an_animation_is_a_video_whose_first_frame_can_be_had(tmp_path: Path) -> None:
    colors = [Image.new("RGB", (32, 24), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    path = tmp_path / "a.gif"
    colors[0].save(path, save_all=True, append_images=colors[1:], duration=[100, 200, 300])
    assert not is_still_image(path)
    assert load_image(path)[0, 0].tolist() == [255, 0, 0]
    frames = read(path)
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.1, 0.3])
    assert [frame.image[0, 0].argmax() for frame in frames] == [0, 1, 2]
    colors[0].save(tmp_path / "one.gif")
    assert is_still_image(tmp_path / "one.gif")


def test_damage_is_said(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg", UPRIGHT)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cut.jpg", "text.png", "absent.png"):
        with pytest.raises(UserError, match=name):
            load_image(tmp_path / name)


# size, and channel means of the picture that viewers show
HOSTILE = {
    "i_alpha.png": (221, 226),
    "i_cmyk.jpg": (256, 256),
    "i_exif_rotated_6.jpg": (256, 256),
    "i_gray.jpg": (256, 256),
    "i_palette.png": (256, 256),
    "i_gray16.png": (128, 128),
    "i_animated.gif": (160, 160),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures(media_dir: Path, name: str) -> None:
    image = load_image(media_dir / "hostile" / name)
    assert image.shape[1::-1] == HOSTILE[name]
    assert 30 < image.mean() < 225
    assert image.std() > 20


def test_cmyk_and_turned_versions_show_the_same_person(media_dir: Path) -> None:
    hostile = media_dir / "hostile"
    assert psnr(load_image(hostile / "i_cmyk.jpg"), load_image(hostile / "i_exif_rotated_6.jpg")) > 30
