from __future__ import annotations

import numpy as np
import pytest

from videoretalking.metrics.mfcc import mel_filterbank, mfcc, num_columns


@pytest.mark.parametrize(
    ("samples", "columns"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99), (16001, 99)]
)
def test_number_of_columns(samples: int, columns: int) -> None:
    assert num_columns(samples) == columns
    assert mfcc(np.zeros(samples, dtype=np.int16)).shape == (13, columns)


def test_silence_is_the_log_of_machine_epsilon() -> None:
    cepstra = mfcc(np.zeros(4000, dtype=np.int16))
    assert cepstra[0] == pytest.approx(np.log(np.finfo(np.float64).eps))
    assert np.abs(cepstra[1:]).max() < 1e-9  # a constant spectrum has no shape


def test_louder_sound_raises_only_the_energy() -> None:
    wave = (np.random.default_rng(0).normal(size=8000) * 1000).astype(np.int16)
    quiet, loud = mfcc(wave), mfcc((wave * 4).astype(np.int16))
    assert loud[0] - quiet[0] == pytest.approx(2 * np.log(4))
    assert np.allclose(loud[1:], quiet[1:])


def test_filters_peak_at_one_and_cover_the_spectrum() -> None:
    bank = mel_filterbank()
    assert bank.shape == (26, 257)
    assert bank.max(axis=1) == pytest.approx(1.0)
    assert (bank[:, 3:230].sum(axis=0) > 0).all()


@pytest.mark.parametrize("wave", [np.zeros(0, dtype=np.int16), np.zeros(100, dtype=np.float32)])
def test_scaled_or_empty_recordings_are_refused(wave: np.ndarray) -> None:
    with pytest.raises(ValueError, match="int16"):
        mfcc(wave)
