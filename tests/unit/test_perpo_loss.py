"""The objective against the paper's equations, and the parts of it."""

import math

import pytest
import torch

import plain_perpo
from omni_r1.perpo.loss import group_advantages, mean, overlong_penalty, policy_loss

CLIP = {"clip_low": 0.2, "clip_high": 0.28}


def batch(rows: int = 5, tokens: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    noise = lambda scale: torch.randn(rows, tokens, generator=generator, dtype=torch.float64) * scale  # noqa: E731
    logps = -noise(1).abs()
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
    return {
        "logps": logps,
        "old": logps + noise(0.4),
        "reference": logps + noise(0.3),
        "entropies": noise(1).abs(),
        "advantages": torch.randn(rows, generator=generator, dtype=torch.float64),
        "mask": torch.arange(tokens)[None] < lengths,
    }


@pytest.mark.parametrize(("kl_coef", "entropy_coef"), [(0.0, 0.0), (0.003, 0.001), (0.5, 0.2)])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_plain_formula(seed, kl_coef, entropy_coef):
    found = batch(seed=seed)
    loss = policy_loss(**found, **CLIP, kl_coef=kl_coef, entropy_coef=entropy_coef)
    named = [found[name] for name in ("logps", "old", "reference", "entropies")]
    new, old, reference, entropies = (
        [row[mask] for row, mask in zip(one, found["mask"], strict=True)] for one in named
    )
    coefficients = {"kl": kl_coef, "entropy_weight": entropy_coef}
    wanted = plain_perpo.loss(new, old, reference, found["advantages"], entropies, **coefficients)
    assert float(loss.total) == pytest.approx(float(wanted), abs=1e-12)


def test_a_token_of_weight_two_counts_as_two_of_it():
    found = batch() | {"mask": (batch()["mask"] * torch.tensor([1, 2])[torch.arange(batch()["mask"].shape[1]) % 2])}
    twice = torch.arange(found["mask"].shape[1]).repeat_interleave(2)
    second = torch.arange(len(twice)) % 2  # the second of each counts where the weight is two
    repeated = {name: each[:, twice] if each.ndim == 2 else each for name, each in found.items()}
    repeated["mask"] = (repeated["mask"] > second).double()
    how = CLIP | {"kl_coef": 0.5, "entropy_coef": 0.2}
    for one, other in zip(policy_loss(**found, **how), policy_loss(**repeated, **how), strict=True):
        assert float(one) == pytest.approx(float(other), abs=1e-12)


def test_every_row_or_every_token_may_weigh_the_same():
    values, mask = torch.tensor([[3.0, 9.0, 9.0], [1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert float(mean(values, mask)) == pytest.approx((3 + 2) / 2)
    assert float(mean(values, mask, tokens=4)) == pytest.approx((3 + 1 + 2 + 3) / 4)
    found = batch()
    over_tokens = policy_loss(**found, **CLIP, kl_coef=0.5, entropy_coef=0.2, tokens=float(found["mask"].sum()))
    parts = [
        policy_loss(
            **{name: each[k : k + 1, :n] if each.ndim == 2 else each[k : k + 1] for name, each in found.items()},
            **CLIP,
            kl_coef=0.5,
            entropy_coef=0.2,
        ).total
        * n
        for k, n in enumerate(found["mask"].sum(1).tolist())
    ]
    assert float(over_tokens.total) == pytest.approx(float(sum(parts) / found["mask"].sum()))


def test_clipped_ratios_have_no_gradient():
    logps = torch.tensor([[math.log(1.4), math.log(0.7), math.log(1.1)]], requires_grad=True)
    old, mask = torch.zeros(1, 3), torch.ones(1, 3)
    for advantage, free in ((1.0, [False, True, True]), (-1.0, [True, False, True])):
        loss = policy_loss(logps, old, torch.tensor([advantage]), mask, **CLIP)
        (slope,) = torch.autograd.grad(loss.total, logps)
        assert (slope[0] != 0).tolist() == free
        assert (loss.clipped_high, loss.clipped_low)[advantage < 0] == pytest.approx(1 / 3)


def test_advantages():
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    found = group_advantages(rewards)
    spread = math.sqrt(1 / 3)
    assert found[0].tolist() == pytest.approx([-0.5 / spread, 0.5 / spread, 0.5 / spread, -0.5 / spread], abs=1e-5)
    assert found[1].tolist() == [0.0] * 4


@pytest.mark.parametrize(("length", "lost"), [(10, 0.0), (60, 0.0), (80, 0.5), (100, 1.0)])
def test_overlong(length, lost):
    assert overlong_penalty(length, longest=100, buffer=40) == lost


def test_no_buffer_takes_nothing():
    assert overlong_penalty(100, longest=100, buffer=0) == 0.0


def test_what_the_estimators_of_the_divergence_do():
    """Over all a policy may say, weighted by how it says it: both are the divergence, only k3 pulls it back."""
    logits = torch.tensor([0.5, -1.0, 0.2, 0.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-0.3, 0.4, 0.1, 0.9], dtype=torch.float64).log_softmax(-1)
    logps = logits.log_softmax(-1)
    weights, true = logps.exp().detach(), (logps.exp() * (logps - reference)).sum()
    (pull,) = torch.autograd.grad(true, logits, retain_graph=True)
    for estimator, wanted in (("k1", torch.zeros(4, dtype=torch.float64)), ("k3", None)):
        rows = {"old": logps[:, None].detach(), "reference": reference[:, None], "mask": torch.ones(4, 1)}
        kls = [
            policy_loss(
                logps[k, None, None],
                rows["old"][k : k + 1],
                torch.zeros(1),
                rows["mask"][k : k + 1],
                **CLIP,
                reference=rows["reference"][k : k + 1],
                kl_coef=1.0,
                kl_estimator=estimator,
            ).total
            for k in range(4)
        ]
        found = (weights * torch.stack(kls)).sum()
        assert float(found.detach()) == pytest.approx(float(true.detach()))
        (slope,) = torch.autograd.grad(found, logits, retain_graph=True)
        if wanted is not None:
            assert torch.allclose(slope, wanted)
        else:
            assert float(slope @ pull) > 0.9 * float(slope.norm() * pull.norm()) > 0
