"""Feature extractors for FID: the published Inception network, and a labeled stand-in for where it is absent."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import find_weights

FILE_NAME = "pt_inception-2015-12-05-6726825d.pth"  # as pytorch-fid releases it
SAME_FILE = "weights-inception-2015-12-05-6726825d.pth"  # the same bytes, as torch-fidelity releases them
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NUM_FEATURES = 2048
STAND_IN_SEED = 2022
STAND_IN_SIZE = 256  # pixels, longer side
_STAND_IN_WIDTHS = (32, 64, 128, 192)


def find_inception() -> Path | None:
    """The published weights under either of their names, in the folders of weights; None if there are none."""
    return find_weights(FILE_NAME) or find_weights(SAME_FILE)


def inception_features(path: Path, device: torch.device) -> nn.Module:
    """The published FID network with the weights of a local file (extra ``metrics``).

    Args:
        path: ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid, or the same content under the name that
            torch-fidelity gives it, ``weights-inception-2015-12-05-6726825d.pth``.
        device: where to compute.

    Returns:
        Module: [N, 3, H, W] in [0, 1] -> [N, 2048], resized bilinearly to 299 x 299 inside.

    Raises:
        UserError: the package or the file is missing, or the file is not the published one.
    """
    if not path.is_file():
        raise UserError(
            f"the FID weights {path} do not exist: python -m scripts.download_checkpoints {FILE_NAME}"
        )
    digest = file_hash(path)
    if digest != SHA256:
        # Checked before loading, because the package would unpickle whatever the file holds.
        raise UserError(
            f"{path} is not the published FID network (sha256 {digest[:8]}..., not {SHA256[:8]}...)"
        )
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise UserError("FID needs the package torch-fidelity: pip install -e '.[metrics]'") from None
    network = FeatureExtractorInceptionV3(
        "inception", [str(NUM_FEATURES)], feature_extractor_weights_path=str(path)
    )
    return _EightBit(network).to(device).eval()


class _EightBit(nn.Module):
    """Gives the published network the 8-bit frames it expects."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.mul(255.0).round_().clamp_(0, 255).to(torch.uint8))[0]


class RandomFeatures(nn.Module):
    """Stand-in for the FID network: fixed random convolutions, never comparable with published FID.

    Distances between random features still grow with blur, noise and color shifts, which suffices to rank
    methods in a smoke test. The weights depend only on a constant seed.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(STAND_IN_SEED)
        self.weights = nn.ParameterList()
        channels = 3
        for width in _STAND_IN_WIDTHS:
            scale = (2.0 / (9 * channels)) ** 0.5
            weight = torch.randn(width, channels, 3, 3, generator=generator) * scale
            weight -= weight.mean(dim=(1, 2, 3), keepdim=True)  # structure counts, brightness does not
            self.weights.append(nn.Parameter(weight, requires_grad=False))
            channels = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, 419]: mean color and mean response of every filter of every layer."""
        scale = STAND_IN_SIZE / max(images.shape[-2:])
        features = images if scale >= 1 else F.interpolate(images, scale_factor=scale, mode="bilinear")
        pooled = [images.mean(dim=(2, 3))]
        for weight in self.weights:
            features = F.relu(F.conv2d(features, weight, stride=2, padding=1))
            pooled.append(features.mean(dim=(2, 3)))
        return torch.cat(pooled, dim=1)
