"""Cross-attention from the masked frame to the reference (paper, section 3.2 and appendix C.2.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class CrossAttention(nn.Module):
    """Multi-head attention with query and key from the masked frame and value from the reference.

    Unlike usual cross-attention the key comes from the same side as the query, as the paper's text says: what
    the masked frame finds similar in itself decides which reference places are mixed.

    Args:
        size: length of a token.
        num_heads: heads.
        head_size: length of a token inside one head.
    """

    def __init__(self, size: int, num_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = num_heads * head_size
        self.norm_masked = nn.LayerNorm(size)
        self.norm_reference = nn.LayerNorm(size)
        self.query = nn.Linear(size, inner, bias=False)
        self.key = nn.Linear(size, inner, bias=False)
        self.value = nn.Linear(size, inner, bias=False)
        self.out = nn.Linear(inner, size)

    def forward(self, masked: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """[B, N, size] twice -> [B, N, size], shortcut included."""
        masked_normed = self.norm_masked(masked)
        query, key, value = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, heads, N, head_size]
            for projected in (
                self.query(masked_normed),
                self.key(masked_normed),
                self.value(self.norm_reference(reference)),
            )
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return masked + self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Layer norm, linear, GELU (tanh formula, as released), linear, shortcut.

    Args:
        size: length of a token.
        hidden_size: width in between.
    """

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, hidden_size)
        self.reduce = nn.Linear(hidden_size, size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, N, size] -> [B, N, size]."""
        return tokens + self.reduce(F.gelu(self.expand(self.norm(tokens)), approximate="tanh"))


class CrossAttentionBlocks(nn.Module):
    """A stack of cross-attention and feed-forward layers over feature maps.

    Args:
        num_channels: channels of both maps.
        num_layers: attention + feed-forward pairs.
        num_heads: heads of each attention.
        head_size: token length inside a head.
        hidden_size: width of the feed-forward layers.
    """

    def __init__(
        self, num_channels: int, num_layers: int, num_heads: int, head_size: int, hidden_size: int
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            CrossAttention(num_channels, num_heads, head_size) for _ in range(num_layers)
        )
        self.feedforwards = nn.ModuleList(FeedForward(num_channels, hidden_size) for _ in range(num_layers))

    def forward(self, masked: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] twice -> [B, C, H, W]; every layer sees the same reference.

        Kept in float32 under autocast: few tokens, and the softmax multiplies the rounding of its input.
        """
        size = masked.shape[-2:]
        with torch.autocast(masked.device.type, enabled=False):
            tokens = masked.float().flatten(2).transpose(1, 2)
            reference_tokens = reference.float().flatten(2).transpose(1, 2)
            for attention, feedforward in zip(self.attentions, self.feedforwards, strict=True):
                tokens = feedforward(attention(tokens, reference_tokens))
            return tokens.transpose(1, 2).unflatten(2, size).to(masked.dtype)
