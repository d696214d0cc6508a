from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks

from videoretalking.models.enet import ENet
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.networks import Networks
from videoretalking.pipeline.stages.enhance import Enhancer


@pytest.fixture
def enet(networks: Networks) -> Runner[ENet]:
    assert networks.enet is not None
    return networks.enet


def _faces(indices: list[int], stretch: int = 0) -> list[FaceJob]:
    landmarks = face_landmarks()
    frame = face_frame(landmarks)
    return [replace(face_job(frame, landmarks, index=index), stretch=stretch) for index in indices]


def _inputs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 3, 96, 96), torch.rand(count, 3, 384, 384)


def test_encoding_every_frame_is_the_published_network(enet: Runner[ENet]) -> None:
    low_res, identity = _inputs(3)
    enhancer = Enhancer(enet, identity_every=1)
    with torch.no_grad():
        expected = enet.network(low_res, identity).clamp(0, 1)
    torch.testing.assert_close(enhancer(_faces([0, 1, 2]), low_res, identity), expected, atol=1e-5, rtol=0)


def test_codes_are_the_mean_of_the_encoded_frames_so_far(enet: Runner[ENet]) -> None:
    low_res, identity = _inputs(6)
    enhancer = Enhancer(enet, identity_every=5)
    with torch.no_grad():
        first, last = enet.network.identity_encoder(identity[[0, 5]])
        expected = enet.network.paint(low_res, torch.stack([first] * 5 + [(first + last) / 2])).clamp(0, 1)
    got = torch.cat(
        [
            enhancer(_faces([0, 1, 2, 3]), low_res[:4], identity[:4]),
            enhancer(_faces([4, 5]), low_res[4:], identity[4:]),
        ]
    )
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_people_do_not_share_codes(enet: Runner[ENet]) -> None:
    low_res, identity = _inputs(2)
    enhancer = Enhancer(enet, identity_every=5)
    faces = [*_faces([9]), *_faces([10], stretch=10)]
    with torch.no_grad():
        expected = enet.network(low_res, identity).clamp(0, 1)
    torch.testing.assert_close(enhancer(faces, low_res, identity), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [(8, 40, 88, 96), (0, 0, 96, 96), (31, 30, 40, 45)])
def test_a_part_looks_as_in_the_whole(enet: Runner[ENet], window: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = window
    low_res, style = torch.rand(2, 3, 96, 96), torch.randn(1, enet.network.config.style_size)
    with torch.no_grad():
        whole = enet.network.paint(low_res, style)
        part = enet.network.paint(low_res, style, window=window)
    expected = whole[..., 4 * top : 4 * bottom, 4 * left : 4 * right]
    torch.testing.assert_close(part, expected, atol=1e-6, rtol=0)


def test_what_nobody_sees_is_not_painted(enet: Runner[ENet]) -> None:
    low_res, identity = _inputs(4)
    share = torch.zeros(4, 1, 96, 96)
    share[:2, :, 50:80, 30:60] = 0.5
    share[2:, :, 60:90, 40:70] = 1.0
    expected = Enhancer(enet, identity_every=5)(_faces([0, 1, 2, 3]), low_res, identity)
    enhancer = Enhancer(enet, identity_every=5)
    parts = [slice(0, 2), slice(2, 4)]
    painted = torch.cat(
        [enhancer(_faces([0, 1, 2, 3][part]), low_res[part], identity[part], share[part]) for part in parts]
    )
    # what the share becomes when it is enlarged reaches two pixels further
    seen = torch.nn.functional.interpolate(share, size=384, mode="bilinear").expand_as(painted) > 0.0
    torch.testing.assert_close(painted[seen], expected[seen], atol=1e-5, rtol=0)
    assert (painted[:2, :, :190] == 0.0).all() and not (painted == 0.0).all()
    nothing = enhancer(_faces([4]), low_res[:1], identity[:1], share[:1] * 0.0)
    assert nothing.shape == (1, 3, 384, 384)


def test_without_e_net_the_image_is_enlarged() -> None:
    low_res = torch.rand(1, 3, 1, 1).expand(1, 3, 96, 96).contiguous()
    enlarged = Enhancer(None, 5)(_faces([0]), low_res, torch.zeros(1, 3, 384, 384))
    assert enlarged.shape == (1, 3, 384, 384)
    torch.testing.assert_close(enlarged, low_res[:, :, :1, :1].expand_as(enlarged))


def test_half_of_the_size_is_painted_with_one_doubling_where_that_shows_the_same(enet: Runner[ENet]) -> None:
    low_res, identity = _inputs(2)
    small = torch.nn.functional.avg_pool2d(identity, 2)
    share = torch.full((2, 1, 96, 96), 1e-4)  # hardly anything is shown, so both show the same
    enhancer = Enhancer(enet, identity_every=5)
    half = enhancer(_faces([0, 1]), low_res, small, share)
    with torch.no_grad():
        code = enet.network.identity_encoder(small[:1])
        expected = enet.network.paint(low_res, code, doublings=1).clamp(0, 1)
    torch.testing.assert_close(half, expected, atol=1e-5, rtol=0)
    assert half.shape == (2, 3, 192, 192)


def test_half_of_the_size_is_the_whole_reduced_where_one_doubling_is_not_enough(enet: Runner[ENet]) -> None:
    low_res, identity = _inputs(2)
    small = torch.nn.functional.avg_pool2d(identity, 2)
    shown = Enhancer(enet, identity_every=5)(_faces([0, 1]), low_res, small)
    with torch.no_grad():
        code = enet.network.identity_encoder(small[:1])
        whole = enet.network.paint(low_res, code).clamp(0, 1)
    torch.testing.assert_close(shown, torch.nn.functional.avg_pool2d(whole, 2), atol=1e-5, rtol=0)
