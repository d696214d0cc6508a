"""Parity cases ``mel`` and ``mel_chunks``, reproduced by :mod:`media.mel` and the museum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core import constants
from videoretalking.media import mel
from videoretalking.scripts.parity.published import audio as published

Fields = dict[str, Any]

_EDGE = 4  # columns that the kit keeps of the mirrored padding
_HEAD = 64  # samples that the kit keeps of the pre-emphasis
_CONSTANTS = {
    "num_mels": constants.MEL_BANDS,
    "n_fft": mel.FFT_SIZE,
    "hop_size": constants.MEL_HOP,
    "win_size": mel.FFT_SIZE,
    "sample_rate": constants.SAMPLE_RATE,
    "preemphasis": mel.PRE_EMPHASIS,
    "max_abs_value": mel.MAX_VALUE,
    "min_level_db": mel.MIN_LEVEL,
    "ref_level_db": mel.REFERENCE_LEVEL,
    "fmin": mel.MIN_FREQUENCY,
    "fmax": mel.MAX_FREQUENCY,
}


def mel_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Spectrograms with both paddings, the filter bank, lengths and constants.

    Args:
        inputs: sub-case name to input fields, as the kit's loader gives them.

    Returns:
        Sub-case name to the expected fields.
    """
    results = {name: _spectrogram(fields["pcm"]) for name, fields in inputs.items() if "pcm" in fields}
    bank = mel.mel_filter_bank()
    results["basis"] = {
        "row_sum": bank.sum(axis=1),
        "row_max": bank.max(axis=1),
        "row_argmax": bank.argmax(axis=1),
        "column_sum": bank.sum(axis=0),
        "first_nonzero": (bank > 0).argmax(axis=1),
        "n_nonzero": np.count_nonzero(bank, axis=1),
    }
    counts = [mel.mel_spectrogram(np.zeros(count)).shape[1] for count in inputs["lengths"]["n_samples"]]
    results["lengths"] = {"n_frames": np.array(counts)}
    names = [str(name) for name in inputs["constants"]["names"]]
    results["constants"] = {"values": np.array([_CONSTANTS[name] for name in names], dtype=np.float64)}
    return results


def mel_chunks_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Windows of inference and of training, and the frame shown with each.

    Args:
        inputs: sub-case name to input fields, as the kit's loader gives them.

    Returns:
        Sub-case name to the expected fields.
    """
    training, pairing = inputs["training"], inputs["pairing"]
    frames, num_columns = training["frame"], training["n_mel"]
    return {
        "official": _chunk_tables(inputs["official"], "official"),
        "wav2lip": _chunk_tables(inputs["wav2lip"], "official"),
        "lipsync_eval": _chunk_tables(inputs["lipsync_eval"], "lipsync_eval"),
        "pairing": {"frame": published.official_pairing(pairing["n_chunks"], pairing["n_frames"])},
        "training": {
            "sync_start_and_width": np.array(
                [published.training_window(int(f), num_columns) for f in frames]
            ),
            "per_frame_start": np.stack(
                [published.training_frame_starts(int(f), num_columns) for f in frames]
            ),
        },
    }


def _spectrogram(pcm: npt.NDArray[np.int16]) -> Fields:
    wave = pcm / np.float32(32768)
    spectrogram = mel.mel_spectrogram(wave)
    reflected = published.reflected_spectrogram(wave)
    return {
        "mel": spectrogram,
        "mel_reflect_head": reflected[:, :_EDGE],
        "mel_reflect_tail": reflected[:, -_EDGE:],
        "preemphasis_head": mel.preemphasis(wave.astype(np.float64))[:_HEAD],
        "n_frames": spectrogram.shape[1],
    }


def _chunk_tables(fields: Fields, variant: published.ChunkVariant) -> Fields:
    tables = [
        [published.official_chunks(int(columns), fps, variant) for columns in fields["n_mel"]]
        for fps in fields["fps"].tolist()
    ]
    return {
        "count": np.array([[len(chunks) for chunks in row] for row in tables]),
        "last_width": np.array([[chunks[-1, 1] if len(chunks) else 0 for chunks in row] for row in tables]),
        "start": np.concatenate([chunks[:, 0] for row in tables for chunks in row]),
    }


CASES: dict[str, Callable[[dict[str, Fields]], dict[str, Fields]]] = {
    "mel": mel_case,
    "mel_chunks": mel_chunks_case,
}
