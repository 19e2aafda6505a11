"""Alarms: each goes off where it should, and none where nothing is wrong."""

from types import SimpleNamespace

import pytest

from omni_r1.perpo.watch import Watch, commonest_code, harvest_figures
from omni_r1.trajectory import Image, Text, Trajectory

FINE = {
    "images": 2.0,
    "commonest_code": 0.3,
    "length": 80.0,
    "length_spread": 12.0,
    "ended": 0.5,
    "mixed_groups": 0.5,
    "drift": 1e-3,
}
WRONG = {
    "stops drawing": {"images": 0.19},
    "images go flat": {"commonest_code": 0.96},
    "one for every question": {"length_spread": 0.12},
    "the budget cuts them off": {"ended": 0.04},
    "nothing to learn from": {"mixed_groups": 0.0},
    "do not compute the same policy": {"drift": 0.11},
}


@pytest.mark.parametrize("words", WRONG)
def test_each_goes_off_alone(words):
    watch = Watch(max_drift=0.1)
    assert watch.alarms(FINE) == []
    [alarm] = watch.alarms(FINE | WRONG[words])
    assert words in alarm
    assert watch.alarms(FINE) == []


def test_all_at_once():
    watch = Watch(max_drift=0.1)
    watch.alarms(FINE)
    changed = {name: value for change in WRONG.values() for name, value in change.items()}
    assert len(watch.alarms(FINE | changed)) == len(WRONG)


@pytest.mark.parametrize(
    "changed",
    [
        {"images": 0.2},
        {"images": 9.0},
        {"commonest_code": 0.95},
        {"length_spread": 0.13},
        {"ended": 0.05},
        {"length": 1.0},
        {"mixed_groups": 0.01},
        {"drift": 0.1},
    ],
)
def test_what_is_no_alarm(changed):
    watch = Watch(max_drift=0.1)
    watch.alarms(FINE)
    assert watch.alarms(FINE | changed) == []


@pytest.mark.parametrize("name", ["images", "length_spread"])
def test_what_never_was_is_not_missed(name):
    """A model that never drew, and a task all of whose answers have one length."""
    watch = Watch(max_drift=0.1)
    assert watch.alarms(FINE | {name: 0.0}) == [] == watch.alarms(FINE | {name: 0.0})


def test_images_that_always_were_flat_are_no_news():
    watch = Watch(max_drift=0.1)
    assert watch.alarms(FINE | {"commonest_code": 0.99}) == [] == watch.alarms(FINE | {"commonest_code": 1.0})


def test_the_first_step_can_be_wrong_by_itself():
    watch = Watch(max_drift=0.1)
    assert len(watch.alarms(FINE | {"mixed_groups": 0.0, "drift": 1.0})) == 2


def test_one_that_goes_on_compares_with_the_same_step():
    first, second = Watch(0.1), Watch(0.1)
    first.alarms(FINE)
    first.alarms(FINE | {"images": 0.5})
    second.set_state(first.state())
    assert second.alarms(FINE | {"images": 0.1}) == first.alarms(FINE | {"images": 0.1}) != []


def rollout(length: int, whole: int, codes: list[int], accuracy: float, value: float, ended: bool = True):
    """A response with one image of `codes`, which is whole or not."""
    trajectory = Trajectory((Text("?"),), (Text("So"), Image(tuple(codes))) if codes else (Text("So"),))
    reward = SimpleNamespace(
        accuracy=accuracy, format=1.0, perception=0.5 if codes else None, images=int(bool(codes)), whole=whole
    )
    completion = SimpleNamespace(trajectory=trajectory, stop="end" if ended else "length")
    return SimpleNamespace(completion=completion, reward=reward, value=value, length=length)


def test_figures_are_over_all_that_was_sampled():
    groups = [
        SimpleNamespace(rollouts=[rollout(30, 1, [5] * 12 + [6] * 4, 1, 0.9), rollout(10, 0, [], 0, 0.1)]),
        SimpleNamespace(rollouts=[rollout(20, 0, [1, 2, 3, 4], 0, 0.2, False), rollout(40, 1, [9] * 16, 0, 0.3)]),
    ]
    found = SimpleNamespace(all=groups, kept=groups[:1], mixed=1)
    figures = harvest_figures(found, SimpleNamespace(train_batch_size=2), SimpleNamespace(image_length=16))
    assert figures == pytest.approx(
        {
            "reward": 0.375,
            "accuracy": 0.25,
            "format": 1.0,
            "perception": 0.5,
            "groups": 2,
            "mixed_groups": 0.5,
            "learned_groups": 0.5,
            "images": 0.75,
            "whole_images": 2 / 3,
            "commonest_code": (0.75 + 0.25 + 1) / 3,
            "length": 25.0,
            "length_spread": 125**0.5,
            "text_length": (12 + 10 + 20 + 22) / 4,
            "ended": 0.75,
        }
    )
    assert commonest_code(groups[0].rollouts[1]) == []
