"""Figures of a step, and alarms where a policy falls into one of the ways in which reinforcement goes wrong."""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean, pstdev
from typing import Any

from omni_r1.options import PerpoOptions
from omni_r1.perpo.rollouts import Harvest, Rollout
from omni_r1.trajectory import Image
from omni_r1.vocabulary import Vocabulary

FEW = 0.1  # of the first step's images, and of its share of responses that end
ONE_LENGTH = 0.01  # of the first step's spread of lengths
ONE_CODE = 0.95  # share of an image's codes that are its commonest one


def mean(values: Iterable[float]) -> float:
    """0 of nothing."""
    listed = list(values)
    return fmean(listed) if listed else 0.0


def harvest_figures(found: Harvest, options: PerpoOptions, vocabulary: Vocabulary) -> dict[str, float]:
    """Means over all responses that were sampled, kept or not; lengths in tokens, shares from 0 to 1."""
    rollouts = [one for group in found.all for one in group.rollouts]
    rewards = [one.reward for one in rollouts]
    lengths = [one.length for one in rollouts]
    images = [reward.images for reward in rewards]
    words = [one.length - (vocabulary.image_length + 2) * one.reward.whole for one in rollouts]
    return {
        "reward": mean(one.value for one in rollouts),
        "accuracy": mean(reward.accuracy for reward in rewards),
        "format": mean(reward.format for reward in rewards),
        "perception": mean(reward.perception for reward in rewards if reward.perception is not None),
        "groups": len(found.all),
        "mixed_groups": found.mixed / len(found.all),
        "learned_groups": min(found.mixed, options.train_batch_size) / options.train_batch_size,
        "images": mean(images),
        "whole_images": sum(reward.whole for reward in rewards) / max(1, sum(images)),
        "commonest_code": mean(share for one in rollouts for share in commonest_code(one)),
        "length": mean(lengths),
        "length_spread": pstdev(lengths),
        "text_length": mean(words),
        "ended": mean(one.completion.stop == "end" for one in rollouts),
    }


def commonest_code(rollout: Rollout) -> list[float]:
    """Of each image of a response, the share of its codes that are the same one."""
    trajectory = rollout.completion.trajectory
    if trajectory is None:
        return []
    drawn = [part.codes for part in trajectory.response if isinstance(part, Image)]
    return [Counter(codes).most_common(1)[0][1] / len(codes) for codes in drawn]


class Watch:
    """Compares each step with the first one, and the sampler's log-probs with the trainer's (at most `max_drift`)."""

    def __init__(self, max_drift: float) -> None:
        self.max_drift = max_drift
        self.first: dict[str, float] = {}

    def state(self) -> dict[str, Any]:
        return self.first

    def set_state(self, state: dict[str, Any]) -> None:
        self.first = state

    def alarms(self, figures: dict[str, float]) -> list[str]:
        """What is wrong with a step, in words."""
        first = self.first = self.first or dict(figures)
        found = []
        if figures["images"] < FEW * first["images"]:
            found.append(f"{figures['images']:.2f} images a response, {first['images']:.2f} at first: it stops drawing")
        if figures["commonest_code"] > ONE_CODE > first["commonest_code"]:
            share = f"{figures['commonest_code']:.0%}"
            found.append(f"one code is {share} of an image, {first['commonest_code']:.0%} at first: images go flat")
        if figures["length_spread"] <= ONE_LENGTH * first["length_spread"] and first["length_spread"]:
            found.append(f"all responses have some {figures['length']:.0f} tokens: one for every question")
        if figures["ended"] < FEW * first["ended"]:
            found.append(
                f"{figures['ended']:.0%} of responses end, {first['ended']:.0%} at first: the budget cuts them off"
            )
        if not figures["mixed_groups"]:
            found.append("no group is mixed: nothing to learn from")
        if figures["drift"] > self.max_drift:
            found.append(
                f"sampler and trainer differ by {figures['drift']:.2g} nats a token, more than {self.max_drift:g}: "
                "they do not compute the same policy"
            )
        return found
