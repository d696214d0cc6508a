"""Last stage of the paper: the new face goes back into the frame (section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from videoretalking.core.arrays import AnyImage, Floats64
from videoretalking.core.colors import BT601_LUMA
from videoretalking.faces.align import matrix_from, matrix_into, placed_box
from videoretalking.faces.masks import eye_distance, mouth_outline
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Box, Pixels, Raster, Size
from videoretalking.pipeline.stages.blend import Pyramids, blend_into

# Rows of the face crop, as shares of its height, over which the new face takes over from the original. L-Net
# sees everything above 0.5, so down to there both show the same and the passage cannot be seen.
_TAKEOVER = (0.38, 0.50)
_ALIKE = (0.20, 0.30)  # from these rows down to the takeover the colors of both are compared
# Distance of colors from a straight line over the brightness, root mean square, in standard deviations of the
# brightness: at most the first is one color (a sepia picture has 0.05), from the second on a picture is colored
# (0.11 to 0.9 in ten films, dark ones among them).
_ONE_COLOR, _COLORED = 0.06, 0.10
_STRIDE = 4  # pixels, of the measure of color
_LEAST_WEIGHT = 1e-6  # keeps means finite where nothing is seen
_MAX_SHIFT = 0.12  # of the full range; more is no matter of color
# Difference of colors, root mean square, white is 1: up to the first a patch shows what the frame shows, from the
# second on it shows something else. Finer detail than this part of a face crop does not count: it is sharpness.
_SAME, _OTHER = 0.012, 0.04
_FINEST = 1.0 / 80.0
_LIPS_MARGIN, _LIPS_SOFTNESS = 0.2, 0.08  # eye distances around the lips within which all is new


class Compositor:
    """Pastes new faces into frames; pixels away from them keep their bytes.

    Args:
        whole_face: replace the upper face too (needed when it was edited); otherwise its pixels stay original.
        color_match: 0 leaves the colors of the new face .. 1 moves them to those of the frame.
        raster: for the pixel work.
    """

    def __init__(self, whole_face: bool, raster: Raster, color_match: float = 1.0) -> None:
        self.whole_face = whole_face
        self.raster = raster
        self.color_match = color_match

    def __call__(
        self,
        frames: Sequence[Pixels],
        faces: Sequence[Sequence[FaceJob]],
        painted: Sequence[Pixels] | None = None,
    ) -> list[Pixels]:
        """Copies of frames with the patches of their faces in them.

        Args:
            frames: [H, W, 3] uint8 each; arrays one at a time, tensors as many as there are.
            faces: those of each frame, with patch and mask.
            painted: [H, W] zeros for each frame, which receive the weights of the edit; pixels left at 0 kept
                their bytes.

        Returns:
            [H, W, 3] uint8 each; a frame without faces as it is.
        """
        results = [
            self.raster.copy(frame) if inside else frame for frame, inside in zip(frames, faces, strict=True)
        ]
        for number in range(max((len(inside) for inside in faces), default=0)):
            places = [place for place, inside in enumerate(faces) if number < len(inside)]
            self._paste(
                [results[place] for place in places],
                [faces[place][number] for place in places],
                None if painted is None else [painted[place] for place in places],
            )
        return results

    def _paste(
        self, frames: Sequence[Pixels], faces: Sequence[FaceJob], painted: Sequence[Pixels] | None
    ) -> None:
        """Put one face into each frame, in place."""
        raster, frame_size = self.raster, (frames[0].shape[1], frames[0].shape[0])
        targets = [
            (box, face, place)
            for place, face in enumerate(faces)
            if (box := placed_box(face.crop, frame_size)) is not None
        ]
        if not targets:
            return
        boxes, faces, places = zip(*targets, strict=True)
        sizes = [(right - left, bottom - top) for left, top, right, bottom in boxes]
        matrices = [matrix_into(box, face.crop) for box, face in zip(boxes, faces, strict=True)]
        regions = raster.regions([frames[place] for place in places], boxes)
        shape = (regions.shape[2], regions.shape[1])
        weights = raster.warp(self._weights(faces), matrices, shape)
        patches = self._bring_back(faces, boxes, matrices, sizes, shape)
        coverage = raster.coverage(faces[0].crop.size, matrices, shape)
        alike = raster.filled(weights[..., 1], sizes, 0.0)
        originals = raster.to_floats(regions)
        patches = keep_monochrome(originals, patches, raster.filled(coverage, sizes, 0.0))
        patches = patches + self.color_match * _color_shift(originals, patches, alike[..., None])
        wanted = raster.contiguous(weights[..., 0])
        if not self.whole_face:
            width = max(face.crop.size[0] / face.crop.scale for face in faces)
            changed = where_changed(originals, patches, sizes, width, raster)
            wanted = wanted * raster.maximum(changed, self._lips(faces, boxes, shape))
        edited, reach = blend_into(
            regions,
            patches,
            wanted,
            coverage,
            sizes,
            raster,
        )
        for number, ((left, top, right, bottom), place) in enumerate(zip(boxes, places, strict=True)):
            window, own = np.s_[top:bottom, left:right], np.s_[: bottom - top, : right - left]
            frames[place][window] = edited[number][own]
            if painted is not None:
                painted[place][window] = raster.maximum(painted[place][window], reach[number][own])

    def _bring_back(
        self,
        faces: Sequence[FaceJob],
        boxes: Sequence[Box],
        matrices: Sequence[Floats64],
        sizes: Sequence[Size],
        shape: Size,
    ) -> Pixels:
        """[N, H, W, 3] the patches in the pixels of the boxes, as sharp as if they had never left them.

        A face that is smaller than its crop loses up to half of its finest detail on the way there, where pixels
        are interpolated linearly as in training, and back. What the same way takes from the result is added to it,
        the first step of the iteration of Van Cittert (1931).
        """
        raster = self.raster
        patches = raster.warp(raster.stack([face.patch for face in faces]), matrices, shape, cubic=True)
        if max(face.crop.scale for face in faces) <= 1.0:
            return patches
        crops = [matrix_from(box, face.crop) for box, face in zip(boxes, faces, strict=True)]
        there = raster.warp(raster.edges_repeated(patches, sizes), crops, faces[0].crop.size)
        return 2.0 * patches - raster.warp(there, matrices, shape)

    def _weights(self, faces: Sequence[FaceJob]) -> Pixels:
        """[N, S, S, 2] in the crops: how far the new face counts, and where it shows what the frame shows."""
        masks = self.raster.stack([face.mask for face in faces])
        height = masks.shape[1]
        takeover, alike = (self.raster.constant(_rise(height, rows)) for rows in (_TAKEOVER, _ALIKE))
        weights = masks if self.whole_face else masks * takeover
        if any(face.trust < 1.0 for face in faces):
            trust = np.array([face.trust for face in faces], np.float32)[:, None, None]
            weights = weights * self.raster.constant(trust)
        return self.raster.stack([weights, masks * alike * (1.0 - takeover)], axis=3)

    def _lips(self, faces: Sequence[FaceJob], boxes: Sequence[Box], size: Size) -> Pixels:
        """[N, H, W] the lips in the boxes, which are always replaced: no pixel of the old mouth may stay."""
        points = np.stack([face.landmarks for face in faces]) - np.array(boxes)[:, None, :2]
        softness = _LIPS_SOFTNESS * eye_distance(points)
        return self.raster.polygons(list(mouth_outline(points, _LIPS_MARGIN)), size, softness.tolist())


def where_changed(
    originals: Pixels, patches: Pixels, sizes: Sequence[Size], width: float, raster: Raster
) -> Pixels:
    """Where patches show something else than the frame, and not the same less sharply.

    Hair, collars and captions that reach into a face keep their pixels, and so does all skin that did not move.

    Args:
        originals: [N, H, W, 3] in [0, 1], parts of frames.
        patches: [N, H, W, 3] the new content, in the colors of the frame.
        sizes: (width, height) of each part.
        width: pixels of a whole face crop, of which the parts may be what lies inside the frame.
        raster: of the images.

    Returns:
        [N, H, W] float32, 0 for the same and 1 for something else.
    """
    halvings = max(1, round(math.log2(width * _FINEST)))
    pyramids = Pyramids(sizes, halvings, raster)
    levels = pyramids.gaussian(patches - originals)
    difference = (levels[-1] ** 2).mean(-1) ** 0.5
    position = ((difference - _SAME) / (_OTHER - _SAME)).clip(0.0, 1.0)
    changed = position * position * (3.0 - 2.0 * position)
    for finer, own in zip(levels[-2::-1], pyramids.sizes[-2::-1], strict=True):
        changed = raster.expand(changed, finer.shape[1:3], own)
    return changed.clip(0.0, 1.0)


def keep_monochrome(regions: Pixels, patches: Pixels, weights: Pixels) -> Pixels:
    """Paint black-and-white and tinted pictures in their own one color.

    In such a picture the color of a pixel follows from its brightness; networks that learned from colored ones
    paint red lips all the same. Where a straight line tells the colors of the frame, the patch takes its colors
    from it.

    Args:
        regions: [N, H, W, 3] in [0, 1], parts of frames.
        patches: [N, H, W, 3] the new content.
        weights: [N, H, W] where the regions count.

    Returns:
        The patches; those of colored frames as they were.
    """
    step = np.s_[:, ::_STRIDE, ::_STRIDE]
    seen, weight = regions[step], weights[step]
    total = weight.sum((1, 2)) + _LEAST_WEIGHT
    luma = _luma(seen)
    chroma = seen - luma[..., None]
    mean_luma = ((weight * luma).sum((1, 2)) / total)[:, None, None]
    mean_chroma = ((weight[..., None] * chroma).sum((1, 2)) / total[:, None])[:, None, None]
    brighter, other = luma - mean_luma, chroma - mean_chroma
    spread = (weight * brighter**2).sum((1, 2)) + _LEAST_WEIGHT
    slope = ((weight * brighter)[..., None] * other).sum((1, 2)) / spread[:, None]
    slope = slope[:, None, None]
    rest = ((other - slope * brighter[..., None]) ** 2).mean(-1)
    error = ((weight * rest).sum((1, 2)) / spread) ** 0.5
    strength = ((_COLORED - error) / (_COLORED - _ONE_COLOR)).clip(0.0, 1.0)
    if isinstance(strength, np.ndarray) and not strength.any():  # a GPU would have to wait for the answer
        return patches
    painted = _luma(patches)
    wanted = painted[..., None] + mean_chroma + slope * (painted - mean_luma)[..., None]
    return patches + strength[:, None, None, None] * (wanted - patches)


def _luma(images: Pixels) -> Pixels:
    red, green, blue = BT601_LUMA
    return red * images[..., 0] + green * images[..., 1] + blue * images[..., 2]


def _color_shift(regions: Pixels, patches: Pixels, weights: Pixels) -> Pixels:
    """[N, 1, 1, 3] weighted mean of region - patch, bounded; 0 where hardly anything can be compared."""
    total = weights.sum(axis=(1, 2, 3))[:, None]
    shift = ((regions - patches) * weights).sum(axis=(1, 2)) / total.clip(1.0, None)
    return ((total >= 1.0) * shift.clip(-_MAX_SHIFT, _MAX_SHIFT))[:, None, None]


def _rise(height: int, rows: tuple[float, float]) -> AnyImage:
    """[H, 1] weights that rise smoothly from 0 to 1 between two rows given as shares of the height."""
    first, last = rows
    position = np.clip(((np.arange(height) + 0.5) / height - first) / (last - first), 0.0, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * position)).astype(np.float32)[:, None]
