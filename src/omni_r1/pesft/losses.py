"""The PeSFT loss, L = L_CE + lambda * L_Pe (paper eq 1 to 3), as sums so that any batching gives the same mean."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from omni_r1.vocabulary import IGNORED

Alignment = Literal["next", "same"]
LOGITS_AT_ONCE = 2**25  # 128 MiB of fp32: 512 positions of the published vocabulary


class HeadCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear head whose logits are never whole: only `LOGITS_AT_ONCE` of them at a time.

    The loss is a sum, so its gradient needs nothing but a factor from outside: it is made on the way forward, chunk by
    chunk, and no logits are kept or made twice. torch's own `linear_cross_entropy` does the same, but gives the sum in
    the precision of the weights (three digits of it in bf16) and no loss of each target.
    """

    @staticmethod
    def forward(ctx, states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
        to_states, to_weight = ctx.needs_input_grad[:2]
        states_grad = torch.empty_like(states) if to_states else None
        weight_grad = torch.zeros_like(weight) if to_weight else None
        rows = max(1, LOGITS_AT_ONCE // len(weight))
        for part in map(lambda start: slice(start, start + rows), range(0, len(states), rows)):
            logits = (states[part] @ weight.T).float()
            chosen = targets[part, None]
            logits -= logits.amax(1, keepdim=True)
            picked = logits.gather(1, chosen)
            total = logits.exp_().sum(1, keepdim=True)
            losses[part] = (total.log() - picked).squeeze(1)
            slope = logits.div_(total).scatter_add_(1, chosen, -torch.ones_like(picked)).to(weight.dtype)
            if states_grad is not None:
                torch.mm(slope, weight, out=states_grad[part])
            if weight_grad is not None:
                weight_grad.addmm_(slope.T, states[part])
        ctx.gradients = states_grad, weight_grad
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx, factor: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states_grad, weight_grad = (None if grad is None else grad.mul_(factor) for grad in ctx.gradients)
        ctx.gradients = None  # scaled in place: this graph has been walked
        return states_grad, weight_grad, None


def head_cross_entropy(states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies of `targets` (n,) under the logits `states` (n, H) @ `weight` (V, H)^T, in nats.

    Returns the sum, fp32, and the detached (n,) losses. Under autocast the products are of its precision.
    """
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        return HeadCrossEntropy.apply(states.to(dtype), weight.to(dtype), targets)


def cross_entropy(hidden: Tensor, head: nn.Linear, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of each target (paper eq 1), in nats: softmax over the whole vocabulary.

    `hidden` (B, T, H) after the final norm, `labels` (B, T) with -100 where there is no target; logits are made only
    at the positions that predict one. Returns the sum, the detached (n,) losses and the (n,) targets.
    """
    wanted = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][wanted]
    total, losses = head_cross_entropy(hidden[:, :-1][wanted], head.weight, targets)
    return total, losses, targets


def grammar_cross_entropy(
    hidden: Tensor, head: nn.Linear, labels: Tensor, *kinds: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The same under the grammar, which is what the sampler draws from: a code among the codes, a token of text or the
    begin of an image among those, and the end of an image, which is forced, for nothing.

    `kinds` are the codes and the words: (n,) their token ids, and (V,) the place of each id among them, -1 for others.
    """
    wanted = labels[:, 1:] != IGNORED
    states, targets = hidden[:, :-1][wanted], labels[:, 1:][wanted]
    total, losses = hidden.new_zeros((), dtype=torch.float32), torch.zeros(len(targets), device=hidden.device)
    for columns, place_of in kinds:
        places = place_of[targets]
        part, losses[places >= 0] = head_cross_entropy(states[places >= 0], head.weight[columns], places[places >= 0])
        total = total + part
    return total, losses, targets


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
    projected = projection(hidden[wanted].to(projection.weight.dtype))
    difference = projected.float() - codebook[codes[wanted]].detach().float()
    return difference.square().mean(-1).sum(), int(wanted.sum())
