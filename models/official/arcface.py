"""Key table of the released ArcFace IResNet-50."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

LAYOUT = Layout(
    network="arcface",
    files=("backbone.pth",),
    modules={
        "conv1": "stem.0",
        "bn1": "stem.1",
        "prelu": "stem.2",
        **{f"layer{stage + 1}": f"stages.{stage}" for stage in range(4)},
        "bn2": "norm",
        "fc": "linear",
        "features": "embedding_norm",
    },
    license="InsightFace ArcFace IResNet-50 (Deng et al. 2019, github.com/deepinsight/insightface): "
    "non-commercial research only",
)
