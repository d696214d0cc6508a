"""Still images of any common kind -> 8-bit RGB, the way viewers show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError
from videoretalking.media.color import flatten_alpha

# Named, because Pillow would also claim some video files (MPEG among them).
Image.init()
_FORMATS = tuple({"JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF"}.intersection(Image.OPEN))
_ALPHA_MODES = {"RGBA", "RGBa", "LA", "La", "PA"}
_ANIMATED_FORMATS = {"GIF", "PNG"}  # the ones that the video reader can play


def is_still_image(path: str | Path) -> bool:
    """Whether the file is a picture and not an animation; decided by content, never by name."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return not (image.format in _ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def load_image(path: str | Path) -> Image8:
    """Read a picture as viewers show it.

    The orientation that cameras note in EXIF is applied, transparency is flattened onto white, and CMYK,
    palette, gray and 16-bit pictures become 8-bit RGB. Of an animation the first frame is taken.

    Returns:
        [height, width, 3] uint8, contiguous.

    Raises:
        UserError: missing, not a picture of a known format, damaged or cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return np.ascontiguousarray(_to_rgb(upright))
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture of a known format") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"picture {path} cannot be read: {error}; it may be damaged or cut off") from None


def save_image(path: str | Path, image: Image8) -> None:
    """Write a picture; the suffix chooses the format (``.png``, ``.jpg`` at quality 95)."""
    Image.fromarray(image).save(path, quality=95)


def _to_rgb(image: Image.Image) -> Image8:
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would clip instead of scaling
        gray = np.rint(np.asarray(image, dtype=np.float64).clip(0, 65535) / 257.0).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return flatten_alpha(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))
