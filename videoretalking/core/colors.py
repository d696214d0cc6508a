"""Weights and means of color channels that several packages share, each with its source; the order is R, G, B."""

from __future__ import annotations

# Share of each channel in luma: ITU-R BT.601, also JPEG's (ITU-T T.871).
BT601_LUMA = (0.299, 0.587, 0.114)

# Mean and standard deviation of ImageNet for images in [0, 1], as torchvision's networks expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The mean in whole 8-bit levels, as networks of Caffe's time expect it.
IMAGENET_MEAN_LEVELS = (123.0, 117.0, 104.0)
