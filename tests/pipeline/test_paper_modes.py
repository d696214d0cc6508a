"""The modes of the paper (section 5.3, appendix B) and its choice of parser, through the whole of pass 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import TINY

from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.catalog import build_network, save_network
from videoretalking.models.dnet import DNetOutput
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline import Retalker
from videoretalking.pipeline.config import RenderConfig, WeightsConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.networks import load_networks
from videoretalking.pipeline.weights import Weights, choose_weights

Make = Callable[..., Retalker]
MakeFile = Callable[..., Path]

PARSERS = {
    "bisenet": {"context_channels": 16, "fusion_channels": 16, "auxiliary_channels": 8},
    "parsenet": {"widths": (4, 6, 8), "num_body_blocks": 2},
}


class _Renderer(torch.nn.Module):
    """A D-Net that gives back what it is shown, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.sources: list[torch.Tensor] = []
        self.coefficients: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor, coefficients: torch.Tensor) -> DNetOutput:
        self.sources += list(image)
        self.coefficients += list(coefficients)
        return DNetOutput(image, image, image)


@pytest.mark.parametrize(("render", "distinct"), [({}, 5), ({"one_shot": True}, 1)])
def test_every_frame_is_its_own_source_unless_one_shot_is_asked_for(
    render: dict[str, object],
    distinct: int,
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
) -> None:
    """Video to video is the default; one-shot drives one frame by the poses of all."""
    noisy = [
        np.clip(frame + np.random.default_rng(index).normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
        for index, frame in enumerate(talking_frames[:5])
    ]
    renderer = _Renderer()
    retalker = make_retalker(networks_={"dnet": renderer}, render=render)
    assert len(list(retalker.frames(make_video(noisy), make_speech(0.2)))) == 5
    assert len(renderer.sources) == 5
    assert len({source.numpy().tobytes() for source in renderer.sources}) == distinct


@pytest.mark.parametrize(
    ("there", "expected"), [(("parsenet", "bisenet"), BiSeNet), (("parsenet",), ParseNet), ((), None)]
)
def test_the_papers_parser_comes_first(tmp_path: Path, there: tuple[str, ...], expected: type | None) -> None:
    for name, sizes in {**TINY, **{name: PARSERS[name] for name in there}}.items():
        save_network(tmp_path / f"{name}.safetensors", build_network(name, sizes).eval(), "random, for tests")
    engine = Engine(torch.device("cpu"), torch.float32, batch_size=2)
    parser = load_networks(Weights("test", tmp_path, WeightsConfig()), RenderConfig(), engine).parser
    assert (parser is None) if expected is None else isinstance(parser.network, expected)


def test_networks_are_loaded_in_a_callers_inference_mode() -> None:
    """As ordinary tensors: what is rewritten and tried for a CPU cannot be had from others."""
    engine = Engine(torch.device("cpu"), torch.float32, batch_size=2)
    with torch.inference_mode():
        networks = load_networks(choose_weights(WeightsConfig(family="demo")), RenderConfig(), engine)
    assert not any(weight.is_inference() for weight in networks.lnet.network.parameters())
