from __future__ import annotations

import torch
from torchvision.models.vgg import cfgs, make_layers

from videoretalking.models.official.layout import rename, unwrap
from videoretalking.models.official.vgg import LAYOUT
from videoretalking.models.vgg import VGG19Features, VGG19FeaturesConfig

_TAPS = (1, 6, 11, 20, 29)  # relu1_1 .. relu5_1 among torchvision's features


def test_equals_torchvision_with_its_weights() -> None:
    theirs = make_layers(cfgs["E"])
    released = {f"features.{name}": value for name, value in theirs.state_dict().items()}
    released["classifier.0.weight"] = torch.zeros(1)
    ours = VGG19Features()
    ours.load_state_dict(rename(unwrap(released, LAYOUT, "vgg"), LAYOUT, ours.state_dict(), "vgg"))
    image = torch.rand(1, 3, 32, 48)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    expected = []
    with torch.no_grad():
        for index, layer in enumerate(theirs[: _TAPS[-1] + 1]):
            features = layer(features)
            if index in _TAPS:
                expected.append(features.clone())
        taps = ours(image)
    assert len(taps) == len(expected) == 5
    for tap, wanted in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, wanted)


def test_width_multiplier_and_gradients() -> None:
    network = VGG19Features(VGG19FeaturesConfig(width_multiplier=1 / 32))
    taps = network(torch.rand(1, 3, 32, 32))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (2, 32, 32),
        (4, 16, 16),
        (8, 8, 8),
        (16, 4, 4),
        (16, 2, 2),
    ]
    torch.stack([tap.sum() for tap in taps]).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_normalization_is_no_part_of_the_checkpoint() -> None:
    network = VGG19Features(VGG19FeaturesConfig(width_multiplier=1 / 32))
    assert all(name.startswith("blocks.") for name in network.state_dict())
