"""The objective of PeRPO (paper eqs 13 to 16), as plain functions of tensors: no engine, no model.

Shape letters: G responses of a group, B rows, T tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

DELTA = 1e-6  # added to a group's standard deviation, as verl does; the paper names no figure


class Loss(NamedTuple):
    """`total` has a gradient, the others are for the log. Means are as `mean` has them."""

    total: Tensor
    policy: Tensor
    kl: Tensor
    entropy: Tensor
    clipped_low: Tensor  # share of tokens
    clipped_high: Tensor


KL_ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {  # of log r, the reference's log-prob less the policy's
    "k1": lambda log_ratio: -log_ratio,
    "k3": lambda log_ratio: log_ratio.expm1() - log_ratio,
}


def group_advantages(rewards: Tensor) -> Tensor:
    """(..., G) rewards of groups to advantages of the same shape (eq 14): (r - mean) / (std + delta).

    The standard deviation is the sample's (G - 1), as in verl and TRL. A group of equal rewards has advantages of 0.
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, keepdim=True) + DELTA)


def mean(values: Tensor, mask: Tensor, tokens: float | None = None) -> Tensor:
    """Mean over rows of the mean over each row's tokens ("seq-mean-token-mean"); `values`, `mask` (B, T), its weights.

    Or, with the number of `tokens` to divide by, over tokens ("token-mean", DAPO, arXiv 2503.14476, eq 12).
    """
    if tokens is not None:
        return (values * mask).sum() / tokens
    return ((values * mask).sum(-1) / mask.sum(-1).clamp(min=1e-9)).mean()


def policy_loss(
    logps: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    reference: Tensor | None = None,
    kl_coef: float = 0.0,
    kl_estimator: str = "k1",
    entropies: Tensor | None = None,
    entropy_coef: float = 0.0,
    tokens: float | None = None,
) -> Loss:
    """The loss of a batch of responses (eq 15), to be minimised.

    logps, old, reference (B, T): log-probs in nats of each token under the policy, the policy that sampled it and the
    fixed reference; advantages (B,); mask (B, T), the weights of the tokens in every mean: 1 in a response, or less in
    its images (`--image-weight`), and 0 elsewhere. The ratio is clipped to [1 - clip_low, 1 + clip_high] where that
    makes the objective smaller. The KL divergence to the reference is inside the loss, by `kl_estimator` "k1", the
    plain log ratio (eq 16), whose gradient is 0 in the mean over what the policy samples; or "k3", r - 1 - log r with r
    the reference's probability over the policy's, which does hold the policy back (Schulman, "Approximating KL
    divergence", 2020). `tokens`: see `mean`.
    """
    mask = mask.to(logps.dtype)
    over = partial(mean, tokens=tokens)
    gain = advantages[:, None]
    ratio = (logps - old).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    policy = over(-torch.minimum(ratio * gain, clipped * gain), mask)
    nothing = policy.new_zeros(())
    kl = nothing if reference is None else over(KL_ESTIMATORS[kl_estimator](reference - logps), mask)
    entropy = nothing if entropies is None else over(entropies, mask)
    total = policy + kl_coef * kl - entropy_coef * entropy
    with torch.no_grad():
        low = over(((ratio < 1 - clip_low) & (gain < 0)).to(mask.dtype), mask)
        high = over(((ratio > 1 + clip_high) & (gain > 0)).to(mask.dtype), mask)
    return Loss(total, policy.detach(), kl.detach(), entropy.detach(), low, high)


def overlong_penalty(length: int, longest: int, buffer: int) -> float:
    """What is taken from the reward of a response of `length` tokens: 0 to 1 over the last `buffer` of `longest`.

    Soft overlong punishment (DAPO, arXiv 2503.14476, eq 13): linear from 0 at longest - buffer to 1 at longest.
    """
    if not buffer:
        return 0.0
    return min(1.0, max(0.0, (length - (longest - buffer)) / buffer))
