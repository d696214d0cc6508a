"""Key table of the released SyncNet."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

# Official index of a convolution (its batch norm follows) -> our layer.
_AUDIO_LAYERS = {0: 0, 4: 1, 8: 3, 11: 4, 14: 5, 18: 7}
_LIP_LAYERS = {0: 0, 4: 2, 8: 4, 11: 5, 14: 6, 18: 8}

_MODULES = {"netfcaud": "audio_head", "netfclip": "lip_head"}
for _official, _ours, _layers in (
    ("netcnnaud", "audio_encoder", _AUDIO_LAYERS),
    ("netcnnlip", "lip_encoder", _LIP_LAYERS),
):
    for _index, _layer in _layers.items():
        _MODULES[f"{_official}.{_index}"] = f"{_ours}.{_layer}.conv"
        _MODULES[f"{_official}.{_index + 1}"] = f"{_ours}.{_layer}.norm"

LAYOUT = Layout(
    network="syncnet",
    files=("syncnet_v2.model",),
    modules=_MODULES,
    license="SyncNet (Chung and Zisserman 2016, github.com/joonson/syncnet_python): code MIT, "
    "weights for research",
    flip_inputs=("lip_encoder.0.conv.weight",),
    squeeze=tuple(f"lip_encoder.{layer}.conv.weight" for layer in (2, 4, 5, 6, 8)),  # kernels of one frame
)
