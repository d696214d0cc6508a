"""Key table of the released 3DMM regressor."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

LAYOUT = Layout(
    network="reconnet",
    files=("face3d_pretrain_epoch_20.pth",),
    modules={"backbone": "backbone", "final_layers": "heads"},
    license="Deep3DFaceRecon (Deng et al. 2019, github.com/sicxu/Deep3DFaceRecon_pytorch): code MIT, "
    "Basel face model for research only",
    outer_keys=("net_recon",),
    squeeze=tuple(f"heads.{index}.weight" for index in range(7)),  # 1x1 convolutions on the pooled vector
)
