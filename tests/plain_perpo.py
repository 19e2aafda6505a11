"""The paper's objective written down plainly, equation by equation and row by row: what every engine is held to."""

import torch
from torch import Tensor


def advantages(rewards: Tensor, group: int, delta: float = 1e-6) -> Tensor:
    """(n,) A_i = (r_i - mean) / (std + delta) within each group of `group` rows (eq 14)."""
    grouped = rewards.view(-1, group)
    return ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + delta)).flatten()


def loss(
    new: list[Tensor],
    old: list[Tensor],
    reference: list[Tensor],
    advantage: Tensor,
    entropy: list[Tensor] | None = None,
    *,
    low: float = 0.2,
    high: float = 0.28,
    kl: float = 0.003,
    entropy_weight: float = 0.001,
) -> Tensor:
    """-J of eq 15 and 16, and the entropy of Table 6. Log-probs of each row's response tokens, (L_i,) each."""
    rows = []
    for i, logprobs in enumerate(new):
        ratio = (logprobs - old[i]).exp()
        gain = torch.minimum(ratio * advantage[i], ratio.clamp(1 - low, 1 + high) * advantage[i])
        gain = gain - kl * (logprobs - reference[i])
        if entropy is not None:
            gain = gain + entropy_weight * entropy[i]
        rows.append(gain.mean())
    return -torch.stack(rows).mean()
