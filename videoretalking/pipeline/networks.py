"""The networks of pass 2, loaded and ready to run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from videoretalking.core.errors import UserError
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.enet import ENet
from videoretalking.models.gfpgan import GFPGAN
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.config import RenderConfig
from videoretalking.pipeline.engine import Engine, Runner
from videoretalking.pipeline.weights import Weights

logger = logging.getLogger(__name__)

PARSERS = ("bisenet", "parsenet")  # the paper's, which is also the cheaper one, then the published program's
# The report's sync confidence is a measurement: on the same pictures bfloat16 would move it by up to 0.003 and int8
# by 0.009. Float32 costs a hundredth of the chain.
EXACT = ("lipsync_expert",)


@dataclass(frozen=True)
class Networks:
    """What pass 2 runs.

    Attributes:
        engine: how they run.
        dnet: None leaves the expression as it is.
        lnet: L-Net or the Wav2Lip baseline.
        enet: None enlarges bilinearly.
        restorer: GFPGAN for the mouth; None without weights or wish.
        ganimation: for upper-face emotions; None without wish.
        expert: lip-sync expert for the report; None without weights, and where nobody asks for it.
        parser: segments faces; None draws masks around the landmarks.
    """

    engine: Engine
    dnet: Runner[nn.Module] | None
    lnet: Runner[nn.Module]
    enet: Runner[ENet] | None
    restorer: Runner[GFPGAN] | None
    ganimation: Runner[nn.Module] | None
    expert: Runner[nn.Module] | None
    parser: Runner[BiSeNet | ParseNet] | None

    @property
    def overlap(self) -> bool:
        """Whether they are to work beside each other, each on few cores: small ones on a CPU with several.

        Large ones keep all cores busy one by one, and would need the memory of several at once.
        """
        runners = (self.dnet, self.lnet, self.enet, self.restorer, self.ganimation, self.parser)
        large = any(runner.large for runner in runners if runner is not None)
        return self.engine.device.type == "cpu" and torch.get_num_threads() > 1 and not large


def load_networks(weights: Weights, render: RenderConfig, engine: Engine) -> Networks:
    """Load what the settings need.

    Raises:
        UserError: missing, damaged or wrong checkpoints.
    """
    logger.info("networks on %s", engine)

    def load(name: str, wanted: bool = True) -> Runner[nn.Module] | None:
        if not wanted:
            return None
        # a caller may be in inference mode, whose tensors cannot be rewritten
        with torch.inference_mode(False):
            return engine.prepare(weights.load(name, engine.device), exact=name in EXACT)

    restore = render.restore > 0.0 and weights.path("gfpgan") is not None
    if render.restore > 0.0 and not restore:
        logger.info("no mouth restorer: gfpgan.safetensors is not there, teeth stay as E-Net paints them")
    if render.upper_face != "original" and weights.path("ganimation") is None:
        raise UserError(
            f"--up-face {render.upper_face} needs ganimation.safetensors in {weights.folder}; "
            "see checkpoints/README.md"
        )
    parser = next((name for name in PARSERS if render.parse and weights.path(name) is not None), "")
    logger.info("face masks %s", f"by {parser}" if parser else "from landmarks")
    lnet = load("lnet")
    assert lnet is not None
    return Networks(
        engine=engine,
        dnet=load("dnet", render.neutralize),
        lnet=lnet,
        enet=cast("Runner[ENet] | None", load("enet", render.enhance)),
        restorer=cast("Runner[GFPGAN] | None", load("gfpgan", restore)),
        ganimation=load("ganimation", render.upper_face != "original"),
        expert=load("lipsync_expert", render.score_sync and weights.path("lipsync_expert") is not None),
        parser=cast("Runner[BiSeNet | ParseNet] | None", load(parser, bool(parser))),
    )
