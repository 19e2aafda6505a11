"""verl's own loss and advantages, with the recipe's settings, against the paper's equations written plainly."""

from functools import partial

import numpy as np
import pytest
import torch
from verl.trainer.ppo.core_algos import (
    agg_loss,
    compute_grpo_outcome_advantage,
    compute_policy_loss_vanilla,
    kl_penalty,
)
from verl.utils.config import omega_conf_to_dataclass

import plain_perpo
from omni_r1.perpo.loss import group_advantages, policy_loss

LENGTHS = [7, 1, 30, 12, 12, 5]


@pytest.fixture
def actor(config):
    return omega_conf_to_dataclass(config.actor_rollout_ref.actor)


@pytest.fixture(params=range(5))
def case(request):
    """(new, old, reference, advantage, entropy): ragged rows with ratios far beyond both clips."""
    draw = torch.Generator().manual_seed(request.param)
    new, old, reference = ([2 * torch.randn(n, generator=draw).double() for n in LENGTHS] for _ in range(3))
    advantage = plain_perpo.advantages(torch.rand(len(LENGTHS), generator=draw).double(), 3)
    return new, old, reference, advantage, [3 * torch.rand(n, generator=draw).double() for n in LENGTHS]


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def verl_loss(actor, case):
    new, old, reference, advantage, entropy = case
    mask = padded([torch.ones(n) for n in LENGTHS])
    combine = partial(agg_loss, loss_mask=mask, loss_agg_mode=actor.loss_agg_mode)
    policy, _ = compute_policy_loss_vanilla(
        old_log_prob=padded(old),
        log_prob=padded(new),
        advantages=advantage[:, None] * mask,
        response_mask=mask,
        loss_agg_mode=actor.loss_agg_mode,
        config=actor,
    )
    kl = combine(kl_penalty(padded(new), padded(reference), actor.kl_loss_type))
    return policy - actor.entropy_coeff * combine(padded(entropy)) + actor.kl_loss_coef * kl


def test_the_recipes_loss_is_the_papers(actor, case):
    assert verl_loss(actor, case).item() == pytest.approx(plain_perpo.loss(*case).item(), abs=1e-6)


def test_the_other_engines_loss_is_verls(actor, case):
    """What `omni-r1 perpo` minimises, and its gradient, on the same tensors."""
    new, old, reference, advantage, entropy = case
    ours, theirs = ([each.clone().requires_grad_() for each in new] for _ in range(2))
    loss = policy_loss(
        padded(ours),
        padded(old),
        advantage,
        padded([torch.ones(n) for n in LENGTHS]),
        clip_low=actor.clip_ratio_low,
        clip_high=actor.clip_ratio_high,
        reference=padded(reference),
        kl_coef=actor.kl_loss_coef,
        entropies=padded(entropy),
        entropy_coef=actor.entropy_coeff,
    )
    found = verl_loss(actor, (theirs, *case[1:]))
    assert loss.total.item() == pytest.approx(found.item(), abs=1e-6)
    for total in (loss.total, found):
        total.backward()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_its_gradient_too(actor, case):
    new, *rest = case
    ours, theirs = ([each.clone().requires_grad_() for each in new] for _ in range(2))
    plain_perpo.loss(ours, *rest).backward()
    verl_loss(actor, (theirs, *rest)).backward()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_the_dual_clip_verl_has_by_default_is_another_loss(actor, case):
    """Which is why the recipe turns it off: it bounds what a bad response that became likelier costs."""
    object.__setattr__(actor, "clip_ratio_c", 3.0)
    assert abs(verl_loss(actor, case) - plain_perpo.loss(*case)) > 0.1


def test_advantages_are_the_papers():
    rewards = torch.rand(12)
    mask = torch.ones(12, 4)
    scores = torch.zeros(12, 4)
    scores[:, -1] = rewards
    groups = np.repeat(["a", "b", "c"], 4)
    found, _ = compute_grpo_outcome_advantage(scores, mask, groups)
    assert torch.allclose(found[:, 0], plain_perpo.advantages(rewards, 4), atol=1e-6)
    assert torch.allclose(found[:, 0], group_advantages(rewards.view(3, 4)).flatten(), atol=1e-6)
