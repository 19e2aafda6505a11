"""The PeSFT loss, L = L_CE + lambda * L_Pe (paper eq 1 to 3), as sums so that any batching gives the same mean."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Alignment = Literal["next", "same"]
IGNORED = -100  # label of a position that is no target


def cross_entropy_sum(hidden: Tensor, head: nn.Linear, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each target (paper eq 1), in nats.

    `hidden` (B, T, H) after the final norm, `labels` (B, T) with -100 where there is no target. Logits are computed
    only at the positions that predict one. Returns (n,) losses and the (n,) targets, n the number of targets.
    """
    wanted = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][wanted]
    logits = head(hidden[:, :-1][wanted]).float()
    return F.cross_entropy(logits, targets, reduction="none"), targets


def code_targets(labels: Tensor, code_of: Tensor) -> Tensor:
    """(B, T) codebook index of each target that is an image code, -1 elsewhere.

    `code_of` (V,) maps a token id to its code, -1 for ids that are no code. A picture of the prompt has label -100
    throughout and so is no target (reference: the original counts only images whose labels are un-masked).
    """
    return torch.where(labels == IGNORED, -1, code_of.to(labels.device)[labels.clamp(min=0)])


def perception_sum(
    hidden: Tensor, projection: nn.Linear, codebook: Tensor, codes: Tensor, alignment: Alignment
) -> tuple[Tensor, int]:
    """Sum over image codes of ||W h + b - E[c]||^2 / D (paper eq 2), and the number of codes.

    `hidden` (B, T, H), `codebook` (K, D) without gradient, `codes` (B, T) with -1 where there is none. Alignment
    `next` takes the state that predicts the code, h at t-1; `same` the state that has already read it, h at t, as the
    original does.
    """
    if alignment == "next":
        hidden, codes = hidden[:, :-1], codes[:, 1:]
    wanted = codes >= 0
    difference = projection(hidden[wanted].float()) - codebook[codes[wanted]].detach().float()
    return difference.square().mean(-1).sum(), int(wanted.sum())
