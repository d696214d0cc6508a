"""Key tables of blocks that several released files share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

# Last parts of the keys of Wav2Lip's conv block -> ``models.layers.blocks.ConvNormAct``; pass as ``Layout.leaves``.
CONV_NORM_ACT_LEAVES = {
    "conv_block.0.weight": "conv.weight",
    "conv_block.0.bias": "conv.bias",
    "conv_block.1.weight": "norm.weight",
    "conv_block.1.bias": "norm.bias",
    "conv_block.1.running_mean": "norm.running_mean",
    "conv_block.1.running_var": "norm.running_var",
    "conv_block.1.num_batches_tracked": "norm.num_batches_tracked",
}


def numbered(official: str, ours: str, indices: Iterable[int]) -> dict[str, str]:
    """``Layout.modules`` entries ``{official}.{i}`` -> ``{ours}.{i}``, one a layer so that leaves match."""
    return {f"{official}.{index}": f"{ours}.{index}" for index in indices}


def nested(official: str, ours: str, table: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """``Layout.modules`` entries of a block whose parts ``table`` renames (their part -> our part)."""
    for their_part, our_part in table.items():
        yield f"{official}.{their_part}", f"{ours}.{our_part}"
