"""Parity cases of the evaluation: ``mfcc``, ``sync_scores``, ``sync_tracks``, ``cpbd`` and ``fid``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from videoretalking.evaluation.tables import summarize
from videoretalking.faces.boxes import iou
from videoretalking.metrics.cpbd import cpbd, measure_edges
from videoretalking.metrics.face_tracks import crop_face, link_faces
from videoretalking.metrics.fid import FeatureStatistics, frechet_distance
from videoretalking.metrics.lse import audio_starts, num_windows, sync_values
from videoretalking.metrics.mfcc import mel_filterbank, mfcc, num_columns
from videoretalking.metrics.offset import shifted_distances, sync_score

Fields = dict[str, Any]


def mfcc_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Cepstra, their number of columns and the filter bank."""
    results: dict[str, Fields] = {
        name: {"mfcc_t": mfcc(f["pcm"])} for name, f in inputs.items() if "pcm" in f
    }
    lengths = inputs["lengths"]["n_samples"]
    results["lengths"] = {"n_frames": np.array([num_columns(int(count)) for count in lengths])}
    bank = mel_filterbank()
    results["filterbank"] = {
        "row_sum": bank.sum(axis=1),
        "row_argmax": bank.argmax(axis=1),
        "n_nonzero": np.count_nonzero(bank, axis=1),
    }
    return results


def sync_scores_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Distances, offset, LSE-D and LSE-C of embedded videos, and their mean over the corpus."""
    results: dict[str, Fields] = {}
    scores = {}
    for name, fields in inputs.items():
        if name == "corpus":
            continue
        count = num_windows(fields["n_images"], fields["n_samples"])
        video, audio = fields["video_features"][:count], fields["audio_features"][:count]
        distances = shifted_distances(video, audio, fields["vshift"])
        score = scores[name] = sync_score(video, audio, fields["vshift"])
        results[name] = {
            "n_windows": score.num_windows,
            "offset": score.offset,
            "confidence": score.confidence,
            "min_distance": score.min_distance,
            "mean_distance": score.mean_distance,
            "first_rows": distances[:2],
            "last_row": distances[-1],
            "frame_confidence": score.frame_confidence,
            "video_start": np.arange(count),
            "audio_start": audio_starts(count),
        }
    total = summarize([sync_values([scores[name]]) for name in inputs["corpus"]["videos"]])
    results["corpus"] = {"lse_d": total["lse_d"], "lse_c": total["lse_c"]}
    return results


def sync_tracks_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Overlaps, the one surviving track and three of its crops."""
    fields = inputs["track"]
    rows = fields["detections_frame_x1y1x2y2"]
    per_frame = [rows[rows[:, 0] == frame, 1:] for frame in range(fields["n_frames"])]
    (track,) = link_faces(per_frame)
    crops = [
        crop_face(fields["image"], track.centers[frame], track.half_size[frame])[::4, ::4]
        for frame in fields["crop_frames"] - track.start
    ]
    return {
        "iou": {"iou": iou(inputs["iou"]["a"], inputs["iou"]["b"])},
        "track": {
            "frame": track.start + np.arange(len(track)),
            "bbox": track.boxes,
            "s": track.half_size,
            "x": track.centers[:, 0],
            "y": track.centers[:, 1],
            "crop_s4": np.stack(crops),
        },
    }


def cpbd_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Score, edge counts and widths of the photographs, of a flat image and of steps."""
    results: dict[str, Fields] = {}
    for name, fields in inputs.items():
        gray = fields["grey"]
        results[name] = {"cpbd": cpbd(gray)}
        measured = measure_edges(gray)
        if name == "steps":
            results[name] |= {
                "widths": measured.widths,
                "sobel": measured.edges.astype(np.uint8),
                "canny": measured.canny.astype(np.uint8),
            }
        elif "sigma" in fields:
            widths = measured.widths[measured.widths > 0]
            results[name] |= {
                "n_canny": int(measured.canny.sum()),
                "n_sobel": int(measured.edges.sum()),
                "n_widths": widths.size,
                "width_histogram": np.bincount(widths, minlength=40)[:40],
            }
    return results


def fid_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Statistics and the distance by both routes."""
    results: dict[str, Fields] = {}
    for name, fields in inputs.items():
        x, y = FeatureStatistics(), FeatureStatistics()
        x.update(fields["x"])
        y.update(fields["y"])
        results[name] = {
            "mean_x": x.mean,
            "trace_x": float(np.trace(x.covariance)),
            "cov_x_diag": np.diag(x.covariance),
            "cov_x_first_row": x.covariance[0],
            "fid_direct": frechet_distance(x, y, "direct"),
            "fid_symmetric": frechet_distance(x, y),
        }
    return results


CASES: dict[str, Callable[[dict[str, Fields]], dict[str, Fields]]] = {
    "mfcc": mfcc_case,
    "sync_scores": sync_scores_case,
    "sync_tracks": sync_tracks_case,
    "cpbd": cpbd_case,
    "fid": fid_case,
}
