"""Algorithm cases that ``core`` answers: coefficient layout and windows, and published facts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from videoretalking.core import coefficients
from videoretalking.core.expressions import EXPRESSION_TEMPLATES, UPPER_FACE_EMOTIONS, action_units
from videoretalking.models.layers.blocks import from_signed

Case = dict[str, dict[str, Any]]


def coeffs(inputs: Case) -> Case:
    """Coefficient slices, driving windows and crop ratios."""
    parts = {
        "id": coefficients.IDENTITY,
        "exp": coefficients.EXPRESSION,
        "tex": coefficients.TEXTURE,
        "angle": coefficients.ANGLES,
        "gamma": coefficients.LIGHTING,
        "trans": coefficients.TRANSLATION,
    }
    names = [str(name) for name in inputs["split"]["names"]]
    results: Case = {"split": {"split_bounds": np.array([[parts[n].start, parts[n].stop] for n in names])}}
    results |= {name: _windows(fields) for name, fields in inputs.items() if "expression" in fields}
    results["other_source"] = _other_source(inputs["other_source"])
    pirender = inputs["pirender"]
    results["pirender"] = {
        "pirender_index": np.stack(
            [
                coefficients.window_indices(frame, pirender["n"], coefficients.TRAIN_WINDOW)
                for frame in pirender["frame"]
            ]
        )
    }
    return results


def _windows(fields: dict[str, Any]) -> dict[str, Any]:
    rows, frames = fields["semantic"], fields["frame"]
    length = coefficients.OFFICIAL_WINDOW
    windows = [coefficients.driving_window(rows, frame) for frame in frames]
    return {
        "index": np.stack([coefficients.window_indices(frame, len(rows), length) for frame in frames]),
        "ratio_per_frame": np.array([coefficients.crop_ratio(rows, rows[frame]) for frame in frames]),
        "ratio_one_shot": np.array([coefficients.crop_ratio(rows, rows[0]) for _ in frames]),
        "window_first": windows[0],
        "window_last": windows[-1],
        "window_mean_over_time": np.stack([window.mean(axis=1) for window in windows]),
        "driving_last": coefficients.driving_window(rows, frames[-1], fields["expression"]),
    }


def _other_source(fields: dict[str, Any]) -> dict[str, Any]:
    rows, source, frame = fields["semantic"], fields["source"][0], fields["frame"]
    without = coefficients.motion_window(rows, frame, coefficients.OFFICIAL_WINDOW)
    zero = source.copy()
    zero[coefficients.CROP.start] = 0.0
    return {
        "ratio": np.array([coefficients.crop_ratio(rows, source)]),
        "window": coefficients.driving_window(rows, frame, source=source),
        "window_without_ratio": without,
        "window_zero_ratio": coefficients.driving_window(rows, frame, source=zero)[coefficients.MOTION_CROP],
    }


def facts(inputs: Case) -> Case:
    """Action units, expression templates and the published 8-bit conversion."""
    # the released expression file calls the smile's entry "mouth"; the kit asks for options in its own order
    options = [str(option) for option in inputs["templates"]["options"]]
    pixels = from_signed(torch.from_numpy(inputs["uint8"]["network_output"]))
    units = {emotion: action_units(emotion) for emotion in UPPER_FACE_EMOTIONS}
    units["sad"] = np.zeros_like(units["sad"])  # the published program's; ours shows sadness
    return {
        "action_units": units,
        "templates": {"keys": np.array([EXPRESSION_TEMPLATES[option] for option in options])},
        "uint8": {"pixel": _truncate_to_uint8(pixels).numpy()},
    }


def _truncate_to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] float -> uint8 as the published program does: clipped and truncated, half a level too dark."""
    return (image.clamp(0.0, 1.0) * 255.0).to(torch.uint8)


CASES = {"coeffs": coeffs, "facts": facts}
