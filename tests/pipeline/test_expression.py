from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_face import face_frame, face_landmarks
from fakes import FakeTools

from videoretalking.core.coefficients import EXPRESSION
from videoretalking.core.errors import UserError
from videoretalking.faces.reconstruct import FitReconstructor, load_face_model
from videoretalking.faces.types import FaceTrack
from videoretalking.media.images import save_image
from videoretalking.pipeline.config import RenderConfig
from videoretalking.pipeline.expression import choose_expression

NAMED = {"neutral": np.zeros(64, np.float32), "smile": np.full(64, 2.0, np.float32)}


def _choose(tools: FakeTools, **options: object) -> np.ndarray:
    return choose_expression(RenderConfig(**options), lambda: NAMED, tools)  # type: ignore[arg-type]


def test_templates_and_their_blend(tools: FakeTools) -> None:
    assert (_choose(tools) == 0).all()
    assert (_choose(tools, expression="smile") == 2).all()
    np.testing.assert_allclose(_choose(tools, expression_blend=0.4), 0.8)  # table 4
    np.testing.assert_allclose(_choose(tools, expression="smile", expression_blend=0.25), 0.5)
    assert tools.loads == 0


def test_coefficient_files(tools: FakeTools, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((5, 262)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "one.npy", rows[0, EXPRESSION])
    track = FaceTrack.empty(np.arange(5) / 25, (64, 64)).with_rows(rows)
    track.present[1:] = True
    track.save(tmp_path / "track.npz")
    mean = rows[:, EXPRESSION].mean(axis=0)
    np.testing.assert_allclose(_choose(tools, expression=str(tmp_path / "rows.npy")), mean, atol=1e-6)
    np.testing.assert_allclose(_choose(tools, expression=str(tmp_path / "one.npy")), rows[0, EXPRESSION])
    np.testing.assert_allclose(
        _choose(tools, expression=str(tmp_path / "track.npz")), rows[1:, EXPRESSION].mean(axis=0), atol=1e-6
    )


def test_a_picture_gives_its_expression(tools: FakeTools, tmp_path: Path) -> None:
    landmarks = face_landmarks(60, 50, 100)
    save_image(tmp_path / "face.png", face_frame(landmarks))
    expected = FitReconstructor(load_face_model()).rows(landmarks[None], (240, 200))[0, EXPRESSION]
    got = _choose(tools, expression=str(tmp_path / "face.png"))
    assert np.abs(got - expected).mean() < 0.3 * max(1.0, np.abs(expected).max())
    assert np.abs(got).max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expression": "grin"}, "grin is neither"),
        ({"expression_blend": 1.5}, "not between 0 and 1"),
        ({"expression": "{tmp}/text.txt"}, "neither a picture"),
        ({"expression": "{tmp}/bad.npy"}, "cannot be read"),
        ({"expression": "{tmp}/short.npy"}, "64 expression numbers"),
        ({"expression": "{tmp}/empty.png"}, "no face"),
        ({"expression": "{tmp}/bad.npz"}, "damaged"),
    ],
)
def test_mistakes(options: dict[str, object], words: str, tools: FakeTools, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("smile")
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    np.save(tmp_path / "short.npy", np.zeros(5))
    save_image(tmp_path / "empty.png", np.zeros((64, 64, 3), np.uint8))
    filled = {
        key: value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(UserError, match=words):
        _choose(tools, **filled)
