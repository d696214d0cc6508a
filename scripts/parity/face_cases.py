"""Our face tools, and the museum's, run on the algorithm cases of the parity kit.

Each callable takes a case's inputs ``{sub-case: {field: value}}`` and returns every expected field in the
same form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from videoretalking.core.arrays import Floats
from videoretalking.core.constants import RECON_SIZE
from videoretalking.faces import align
from videoretalking.scripts.parity.published import boxes, masks
from videoretalking.scripts.parity.published import faces as published

Case = Mapping[str, Mapping[str, Any]]
Result = dict[str, dict[str, Any]]

_PADS = (0, 20, 0, 0)  # published default: top, bottom, left, right
_CLIP_SIZE = (512, 512)  # frames of the sub-cases that give only landmarks


def _at(image: Any, rc: Any) -> Any:
    index = np.asarray(rc, dtype=np.int64)
    return image[index[:, 0], index[:, 1]]


def _align3dmm(case: Case) -> Result:
    result: Result = {
        "template": {"five_points": align.five_points(case["template"]["landmarks68"])},
        "recognition": {"matrix": _recognition_matrix(case["recognition"])},
    }
    for name, fields in case.items():
        if name not in result:
            result[name] = _align3dmm_image(fields["image"], fields["landmarks"])
    return result


def _recognition_matrix(fields: Mapping[str, Any]) -> Any:
    return align.recognition_crop(align.flip_y(fields["landmarks_y_up"], int(fields["height"]))).matrix


def _align3dmm_image(image: Any, landmarks: Any) -> dict[str, Any]:
    height, width = image.shape[:2]
    if landmarks.mean() == -1:  # the published mark of a frame without landmarks
        points_up: Floats = published.missing_landmarks((width, height))
        five = points_up
    else:
        points_up = align.flip_y(landmarks, height)
        five = align.five_points(points_up)
    alignment = align.fit_recon_alignment(five, (width, height))
    crop = align.recon_crop(image, alignment)
    return {
        "landmarks_y_up": points_up,
        "five_points": five,
        "pos_t": alignment.shift,
        "pos_s": align.RECON_SCALE / alignment.scale,
        "trans_params": alignment.params,
        "landmarks_in_crop": alignment.to_crop_up(points_up),
        "resize_to": np.array(alignment.resized),
        "crop_box": np.array(alignment.box, dtype=np.float64),
        "crop_s4": crop[::4, ::4],
        "crop_mean": crop.reshape(RECON_SIZE**2, 3).mean(axis=0),
        "crop_sha256": np.frombuffer(hashlib.sha256(crop.tobytes()).digest(), dtype=np.uint8),
    }


def _ffhq_croper(case: Case) -> Result:
    result: Result = {}
    for name, fields in case.items():
        if "has_face" in fields:
            result[name] = _first_face(fields)
            continue
        width, height = (int(value) for value in fields["width_height"])
        found = published.ffhq_croper(fields["landmarks"], (width, height), int(fields["output_size"]))
        region = found.region((width, height))
        result[name] = {
            "crop": np.array(found.crop),
            "limits": np.array(found.limits),
            "region": np.array(region),
            "frame_shape": _cropped_shape(found, (width, height)),
        }
    return result


def _cropped_shape(found: published.FfhqRegion, size: tuple[int, int]) -> Any:
    left, top, right, bottom = found.crop
    x1, y1, x2, y2 = (int(value) for value in found.limits)
    frame = np.empty((size[1], size[0], 0))
    return np.array(frame[top:bottom, left:right][y1:y2, x1:x2].shape[:2])


def _first_face(fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        index, examined = published.first_face(fields["has_face"].tolist())
    except UnboundLocalError as error:
        return {"status": type(error).__name__, "frames_examined": 0}
    if index is None:
        return {"status": "none", "frames_examined": examined}
    found = published.ffhq_croper(fields["landmarks"][index], _CLIP_SIZE)
    return {
        "status": "ok",
        "frames_examined": examined,
        "crop": np.array(found.crop),
        "frame_shape": _cropped_shape(found, _CLIP_SIZE),
    }


def _stit_align(case: Case) -> Result:
    track, smoothed = case["track"], case["smoothed"]
    size = int(track["size"])
    axes = published.quad_axes(track["landmarks"])
    quads = published.quads_from_axes(*axes)
    inverse = np.stack([published.quad_inverse(quad, size) for quad in quads])
    crops = [published.stit_crop(track["image"], quads[index], size) for index in track["crop_frames"]]
    pasted = [
        published.paste_square(255 - track["image"], crop, inverse[index])
        for index, crop in zip(track["crop_frames"], crops, strict=True)
    ]
    center, x, y = published.quad_axes(smoothed["landmarks"])
    center = published.smooth_axes(center, float(smoothed["center_sigma"]))
    x, y = (published.smooth_axes(axis, float(smoothed["xy_sigma"])) for axis in (x, y))
    result: Result = {
        "track": {
            "centre": axes[0],
            "x_axis": axes[1],
            "y_axis": axes[2],
            "quads": quads,
            "crop_s4": np.stack(crops)[:, ::4, ::4],
            "inverse": inverse,
            "pasted_s4": np.stack(pasted)[:, ::4, ::4],
        },
        "scaled": {
            "quads": published.quads_from_axes(
                *published.quad_axes(case["scaled"]["landmarks"], float(case["scaled"]["scale"]))
            )
        },
        "smoothed": {"quads": published.quads_from_axes(center, x, y)},
        "perspective": {
            "inverse": published.perspective_coefficients(
                case["perspective"]["pa"], case["perspective"]["pb"]
            )
        },
    }
    for name in ("reduced", "overhang"):
        fields = case[name]
        quad = published.quads_from_axes(*published.quad_axes(fields["landmarks"]))
        result[name] = {
            "quads": quad,
            "crop_s4": published.stit_crop(fields["image"], quad, int(fields["size"]))[::2, ::2],
        }
    return result


def _enhancer_align(case: Case) -> Result:
    size = int(case["reference"]["output_size"][0])
    result: Result = {"reference": {"points": align.enhancer_template(size)}}
    for name, fields in case.items():
        if name == "reference":
            continue
        crop = align.enhancer_crop(fields["five_points"], size)
        # the published interpolation flag is taken as bilinear without antialiasing
        pixels = cv2.warpAffine(fields["image"], crop.matrix, crop.size, flags=cv2.INTER_LINEAR)
        result[name] = {
            "forward": crop.matrix,
            "inverse": crop.inverse,
            "crop_s4": np.asarray(pixels)[::8, ::8],
        }
    return result


def _boxes(case: Case) -> Result:
    result: Result = {}
    for name, fields in case.items():
        if "boxes_int" in fields:
            length = int(fields["T"])
            result[name] = {
                "smooth_int": boxes.smooth_boxes(fields["boxes_int"], length),
                "smooth_float": boxes.smooth_boxes(fields["boxes_float"], length),
            }
        elif "rect_x1y1x2y2" in fields:
            height, width = (int(value) for value in fields["frame_hw"])
            top, bottom, left, right = (int(value) for value in fields["pads_top_bottom_left_right"])
            coords = boxes.face_coords(
                fields["rect_x1y1x2y2"], (top, bottom, left, right), (width, height), bool(fields["smooth"])
            )
            sizes = [(y2 - y1, x2 - x1) for y1, y2, x1, x2 in coords]
            result[name] = {"coords": np.array(coords), "crop_hw": np.array(sizes)}
    detections = case["suppression"]["x1y1x2y2score"]
    keep = boxes.suppress_inclusive(detections, float(case["suppression"]["threshold"]))
    result["suppression"] = {
        "keep": np.array(keep),
        "confident": np.array([index for index in keep if detections[index, 4] > boxes.CONFIDENT]),
    }
    choice = case["choice"]
    result["choice"] = {
        "rect_first": np.array(boxes.best_box(choice["first"])),
        "rect_second": np.array(boxes.best_box(choice["second"])),
        "empty_is_none": boxes.best_box(np.zeros((0, 5))) is None,
        "detector_sees": choice["images"][..., ::-1],
    }
    decoded = case["decode"]
    result["decode"] = {"box": boxes.decode(decoded["loc"], decoded["level"], decoded["column_row"])}
    return result


def _masks(case: Case) -> Result:
    feather, mouth, face = case["feather"], case["mouth"], case["face"]
    sharp = (feather["grid"] > 128).astype(np.float32)
    soft = masks.feather(sharp)
    height, width = (int(value) for value in mouth["frame_hw"])
    parsed = np.where(mouth["grid"] > mouth["threshold"], 255, 0).astype(np.uint8)
    mouth_frame, mouth_small = masks.mouth_mask(parsed, _box(mouth), (width, height))
    face_small = masks.face_mask(face["mask"].astype(np.float64), _box(face))
    return {
        "feather": {
            "value": _at(soft, feather["rc"]),
            "input_afterwards": _at(sharp, feather["rc"]),
            "mean": float(soft.mean()),
        },
        "mouth": {
            "mouth_mask": _at(mouth_frame, mouth["rc_frame"]),
            "mouth_mask_count": int(mouth_frame.sum()),
            "dtype": str(mouth_frame.dtype),
            "resized_512": _at(mouth_small, mouth["rc"]),
        },
        "face": {"resized_512": _at(face_small, face["rc"])},
    }


def _box(fields: Mapping[str, Any]) -> tuple[int, int, int, int]:
    y1, y2, x1, x2 = (int(value) for value in fields["box_y1y2x1x2"])
    return y1, y2, x1, x2


def _lnet_batch(case: Case) -> Result:
    upper = case["upper_face"]
    arguments = (upper["batch"], upper["network_output"], upper["upper_face"])
    result: Result = {
        "upper_face": {
            "default": published.keep_upper_face(*arguments),
            "with_flag": published.keep_upper_face(*arguments, enabled=True),
        }
    }
    for name in ("video", "static"):
        result[name] = _lnet_batch_clip(case[name], static=name == "static")
    return result


def _lnet_batch_clip(fields: Mapping[str, Any], static: bool) -> dict[str, Any]:
    frames = [fields[f"full_{index}"] for index in range(len(fields["lms"]))]
    stabilized = [fields[f"stabilised_{index}"] for index in range(len(frames))]
    height, width = frames[0].shape[:2]
    coords = boxes.face_coords(fields["rects_x1y1x2y2"], _PADS, (width, height))
    y1, y2, x1, x2 = (int(value) for value in fields["region_oy1oy2ox1ox2"])
    mels = [np.full((80, 16), index, dtype=np.float32) for index in range(int(fields["n_mels"]))]
    batches = published.lipsync_batches(
        frames,
        stabilized,
        fields["lms"],
        coords,
        (y1, y2, x1, x2),
        mels,
        int(fields["batch_size"]),
        int(fields["img_size"]),
        static,
    )
    inputs = np.concatenate([batch.inputs for batch in batches])
    originals = np.concatenate([batch.originals for batch in batches])
    mel = np.concatenate([batch.mels for batch in batches])
    rows, columns = np.asarray(fields["rc"], dtype=np.int64).T
    return {
        "input": inputs[:3, rows, columns],
        "original": originals[:3, rows, columns],
        "batch_lengths": np.array([len(batch.frames) for batch in batches]),
        "coords": np.array([box for batch in batches for box in batch.coords]),
        "mel_shape": np.array(mel.shape),
        "mel_first_value": mel[:, 0, 0, 0],
        "frame_index": np.array([index for batch in batches for index in batch.frames]),
        "mel_index": mel[:, 0, 0, 0].astype(np.int64),
        "masked_rows_sum": float(inputs[:, int(fields["img_size"]) // 2 :, :, :3].sum()),
    }


CASES: dict[str, Callable[[Case], Result]] = {
    "align3dmm": _align3dmm,
    "ffhq_croper": _ffhq_croper,
    "stit_align": _stit_align,
    "enhancer_align": _enhancer_align,
    "boxes": _boxes,
    "masks": _masks,
    "lnet_batch": _lnet_batch,
}
