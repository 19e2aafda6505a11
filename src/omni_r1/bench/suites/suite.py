"""A suite is data, prompt and grader: questions with their gold answers, and by which rules each is graded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image as Picture

from omni_r1.errors import InputError
from omni_r1.generate.questions import Question


@dataclass
class Item(Question):
    """A question of a benchmark. `source`: the data set it is from; `profile`: the rules it is graded by.

    `options`: the choices in their order, where there are; `kind` and `precision`: what MathVista says of an answer.
    """

    source: str | None = None
    profile: str = "strict"
    options: Sequence[str] | None = None
    kind: str | None = None
    precision: int | None = None


@dataclass
class Suite:
    """Questions; where drawings can be judged, the judge: (drawn, gold) pictures to a verdict and its reason.

    `origin`: what was read, for the run's records: name, revision of the hub, and the sha256 of each file.
    """

    name: str
    questions: list[Item]
    judge: Callable[[Picture.Image, Picture.Image], tuple[bool, str]] | None = None
    origin: dict[str, Any] = field(default_factory=dict)


def swap_pictures(questions: Sequence[Item]) -> list[Item]:
    """Each question with the picture of the next question of its task; its answer stays. A control, not a benchmark.

    Questions that could not be read stay as they are. Raises InputError for a task with a single question.
    """
    by_task: dict[str | None, list[Item]] = {}
    for question in questions:
        if question.error is None:
            by_task.setdefault(question.task, []).append(question)
    swapped: dict[int, Item] = {}
    for task, group in by_task.items():
        if len(group) < 2:
            raise InputError(f"task {task!r} has one question alone", field="swap_pictures")
        for question, donor in zip(group, [*group[1:], group[0]], strict=True):
            swapped[id(question)] = replace(question, images=donor.images)
    return [swapped.get(id(question), question) for question in questions]
