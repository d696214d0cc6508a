"""Parity case ``blend``: the published multi-band blending, reproduced by the museum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from videoretalking.scripts.parity.published import blend as published

Fields = dict[str, Any]


def blend_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Results of the published blending for every sub-case of the kit.

    Args:
        inputs: sub-case name to input fields, as the kit's loader gives them.

    Returns:
        Sub-case name to the expected fields.
    """
    results: dict[str, Fields] = {}
    for name, fields in inputs.items():
        if "u8" in fields:
            results[name] = _primitives(fields)
        elif name == "same_image":
            results[name] = {"max_abs_difference": _self_blend_error(fields["a"])}
        elif name == "frame_step":
            mixed = published.paste(fields["a"], fields["b"], _unit(fields["mask"]), fields["levels"])
            results[name] = {"frame_u8": _sample(mixed, fields["rc"])}
        else:
            results[name] = _square(fields)
    return results


def _square(fields: Fields) -> Fields:
    mask = fields.get("mask")
    if mask is None:
        y1, y2, x1, x2 = fields["box"]
        mask = np.zeros(fields["a"].shape[:2], np.float32)
        mask[y1:y2, x1:x2] = 1.0
    mixed = published.blend(fields["a"], fields["b"], mask, fields["levels"])
    return {
        "value": _sample(mixed, fields["rc"]),
        "final_u8": _sample(np.clip(mixed, 0.0, 255.0).astype(np.uint8), fields["rc"]),
        "min_max_mean": np.array([mixed.min(), mixed.max(), mixed.mean(dtype=np.float64)]),
    }


def _self_blend_error(image: Any) -> float:
    mask = np.full(image.shape[:2], 0.5, np.float32)
    mixed = published.blend(image, image, mask, levels=6)
    return float(np.abs(mixed - image).max())


def _primitives(fields: Fields) -> Fields:
    results: Fields = {}
    level = fields["u8"]
    for k in range(1, 6):
        level = _keep_channels(cv2.pyrDown(level), level)
        results[f"down_u8_{k}"] = level
    level = fields["f32"]
    for k in range(1, 5):
        level = cv2.pyrDown(level)
        results[f"down_f32_{k}"] = level
        results[f"up_f32_{k}"] = cv2.pyrUp(level)
    return results


def _keep_channels(image: Any, like: Any) -> Any:
    return image.reshape(image.shape[:2] + like.shape[2:])


def _unit(mask: Any) -> Any:
    return mask.astype(np.float32) / 255.0 if mask.max() > 1 else mask.astype(np.float32)


def _sample(image: Any, positions: Any) -> Any:
    rows, columns = positions.astype(np.int64).T
    return image[rows, columns]


CASES: dict[str, Callable[[dict[str, Fields]], dict[str, Fields]]] = {"blend": blend_case}
